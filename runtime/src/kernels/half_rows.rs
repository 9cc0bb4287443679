//! Rows between f32 and f16, as ONNX's Cast: exact one way, rounded to the nearest, ties to even, the other.
//!
//! What is too large for f16 becomes infinity. A NaN stays one, made quiet, with the bits of its payload that fit.

use half::f16;

use super::lanes::{InstructionSet, Kernel, LANES, Lanes};

/// Writes half floats as floats.
///
/// # Panics
/// When the lengths differ.
pub fn widen(from: &[f16], to: &mut [f32]) {
    widen_on(InstructionSet::fastest(), from, to);
}

/// Writes floats as half floats.
///
/// # Panics
/// When the lengths differ.
pub fn narrow(from: &[f32], to: &mut [f16]) {
    narrow_on(InstructionSet::fastest(), from, to);
}

/// [`widen`] on an instruction set.
///
/// # Panics
/// As [`widen`].
pub fn widen_on(set: InstructionSet, from: &[f16], to: &mut [f32]) {
    set.run(Widen { from, to });
}

/// [`narrow`] on an instruction set.
///
/// # Panics
/// As [`narrow`].
pub fn narrow_on(set: InstructionSet, from: &[f32], to: &mut [f16]) {
    set.run(Narrow { from, to });
}

/// [`widen`] as a kernel.
pub(super) struct Widen<'a> {
    pub(super) from: &'a [f16],
    pub(super) to: &'a mut [f32],
}

impl Kernel for Widen<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Self { from, to } = self;
        assert_eq!(from.len(), to.len(), "a float for each half float");
        let (vectors, from) = from.as_chunks();
        let (answers, to) = to.as_chunks_mut();
        let (fours, vectors) = vectors.as_chunks::<4>();
        let (four_answers, answers) = answers.as_chunks_mut::<4>();
        for (from, to) in fours.iter().zip(four_answers) {
            for (from, to) in from.iter().zip(to) {
                lanes.store(lanes.load_half(from), to);
            }
        }
        for (from, to) in vectors.iter().zip(answers) {
            lanes.store(lanes.load_half(from), to);
        }
        if !from.is_empty() {
            let (mut half, mut wide) = ([f16::ZERO; LANES], [0.0; LANES]);
            half[..from.len()].copy_from_slice(from);
            lanes.store(lanes.load_half(&half), &mut wide);
            to.copy_from_slice(&wide[..from.len()]);
        }
    }
}

struct Narrow<'a> {
    from: &'a [f32],
    to: &'a mut [f16],
}

impl Kernel for Narrow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Self { from, to } = self;
        assert_eq!(from.len(), to.len(), "a half float for each float");
        let (vectors, from) = from.as_chunks();
        let (answers, to) = to.as_chunks_mut();
        for (from, to) in vectors.iter().zip(answers) {
            lanes.store_half(lanes.load(from), to);
        }
        if !from.is_empty() {
            let (mut wide, mut half) = ([0.0; LANES], [f16::ZERO; LANES]);
            wide[..from.len()].copy_from_slice(from);
            lanes.store_half(lanes.load(&wide), &mut half);
            to.copy_from_slice(&half[..from.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::lanes::tests::{bits_of, golden, integers};
    use super::*;

    fn narrowed(set: InstructionSet, from: &[f32]) -> Vec<u16> {
        let mut to = vec![f16::ONE; from.len()];
        narrow_on(set, from, &mut to);
        to.into_iter().map(f16::to_bits).collect()
    }

    fn widened(set: InstructionSet, from: &[f16]) -> Vec<u32> {
        let mut to = vec![1.0; from.len()];
        widen_on(set, from, &mut to);
        to.into_iter().map(f32::to_bits).collect()
    }

    #[test]
    fn every_half_float_is_widened_exactly() {
        let all: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
        let expected: Vec<u32> = all.iter().map(|half| half.to_f32_const().to_bits()).collect();
        for set in InstructionSet::available() {
            assert_eq!(widened(set, &all), expected, "{set}");
        }
    }

    #[test]
    fn floats_are_rounded_to_the_nearest_half_float_and_ties_to_even() {
        let mut from: Vec<f32> = (0..u32::MAX).step_by(1013).map(f32::from_bits).collect();
        for half in 0..0x7c00 {
            let [low, high] = [half, half + 1].map(|bits| f16::from_bits(bits).to_f32_const());
            let tie = if high.is_finite() { (low + high) / 2.0 } else { 65520.0 };
            from.extend([low, tie, tie.next_up(), tie.next_down()].iter().flat_map(|x| [*x, -x]));
        }
        let expected: Vec<u16> = from.iter().map(|float| f16::from_f32_const(*float).to_bits()).collect();
        for set in InstructionSet::available() {
            assert_eq!(narrowed(set, &from), expected, "{set}");
        }
    }

    #[test]
    fn every_length_and_start_is_the_same() {
        let half: Vec<f16> = (0..60).map(|at| f16::from_f32_const(at as f32 * 0.37 - 9.0)).collect();
        let wide: Vec<f32> = half.iter().map(|half| half.to_f32_const()).collect();
        for set in InstructionSet::available() {
            for (length, start) in (0..=40).flat_map(|length| (0..9).map(move |start| (length, start))) {
                let (mut to_wide, mut to_half) = (vec![7.0; 60], vec![f16::ONE; 60]);
                widen_on(set, &half[start..][..length], &mut to_wide[9 - start..][..length]);
                narrow_on(set, &wide[start..][..length], &mut to_half[9 - start..][..length]);
                assert_eq!(to_wide[9 - start..][..length], wide[start..][..length], "{set}");
                assert_eq!(to_half[9 - start..][..length], half[start..][..length], "{set}");
                assert!(to_wide[9 - start + length..].iter().chain(&to_wide[..9 - start]).all(|x| *x == 7.0), "{set}");
                assert!(
                    to_half[9 - start + length..].iter().chain(&to_half[..9 - start]).all(|x| *x == f16::ONE),
                    "{set}"
                );
            }
        }
    }

    #[test]
    fn half_floats_are_those_of_numpy() {
        let golden = golden();
        let from: Vec<f32> = bits_of(&golden["half"]["x"]).into_iter().map(f32::from_bits).collect();
        let expected: Vec<u16> =
            integers(&golden["half"]["y"]).into_iter().map(|bits| u16::try_from(bits).unwrap()).collect();
        for set in InstructionSet::available() {
            assert_eq!(narrowed(set, &from), expected, "{set}");
        }
    }
}
