//! Quantized linear layers, and the quantization of their rows alone.

use edgeblip::kernels::quantized_linear::{Epilogue, InstructionSet, PackedWeights, instruction_set};

use super::{Case, FEED_FORWARD, Implementation, Operation, Size, TOKENS, WIDTH};

pub const CASES: &[Case] = &[
    ("picture-768-3072", Size::Large, || Layer::boxed([TOKENS, WIDTH, FEED_FORWARD], Part::Whole)),
    ("picture-3072-768", Size::Large, || Layer::boxed([TOKENS, FEED_FORWARD, WIDTH], Part::Residual)),
    ("picture-768-768", Size::Large, || Layer::boxed([TOKENS, WIDTH, WIDTH], Part::Whole)),
    ("picture-quantize", Size::Small, || Layer::boxed([TOKENS, WIDTH, WIDTH], Part::Quantization)),
    ("token-768-3072", Size::Small, || Layer::boxed([1, WIDTH, FEED_FORWARD], Part::Whole)),
    ("beams-768-3072", Size::Small, || Layer::boxed([3, WIDTH, FEED_FORWARD], Part::Whole)),
];

#[derive(Clone, Copy)]
enum Part {
    /// The layer.
    Whole,
    /// The layer and a residual.
    Residual,
    /// Only the quantization of its rows.
    Quantization,
}

struct Layer {
    sizes: [usize; 3],
    part: Part,
    x: Vec<f32>,
    packed: PackedWeights,
    packed_for_scalar: PackedWeights,
    bias: Vec<f32>,
    residual: Vec<f32>,
    y: Vec<f32>,
    q: Vec<i8>,
    q_scales: Vec<f32>,
}

impl Layer {
    fn boxed(sizes: [usize; 3], part: Part) -> Box<dyn Operation> {
        let [rows, inputs, outputs] = sizes;
        let mut values = Values(1);
        let weights: Vec<i8> = (0..inputs * outputs).map(|_| (values.next() * 127.0) as i8).collect();
        let scales = values.floats(outputs);
        let pack = |set| PackedWeights::pack_for(set, &weights, &scales, outputs, inputs);
        Box::new(Self {
            sizes,
            part,
            x: values.floats(rows * inputs),
            packed: pack(instruction_set()),
            packed_for_scalar: pack(InstructionSet::Scalar),
            bias: values.floats(outputs),
            residual: values.floats(rows * outputs),
            y: vec![0.0; rows * outputs],
            q: vec![0; rows * inputs],
            q_scales: vec![0.0; rows],
        })
    }
}

impl Operation for Layer {
    fn run(&mut self, on: Implementation) {
        let (set, packed) = match on {
            Implementation::Fastest => (instruction_set(), &self.packed),
            Implementation::Scalar => (InstructionSet::Scalar, &self.packed_for_scalar),
        };
        let epilogue = match self.part {
            Part::Quantization => return set.quantize_rows(&self.x, self.sizes[1], &mut self.q, &mut self.q_scales),
            Part::Whole => Epilogue::None,
            Part::Residual => Epilogue::Residual(&self.residual),
        };
        set.quantized_linear(&self.x, packed, &self.bias, epilogue, &mut self.y);
    }

    /// The first and the last rows, which the other rows have no part in, must be what scalar answers, to the last bit.
    fn check(&self) {
        let [rows, inputs, outputs] = self.sizes;
        let scalar = InstructionSet::Scalar;
        for row in [0, rows / 2, rows - 1] {
            let x = &self.x[row * inputs..][..inputs];
            let epilogue = match self.part {
                Part::Quantization => {
                    let (mut q, mut q_scale) = (vec![0; inputs], [0.0]);
                    scalar.quantize_rows(x, inputs, &mut q, &mut q_scale);
                    assert_eq!(q, self.q[row * inputs..][..inputs], "row {row}");
                    assert_eq!(q_scale[0].to_bits(), self.q_scales[row].to_bits(), "row {row}");
                    continue;
                }
                Part::Whole => Epilogue::None,
                Part::Residual => Epilogue::Residual(&self.residual[row * outputs..][..outputs]),
            };
            let mut y = vec![0.0; outputs];
            scalar.quantized_linear(x, &self.packed_for_scalar, &self.bias, epilogue, &mut y);
            let found = self.y[row * outputs..][..outputs].iter().map(|y| y.to_bits());
            assert!(found.eq(y.iter().map(|y| y.to_bits())), "row {row} is not what scalar answers");
        }
    }

    fn instruction_set(&self, of: Implementation) -> String {
        match of {
            Implementation::Fastest => instruction_set().to_string(),
            Implementation::Scalar => InstructionSet::Scalar.to_string(),
        }
    }
}

/// A small generator of values between -1 and 1.
struct Values(u64);

impl Values {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as f32 / (1_u64 << 30) as f32 - 1.0
    }

    fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.next()).collect()
    }
}
