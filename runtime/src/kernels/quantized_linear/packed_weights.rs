//! The weights of a linear layer, laid out for 8-bit dot products.

/// Outputs side by side in a [`Block`].
pub const PANEL_OUTPUTS: usize = 16;

/// Inputs that one 32-bit lane of a dot product instruction sums.
pub const GROUP_INPUTS: usize = 4;

/// The most inputs whose dot product surely fits in an `i32`: 131,072 x 127 x 128 < 2^31.
pub const MAX_INPUTS: usize = 1 << 17;

/// [`PANEL_OUTPUTS`] outputs x [`GROUP_INPUTS`] inputs: one cache line, one AVX-512 register, four NEON registers.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Block(pub [[i8; GROUP_INPUTS]; PANEL_OUTPUTS]);

/// Weights of one linear layer with a scale an output, in the order in which every instruction set reads them.
///
/// `[outputs / 16][inputs / 4][16][4]`, both ends filled with zeros.
#[derive(Clone, Debug)]
pub struct PackedWeights {
    outputs: usize,
    inputs: usize,
    blocks: Vec<Block>,
    scales: Vec<f32>,
    sums: Vec<[i32; PANEL_OUTPUTS]>,
}

impl PackedWeights {
    /// Packs `weights`, `[outputs, inputs]` by row. Every `i8` value is allowed, -128 too.
    ///
    /// # Panics
    /// When a length does not fit the sizes, a size is zero, or `inputs` exceeds [`MAX_INPUTS`].
    pub fn pack(weights: &[i8], scales: &[f32], outputs: usize, inputs: usize) -> Self {
        assert!(outputs > 0 && inputs > 0, "a linear layer has at least one output and one input");
        assert!(inputs <= MAX_INPUTS, "{inputs} inputs could overflow a 32-bit sum, at most {MAX_INPUTS}");
        assert_eq!(Some(weights.len()), outputs.checked_mul(inputs), "weights are [outputs, inputs]");
        assert_eq!(scales.len(), outputs, "one scale an output");
        let groups = inputs.div_ceil(GROUP_INPUTS);
        let panels = outputs.div_ceil(PANEL_OUTPUTS);
        let mut blocks = vec![Block([[0; GROUP_INPUTS]; PANEL_OUTPUTS]); panels * groups];
        let mut sums = vec![[0; PANEL_OUTPUTS]; panels];
        for (output, row) in weights.chunks_exact(inputs).enumerate() {
            let (panel, lane) = (output / PANEL_OUTPUTS, output % PANEL_OUTPUTS);
            let panel_blocks = &mut blocks[panel * groups..][..groups];
            for (block, group) in panel_blocks.iter_mut().zip(row.chunks(GROUP_INPUTS)) {
                block.0[lane][..group.len()].copy_from_slice(group);
            }
            sums[panel][lane] = row.iter().map(|&weight| i32::from(weight)).sum();
        }
        Self { outputs, inputs, blocks, scales: scales.to_vec(), sums }
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

    /// Groups of inputs, the last one filled up.
    pub(super) fn groups(&self) -> usize {
        self.inputs.div_ceil(GROUP_INPUTS)
    }

    /// The blocks of one panel, a group of inputs each.
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
