//! What the store does on a disk that works.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use store::event::LabelAction;
use store::{
    ClockQuality, Decision, Filter, Limits, Order, Origin, Pair, PairId, Reader, Receipt, Stamp, State, Store,
    StoreError, Trouble,
};

use crate::samples::{self, Ledger, Said, Work, at_home, caption, label, pair, stamp};

const SMALL: Limits = Limits { budget: 4 << 20, file_bytes: 512 << 10, log_bytes: 64 << 10 };

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("there is room for a folder")
}

fn open(folder: &tempfile::TempDir, limits: Limits) -> Store {
    Store::open(folder.path(), caption("boot a"), limits).expect("the folder is free").0
}

fn keep(store: &mut Store, numbers: std::ops::Range<u64>) -> Vec<PairId> {
    numbers
        .flat_map(|number| {
            store.put(pair(number, 4000), Duration::ZERO).expect("a sample can be stored");
            store.flush().expect("the disk works")
        })
        .collect()
}

#[test]
fn a_pair_is_acknowledged_when_its_group_is_committed() {
    let folder = folder();
    let mut store = open(&folder, Limits::default());
    let start = Duration::from_secs(50);
    let mut names = Vec::new();
    for number in 0..8 {
        names.push(store.put(pair(number, 4000), start).unwrap());
        assert_eq!(store.waiting(), number as usize + 1);
        if number < 7 {
            assert!(store.commit(start + Duration::from_millis(1999)).unwrap().is_empty());
        }
    }
    assert_eq!(store.reader().list(Filter::default()).unwrap(), []);
    assert_eq!(store.put(pair(8, 4000), start), Err(StoreError::GroupFull { waiting: 8 }));
    assert_eq!(store.commit(start).unwrap(), names);
    store.put(pair(9, 4000), start).unwrap();
    assert!(store.commit(start + Duration::from_millis(1999)).unwrap().is_empty());
    assert_eq!(store.commit(start + Duration::from_secs(2)).unwrap().len(), 1);
    assert_eq!(store.reader().list(Filter::default()).unwrap().len(), 9);
}

#[test]
fn what_was_stored_is_read_back_and_in_order() {
    let folder = folder();
    let work = Work { seed: 3, pairs: 400, most_bytes: 6000, limits: Limits { budget: 1 << 30, ..SMALL } };
    let mut said = Vec::new();
    let store = samples::work(folder.path(), work, |line| said.push(line)).unwrap();
    assert!(said.iter().all(|said| !matches!(said, Said::Trouble(_))), "{said:?}");
    let ledger = Ledger::of(&said);
    assert!(ledger.pairs() > 300);
    ledger.check(folder.path()).unwrap();
    let all = store.reader().list(Filter { limit: usize::MAX, ..Filter::default() }).unwrap();
    assert!(all.iter().map(|entry| entry.id).is_sorted());
    let mut paged = Vec::new();
    let mut since = None;
    loop {
        let page = store.reader().list(Filter { since, limit: 7, ..Filter::default() }).unwrap();
        since = page.last().map(|entry| entry.id);
        paged.extend(page);
        if since.is_none() || paged.last().map(|entry| entry.id) != since {
            break;
        }
        if store.reader().list(Filter { since, limit: 1, ..Filter::default() }).unwrap().is_empty() {
            break;
        }
    }
    assert_eq!(paged, all);
    let mut newest = Vec::new();
    let mut filter = Filter { order: Order::NewestFirst, limit: 7, ..Filter::default() };
    while let Some(page) = Some(store.reader().list(filter).unwrap()).filter(|page| !page.is_empty()) {
        filter.since = page.last().map(|entry| entry.id);
        newest.extend(page);
    }
    newest.reverse();
    assert_eq!(newest, all);
    let stats = store.reader().stats().unwrap();
    assert_eq!(stats.pairs(), all.len() as u64);
    assert_eq!(stats.bytes, all.iter().map(|entry| entry.bytes).sum::<u64>());
    assert!(stats.files > 1);
    assert!(stats.share_of_rejects(Origin::Caption).unwrap() > 0.1);
    assert_eq!(stats.gone["forgotten"], said.iter().filter(|said| matches!(said, Said::Forgotten(_))).count() as u64);
    for kept in [State::Kept, State::Rejected] {
        let some = store.reader().list(Filter { state: Some(kept), limit: usize::MAX, ..Filter::default() }).unwrap();
        assert_eq!(some.len() as u64, stats.states[&kept]);
    }
}

#[test]
fn the_order_is_that_of_boots_and_numbers_whatever_the_clock_says() {
    let folder = folder();
    let mut ids = keep(&mut open(&folder, SMALL), 10..12);
    ids.extend(keep(&mut open(&folder, SMALL), 5..6));
    let mut store = Store::open(folder.path(), caption("boot b"), SMALL).unwrap().0;
    ids.extend(keep(&mut store, 0..2));
    let names: Vec<String> = ids.iter().map(PairId::to_string).collect();
    assert_eq!(names, ["1-1", "1-2", "1-3", "2-1", "2-2"]);
    let listed = store.reader().list(Filter::default()).unwrap();
    assert_eq!(listed.iter().map(|entry| entry.id).collect::<Vec<_>>(), ids);
}

#[test]
fn a_name_is_not_given_again_when_its_pair_is_gone() {
    let folder = folder();
    let mut store = open(&folder, SMALL);
    let ids = keep(&mut store, 0..3);
    store.forget(ids[2], Stamp::default()).unwrap();
    store.mark_synced(&[at_home(&store, ids[2], 0)]).unwrap();
    drop(store);
    assert_eq!(keep(&mut open(&folder, SMALL), 4..5)[0].to_string(), "1-4");
}

#[test]
fn labels_are_added_and_the_last_word_counts() {
    let folder = folder();
    let mut store = open(&folder, SMALL);
    let id = keep(&mut store, 1..2)[0];
    let before = store.reader().get(id).unwrap();
    store.mark_synced(&[at_home(&store, id, 0)]).unwrap();
    let entry = |store: &Store| store.reader().list(Filter::default()).unwrap().remove(0);
    assert!(entry(&store).is_synced);
    for (action, state, is_human) in [
        (LabelAction::Reject, State::Rejected, false),
        (LabelAction::Accept, State::Kept, false),
        (LabelAction::Reject, State::Rejected, false),
        (LabelAction::Rewrite(caption("two dogs")), State::Kept, true),
        (LabelAction::Reject, State::Rejected, true),
    ] {
        store.label(id, label(action)).unwrap();
        let entry = entry(&store);
        assert_eq!((entry.state, entry.is_synced), (state, false));
        assert_eq!(entry.has_human_text, is_human || before.facts.has_human_text());
    }
    // A receipt for what it was two labels ago is none for what it is.
    store.mark_synced(&[at_home(&store, id, 3)]).unwrap();
    assert!(!entry(&store).is_synced);
    // Nor is one for another pair of the same name, as a board with a copied card sends it.
    store.mark_synced(&[Receipt::Pair { id, sha256: [7; 32], labels: 5 }]).unwrap();
    assert!(!entry(&store).is_synced);
    store.mark_synced(&[at_home(&store, id, 5)]).unwrap();
    assert!(entry(&store).is_synced);
    let after = store.reader().get(id).unwrap();
    assert_eq!((&after.facts, &after.jpeg, after.sha256), (&before.facts, &before.jpeg, before.sha256));
    assert_eq!(after.labels.len(), 5);
    let missing: PairId = "9-9".parse().unwrap();
    assert_eq!(store.label(missing, label(LabelAction::Accept)), Err(StoreError::NotThere { id: missing }));
    assert_eq!(store.reader().verify().unwrap().faults, []);
}

#[test]
fn what_is_forgotten_leaves_no_bytes_and_a_tombstone() {
    let folder = folder();
    let mut store = open(&folder, SMALL);
    let ids = keep(&mut store, 0..12);
    let stored = store.reader().get(ids[4]).unwrap();
    let traces = |needle: &[u8]| {
        let files = folder.path().read_dir().unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
        files.filter(|bytes| bytes.windows(needle.len()).any(|window| window == needle)).count()
    };
    let jpeg = stored.jpeg.unwrap();
    let pieces = [&jpeg[..64], &jpeg[jpeg.len() - 64..], b"text 0 of 4"];
    assert!(pieces.iter().all(|piece| traces(piece) > 0));
    store.forget(ids[4], Stamp::default()).unwrap();
    assert!(pieces.iter().all(|piece| traces(piece) == 0));
    assert_eq!(store.reader().get(ids[4]), Err(StoreError::NotThere { id: ids[4] }));
    let tombstones = store.reader().tombstones().unwrap();
    assert_eq!(tombstones.iter().map(|event| event.pair).collect::<Vec<_>>(), [ids[4]]);
    store.mark_synced(&[at_home(&store, ids[4], 0)]).unwrap();
    assert_eq!(store.reader().tombstones().unwrap(), []);
}

#[test]
fn old_pairs_expire_by_clocks_that_can_be_trusted_and_else_by_order() {
    let folder = folder();
    let mut store = open(&folder, SMALL);
    let ids = keep(&mut store, 0..40);
    let minutes =
        |count: u64| Stamp { wall_ms: stamp(count, ClockQuality::Ntp).wall_ms, ..stamp(0, ClockQuality::Ntp) };
    let guessed = Stamp { quality: ClockQuality::Guessed, ..minutes(100_000) };
    assert_eq!(store.expire(1, guessed), Ok(0));
    // One day after pair 20.
    let removed = store.expire(1, minutes(20 + 24 * 60)).unwrap();
    let is_trusted = |number: &u64| pair(*number, 4000).taken.quality == ClockQuality::Ntp;
    let border = (0..20).rev().find(is_trusted).unwrap();
    assert_eq!(removed, border + 1);
    let left = store.reader().list(Filter::default()).unwrap();
    assert_eq!(left.iter().map(|entry| entry.id).collect::<Vec<_>>(), ids[border as usize + 1..]);
}

#[test]
fn room_is_made_in_the_stated_order_and_counted() {
    let folder = folder();
    let limits = Limits { budget: 2 << 20, file_bytes: 512 << 10, log_bytes: 64 << 10 };
    let mut store = open(&folder, limits);
    let mut human: BTreeMap<PairId, u64> = BTreeMap::new();
    let mut ids = Vec::new();
    for number in 0..1500 {
        let sample = pair(number, 4000);
        let by_human = sample.texts.iter().any(|text| text.origin == Origin::Human);
        store.put(sample, Duration::ZERO).unwrap();
        if store.waiting() < 8 {
            continue;
        }
        match store.flush() {
            Ok(more) => ids.extend(more),
            Err(error) => {
                assert!(matches!(error, StoreError::Trouble(Trouble::OverBudget { .. })), "{error}");
                break;
            }
        }
        if by_human {
            human.insert(*ids.last().unwrap(), number);
        }
        if number < 100 && number % 32 == 7 {
            store.mark_synced(&ids.iter().map(|id| at_home(&store, *id, 0)).collect::<Vec<_>>()).unwrap();
        }
        let evicted = &store.tally().evicted;
        if evicted.contains_key("rejected") && !evicted.contains_key("lowest score") {
            assert!(store.reader().list(Filter::default()).unwrap().iter().all(|entry| !entry.is_synced));
        }
    }
    assert!(ids.len() > 1000);
    let disk: u64 = folder.path().read_dir().unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(disk <= limits.budget, "{disk}");
    let evicted = store.tally().evicted.clone();
    for reason in ["synced", "rejected", "lowest score"] {
        assert!(evicted[reason] > 10, "{evicted:?}");
    }
    let stats = store.reader().stats().unwrap();
    assert_eq!(stats.pairs() + evicted.values().sum::<u64>(), ids.len() as u64);
    for (reason, count) in evicted {
        assert_eq!(stats.gone[reason], count, "{reason}");
    }
    // All of them were unsynced when they were to go.
    for (id, number) in human.iter().filter(|(_, number)| **number >= 100) {
        assert!(store.reader().get(*id).is_ok(), "{id} of {number} has a text by a person");
    }
    assert_eq!(store.reader().verify().unwrap().faults, []);
    drop(store);
    // A smaller budget is kept to after the next group.
    let smaller = Limits { budget: 1 << 20, ..limits };
    let mut store = open(&folder, smaller);
    let _ = store.put(pair(2000, 4000), Duration::ZERO).and_then(|_| store.flush());
    let disk: u64 = folder.path().read_dir().unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(disk <= smaller.budget || matches!(store.trouble(), Some(Trouble::OverBudget { .. })), "{disk}");
}

#[test]
fn one_process_writes_and_others_read() {
    let _alone = crate::alone();
    let folder = folder();
    let mut store = open(&folder, SMALL);
    let ids = keep(&mut store, 0..3);
    let second = Store::open(folder.path(), caption("boot a"), SMALL);
    assert!(matches!(second, Err(StoreError::Owned { .. })));
    assert_eq!(Reader::new(folder.path()).list(Filter::default()).unwrap().len(), 3);
    // SQLite's own program reads it too, while the store writes.
    let path = folder.path().join("pairs-000001.db");
    match Command::new("sqlite3").arg("-readonly").arg(&path).arg("SELECT count(*) FROM pairs").output() {
        Ok(output) => assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "3"),
        Err(_) => crate::leave_out("there is no sqlite3"),
    }
    assert_eq!(keep(&mut store, 3..4).len(), 1);
    drop(store);
    assert_eq!(keep(&mut open(&folder, SMALL), 4..5)[0].sequence(), ids[2].sequence() + 2);
}

#[test]
fn a_later_version_is_left_alone_and_named() {
    let folder = folder();
    keep(&mut open(&folder, SMALL), 0..3);
    let path = folder.path().join("pairs-000001.db");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[63] = 2;
    bytes[71] = 2;
    std::fs::write(&path, &bytes).unwrap();
    let (mut store, opened) = Store::open(folder.path(), caption("boot b"), SMALL).unwrap();
    assert_eq!((opened.newer, opened.files, opened.lost.len()), (vec![path.clone()], 0, 0));
    // Names that are in it are not given again.
    assert_eq!(keep(&mut store, 3..5).iter().map(PairId::to_string).collect::<Vec<_>>(), ["2-1", "2-2"]);
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    assert_eq!(store.reader().stats().unwrap().unreadable, [path]);
}

#[test]
fn pairs_that_cannot_be_stored_are_refused_and_counted() {
    let folder = folder();
    let mut store = open(&folder, SMALL);
    let mut sample = pair(1, 100);
    sample.jpeg = Some(Vec::new());
    assert!(matches!(store.put(sample, Duration::ZERO), Err(StoreError::Pair(_))));
    let mut sample = pair(1, 100);
    sample.texts[0].itm = Some(f32::NAN);
    assert!(matches!(store.put(sample, Duration::ZERO), Err(StoreError::Pair(_))));
    let mut sample = pair(1, 100);
    sample.texts = vec![sample.texts[0].clone(); 65];
    assert!(matches!(store.put(sample, Duration::ZERO), Err(StoreError::Pair(_))));
    assert_eq!(store.tally().refused, BTreeMap::from([("not storable", 3)]));
    assert_eq!((store.waiting(), store.due()), (0, None));
}

#[test]
fn texts_of_a_rejected_picture_are_kept_without_it() {
    let folder = folder();
    let mut store = open(&folder, SMALL);
    let alone: Vec<u64> = (0..60).filter(|number| pair(*number, 4000).jpeg.is_none()).collect();
    assert!(alone.len() > 5, "{alone:?}");
    let ids = keep(&mut store, 0..60);
    let reader = store.reader();
    let all = reader.list(Filter { limit: 100, ..Filter::default() }).unwrap();
    let without: Vec<u64> = all
        .iter()
        .filter(|entry| !entry.facts.as_ref().unwrap().has_picture())
        .map(|entry| ids.iter().position(|id| *id == entry.id).unwrap() as u64)
        .collect();
    assert_eq!(without, alone);
    let with = reader.list(Filter { limit: 100, with_picture: true, ..Filter::default() }).unwrap();
    assert_eq!(with.len() + alone.len(), 60);
    let stats = reader.stats().unwrap();
    assert_eq!((stats.pairs(), stats.without_picture), (60, alone.len() as u64));
    let id = ids[alone[0] as usize];
    let stored = reader.get(id).unwrap();
    assert_eq!((stored.jpeg, stored.facts.state(), stored.facts.jpeg_bytes), (None, State::Rejected, 0));
    for action in [LabelAction::Accept, LabelAction::Add(caption("a dog")), LabelAction::Rewrite(caption("a dog"))] {
        assert_eq!(store.label(id, label(action)), Err(StoreError::NoPicture { id }));
    }
    store.label(id, label(LabelAction::Reject)).unwrap();
    store.forget(id, Stamp::default()).unwrap();
    assert_eq!(store.reader().get(id), Err(StoreError::NotThere { id }));

    // What is kept, and what a person wrote, is nothing without its picture.
    let kept = (0..60)
        .map(|number| pair(number, 4000))
        .find(|pair| pair.texts.iter().any(|text| text.decision == Decision::Kept && text.origin != Origin::Human));
    let human = (0..60)
        .map(|number| pair(number, 4000))
        .find(|pair| pair.texts.iter().any(|text| text.origin == Origin::Human));
    for sample in [kept.unwrap(), human.unwrap()] {
        let error = store.put(Pair { jpeg: None, ..sample }, Duration::ZERO).unwrap_err();
        assert!(error.to_string().contains("no picture"), "{error}");
    }
}

#[test]
fn a_folder_from_before_pictures_could_be_missing_is_as_it_was() {
    // The version of the schema says nothing of it: a picture that is not kept is an empty one.
    let folder = folder();
    let mut store = open(&folder, SMALL);
    keep(&mut store, 0..9);
    let path = folder.path().join("pairs-000001.db");
    let connection = rusqlite::Connection::open(path).unwrap();
    let empty: i64 = connection.query_row("SELECT count(*) FROM pairs WHERE jpeg = x''", [], |row| row.get(0)).unwrap();
    assert_eq!(empty.unsigned_abs(), store.reader().stats().unwrap().without_picture);
}

#[test]
fn limits_change_while_it_runs() {
    let folder = folder();
    let mut store = open(&folder, SMALL);
    // What people wrote is never evicted.
    let keep = |store: &mut Store, numbers: std::ops::Range<u64>| {
        for mut pair in numbers.map(|number| pair(number, 4000)) {
            pair.texts.retain(|text| text.origin != Origin::Human);
            store.put(pair, Duration::ZERO).unwrap();
            store.flush().unwrap();
        }
    };
    keep(&mut store, 0..400);
    let before = store.bytes();
    let lower = Limits { budget: before / 2, ..SMALL };
    store.set_limits(lower);
    keep(&mut store, 400..401);
    let after = store.bytes() + 2 * lower.log_bytes;
    assert!(after <= lower.budget, "{before} bytes became {after} of {}", lower.budget);
    assert!(store.tally().evicted.values().sum::<u64>() > 0);
    let evicted = store.tally().evicted.clone();
    store.set_limits(SMALL);
    keep(&mut store, 401..440);
    assert_eq!(store.tally().evicted, evicted);
    assert_eq!(store.reader().verify().unwrap().faults, []);
}
