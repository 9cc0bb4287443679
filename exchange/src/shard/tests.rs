use std::time::Duration;

use blip::caption::{Caption, Origin};
use store::event::LabelAction;
use store::{Decision, Label, Limits, Original, Pair, PairId, Sensor, Stamp, Store, Text};
use tar::{Builder, EntryType, Header};

use super::*;

fn caption(text: &str) -> Caption {
    Caption::new(text).unwrap()
}

fn text(words: &str, decision: Decision) -> Text {
    Text {
        words: caption(words),
        origin: Origin::Caption,
        itm: Some(0.75),
        itc: None,
        log_prob: None,
        decision,
        model: None,
    }
}

fn sample(jpeg: Option<Vec<u8>>, texts: Vec<Text>) -> Pair {
    let sensor = Sensor {
        camera: caption("folder"),
        trigger: caption("interval"),
        exposure_us: None,
        temperature_c: Some(48.5),
        throttled: None,
    };
    Pair { jpeg, texts, sensor, place: None, taken: Stamp::default(), bundle: None, vector: None }
}

/// A store with a labelled pair, one without a picture, one that is forgotten, and large ones.
fn stored(large: usize) -> (tempfile::TempDir, Store, Vec<PairId>) {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path(), caption("boot a"), Limits::default()).unwrap().0;
    let kept = || vec![text("a cat on a wall", Decision::Kept)];
    let mut ids = vec![store.put(sample(Some(b"first".to_vec()), kept()), Duration::ZERO).unwrap()];
    let rejected = vec![text("a", Decision::Rejected(caption("one word again and again")))];
    ids.push(store.put(sample(None, rejected), Duration::ZERO).unwrap());
    ids.push(store.put(sample(Some(b"third".to_vec()), kept()), Duration::ZERO).unwrap());
    store.flush().unwrap();
    for number in 0..large {
        ids.push(store.put(sample(Some(vec![number as u8; 3 << 20]), kept()), Duration::ZERO).unwrap());
        store.flush().unwrap();
    }
    let action = LabelAction::Rewrite(caption("a grey cat"));
    store.label(ids[0], Label { action, by: Some(caption("Ada")), at: Stamp::default() }).unwrap();
    store.forget(ids[2], Stamp::default()).unwrap();
    (folder, store, ids)
}

fn packed(store: &Store, ids: &[PairId]) -> PackedShard {
    let mut packer = Packer::new();
    for original in store.reader().originals(ids).unwrap() {
        packer.add(&original).unwrap();
    }
    for tombstone in store.reader().tombstones().unwrap() {
        packer.add_tombstone(&tombstone).unwrap();
    }
    packer.finish().unwrap()
}

/// For the fuzz targets, where `EDGEBLIP_SEEDS` names a folder.
fn keep_as_seeds(shard: &PackedShard) {
    let Some(folder) = std::env::var_os("EDGEBLIP_SEEDS") else { return };
    let folder = std::path::PathBuf::from(folder);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("shard.tar"), &shard.bytes).unwrap();
}

fn member(name: &str, kind: EntryType, bytes: &[u8]) -> Vec<u8> {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(bytes.len() as u64);
    // As a hostile tar has it: the library's own writer would refuse some names.
    header.as_ustar_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_cksum();
    let mut tar = Builder::new(Vec::new());
    tar.append(&header, bytes).unwrap();
    let mut tar = tar.into_inner().unwrap();
    tar.truncate(tar.len() - 1024);
    tar
}

fn read_bytes(bytes: &[u8]) -> Result<Vec<Item>, ShardError> {
    read(Digest::of(bytes), bytes)
}

#[test]
fn what_was_packed_is_read_and_its_bytes_are_always_the_same() {
    let (_folder, store, ids) = stored(0);
    let shard = packed(&store, &ids);
    assert_eq!(shard.bytes, packed(&store, &ids).bytes);
    keep_as_seeds(&shard);
    assert_eq!(shard.digest, Digest::of(&shard.bytes));
    let items = read(shard.digest, &shard.bytes).unwrap();
    let [Item::Pair(first), Item::Pair(second), Item::Forgotten(tombstone)] = &items[..] else { panic!("{items:?}") };
    for (received, id) in [(first, ids[0]), (second, ids[1])] {
        assert_eq!(received.pair, store.reader().get(id).unwrap());
    }
    let at = first.picture_at.unwrap() as usize;
    assert_eq!((&shard.bytes[at..at + 5], second.picture_at), (&b"first"[..], None));
    assert_eq!(first.pair.texts()[0].words.as_str(), "a grey cat");
    assert_eq!(tombstone.pair, ids[2]);
    assert_eq!(shard.sent, [first.sent(), second.sent(), Sent { id: ids[2], sha256: None, labels: 0 }]);
    assert_eq!(shard.sent[0].labels, 1);
}

#[test]
fn a_shard_is_full_at_its_size_and_takes_one_pair_that_alone_is_larger() {
    let (_folder, store, ids) = stored(3);
    let originals: Vec<Original> = store.reader().originals(&ids[3..]).unwrap();
    let mut packer = Packer::new();
    packer.add(&originals[0]).unwrap();
    packer.add(&originals[1]).unwrap();
    assert_eq!(packer.add(&originals[2]), Err(PackError::Full));
    let shard = packer.finish().unwrap();
    assert!(shard.bytes.len() <= SHARD_BYTES && shard.bytes.len().is_multiple_of(512));
    let mut packer = Packer::new();
    let large = Original { jpeg: vec![1; SHARD_BYTES + 1], ..originals[0].clone() };
    packer.add(&large).unwrap();
    assert_eq!(packer.add(&originals[0]), Err(PackError::Full));
    assert!(Packer::new().finish().is_none());
}

#[test]
fn bytes_that_were_cut_or_changed_are_no_shard() {
    let (_folder, store, ids) = stored(0);
    let PackedShard { digest, bytes, .. } = packed(&store, &ids);
    for length in [0, 1, 511, 512, bytes.len() - 1] {
        assert_eq!(read(digest, &bytes[..length]), Err(ShardError::Digest));
    }
    let mut changed = bytes.clone();
    changed[700] ^= 1;
    assert_eq!(read(digest, &changed), Err(ShardError::Digest));
    // Its writer may be hostile, and name it after what it is.
    for length in (0..bytes.len()).step_by(100) {
        let _ = read_bytes(&bytes[..length]);
    }
    for place in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[place] ^= 0x11;
        if let Ok(items) = read_bytes(&changed) {
            let pairs = items.iter().filter(|item| matches!(item, Item::Pair(_))).count();
            assert!(pairs <= 2, "{place}");
        }
    }
    let flood = vec![0; MAX_SHARD_BYTES + 1];
    assert_eq!(read_bytes(&flood), Err(ShardError::TooLong { bytes: flood.len() }));
}

#[test]
fn members_that_no_shard_has_are_refused() {
    let key = "ab".repeat(32);
    let (json, jpg) = (format!("{key}.json"), format!("{key}.jpg"));
    for (name, kind) in [
        ("../../etc/passwd", EntryType::Regular),
        ("/etc/passwd", EntryType::Regular),
        (&format!("./{jpg}"), EntryType::Regular),
        (&format!("a/{jpg}"), EntryType::Regular),
        (&format!("{key}.exe"), EntryType::Regular),
        (&format!("{key}.json.gz"), EntryType::Regular),
        (&format!("{}.jpg", key.to_uppercase()), EntryType::Regular),
        ("x.jpg", EntryType::Regular),
        ("1-1.jpg", EntryType::Regular),
        ("01-1.forgotten.json", EntryType::Regular),
        (&jpg, EntryType::Symlink),
        (&jpg, EntryType::Link),
        (&jpg, EntryType::Directory),
        (&jpg, EntryType::GNULongName),
        (&jpg, EntryType::GNULongLink),
        (&jpg, EntryType::GNUSparse),
        (&jpg, EntryType::XHeader),
        (&jpg, EntryType::XGlobalHeader),
        (&json, EntryType::Fifo),
        (&json, EntryType::Block),
    ] {
        let outcome = read_bytes(&member(name, kind, b"{}"));
        assert!(matches!(outcome, Err(ShardError::Member { .. })), "{name} {kind:?}: {outcome:?}");
    }
    // A header that promises more than there is.
    let mut huge = member(&jpg, EntryType::Regular, b"x");
    let mut header = Header::new_ustar();
    header.as_mut_bytes().copy_from_slice(&huge[..512]);
    header.set_size(1 << 40);
    header.set_cksum();
    huge[..512].copy_from_slice(header.as_bytes());
    assert!(matches!(read_bytes(&huge), Err(ShardError::Tar(_))));
}

#[test]
fn a_pair_that_is_none_leaves_the_others() {
    let (_folder, store, ids) = stored(0);
    let good = packed(&store, &ids[..1]);
    let original = store.reader().originals(&ids[..1]).unwrap().remove(0);
    let key = Digest::from(original.sha256).to_string();
    let pieces = |facts: &[u8], jpeg: &[u8], words: &str| {
        let key = Digest::from(store::pair_hash(facts, jpeg)).to_string();
        let parts = [("jpg", jpeg), ("txt", words.as_bytes()), ("json", facts)];
        let parts = parts.map(|(ending, bytes)| member(&format!("{key}.{ending}"), EntryType::Regular, bytes));
        parts.concat()
    };
    let facts = String::from_utf8(original.facts.clone()).unwrap();
    let changed = |from: &str, to: &str| {
        assert!(facts.contains(from), "{from} in {facts}");
        facts.replace(from, to).into_bytes()
    };
    for (bytes, words) in [
        (member(&format!("{key}.jpg"), EntryType::Regular, b"first"), "no facts"),
        (member(&format!("{key}.json"), EntryType::Regular, &original.facts), "hash"),
        (member(&format!("{key}.json"), EntryType::Regular, b"{"), "cannot be read"),
        (member("1-1.forgotten.json", EntryType::Regular, b"{}"), "tombstone cannot be read"),
        (pieces(&original.facts, b"another", "a cat on a wall"), "picture and facts do not agree"),
        (pieces(&original.facts, b"first", "a dog"), "text and facts do not agree"),
        (pieces(&changed("a cat on a wall", "a\\u001b[2Jcat"), b"first", "a"), "cannot be printed"),
        (pieces(&changed("a cat on a wall", &"long ".repeat(60)), b"first", "a"), "256"),
        (pieces(&changed("0.75", "1e300"), b"first", "a cat on a wall"), "no number"),
    ] {
        let mut all = bytes;
        all.extend_from_slice(&good.bytes);
        let items = read_bytes(&all).unwrap();
        let (Item::Refused { fault, .. }, Item::Pair(pair)) = (&items[0], &items[1]) else { panic!("{items:?}") };
        assert!(fault.to_string().contains(words), "{fault}");
        assert_eq!(pair.pair.facts.id, ids[0]);
    }
}
