//! What the host says of a shard: which of its pairs are safe there, and which it will not have.

use blip::caption::Caption;
use serde::{Deserialize, Serialize};

use crate::device::DeviceName;
use crate::digest::Digest;
use crate::shard::{MAX_SHARD_BYTES, Sent};
use crate::signed::Statement;

/// A receipt for one shard. Signed by the host; only on it does a board let go of a pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Whose shard it was: a receipt for one board says nothing to another.
    pub device: DeviceName,
    /// The shard.
    pub shard: Digest,
    /// Each of its pairs and tombstones, in its order.
    pub lines: Vec<Line>,
    /// Why the file as a whole was refused, with everything in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Caption>,
}

/// A pair, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// What was sent.
    #[serde(flatten)]
    pub sent: Sent,
    /// What became of it.
    pub verdict: Verdict,
}

/// What became of a pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It is safe at the host; or the tombstone was heeded.
    Safe,
    /// The host will not have it, for this reason. The board keeps it.
    Refused(Caption),
}

impl Receipt {
    /// What of it is safe.
    pub fn safe(&self) -> impl Iterator<Item = &Sent> {
        self.lines.iter().filter(|line| line.verdict == Verdict::Safe).map(|line| &line.sent)
    }

    /// Which pairs the host will not have, and why.
    pub fn refused_pairs(&self) -> impl Iterator<Item = (&Sent, &Caption)> {
        self.lines.iter().filter_map(|line| match &line.verdict {
            Verdict::Refused(reason) => Some((&line.sent, reason)),
            Verdict::Safe => None,
        })
    }
}

impl Statement for Receipt {
    const MEDIA_TYPE: &'static str = "application/vnd.edgeblip.receipt+json";
    const NAME: &'static str = "receipt";
    // A shard has at least three blocks of 512 bytes for a pair, and a line of a receipt is shorter than that.
    const MAX_BYTES: usize = MAX_SHARD_BYTES / 2;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::SecretKey;
    use crate::signed;

    #[test]
    fn a_receipt_is_read_as_it_was_written() {
        let line = |name: &str, verdict| {
            let sent = Sent { id: name.parse().unwrap(), sha256: Some(Digest::of(name.as_bytes())), labels: 2 };
            Line { sent, verdict }
        };
        let why = Caption::new("its picture is not a picture").unwrap();
        let lines = vec![line("1-1", Verdict::Safe), line("1-2", Verdict::Refused(why.clone()))];
        let receipt = Receipt { device: "garden".parse().unwrap(), shard: Digest::of(b"shard"), lines, refused: None };
        let json = serde_json::to_vec(&receipt).unwrap();
        // For the fuzz targets.
        if let Some(folder) = std::env::var_os("EDGEBLIP_SEEDS") {
            std::fs::create_dir_all(&folder).unwrap();
            let path = std::path::Path::new(&folder).join("plain.receipt");
            std::fs::write(path, [&[1], json.as_slice()].concat()).unwrap();
        }
        assert!(json.starts_with(br#"{"device":"garden","shard":""#));
        let host = SecretKey::from_text(&"17".repeat(32)).unwrap();
        let read: Receipt = signed::open(&signed::sign(&receipt, &[&host]), &[host.public()]).unwrap();
        assert_eq!(read, receipt);
        assert_eq!(read.safe().map(|sent| sent.id.to_string()).collect::<Vec<_>>(), ["1-1"]);
        assert_eq!(read.refused_pairs().map(|(_, reason)| reason).collect::<Vec<_>>(), [&why]);
    }
}
