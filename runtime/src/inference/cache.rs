//! Keys and values of the tokens that a decoder has read: each token has a slot of its own, which is written once, and a
//! text is a list of slots, so that texts with a common beginning share it and nothing is moved when a search branches.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use blip::manifest::Element;
use half::f16;

use crate::kernels::attention::{Elements, HeadRows, KeysValues};
use crate::kernels::half_rows::narrow;

/// The cache of one search, for every layer of one decoder.
pub struct KeyValueCache(Arc<Mutex<Slots>>);

/// What a cache holds.
pub(super) struct Slots {
    /// Keys and values, `[slots, heads * head width]`.
    layers: Vec<[Values; 2]>,
    heads: usize,
    head_width: usize,
    /// Slots of each text's tokens, first token first.
    texts: Vec<Vec<u32>>,
    taken: usize,
    /// Tokens of each text in the call that runs, which have slots and belong to no text yet.
    fresh: usize,
}

enum Values {
    F32(Vec<f32>),
    F16(Vec<f16>),
}

impl Values {
    fn elements(&self) -> Elements<'_> {
        match self {
            Values::F32(floats) => Elements::F32(floats),
            Values::F16(halves) => Elements::F16(halves),
        }
    }
}

impl KeyValueCache {
    /// A cache with one text that has no tokens yet.
    pub(super) fn new(element: Element, layers: usize, heads: usize, head_width: usize) -> KeyValueCache {
        let values = || match element {
            Element::F16 => Values::F16(Vec::new()),
            Element::F32 | Element::I64 => Values::F32(Vec::new()),
        };
        let layers = (0..layers).map(|_| [values(), values()]).collect();
        let slots = Slots { layers, heads, head_width, texts: vec![Vec::new()], taken: 0, fresh: 0 };
        KeyValueCache(Arc::new(Mutex::new(slots)))
    }

    /// Goes on with texts that begin as those of numbers `parents` do.
    ///
    /// # Panics
    /// If a parent is not a text.
    pub fn branch(&mut self, parents: impl IntoIterator<Item = usize>) {
        let mut slots = self.lock();
        slots.texts = parents.into_iter().map(|parent| slots.texts[parent].clone()).collect();
    }

    /// The same cache, for the operators of one run.
    pub(super) fn share(&self) -> KeyValueCache {
        KeyValueCache(Arc::clone(&self.0))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Slots> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slots {
    /// Number of texts and of tokens that each has.
    pub(super) fn size(&self) -> [usize; 2] {
        [self.texts.len(), self.texts.first().map_or(0, Vec::len)]
    }

    /// Makes room for a call that reads `length` more tokens of every text; what a call that failed wrote is forgotten.
    pub(super) fn begin(&mut self, length: usize) {
        self.fresh = length;
        let values = (self.taken + self.texts.len() * length) * self.heads * self.head_width;
        for layer in self.layers.iter_mut().flatten() {
            match layer {
                Values::F32(floats) => floats.resize(values, 0.0),
                Values::F16(halves) => halves.resize(values, f16::ZERO),
            }
        }
    }

    /// Gives the tokens of the call to their texts.
    pub(super) fn end(&mut self) {
        let mut slots = self.taken as u32..;
        for text in &mut self.texts {
            text.extend(slots.by_ref().take(self.fresh));
        }
        self.taken += self.texts.len() * self.fresh;
        self.fresh = 0;
    }

    /// Says whether a call over `texts` texts of `length` tokens and `heads` heads is the one that there is room for.
    pub(super) fn has_room(&self, layer: usize, [texts, length]: [usize; 2], [heads, head_width]: [usize; 2]) -> bool {
        layer < self.layers.len()
            && (texts, length) == (self.texts.len(), self.fresh)
            && (heads, head_width) == (self.heads, self.head_width)
    }

    /// What a text's tokens before this call left; nothing if there are none.
    pub(super) fn past(&self, layer: usize, text: usize) -> Option<KeysValues<'_>> {
        let slots = self.texts[text].as_slice();
        let [keys, values] = &self.layers[layer];
        let rows = |elements| HeadRows::in_slots(elements, slots, self.heads, self.head_width);
        (!slots.is_empty()).then(|| KeysValues { keys: rows(keys.elements()), values: rows(values.elements()) })
    }

    /// Keeps a token of the call, the `token`th of the text.
    pub(super) fn keep(&mut self, layer: usize, [text, token]: [usize; 2], keys_values: [&[f32]; 2]) {
        let width = self.heads * self.head_width;
        let start = (self.taken + text * self.fresh + token) * width;
        for (kept, row) in self.layers[layer].iter_mut().zip(keys_values) {
            match kept {
                Values::F32(floats) => floats[start..][..width].copy_from_slice(row),
                Values::F16(halves) => narrow(row, &mut halves[start..][..width]),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(cache: &KeyValueCache, rows: &[f32]) {
        let mut slots = cache.lock();
        slots.begin(1);
        for (text, &value) in rows.iter().enumerate() {
            slots.keep(0, [text, 0], [&[value, -value], &[value + 0.5, 0.0]]);
        }
        slots.end();
    }

    /// The first column of each key that a text sees.
    fn keys(cache: &KeyValueCache, text: usize) -> Vec<f32> {
        let slots = cache.lock();
        let Some(past) = slots.past(0, text) else { return Vec::new() };
        let Elements::F32(keys) = past.keys.elements else { panic!("the cache is of floats") };
        past.keys.slots.unwrap().iter().map(|&slot| keys[slot as usize * 2]).collect()
    }

    #[test]
    fn texts_that_branch_share_what_they_have_in_common() {
        let mut cache = KeyValueCache::new(Element::F32, 1, 1, 2);
        assert!(keys(&cache, 0).is_empty());
        keep(&cache, &[1.0]);
        cache.branch([0, 0]);
        keep(&cache, &[2.0, 3.0]);
        cache.branch([1, 1, 0]);
        keep(&cache, &[4.0, 5.0, 6.0]);
        assert_eq!(cache.lock().size(), [3, 3]);
        assert_eq!(keys(&cache, 0), [1.0, 3.0, 4.0]);
        assert_eq!(keys(&cache, 1), [1.0, 3.0, 5.0]);
        assert_eq!(keys(&cache, 2), [1.0, 2.0, 6.0]);
        assert_eq!(cache.lock().taken, 6, "six tokens were read, and none was copied");
    }

    #[test]
    fn a_call_that_failed_leaves_the_texts_as_they_were() {
        let cache = KeyValueCache::new(Element::F16, 1, 1, 2);
        keep(&cache, &[1.0]);
        cache.lock().begin(3);
        cache.lock().keep(0, [0, 2], [&[9.0, 9.0], &[9.0, 9.0]]);
        keep(&cache, &[2.0]);
        let slots = cache.lock();
        assert_eq!(slots.size(), [1, 2]);
        let Some(past) = slots.past(0, 0) else { panic!("it has tokens") };
        let Elements::F16(keys) = past.keys.elements else { panic!("the cache is of half floats") };
        assert_eq!(keys, [1.0, -1.0, 2.0, -2.0].map(f16::from_f32));
    }
}
