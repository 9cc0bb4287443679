//! The weights of a linear layer, laid out for the instruction that multiplies them.

use std::ops::Range;
use std::sync::Arc;

use super::InstructionSet;

/// Outputs side by side in a [`Block`].
pub const PANEL_OUTPUTS: usize = 16;

/// Inputs that one 32-bit lane of a dot product instruction sums.
pub const GROUP_INPUTS: usize = 4;

/// Groups that every kernel takes at once: inputs are filled up with zeros, so that none is left over.
pub const STEP_GROUPS: usize = 4;

/// The most inputs whose dot product surely fits in an `i32`: 131,072 x 127 x 128 < 2^31.
pub const MAX_INPUTS: usize = 1 << 17;

/// Where packed weights may begin in a file or a memory map: at multiples of this many bytes, the size of a [`Block`].
pub const ALIGNMENT: usize = size_of::<Block>();

/// One cache line, one AVX-512 register, four NEON registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Block(pub [[i8; GROUP_INPUTS]; PANEL_OUTPUTS]);

// SAFETY: 64 bytes of `i8` in 64 bytes: every pattern is a block, zeros too, and none of them is padding.
unsafe impl bytemuck::Zeroable for Block {}
// SAFETY: as above.
unsafe impl bytemuck::Pod for Block {}

/// Bytes that others own, a memory map for instance.
pub type SharedBytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// How many inputs of one output lie side by side, which is up to the multiplying instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Four, which an instruction sums in a 32-bit lane: a block is 16 outputs x 4 inputs.
    DotProduct,
    /// Sixteen, so that a register holds one output: a block is 4 outputs x 16 inputs, and four make a step.
    #[cfg_attr(not(target_arch = "aarch64"), allow(dead_code, reason = "only NEON without dot products reads it"))]
    Widening,
}

impl Layout {
    /// Groups side by side.
    fn run(self) -> usize {
        match self {
            Self::DotProduct => 1,
            Self::Widening => STEP_GROUPS,
        }
    }
}

impl std::fmt::Display for Layout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::DotProduct => "dot-product",
            Self::Widening => "widening",
        })
    }
}

/// Weights of one linear layer with a scale an output, in the order in which one instruction set reads them.
///
/// `[outputs / 16][inputs / run][16][run]`, both ends filled with zeros; [`Layout`] is the run.
#[derive(Clone)]
pub struct PackedWeights {
    layout: Layout,
    outputs: usize,
    inputs: usize,
    scales: Vec<f32>,
    storage: Storage,
}

/// Where the blocks lie, and the sum of the weights of each output.
#[derive(Clone)]
enum Storage {
    Owned { blocks: Vec<Block>, sums: Vec<[i32; PANEL_OUTPUTS]> },
    Shared { bytes: SharedBytes, blocks: Range<usize>, sums: Range<usize> },
}

/// [`PackedWeights`] while a layer runs.
#[derive(Clone, Copy)]
pub struct Packed<'a> {
    outputs: usize,
    groups: usize,
    scales: &'a [f32],
    blocks: &'a [Block],
    sums: &'a [[i32; PANEL_OUTPUTS]],
}

impl PackedWeights {
    /// Packs `weights`, `[outputs, inputs]` by row, for this processor. Every `i8` value is allowed, -128 too.
    ///
    /// # Panics
    /// When a length does not fit the sizes, a size is zero, or `inputs` exceeds [`MAX_INPUTS`].
    pub fn pack(weights: &[i8], scales: &[f32], outputs: usize, inputs: usize) -> Self {
        Self::pack_for(super::instruction_set(), weights, scales, outputs, inputs)
    }

    /// [`Self::pack`] for one of the processor's instruction sets, which need not be the fastest.
    ///
    /// # Panics
    /// As [`Self::pack`].
    pub fn pack_for(set: InstructionSet, weights: &[i8], scales: &[f32], outputs: usize, inputs: usize) -> Self {
        assert!(outputs > 0 && inputs > 0, "a linear layer has at least one output and one input");
        assert!(inputs <= MAX_INPUTS, "{inputs} inputs could overflow a 32-bit sum, at most {MAX_INPUTS}");
        assert_eq!(Some(weights.len()), outputs.checked_mul(inputs), "weights are [outputs, inputs]");
        assert_eq!(scales.len(), outputs, "one scale an output");
        let layout = set.layout();
        let groups = groups(inputs);
        let panels = outputs.div_ceil(PANEL_OUTPUTS);
        let mut blocks = vec![Block([[0; GROUP_INPUTS]; PANEL_OUTPUTS]); panels * groups];
        let mut sums = vec![[0; PANEL_OUTPUTS]; panels];
        for (output, row) in weights.chunks_exact(inputs).enumerate() {
            let (panel, lane) = (output / PANEL_OUTPUTS, output % PANEL_OUTPUTS);
            let panel_blocks = &mut blocks[panel * groups..][..groups];
            place(panel_blocks, layout.run(), lane, row);
            sums[panel][lane] = row.iter().map(|&weight| i32::from(weight)).sum();
        }
        Self { layout, outputs, inputs, scales: scales.to_vec(), storage: Storage::Owned { blocks, sums } }
    }

    /// Weights that [`Self::write`] wrote for this processor, `start` bytes after the beginning of `bytes`.
    ///
    /// Nothing if they do not lie there whole, at a multiple of [`ALIGNMENT`].
    pub fn borrow(bytes: &SharedBytes, start: usize, scales: &[f32], outputs: usize, inputs: usize) -> Option<Self> {
        if outputs == 0 || inputs == 0 || inputs > MAX_INPUTS || scales.len() != outputs {
            return None;
        }
        let panels = outputs.div_ceil(PANEL_OUTPUTS);
        let blocks = start..start.checked_add(panels.checked_mul(groups(inputs))?.checked_mul(ALIGNMENT)?)?;
        let sums = blocks.end..blocks.end.checked_add(panels * ALIGNMENT)?;
        let all = (**bytes).as_ref();
        bytemuck::try_cast_slice::<u8, Block>(all.get(blocks.clone())?).ok()?;
        bytemuck::try_cast_slice::<u8, [i32; PANEL_OUTPUTS]>(all.get(sums.clone())?).ok()?;
        let storage = Storage::Shared { bytes: Arc::clone(bytes), blocks, sums };
        let layout = super::instruction_set().layout();
        Some(Self { layout, outputs, inputs, scales: scales.to_vec(), storage })
    }

    /// Writes the weights without their scales, a multiple of [`ALIGNMENT`] bytes.
    ///
    /// # Errors
    /// The writer's.
    pub fn write(&self, to: &mut impl std::io::Write) -> std::io::Result<()> {
        let Packed { blocks, sums, .. } = self.view();
        to.write_all(bytemuck::cast_slice(blocks))?;
        to.write_all(bytemuck::cast_slice(sums))
    }

    /// The order they are packed in.
    pub(super) fn layout(&self) -> Layout {
        self.layout
    }

    /// Outputs of the layer.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Inputs of the layer.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Weight scales, one an output.
    pub fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// Bytes that [`Self::write`] writes for a layer of these sizes.
    pub fn packed_bytes(outputs: usize, inputs: usize) -> usize {
        outputs.div_ceil(PANEL_OUTPUTS).saturating_mul(groups(inputs) + 1).saturating_mul(ALIGNMENT)
    }

    /// The weights where they lie.
    pub(super) fn view(&self) -> Packed<'_> {
        let (blocks, sums) = match &self.storage {
            Storage::Owned { blocks, sums } => (blocks.as_slice(), sums.as_slice()),
            Storage::Shared { bytes, blocks, sums } => {
                let all = (**bytes).as_ref();
                (bytemuck::cast_slice(&all[blocks.clone()]), bytemuck::cast_slice(&all[sums.clone()]))
            }
        };
        Packed { outputs: self.outputs, groups: groups(self.inputs), scales: &self.scales, blocks, sums }
    }
}

impl std::fmt::Debug for PackedWeights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} x {} {:?}", self.outputs, self.inputs, self.layout)
    }
}

impl<'a> Packed<'a> {
    /// Outputs of the layer.
    #[inline]
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Groups of inputs, filled up to whole steps.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// The blocks of one panel, as many as groups.
    #[inline]
    pub fn panel(&self, panel: usize) -> &'a [Block] {
        &self.blocks[panel * self.groups..][..self.groups]
    }

    /// Sum of the weights of each output of a panel.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    pub fn sums(&self, panel: usize) -> &'a [i32; PANEL_OUTPUTS] {
        &self.sums[panel]
    }

    /// Weight scales, one an output.
    #[inline]
    pub fn scales(&self) -> &'a [f32] {
        self.scales
    }
}

/// Writes the weights of the output `lane` in runs of `run` groups, a run of every output before the next of any.
fn place(panel: &mut [Block], run: usize, lane: usize, weights: &[i8]) {
    for (at, group) in weights.chunks(GROUP_INPUTS).enumerate() {
        let place = (at / run * PANEL_OUTPUTS + lane) * run + at % run;
        panel[place / PANEL_OUTPUTS].0[place % PANEL_OUTPUTS][..group.len()].copy_from_slice(group);
    }
}

/// Groups that `inputs` inputs take: whole steps.
pub(super) fn groups(inputs: usize) -> usize {
    inputs.div_ceil(GROUP_INPUTS * STEP_GROUPS) * STEP_GROUPS
}
