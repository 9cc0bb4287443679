//! Receipts to the store: only its one writer may say that a pair is at home.

use blip::caption::Caption;
use exchange::{Digest, Grant, Receipt, Sent, signed};
use store::StoreError;

use crate::ledger::{Ledger, LedgerError, Refusal};

/// Why receipts wait.
#[derive(Debug, thiserror::Error)]
pub enum SettlingError {
    /// The folder of what is under way.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The store takes nothing now.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What receipts came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Receipts that the store was told of.
    pub receipts: usize,
    /// Pairs and tombstones that are safe at the host.
    pub safe: usize,
    /// Those that it will not have.
    pub refused: usize,
    /// Receipts that were none: another signature, another board.
    pub foreign: usize,
}

/// Tells the store, by `mark_synced`, of every receipt that has arrived. Stopped at any place, it goes on from the
/// beginning.
///
/// # Errors
/// A store or a folder that takes nothing now: the receipts stay.
pub fn settle(
    ledger: &Ledger,
    grant: &Grant,
    mut mark_synced: impl FnMut(&[store::Receipt]) -> Result<(), StoreError>,
) -> Result<Settled, SettlingError> {
    let mut settled = Settled::default();
    for (shard, bytes) in ledger.arrived()? {
        let Some(receipt) = read(&bytes, shard, grant) else {
            settled.foreign += 1;
            ledger.forget_arrived(shard)?;
            continue;
        };
        let safe: Vec<store::Receipt> = receipt.safe().map(at_home).collect();
        mark_synced(&safe)?;
        let refusals = refusals(ledger, &receipt)?;
        if !refusals.is_empty() {
            ledger.note_refused(shard, &refusals)?;
        }
        ledger.forget_sent(shard)?;
        ledger.forget_arrived(shard)?;
        settled.receipts += 1;
        settled.safe += safe.len();
        settled.refused += refusals.len();
    }
    Ok(settled)
}

/// A receipt that is for this board's shard and by its host.
pub(crate) fn read(bytes: &[u8], shard: Digest, grant: &Grant) -> Option<Receipt> {
    let receipt: Receipt = signed::open(bytes, &[grant.host]).ok()?;
    (receipt.shard == shard && receipt.device == grant.device).then_some(receipt)
}

fn at_home(sent: &Sent) -> store::Receipt {
    match sent.sha256 {
        Some(sha256) => store::Receipt::Pair { id: sent.id, sha256: sha256.bytes(), labels: sent.labels },
        None => store::Receipt::Tombstone { id: sent.id },
    }
}

/// Of a shard that was refused as a whole, everything that the board put into it.
fn refusals(ledger: &Ledger, receipt: &Receipt) -> Result<Vec<Refusal>, LedgerError> {
    let refusal = |sent: &Sent, reason: &Caption| Refusal { sent: *sent, reason: reason.clone() };
    let Some(reason) = &receipt.refused else {
        return Ok(receipt.refused_pairs().map(|(sent, reason)| refusal(sent, reason)).collect());
    };
    let sent = ledger.sent()?.into_iter().find(|(shard, _)| *shard == receipt.shard);
    Ok(sent.map(|(_, pairs)| pairs.iter().map(|sent| refusal(sent, reason)).collect()).unwrap_or_default())
}
