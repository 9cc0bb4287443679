//! Which frames are from just before an event: places in a ring that its owner fills.

/// A ring of places. The owner keeps the frames, this keeps the order.
#[derive(Clone, Debug)]
pub struct Ring {
    places: usize,
    /// The place that is filled next.
    next: usize,
    /// Places that are filled and were not given out, the last ones before `next`.
    filled: usize,
}

impl Ring {
    /// A ring of so many places, all empty.
    pub fn new(places: usize) -> Ring {
        Ring { places, next: 0, filled: 0 }
    }

    /// Where the frame that has just come belongs; what is there is dropped. `None` if the ring has no place.
    pub fn fill(&mut self) -> Option<usize> {
        if self.places == 0 {
            return None;
        }
        let place = self.next;
        self.next = (self.next + 1) % self.places;
        self.filled = (self.filled + 1).min(self.places);
        Some(place)
    }

    /// Gives out the places that are filled, the oldest first. A frame is given out once.
    pub fn take(&mut self) -> Vec<usize> {
        let filled = std::mem::take(&mut self.filled);
        (0..filled).map(|place| (self.next + self.places - filled + place) % self.places).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_ring_without_places_gives_nothing() {
        let mut ring = Ring::new(0);
        assert_eq!(ring.fill(), None);
        assert!(ring.take().is_empty());
    }

    proptest! {
        /// Against a queue that holds the frames themselves.
        #[test]
        fn the_last_frames_are_given_out_once_and_in_order(
            places in 0_usize..8,
            steps in prop::collection::vec(prop::bool::weighted(0.8), 0..100),
        ) {
            let mut ring = Ring::new(places);
            let mut kept: Vec<Option<u32>> = vec![None; places];
            let mut queue = std::collections::VecDeque::new();
            for (frame, is_frame) in (0..).zip(steps) {
                if is_frame {
                    if let Some(place) = ring.fill() {
                        kept[place] = Some(frame);
                        queue.push_back(frame);
                    }
                    if queue.len() > places {
                        queue.pop_front();
                    }
                } else {
                    let given: Vec<u32> = ring.take().into_iter().map(|place| kept[place].take().unwrap()).collect();
                    prop_assert_eq!(given, queue.drain(..).collect::<Vec<u32>>());
                }
            }
        }
    }
}
