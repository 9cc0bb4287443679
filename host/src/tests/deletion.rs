use exchange::Digest;
use store::LabelAction;

use super::scene::{Scene, caption, is_anywhere, jpeg, look, mark, pair};
use crate::deletion::{Deleted, DeletionError, Doomed, Step};
use crate::retention::{Outdated, Retention};
use crate::versions::{Parameters, Standing, VersionError};
use crate::{Home, HomeError, PairFilter, PairName};

const DAY_S: i64 = 86_400;

fn write_version(home: &mut Home) {
    home.write_version(&Parameters::default(), &mut look, &mut |_, _, _| {}, 1).unwrap();
}

fn name(sha256: [u8; 32]) -> PairName {
    PairName::Digits(Digest::from(sha256).to_string())
}

fn count(home: &Home) -> usize {
    home.pairs(&PairFilter { limit: 1000, ..PairFilter::default() }).unwrap().pairs.len()
}

/// Three pairs in one shard, the first labelled, and a version with all of them.
fn begun(scene: &Scene) -> (Home, Vec<store::Original>) {
    let mut home = scene.open();
    let pairs = ["a secret cat", "a dog", "an owl"].into_iter().zip(1..);
    let pairs = pairs.map(|(words, number)| pair(jpeg(number), words, 0)).collect();
    let originals = scene.bring(&mut home, "garden", pairs);
    let rewrite = LabelAction::Rewrite(caption("a secret tabby"));
    home.label(&name(originals[0].sha256), &rewrite, 1).unwrap();
    write_version(&mut home);
    (home, originals)
}

fn check_gone(scene: &Scene, home: &mut Home, originals: &[store::Original]) {
    let folder = scene.folder();
    for bytes in [mark(&originals[0].jpeg), b"a secret cat", b"a secret tabby"] {
        assert!(!is_anywhere(&folder, bytes));
    }
    assert_eq!(count(home), 2);
    let versions = home.versions().unwrap();
    let reason = "it was asked for".to_owned();
    assert_eq!(versions[0].standing, Standing::Withdrawn { reason, at_s: 7 });
    assert!(!versions[0].folder.exists());
    assert!(matches!(home.verify_version(1), Err(VersionError::Withdrawn { number: 1, .. })));
    for original in &originals[1..] {
        let left = home.pair(&name(original.sha256)).unwrap();
        assert_eq!(home.picture(&left).unwrap().as_ref(), Some(&original.jpeg));
    }
    // Whichever board sends it again, alone or with others, it does not come back.
    scene.send(home, "garden", &originals[..1]);
    scene.send(home, "roof", &originals[..2]);
    let summary = scene.take_in(home);
    assert_eq!((summary.pairs, summary.refused), (0, 0), "{summary:?}");
    assert_eq!(count(home), 2);
    assert!(!is_anywhere(&folder, mark(&originals[0].jpeg)));
    assert!(!is_anywhere(&folder, b"a secret cat"));
}

#[test]
fn what_is_deleted_leaves_no_bytes_and_does_not_come_back() {
    let scene = Scene::new();
    let (mut home, originals) = begun(&scene);
    assert!(is_anywhere(&scene.folder().join("versions"), mark(&originals[0].jpeg)));
    assert!(is_anywhere(&scene.folder().join("shards"), mark(&originals[0].jpeg)));
    let deleted = home.delete(&Doomed::Pair(name(originals[0].sha256)), "it was asked for", 7).unwrap();
    assert_eq!(deleted, Deleted { pairs: 1, shards: 0, versions: vec![1] });
    check_gone(&scene, &mut home, &originals);
    assert!(home.delete(&Doomed::Pair(name(originals[0].sha256)), "again", 8).is_err());
    drop(home);
    check_gone(&scene, &mut scene.open(), &originals);
}

#[test]
fn a_deletion_that_is_stopped_after_any_step_ends_the_same_when_it_is_run_again() {
    let steps = [Step::Decided, Step::VersionsGone, Step::Erased, Step::OutOfBook, Step::ShardsGone];
    for stop in steps {
        let scene = Scene::new();
        let (mut home, originals) = begun(&scene);
        let doomed = Doomed::Pair(name(originals[0].sha256));
        let stopped = home.delete_by_steps(&doomed, "it was asked for", 7, &mut |step| match step == stop {
            true => Err(DeletionError::Log { folder: scene.folder() }),
            false => Ok(()),
        });
        assert!(stopped.is_err(), "{stop:?}");
        assert_eq!(count(&home), 2, "nobody sees it once it is decided");
        drop(home);
        let mut home = scene.open();
        let deleted = home.delete(&doomed, "it was asked for", 9).unwrap();
        assert_eq!((deleted.pairs, deleted.shards), (1, 0), "{stop:?}");
        check_gone(&scene, &mut home, &originals);
    }
}

#[test]
fn a_board_goes_with_its_shards_and_the_others_stay() {
    let scene = Scene::new();
    let (mut home, _) = begun(&scene);
    scene.bring(&mut home, "roof", vec![pair(jpeg(50), "a roof", 0)]);
    let shards = |home: &Home| home.book.shards().unwrap();
    let before = shards(&home);
    let deleted = home.delete(&Doomed::Device("garden".parse().unwrap()), "gone", 7).unwrap();
    assert_eq!(deleted, Deleted { pairs: 3, shards: 1, versions: vec![1] });
    assert_eq!((count(&home), shards(&home).len()), (1, 1));
    let left = before.iter().filter(|shard| home.shelf().path(**shard).exists()).count();
    assert_eq!(left, 1);
    assert!(!is_anywhere(&scene.folder(), mark(&jpeg(1))));
}

#[test]
fn nothing_is_deleted_while_shards_are_taken_in_or_a_version_is_written() {
    let scene = Scene::new();
    let (mut home, originals) = begun(&scene);
    let doomed = Doomed::Pair(name(originals[0].sha256));
    let is_busy = |result: Result<Deleted, DeletionError>| {
        assert!(matches!(result, Err(DeletionError::Home(HomeError::Busy { .. }))));
    };
    let lock = home.lock().unwrap();
    is_busy(home.delete(&doomed, "", 7));
    drop(lock);
    let lock = home.version_lock().unwrap();
    is_busy(home.delete(&doomed, "", 7));
    drop(lock);
    assert_eq!(count(&home), 3);
}

#[test]
fn a_version_goes_when_a_board_forgets_one_of_its_pairs() {
    let scene = Scene::new();
    let (mut home, originals) = begun(&scene);
    let change = store::event::Change::Forgotten(store::Stamp::default());
    let event = store::Event { pair: originals[0].id, boot_id: caption("boot"), change };
    let mut packer = exchange::Packer::new();
    packer.add_tombstone(&event).unwrap();
    let shard = packer.finish().unwrap();
    let device: exchange::DeviceName = "garden".parse().unwrap();
    objects::Remote::put(&mut scene.objects(&home), &device.shard(shard.digest), &shard.bytes).unwrap();
    assert_eq!(scene.take_in(&mut home).forgotten, 1);
    assert!(matches!(home.version(1), Err(VersionError::Withdrawn { .. })));
    assert!(!home.versions().unwrap()[0].folder.exists());
    assert!(!is_anywhere(&scene.folder(), mark(&originals[0].jpeg)));
}

#[test]
fn old_pairs_go_unless_a_version_has_them() {
    let scene = Scene::new();
    let (mut home, _) = begun(&scene);
    scene.bring(&mut home, "roof", vec![pair(jpeg(50), "a roof", 0), pair(jpeg(51), "a tile", 0)]);
    let arrived = crate::now_s();
    let bytes = (jpeg(50).len() + jpeg(51).len()) as u64;
    let outdated = Outdated { pairs: 2, bytes, in_versions: 3 };
    let count_only = |home: &mut Home, days, now| home.retain(days, Retention::Count, now).unwrap().0;
    assert_eq!(count_only(&mut home, 30, arrived + 29 * DAY_S), Outdated::default());
    assert_eq!(count_only(&mut home, 30, arrived + 31 * DAY_S), outdated);
    assert_eq!(count(&home), 5);
    let (counted, deleted) = home.retain(30, Retention::Delete, arrived + 31 * DAY_S).unwrap();
    assert_eq!((counted, deleted.pairs, deleted.shards, deleted.versions), (outdated, 2, 1, vec![]));
    assert_eq!(count(&home), 3);
    home.withdraw_version(1, "old", 9).unwrap();
    assert_eq!(home.retain(30, Retention::Delete, arrived + 31 * DAY_S).unwrap().1.pairs, 3);
    assert_eq!(count(&home), 0);
}
