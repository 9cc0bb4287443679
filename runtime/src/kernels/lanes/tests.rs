//! What the tests of all float kernels share, and tests of the single steps.

use super::*;

/// A small generator, for values that look like nothing in particular.
pub(crate) struct Values(pub(crate) u64);

impl Values {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.0 >> 33
    }

    /// Floats in -3..3.
    pub(crate) fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| (self.next() as f32 / (1u64 << 30) as f32 - 1.0) * 3.0).collect()
    }
}

/// Compares bits; one NaN is as good as another.
#[track_caller]
pub(crate) fn assert_bits(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        let is_same = found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan();
        assert!(is_same, "{what}: {found:e} is not {expected:e} at {at}");
    }
}

/// Runs `check` in pools of several sizes.
pub(crate) fn with_threads(check: impl Fn() + Sync) {
    for threads in [1, 2, 3, 7] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(&check);
    }
}

/// What numpy and scipy answer in 64 bits.
pub(crate) fn golden() -> serde_json::Value {
    serde_json::from_str(include_str!("../goldens/floats.json")).unwrap()
}

pub(crate) fn integers(golden: &serde_json::Value) -> Vec<u64> {
    golden.as_array().unwrap().iter().map(|value| value.as_u64().unwrap()).collect()
}

pub(crate) fn bits_of(golden: &serde_json::Value) -> Vec<u32> {
    integers(golden).into_iter().map(|bits| u32::try_from(bits).unwrap()).collect()
}

pub(crate) fn floats_of(golden: &serde_json::Value) -> Vec<f32> {
    bits_of(golden).into_iter().map(f32::from_bits).collect()
}

/// Every step on two or three vectors, one after another.
struct Steps<'a>([&'a [f32; LANES]; 3]);

impl Kernel for Steps<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> Vec<f32> {
        let [a, b, c] = self.0.map(|values| lanes.load(values));
        let number = lanes.splat(2.5);
        let steps = [
            lanes.add(a, b),
            lanes.sub(a, b),
            lanes.mul(a, b),
            lanes.mul_add(a, b, c),
            lanes.neg_mul_add(a, b, c),
            lanes.min(number, b),
            lanes.max(number, b),
            lanes.abs(a),
            lanes.round(a),
            lanes.zero_below(a, b, c),
            lanes.totals([a, b, c, lanes.add(a, b), lanes.sub(a, b), number, c, lanes.abs(b)]),
        ];
        let mut found = Vec::new();
        for step in steps {
            let mut values = [0.0; LANES];
            lanes.store(step, &mut values);
            found.extend(values);
        }
        found
    }
}

#[test]
fn every_step_is_the_same_everywhere() {
    let odd = [0.0, -0.0, 0.5, 1.5, -2.5, 1e-45, -1e-40, 1e38, f32::MAX, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
    let mut values: Vec<f32> = odd.into_iter().chain(Values(3).floats(20)).collect();
    values.extend([8_388_607.5, -8_388_609.0, 3e9, f32::MIN_POSITIVE]);
    for shift in 0..values.len() * values.len() {
        let pick = |step: usize| std::array::from_fn(|lane| values[(shift * step + lane * (step + 2)) % values.len()]);
        let (a, b, c) = (pick(1), pick(7), pick(5));
        let expected = Scalar.run(Steps([&a, &b, &c]));
        for set in InstructionSet::available() {
            let found = set.run(Steps([&a, &b, &c]));
            assert_bits(&found, &expected, &format!("{set} {a:?} {b:?} {c:?}"));
        }
    }
}

struct Bytes<'a>(&'a [i8; LANES]);

impl Kernel for Bytes<'_> {
    type Output = [f32; LANES];

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> [f32; LANES] {
        let mut found = [0.0; LANES];
        lanes.store(lanes.load_bytes(self.0), &mut found);
        found
    }
}

#[test]
fn every_byte_is_a_float() {
    for first in i8::MIN..=i8::MAX {
        let bytes = std::array::from_fn(|lane| first.wrapping_add(37 * lane as i8));
        for set in InstructionSet::available() {
            assert_eq!(set.run(Bytes(&bytes)), bytes.map(f32::from), "{set}");
        }
    }
}

#[test]
fn the_fastest_instruction_set_is_the_last_available() {
    let fastest = InstructionSet::available().last().map(ToString::to_string);
    assert_eq!(fastest, Some(InstructionSet::fastest().to_string()));
}

#[test]
#[cfg(target_arch = "aarch64")]
fn an_arm_board_runs_neon() {
    assert_eq!(InstructionSet::fastest().to_string(), "neon");
}
