//! Finds pairs by a text: by what their pictures show, where the bundle that looked at them is the one that reads the
//! text, and else by their words.

use blip::caption::Caption;
use store::{Filter, Order, PairId, Reader, StoreError};

use crate::matcher::Embedding;

/// Newest pairs that are looked through.
const MOST: usize = 50_000;
/// Pairs that are read at once.
const PAGE: usize = 500;

/// What a search found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The nearest first.
    pub(super) pairs: Vec<PairId>,
    /// Pairs that were looked through.
    pub(super) searched: usize,
    /// Of these, pairs whose pictures were compared with the text.
    pub(super) compared: usize,
}

/// The `top` nearest pairs of the newest ones that have a picture. Pairs with a vector of `bundle` are ranked by its cosine
/// to the text's; behind them come those in whose texts all words of the text stand.
pub(super) fn find(
    reader: &Reader,
    text: &str,
    vector: Option<&(Embedding, Caption)>,
    top: usize,
) -> Result<Found, StoreError> {
    let wanted: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
    let (mut found, mut near, mut named) = (Found::default(), Vec::new(), Vec::new());
    let mut since = None;
    while found.searched < MOST {
        let filter = Filter { order: Order::NewestFirst, since, with_picture: true, limit: PAGE, ..Filter::default() };
        let page = reader.list(filter)?;
        let Some(last) = page.last() else { break };
        since = Some(last.id);
        for entry in page {
            found.searched += 1;
            let Some(facts) = entry.facts else { continue };
            let comparable = vector.filter(|(_, bundle)| facts.bundle.as_ref() == Some(bundle));
            let cosine = comparable.and_then(|(vector, _)| facts.vector.as_ref()?.cosine(&vector.0));
            match cosine {
                Some(cosine) => {
                    found.compared += 1;
                    near.push((cosine, entry.id));
                }
                None => {
                    let has = |text: &str| wanted.iter().all(|word| text.contains(word));
                    if facts.texts.iter().any(|text| has(&text.words.as_str().to_lowercase())) {
                        named.push(entry.id);
                    }
                }
            }
        }
        // Only the nearest stay in memory.
        near.sort_by(|(one, _), (other, _)| other.total_cmp(one));
        near.truncate(top);
        named.truncate(top);
    }
    found.pairs = near.into_iter().map(|(_, id)| id).chain(named).take(top).collect();
    Ok(found)
}
