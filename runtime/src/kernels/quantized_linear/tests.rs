//! Every instruction set against a plain sum, and scalar against ONNX Runtime.

use std::sync::Arc;

use super::*;

/// A small generator, for values that look like nothing in particular.
struct Values(u64);

impl Values {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.0 >> 33
    }

    fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| (self.next() as f32 / (1u64 << 30) as f32 - 1.0) * 3.0).collect()
    }

    fn bytes(&mut self, count: usize) -> Vec<i8> {
        (0..count).map(|_| self.next() as i8).collect()
    }
}

struct Layer {
    inputs: usize,
    outputs: usize,
    weights: Vec<i8>,
    scales: Vec<f32>,
    bias: Vec<f32>,
}

impl Layer {
    fn new(inputs: usize, outputs: usize) -> Self {
        let mut values = Values((inputs * 1000 + outputs) as u64);
        let weights = values.bytes(inputs * outputs);
        let (scales, bias) = (values.floats(outputs), values.floats(outputs));
        Self { inputs, outputs, weights, scales, bias }
    }

    fn packed(&self, set: InstructionSet) -> PackedWeights {
        PackedWeights::pack_for(set, &self.weights, &self.scales, self.outputs, self.inputs)
    }

    fn run(&self, set: InstructionSet, x: &[f32]) -> Vec<f32> {
        self.run_with(set, x, Epilogue::None)
    }

    fn run_with(&self, set: InstructionSet, x: &[f32], epilogue: Epilogue<'_>) -> Vec<f32> {
        let mut y = vec![f32::NAN; x.len() / self.inputs * self.outputs];
        set.quantized_linear(x, &self.packed(set), &self.bias, epilogue, &mut y);
        y
    }

    /// The contract word for word, with 64-bit sums.
    fn reference(&self, x: &[f32]) -> Vec<f32> {
        let (q, scales) = reference_rows(x, self.inputs);
        let mut y = Vec::new();
        for (q, scale) in q.chunks(self.inputs).zip(scales) {
            for (output, weights) in self.weights.chunks(self.inputs).enumerate() {
                let sum: i64 = q.iter().zip(weights).map(|(&q, &weight)| i64::from(q) * i64::from(weight)).sum();
                y.push((sum as f32 * scale) * self.scales[output] + self.bias[output]);
            }
        }
        y
    }

    fn check(&self, x: &[f32]) {
        let expected = self.reference(x);
        for set in InstructionSet::available() {
            let rows = x.len() / self.inputs;
            assert_bits(&self.run(set, x), &expected, &format!("{set} {rows}x{}x{}", self.inputs, self.outputs));
        }
    }
}

fn reference_rows(x: &[f32], width: usize) -> (Vec<i8>, Vec<f32>) {
    let (mut q, mut scales) = (Vec::new(), Vec::new());
    for row in x.chunks(width) {
        let scale = row.iter().fold(0.0_f32, |largest, x| largest.max(x.abs())).max(1e-12) / 127.0;
        q.extend(row.iter().map(|x| (x / scale).round_ties_even() as i8));
        scales.push(scale);
    }
    (q, scales)
}

#[track_caller]
fn assert_bits(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(found.to_bits() == expected.to_bits(), "{what}: {found} is not {expected} at {at}");
    }
}

fn floats(golden: &serde_json::Value) -> Vec<f32> {
    integers(golden).into_iter().map(|bits| f32::from_bits(u32::try_from(bits).unwrap())).collect()
}

fn bytes(golden: &serde_json::Value) -> Vec<i8> {
    integers(golden).into_iter().map(|byte| i8::try_from(byte).unwrap()).collect()
}

fn integers(golden: &serde_json::Value) -> Vec<i64> {
    golden.as_array().unwrap().iter().map(|value| value.as_i64().unwrap()).collect()
}

#[test]
fn every_instruction_set_answers_as_onnx_runtime_does() {
    let golden: serde_json::Value = serde_json::from_str(include_str!("../goldens/quantized_linear.json")).unwrap();
    for case in golden["cases"].as_array().unwrap() {
        let size = |name: &str| usize::try_from(case[name].as_u64().unwrap()).unwrap();
        let (rows, inputs, outputs) = (size("rows"), size("inputs"), size("outputs"));
        let (weights, scales) = (bytes(&case["weights"]), floats(&case["weight_scales"]));
        let layer = Layer { inputs, outputs, weights, scales, bias: floats(&case["bias"]) };
        let x = floats(&case["x"]);
        assert_bits(&layer.reference(&x), &floats(&case["y"]), &format!("reference {}", case["kind"]));
        for set in InstructionSet::available() {
            let what = format!("{set} {} {rows}x{inputs}x{outputs}", case["kind"]);
            let (mut q, mut q_scales) = (vec![0; x.len()], vec![0.0; rows]);
            set.quantize_rows(&x, inputs, &mut q, &mut q_scales);
            assert_eq!(q, bytes(&case["q"]), "{what}");
            assert_bits(&q_scales, &floats(&case["x_scales"]), &what);
            assert_bits(&layer.run(set, &x), &floats(&case["y"]), &what);
        }
    }
}

#[test]
fn rows_around_the_tile_are_exact() {
    for (inputs, outputs) in [(19, 33), (64, 16), (3, 1)] {
        let layer = Layer::new(inputs, outputs);
        for rows in 0..=25 {
            layer.check(&Values(rows as u64).floats(rows * inputs));
        }
    }
    Layer::new(48, 35).check(&Values(577).floats(577 * 48));
}

#[test]
fn outputs_around_the_tile_are_exact() {
    for outputs in 1..=65 {
        for rows in [1, 2, 3, 5, 13] {
            Layer::new(21, outputs).check(&Values(outputs as u64).floats(rows * 21));
        }
    }
}

#[test]
fn inputs_around_the_tile_are_exact() {
    for inputs in (1..=35).chain([63, 64, 65, 255, 256, 257, 511, 512, 513, 770]) {
        for rows in [1, 2, 3, 4, 5, 6, 13] {
            Layer::new(inputs, 18).check(&Values(inputs as u64).floats(rows * inputs));
        }
    }
}

#[test]
fn unaligned_slices_are_exact() {
    let layer = Layer::new(37, 21);
    let x = Values(3).floats(14 * 37 + 16);
    for start in 0..16 {
        let x = &x[start..][..14 * 37];
        let expected = layer.reference(x);
        for set in InstructionSet::available() {
            let mut y = vec![0.0; 14 * 21 + 16];
            set.quantized_linear(x, &layer.packed(set), &layer.bias, Epilogue::None, &mut y[start..][..14 * 21]);
            assert_bits(&y[start..][..14 * 21], &expected, &format!("{set} from {start}"));
            assert!(y[..start].iter().chain(&y[start + 14 * 21..]).all(|y| *y == 0.0), "{set} wrote outside y");
        }
    }
}

#[test]
fn a_residual_is_added_after_the_bias() {
    for (inputs, outputs) in [(19, 1), (19, 16), (33, 37), (16, 64)] {
        let layer = Layer::new(inputs, outputs);
        for rows in 0..=14 {
            let x = Values(rows as u64).floats(rows * inputs);
            let mut residual = Values(7).floats(rows * outputs + 1);
            residual.iter_mut().skip(5).step_by(11).for_each(|value| *value *= 1e30);
            let residual = &residual[1..];
            let expected: Vec<f32> = layer.reference(&x).iter().zip(residual).map(|(y, value)| y + value).collect();
            for set in InstructionSet::available() {
                let y = layer.run_with(set, &x, Epilogue::Residual(residual));
                assert_bits(&y, &expected, &format!("{set} {rows}x{inputs}x{outputs}"));
            }
        }
    }
}

#[test]
fn a_gelu_is_that_of_the_answer() {
    for (rows, inputs, outputs) in [(1, 19, 1), (5, 33, 37), (14, 16, 64), (1, 1200, 1000)] {
        let layer = Layer::new(inputs, outputs);
        let x = Values(rows as u64).floats(rows * inputs);
        let mut expected = layer.reference(&x);
        gelu(&mut expected);
        for set in InstructionSet::available() {
            let y = layer.run_with(set, &x, Epilogue::Gelu);
            assert_bits(&y, &expected, &format!("{set} {rows}x{inputs}x{outputs}"));
        }
    }
}

#[test]
fn a_residual_that_is_not_finite_spoils_its_own_answer_only() {
    let layer = Layer::new(40, 21);
    let x = Values(15).floats(7 * 40);
    for bad in [f32::NAN, f32::INFINITY] {
        for at in [0, 3 * 21 + 15, 3 * 21 + 20, 7 * 21 - 1] {
            let mut residual = vec![0.0; 7 * 21];
            residual[at] = bad;
            for set in InstructionSet::available() {
                let mut y = layer.run_with(set, &x, Epilogue::Residual(&residual));
                let mut expected = layer.reference(&x);
                assert!(!y[at].is_finite(), "{set} {bad} at {at}");
                (y[at], expected[at]) = (0.0, 0.0);
                assert_bits(&y, &expected, &format!("{set} {bad} at {at}"));
            }
        }
    }
}

#[test]
fn the_largest_sums_do_not_overflow() {
    for weight in [127, -127, -128] {
        for inputs in [4, 3072] {
            let mut layer = Layer::new(inputs, 17);
            layer.weights.fill(weight);
            let mut x = [vec![2.5; inputs], vec![-2.5; inputs]].concat();
            x.extend((0..inputs).map(|input| if input % 2 == 0 { 1.0 } else { -1.0 }));
            layer.check(&x);
            layer.check(&x.repeat(4));
        }
    }
    let mut layer = Layer::new(MAX_INPUTS, 2);
    layer.weights.fill(-128);
    layer.check(&[vec![-1.0; MAX_INPUTS], vec![1.0; MAX_INPUTS]].concat());
    layer.check(&vec![1.0; MAX_INPUTS * 5]);
}

#[test]
fn tiny_and_huge_rows_are_exact() {
    let layer = Layer::new(40, 20);
    let ordinary = Values(9).floats(40);
    let mut x = Vec::new();
    for factor in [0.0, -0.0, 1e-45, 1e-40, 1e-30, 1e-12, 1.0, 1e30, f32::MAX / 4.0] {
        x.extend(ordinary.iter().map(|x| x * factor));
    }
    layer.check(&x);
    x.reverse();
    layer.check(&x);
}

#[test]
fn a_row_that_is_not_finite_is_nan_and_leaves_the_others_alone() {
    let layer = Layer::new(40, 20);
    let x = Values(11).floats(14 * 40);
    for bad in [f32::NAN, -f32::NAN, f32::from_bits(0x7f80_0001), f32::INFINITY, f32::NEG_INFINITY] {
        for row in [0, 6, 13] {
            let mut spoilt = x.clone();
            spoilt[row * 40 + 17] = bad;
            let mut expected = layer.reference(&x);
            for set in InstructionSet::available() {
                let mut y = layer.run(set, &spoilt);
                assert!(y[row * 20..][..20].iter().all(|y| y.is_nan()), "{set} {bad}");
                y[row * 20..][..20].fill(0.0);
                expected[row * 20..][..20].fill(0.0);
                assert_bits(&y, &expected, &format!("{set} {bad}"));
            }
        }
    }
}

#[test]
fn halves_round_to_even_at_every_width() {
    for width in 1..=70 {
        let mut x: Vec<f32> = (0..3 * width).map(|at| (at as f32 - 100.0) % 126.0 + 0.5).collect();
        x.iter_mut().step_by(width).for_each(|x| *x = 127.0);
        let (expected, expected_scales) = reference_rows(&x, width);
        for set in InstructionSet::available() {
            let (mut q, mut scales) = (vec![0; x.len()], vec![0.0; 3]);
            set.quantize_rows(&x, width, &mut q, &mut scales);
            assert_eq!(q, expected, "{set} {width}");
            assert_bits(&scales, &expected_scales, &format!("{set} {width}"));
        }
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    for (rows, inputs, outputs) in [(1, 1030, 1100), (3, 515, 1030), (150, 131, 90), (2000, 40, 17)] {
        let layer = Layer::new(inputs, outputs);
        let x = Values(13).floats(rows * inputs);
        assert!(x.len() * outputs >= PARALLEL_PRODUCTS);
        for threads in [1, 2, 3, 7] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| layer.check(&x));
        }
    }
}

#[test]
fn calls_inside_calls_do_not_share_memory() {
    let layer = Layer::new(515, 1030);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    pool.install(|| {
        (1..=8_usize).into_par_iter().for_each(|rows| {
            let x = Values(rows as u64).floats(rows * 515);
            assert_bits(&layer.run(instruction_set(), &x), &layer.reference(&x), &format!("{rows} rows"));
        });
    });
}

#[test]
fn the_fastest_instruction_set_is_the_last_available() {
    let fastest = InstructionSet::available().last().map(ToString::to_string);
    assert_eq!(fastest, Some(instruction_set().to_string()));
}

/// What the kernel says of the processor, which is not how the standard library's detection is asked.
#[cfg(target_arch = "aarch64")]
#[test]
fn aarch64_runs_on_dot_products_where_there_are_any_and_never_on_scalar() {
    const CAPABILITIES: u64 = 16;
    const DOT_PRODUCTS: u64 = 1 << 20;
    let entries = std::fs::read("/proc/self/auxv").unwrap();
    let words: Vec<u64> = entries.as_chunks().0.iter().map(|bytes| u64::from_ne_bytes(*bytes)).collect();
    let found = words.as_chunks::<2>().0.iter().find(|[kind, _]| *kind == CAPABILITIES).unwrap();
    let expected = if found[1] & DOT_PRODUCTS != 0 { "neon-dot-product" } else { "neon" };
    assert_eq!(instruction_set().to_string(), expected);
}

#[cfg(target_arch = "aarch64")]
#[test]
#[should_panic(expected = "packed for another instruction set")]
fn weights_in_another_order_are_refused() {
    let weights = Layer::new(5, 3).packed(InstructionSet::Scalar);
    InstructionSet::Neon(Neon).quantized_linear(&[1.0; 5], &weights, &[0.0; 3], Epilogue::None, &mut [0.0; 3]);
}

#[test]
#[should_panic(expected = "the residual is [1, 3]")]
fn a_residual_of_another_size_is_refused() {
    Layer::new(5, 3).run_with(InstructionSet::Scalar, &[1.0; 5], Epilogue::Residual(&[0.0; 2]));
}

#[test]
#[should_panic(expected = "weights are [outputs, inputs]")]
fn weights_of_another_size_are_refused() {
    PackedWeights::pack(&[1; 11], &[1.0; 3], 3, 4);
}

#[test]
#[should_panic(expected = "x is [rows, 4]")]
fn activations_of_another_size_are_refused() {
    let weights = PackedWeights::pack(&[1; 12], &[1.0; 3], 3, 4);
    quantized_linear(&[1.0; 7], &weights, &[0.0; 3], Epilogue::None, &mut [0.0; 6]);
}

#[test]
fn weights_that_were_written_are_read_where_they_lie() {
    let layer = Layer::new(45, 37);
    let packed = PackedWeights::pack(&layer.weights, &layer.scales, layer.outputs, layer.inputs);
    let mut file = vec![0xa5; ALIGNMENT];
    packed.write(&mut file).unwrap();
    assert_eq!(file.len(), ALIGNMENT + PackedWeights::packed_bytes(layer.outputs, layer.inputs));
    let map = |bytes: &[u8]| -> SharedBytes {
        let mut map = memmap2::MmapMut::map_anon(bytes.len()).unwrap();
        map.copy_from_slice(bytes);
        Arc::new(map)
    };
    let borrow = |bytes, start| PackedWeights::borrow(bytes, start, &layer.scales, layer.outputs, layer.inputs);
    let (whole, short) = (map(&file), map(&file[..file.len() - 1]));
    assert!(borrow(&short, ALIGNMENT).is_none(), "the end is missing");
    assert!(borrow(&whole, ALIGNMENT + 4).is_none(), "it does not begin there");
    assert!(borrow(&whole, usize::MAX - 63).is_none(), "there is no such place");
    let borrowed = borrow(&whole, ALIGNMENT).expect("it lies there whole");
    let x = Values(3).floats(5 * layer.inputs);
    let mut y = vec![0.0; 5 * layer.outputs];
    quantized_linear(&x, &borrowed, &layer.bias, Epilogue::None, &mut y);
    assert_eq!(y, layer.run(instruction_set(), &x));
}
