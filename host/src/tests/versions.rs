use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::RowAccessor;
use store::LabelAction;

use super::scene::{Scene, caption, jpeg, look, pair};
use crate::likeness::likeness_of;
use crate::versions::{Parameters, Split, Version, VersionError, VersionFault, Written};
use crate::{Home, PairName};

fn parameters() -> Parameters {
    Parameters { shares: "60/20/20".parse().unwrap(), near: 4 }
}

fn write(home: &mut Home) -> Written {
    home.write_version(&parameters(), &mut look, &mut |_, _, _| {}, 1).unwrap()
}

fn new(home: &mut Home) -> Version {
    let Written::New(version) = write(home) else { panic!("there is no new version") };
    assert_eq!(home.verify_version(version.number).unwrap(), []);
    version
}

/// A row as it is read back: split, picture, text, board, day, source, who decided.
type Read = (Split, Vec<u8>, [String; 5]);

fn rows(version: &Version) -> BTreeMap<String, Read> {
    let mut rows = BTreeMap::new();
    for name in version.card.files.keys().filter(|name| name.ends_with(".parquet")) {
        let split = Split::ALL.into_iter().find(|split| name.starts_with(&format!("data/{}", split.name()))).unwrap();
        let reader = SerializedFileReader::new(fs::File::open(version.folder.join(name)).unwrap()).unwrap();
        for row in reader.get_row_iter(None).unwrap() {
            let row = row.unwrap();
            let picture = row.get_group(0).unwrap().get_bytes(0).unwrap().data().to_vec();
            let text = |place| row.get_string(place).cloned().unwrap_or_default();
            let kept = rows.insert(text(2), (split, picture, [text(1), text(3), text(4), text(5), text(9)]));
            assert!(kept.is_none(), "a pair is in two splits");
        }
    }
    rows
}

fn bring_days(scene: &Scene, home: &mut Home, days: std::ops::Range<i64>) {
    let pairs = days.flat_map(|day| (0..3).map(move |n| pair(jpeg(day as u64 * 3 + n), &format!("day {day}"), day)));
    scene.bring(home, "garden", pairs.collect());
}

fn bytes_of(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let all = fs::read_dir(folder).unwrap().chain(fs::read_dir(folder.join("data")).unwrap());
    let files = all.map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    files.map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(path).unwrap())).collect()
}

#[test]
fn a_group_keeps_its_split_as_the_data_grow_over_versions_and_with_other_shares() {
    let scene = Scene::new();
    let mut home = scene.open();
    let mut splits: BTreeMap<String, Split> = BTreeMap::new();
    for round in 0..3 {
        bring_days(&scene, &mut home, round * 10..(round + 1) * 10);
        let version = match round {
            0 | 1 => new(&mut home),
            // Held-out days stay held out whatever is asked for later.
            _ => {
                let shares = Parameters { shares: "100/0/0".parse().unwrap(), near: 4 };
                let written = home.write_version(&shares, &mut look, &mut |_, _, _| {}, 1).unwrap();
                let Written::New(version) = written else { panic!("nothing is new") };
                version
            }
        };
        let rows = rows(&version);
        assert_eq!(rows.len() as u64, version.card.pairs);
        assert_eq!(version.card.splits.values().sum::<u64>(), version.card.pairs);
        assert_eq!(version.card.days.values().sum::<u64>(), version.card.pairs);
        for (split, _, [.., day, _, _]) in rows.values() {
            let known = *splits.entry(day.clone()).or_insert(*split);
            assert_eq!(known, *split, "{day} has moved");
        }
        if round < 2 {
            assert_eq!(splits.values().collect::<BTreeSet<_>>().len(), 3, "every split has days");
        } else {
            let late = splits.iter().filter(|(day, _)| day.as_str() >= "2026-01-21");
            assert!(late.map(|(_, split)| *split).all(|split| split == Split::Train));
        }
    }
}

#[test]
fn rows_are_the_pairs_as_they_came_with_the_last_word() {
    let scene = Scene::new();
    let mut home = scene.open();
    let originals = scene.bring(&mut home, "garden", (0..4).map(|n| pair(jpeg(n), "a cat", 0)).collect());
    let name = |place: usize| PairName::OnBoard("garden".parse().unwrap(), originals[place].id);
    home.label(&name(1), &LabelAction::Rewrite(caption("a tabby")), 1).unwrap();
    home.label(&name(2), &LabelAction::Reject, 1).unwrap();
    let rows = rows(&new(&mut home));
    assert_eq!(rows.len(), 3);
    for (place, text, source, word) in [(0, "a cat", "model", "filter"), (1, "a tabby", "human", "host")] {
        let (_, picture, columns) = &rows[&exchange::Digest::from(originals[place].sha256).to_string()];
        assert_eq!(*picture, jpeg(place as u64));
        assert_eq!(columns.each_ref().map(String::as_str), [text, "garden", "2026-01-01", source, word]);
    }
}

#[test]
fn the_same_inputs_are_the_same_bytes_and_no_new_version() {
    let mut all = Vec::new();
    for _ in 0..2 {
        let scene = Scene::new();
        let mut home = scene.open();
        bring_days(&scene, &mut home, 0..8);
        let version = new(&mut home);
        assert_eq!(write(&mut home), Written::Unchanged(version.clone()));
        all.push(bytes_of(&version.folder));
        home.label(&PairName::Digits(rows(&version).into_keys().next().unwrap()), &LabelAction::Reject, 1).unwrap();
        let next = new(&mut home);
        assert_eq!((next.number, next.card.pairs), (2, version.card.pairs - 1));
        assert_eq!(bytes_of(&version.folder), all[all.len() - 1]);
        home.withdraw_version(2, "a slip", 5).unwrap();
        // What is withdrawn is no version that nothing has changed since, and its number is not given again.
        home.withdraw_version(1, "a slip", 5).unwrap();
        assert_eq!(new(&mut home).number, 3);
        let names: Vec<_> =
            fs::read_dir(scene.folder().join("versions")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["0003"]);
    }
    assert_eq!(all[0], all[1]);
}

#[test]
fn what_was_changed_in_a_version_is_found() {
    let scene = Scene::new();
    let mut home = scene.open();
    assert!(matches!(home.write_version(&parameters(), &mut look, &mut |_, _, _| {}, 1), Err(VersionError::Nothing)));
    bring_days(&scene, &mut home, 0..4);
    let version = new(&mut home);
    let readme = version.folder.join("README.md");
    for name in version.card.files.keys().map(String::as_str).chain(["version.json"]) {
        assert_eq!(fs::metadata(version.folder.join(name)).unwrap().permissions().mode() & 0o777, 0o444);
    }
    fs::remove_file(&readme).unwrap();
    fs::write(&readme, "another").unwrap();
    fs::write(version.folder.join("data/more"), "").unwrap();
    let changed = VersionFault::Changed { name: "README.md".into() };
    let added = VersionFault::Added { name: "data/more".into() };
    assert_eq!(home.verify_version(1).unwrap(), [changed, added]);
    fs::remove_file(&readme).unwrap();
    assert!(
        matches!(&home.verify_version(1).unwrap()[0], VersionFault::Unreadable { name, .. } if name == "README.md")
    );
    assert!(matches!(home.verify_version(9), Err(VersionError::Unknown { number: 9 })));
}

#[test]
fn no_picture_looks_like_one_of_another_split() {
    let scene = Scene::new();
    let mut home = scene.open();
    // Every picture again on every day, but stored anew each time.
    let pairs =
        (0..24).flat_map(|day| (0..4).map(move |n| pair(jpeg(n + day as u64 % 6 * 100), &format!("{day}"), day)));
    scene.bring(&mut home, "garden", pairs.collect());
    let version = new(&mut home);
    let rows = rows(&version);
    let left_out = version.card.left_out;
    assert!(left_out.near_in_train > 0, "{left_out:?}");
    assert_eq!(rows.len() as u64 + left_out.near_in_train + left_out.near_in_validation, 96);
    let hashes: Vec<(Split, u64)> =
        rows.values().map(|(split, picture, _)| (*split, likeness_of(picture).unwrap())).collect();
    for (split, hash) in &hashes {
        for (other_split, other) in &hashes {
            assert!(split == other_split || (hash ^ other).count_ones() > parameters().near);
        }
    }
}

#[test]
fn a_writer_that_was_stopped_leaves_a_whole_version_or_none() {
    let scene = Scene::new();
    let mut home = scene.open();
    bring_days(&scene, &mut home, 0..4);
    let version = new(&mut home);
    let state = |home: &mut Home, state: &str| {
        let sql = "UPDATE versions SET state = ?1";
        home.book.together(|transaction| transaction.execute(sql, [state])).unwrap();
    };
    fs::create_dir(scene.folder().join("versions/.writing-0002-1-0")).unwrap();
    state(&mut home, "writing");
    assert!(home.versions().unwrap().is_empty());
    assert_eq!(write(&mut home), Written::Unchanged(version.clone()));
    assert!(!scene.folder().join("versions/.writing-0002-1-0").exists());
    state(&mut home, "writing");
    fs::remove_dir_all(&version.folder).unwrap();
    assert_eq!(new(&mut home), version);
}

#[test]
fn a_pair_that_is_forgotten_while_a_version_is_written_is_not_in_it() {
    let scene = Scene::new();
    let mut home = scene.open();
    bring_days(&scene, &mut home, 0..4);
    let other = rusqlite::Connection::open(scene.folder().join("inbox.db")).unwrap();
    let mut is_told = false;
    let mut tell = |stage, _, _| {
        if stage == crate::versions::Stage::Writing && !is_told {
            other.execute("DELETE FROM pairs WHERE number = 12", []).unwrap();
            is_told = true;
        }
    };
    let written = home.write_version(&parameters(), &mut look, &mut tell, 1).unwrap();
    let Written::New(version) = written else { panic!("there is no version") };
    assert_eq!((version.number, version.card.pairs, rows(&version).len()), (1, 11, 11));
}
