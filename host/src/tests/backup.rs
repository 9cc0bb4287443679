use std::fs;
use std::path::Path;

use super::scene::{Scene, is_anywhere, jpeg, look, mark, pair};
use crate::backup::{BackupError, Check};
use crate::deletion::Doomed;
use crate::versions::Parameters;
use crate::{Home, PairFilter, PairName};

fn bring(scene: &Scene, home: &mut Home, numbers: std::ops::Range<u64>) -> Vec<store::Original> {
    scene.bring(home, "garden", numbers.map(|number| pair(jpeg(number), "a cat", 0)).collect())
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &to),
            false => drop(fs::copy(&path, &to).unwrap()),
        }
    }
}

fn count(home: &Home) -> usize {
    home.pairs(&PairFilter { limit: 1000, ..PairFilter::default() }).unwrap().pairs.len()
}

#[test]
fn a_host_that_is_restored_goes_on() {
    let scene = Scene::new();
    let mut home = scene.open();
    let originals = bring(&scene, &mut home, 0..10);
    home.write_version(&Parameters::default(), &mut look, &mut |_, _, _| {}, 1).unwrap();
    let backup = scene.place.path().join("backup");
    let done = home.back_up(&backup, Check::All).unwrap();
    assert_eq!((done.pairs, done.shards, done.checked, done.faults), (10, 1, 10, vec![]));
    let key = home.key();
    let shard = home.book.shards().unwrap().pop_first().unwrap();
    let receipt = home.book.receipt(shard, &"garden".parse().unwrap()).unwrap().unwrap();
    drop(home);
    fs::remove_dir_all(scene.folder()).unwrap();
    copy(&backup, &scene.folder());
    let mut home = scene.open();
    assert_eq!((home.key(), count(&home)), (key, 10));
    assert_eq!(home.verify_version(1).unwrap(), []);
    // The same shard gets the same receipt, and its pairs in another shard are known.
    scene.send(&mut home, "garden", &originals);
    scene.send(&mut home, "garden", &originals[..5]);
    let summary = scene.take_in(&mut home);
    assert_eq!((summary.shards, summary.pairs, summary.again), (1, 0, 5));
    assert_eq!(home.book.receipt(shard, &"garden".parse().unwrap()).unwrap(), Some(receipt));
    bring(&scene, &mut home, 20..25);
    assert_eq!(count(&home), 15);
}

#[test]
fn only_what_is_new_is_copied_and_what_was_deleted_goes() {
    let scene = Scene::new();
    let mut home = scene.open();
    let originals = bring(&scene, &mut home, 0..3);
    bring(&scene, &mut home, 10..12);
    home.write_version(&Parameters::default(), &mut look, &mut |_, _, _| {}, 1).unwrap();
    let backup = scene.place.path().join("backup");
    let first = home.back_up(&backup, Check::Sample).unwrap();
    assert!(first.copied > 4, "{first:?}");
    assert_eq!(home.back_up(&backup, Check::All).unwrap().copied, 0);
    bring(&scene, &mut home, 20..22);
    assert_eq!(home.back_up(&backup, Check::All).unwrap().copied, 1);
    assert!(is_anywhere(&backup, mark(&jpeg(0))));
    let name = PairName::OnBoard("garden".parse().unwrap(), originals[0].id);
    home.delete(&Doomed::Pair(name), "gone", 5).unwrap();
    let done = home.back_up(&backup, Check::All).unwrap();
    assert_eq!((done.pairs, done.copied, done.removed, done.faults), (6, 1, 1, vec![]));
    assert!(!is_anywhere(&backup, mark(&jpeg(0))));
    home.delete(&Doomed::Device("garden".parse().unwrap()), "gone", 5).unwrap();
    let done = home.back_up(&backup, Check::All).unwrap();
    assert_eq!((done.pairs, done.shards, done.removed, done.faults), (0, 0, 3, vec![]));
}

#[test]
fn a_backup_while_pairs_come_is_one_of_some_moment() {
    let scene = Scene::new();
    let mut home = scene.open();
    bring(&scene, &mut home, 0..5);
    let backup = scene.place.path().join("backup");
    std::thread::scope(|threads| {
        let taking_in = threads.spawn(|| {
            let mut home = scene.open();
            for round in 1..12 {
                bring(&scene, &mut home, round * 100..round * 100 + 3);
            }
        });
        while !taking_in.is_finished() {
            let done = home.back_up(&backup, Check::All).unwrap();
            assert_eq!(done.faults, Vec::<String>::new());
            assert!(done.pairs >= 5);
        }
    });
    let done = home.back_up(&backup, Check::All).unwrap();
    assert_eq!((done.pairs, done.faults), (38, vec![]));
}

#[test]
fn damage_in_the_copy_is_said_and_mended_by_the_host() {
    let scene = Scene::new();
    let mut home = scene.open();
    bring(&scene, &mut home, 0..5);
    let backup = scene.place.path().join("backup");
    home.back_up(&backup, Check::All).unwrap();
    let shard = home.book.shards().unwrap().pop_first().unwrap();
    let theirs = home.shelf().path(shard);
    let ours = backup.join(theirs.strip_prefix(scene.folder()).unwrap());
    let changed = fs::metadata(&ours).unwrap().modified().unwrap();
    let mut bytes = fs::read(&ours).unwrap();
    bytes[1000] ^= 1;
    fs::write(&ours, &bytes).unwrap();
    assert_eq!(home.back_up(&backup, Check::All).unwrap().faults, Vec::<String>::new());
    fs::write(&ours, &bytes).unwrap();
    fs::File::options().write(true).open(&ours).unwrap().set_modified(changed).unwrap();
    assert_eq!(home.back_up(&backup, Check::All).unwrap().faults.len(), 1);
}

#[test]
fn a_folder_that_is_no_backup_of_this_host_is_refused() {
    let scene = Scene::new();
    let home = scene.open();
    let backup = |path: &Path| home.back_up(path, Check::Sample).unwrap_err();
    assert!(matches!(backup(&scene.folder().join("backup")), BackupError::Inside { .. }));
    assert!(!scene.folder().join("backup").exists());
    assert!(matches!(backup(scene.place.path()), BackupError::Inside { .. }));
    let other = Scene::new();
    drop(other.open());
    assert!(matches!(backup(&other.folder()), BackupError::Strange { .. }));
    let strange = scene.place.path().join("strange");
    fs::create_dir(&strange).unwrap();
    fs::write(strange.join("file"), "mine").unwrap();
    assert!(matches!(backup(&strange), BackupError::Strange { .. }));
    let used = scene.place.path().join("used");
    home.back_up(&used, Check::Sample).unwrap();
    let running = Home::open(&used).unwrap();
    assert!(matches!(backup(&used), BackupError::InUse { .. }));
    drop(running);
    home.back_up(&used, Check::Sample).unwrap();
}
