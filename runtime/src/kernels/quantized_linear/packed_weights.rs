//! The weights of a linear layer, laid out for the instruction that multiplies them.

use super::InstructionSet;

/// Outputs side by side in a [`Block`].
pub const PANEL_OUTPUTS: usize = 16;

/// Inputs that one 32-bit lane of a dot product instruction sums.
pub const GROUP_INPUTS: usize = 4;

/// Groups that every kernel takes at once: inputs are filled up with zeros, so that none is left over.
pub const STEP_GROUPS: usize = 4;

/// The most inputs whose dot product surely fits in an `i32`: 131,072 x 127 x 128 < 2^31.
pub const MAX_INPUTS: usize = 1 << 17;

/// One cache line, one AVX-512 register, four NEON registers.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Block(pub [[i8; GROUP_INPUTS]; PANEL_OUTPUTS]);

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

/// Weights of one linear layer with a scale an output, in the order in which one instruction set reads them.
///
/// `[outputs / 16][inputs / run][16][run]`, both ends filled with zeros; [`Layout`] is the run.
#[derive(Clone, Debug)]
pub struct PackedWeights {
    layout: Layout,
    outputs: usize,
    inputs: usize,
    blocks: Vec<Block>,
    scales: Vec<f32>,
    sums: Vec<[i32; PANEL_OUTPUTS]>,
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
        Self { layout, outputs, inputs, blocks, scales: scales.to_vec(), sums }
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

    /// Memory that the packed weights, their scales and their sums take.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.blocks) + size_of_val(&*self.scales) + size_of_val(&*self.sums)
    }

    /// Groups of inputs, filled up to whole steps.
    pub(super) fn groups(&self) -> usize {
        groups(self.inputs)
    }

    /// The blocks of one panel, as many as groups.
    #[inline]
    pub(super) fn panel(&self, panel: usize) -> &[Block] {
        let groups = self.groups();
        &self.blocks[panel * groups..][..groups]
    }

    /// Sum of the weights of each output of a panel.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "only AVX-512 VNNI corrects with it"))]
    #[inline]
    pub(super) fn sums(&self, panel: usize) -> &[i32; PANEL_OUTPUTS] {
        &self.sums[panel]
    }

    /// Weight scales, one an output.
    #[inline]
    pub fn scales(&self) -> &[f32] {
        &self.scales
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
