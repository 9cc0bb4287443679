//! Frames that show what was kept a moment ago.

use std::collections::VecDeque;

/// ITC vectors of the frames that were kept last.
#[derive(Clone, Debug)]
pub struct Kept {
    most: usize,
    vectors: VecDeque<Box<[f32]>>,
}

impl Kept {
    /// Nothing is kept yet; `most` vectors will be.
    pub fn new(most: u16) -> Kept {
        Kept { most: usize::from(most).max(1), vectors: VecDeque::new() }
    }

    /// Changes how many are compared with.
    pub fn set_most(&mut self, most: u16) {
        self.most = usize::from(most).max(1);
        while self.vectors.len() > self.most {
            self.vectors.pop_front();
        }
    }

    /// The largest cosine to a frame that was kept. `None` if there is none to compare with: another bundle's vectors
    /// have other lengths.
    pub fn nearest(&self, vector: &[f32]) -> Option<f64> {
        let of_length = self.vectors.iter().filter(|kept| kept.len() == vector.len());
        of_length.filter_map(|kept| cosine(kept, vector)).reduce(f64::max)
    }

    /// Whether a frame is nearly one that was kept.
    pub fn is_duplicate(&self, vector: &[f32], cosine: Option<f64>) -> bool {
        let Some(cosine) = cosine else { return false };
        self.nearest(vector).is_some_and(|nearest| nearest >= cosine)
    }

    /// A frame is kept; the oldest makes room.
    pub fn keep(&mut self, vector: &[f32]) {
        while self.vectors.len() >= self.most {
            self.vectors.pop_front();
        }
        self.vectors.push_back(vector.into());
    }

    /// Forgets all, as when the bundle changes.
    pub fn clear(&mut self) {
        self.vectors.clear();
    }
}

/// `None` if a vector has no direction.
fn cosine(one: &[f32], other: &[f32]) -> Option<f64> {
    let product = |one: &[f32], other: &[f32]| -> f64 {
        one.iter().zip(other).map(|(one, other)| f64::from(*one) * f64::from(*other)).sum()
    };
    let cosine = product(one, other) / (product(one, one) * product(other, other)).sqrt();
    cosine.is_finite().then_some(cosine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_like_one_of_the_last_is_a_duplicate() {
        let mut kept = Kept::new(2);
        assert!(!kept.is_duplicate(&[1.0, 0.0], Some(0.0)));
        kept.keep(&[1.0, 0.0]);
        kept.keep(&[0.0, 2.0]);
        assert_eq!(kept.nearest(&[3.0, 4.0]), Some(0.8));
        assert!(kept.is_duplicate(&[3.0, 4.0], Some(0.8)));
        assert!(!kept.is_duplicate(&[3.0, 4.0], Some(0.81)));
        assert!(!kept.is_duplicate(&[1.0, 0.0], None));
        kept.keep(&[-1.0, 0.0]);
        assert_eq!(kept.nearest(&[1.0, 0.0]), Some(0.0));
        kept.set_most(1);
        assert_eq!(kept.nearest(&[1.0, 0.0]), Some(-1.0));
        kept.clear();
        assert_eq!(kept.nearest(&[1.0, 0.0]), None);
    }

    #[test]
    fn what_has_no_direction_or_another_length_is_no_duplicate() {
        let mut kept = Kept::new(8);
        for vector in [&[0.0, 0.0][..], &[f32::NAN, 1.0], &[1.0]] {
            kept.keep(vector);
        }
        assert_eq!(kept.nearest(&[1.0, 0.0]), None);
        assert!(!kept.is_duplicate(&[f32::INFINITY, 0.0], Some(0.0)));
    }
}
