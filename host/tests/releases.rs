//! What a host publishes is what a board believes, and nothing else.

#![allow(clippy::unwrap_used, reason = "what helps a test may fail as the test does")]

use std::fs;
use std::path::{Path, PathBuf};

use exchange::release::{
    Board, BoardClass, DELEGATION, Delegation, Health, HealthReport, NEWEST, Newest, Outcome, Root, file_place,
    health_place, release_place,
};
use exchange::{Digest, EnrolmentRequest, Release, SecretKey, Statement, Trust, signed};
use host::devices::Approval;
use host::releases::{Offer, PublishError, Validity};
use host::{Home, Releases};
use objects::{Objects, Options, Remote};
use tempfile::TempDir;

const VALIDITY: Validity = Validity(1000);

struct World {
    folder: TempDir,
    home: Home,
    objects: Objects,
    root: SecretKey,
}

impl World {
    fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(&folder.path().join("host")).unwrap();
        let objects = place(&home);
        World { folder, home, objects, root: SecretKey::generate().unwrap() }
    }

    fn releases(&mut self) -> Releases<'_> {
        Releases::open(&self.home, &mut self.objects).unwrap()
    }

    fn file<S: Statement>(&self, name: &str, statement: &S, keys: &[&SecretKey]) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, signed::sign(statement, keys)).unwrap();
        path
    }

    fn root_file(&self) -> PathBuf {
        self.file("root.json", &root(1, &[&self.root]), &[&self.root])
    }

    fn delegation(&mut self, serial: u64, class: &str) -> PathBuf {
        let key = self.releases().standing().unwrap().key;
        let classes = vec![class.parse().unwrap()];
        self.file("delegation.json", &Delegation { serial, key, classes, expires_s: 10_000 }, &[&self.root])
    }

    fn delegated(class: &str) -> World {
        let mut world = World::new();
        let (root, delegation) = (world.root_file(), world.delegation(1, class));
        world.releases().adopt(&[root], Some(&delegation), 0).unwrap();
        world
    }

    fn publish(&mut self, now_s: i64) -> Result<Release, PublishError> {
        self.releases().publish(&built_in(), offer("any"), VALIDITY, now_s, |_, _| {})
    }

    /// What a board with this trust takes from the place.
    fn taken(&mut self, trust: &mut Trust, now_s: i64) -> (Newest, Release) {
        let mut get = |name: &str| self.objects.get(name, 1 << 20).unwrap().unwrap();
        let by = trust.delegated(&get(DELEGATION), now_s).unwrap();
        let newest = trust.newest(&get(NEWEST), &by, now_s).unwrap();
        let board = Board { classes: vec!["aarch64".parse().unwrap()], version: "0.1.0".parse().unwrap() };
        let release = trust.release(&get(&release_place(newest.sequence)), &by, &newest, &board).unwrap();
        trust.take(&release);
        (newest, release)
    }
}

fn place(home: &Home) -> Objects {
    let url = format!("file://{}", home.objects().unwrap().display());
    Objects::open(&url, &Options::default()).unwrap()
}

fn root(version: u32, keys: &[&SecretKey]) -> Root {
    Root { version, keys: keys.iter().map(|key| key.public()).collect(), threshold: 1 }
}

fn offer(class: &str) -> Offer {
    let health = Health { memory_mib: 512, seconds: 60, tolerance: 0.05 };
    Offer { classes: vec![class.parse().unwrap()], minimum_version: "0.1.0".parse().unwrap(), health, share: 1000 }
}

fn built_in() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/built-in")
}

#[test]
fn a_board_that_believes_the_root_takes_what_was_published_with_every_file() {
    let mut world = World::delegated("any");
    world.publish(100).unwrap();
    let mut trust = Trust::new(world.home.root().unwrap().unwrap()).unwrap();
    let (newest, release) = world.taken(&mut trust, 100);
    assert_eq!((newest.sequence, newest.number, newest.share), (1, 1, 1000));
    for (name, file) in &release.files {
        let there = world.objects.get(&file_place(file.sha256), 16 << 20).unwrap().unwrap();
        assert_eq!(there, fs::read(built_in().join(name)).unwrap(), "{name}");
    }
    // The next one is larger, and the word about it is renewed at half of its time.
    assert_eq!(world.publish(200).unwrap().sequence, 2);
    assert_eq!(world.taken(&mut trust, 200).0.number, 2);
    assert_eq!(world.releases().keep_fresh(699).unwrap(), None);
    assert_eq!(world.releases().keep_fresh(700).unwrap().unwrap().expires_s, 1700);
    assert_eq!(world.releases().renew(Some(10), VALIDITY, 800).unwrap().share, 10);
    assert_eq!(world.taken(&mut trust, 800).0.number, 4);
}

#[test]
fn a_host_that_was_brought_back_from_a_backup_goes_on_from_what_boards_have_seen() {
    let mut world = World::delegated("any");
    let backup = world.folder.path().join("backup");
    fs::create_dir(&backup).unwrap();
    let saved = ["releases/newest.json", "releases/1.json"];
    world.publish(100).unwrap();
    for name in saved {
        fs::copy(world.folder.path().join("host").join(name), backup.join(Path::new(name).file_name().unwrap()))
            .unwrap();
    }
    world.publish(200).unwrap();
    world.publish(300).unwrap();
    for name in ["2.json", "3.json"] {
        fs::remove_file(world.folder.path().join("host/releases").join(name)).unwrap();
    }
    fs::copy(backup.join("newest.json"), world.folder.path().join("host/releases/newest.json")).unwrap();
    let release = world.publish(400).unwrap();
    assert_eq!(release.sequence, 4);
    let mut trust = Trust::new(world.home.root().unwrap().unwrap()).unwrap();
    assert_eq!(world.taken(&mut trust, 400).0.number, 4);
}

#[test]
fn who_may_not_release_does_not() {
    let mut world = World::new();
    assert!(matches!(world.publish(0), Err(PublishError::NotDelegated { .. })));
    let delegation = world.delegation(1, "aarch64");
    let without_root = world.releases().adopt(&[], Some(&delegation), 0);
    assert!(matches!(without_root, Err(PublishError::NotDelegated { .. })));
    let root_file = world.root_file();
    world.releases().adopt(&[root_file], Some(&delegation), 0).unwrap();
    assert!(matches!(world.publish(0), Err(PublishError::OtherBoards { .. })));
    assert!(matches!(world.publish(10_000), Err(PublishError::Expired)));
    let stranger = SecretKey::generate().unwrap();
    let classes = vec![BoardClass::any()];
    let other = Delegation { serial: 2, key: stranger.public(), classes: classes.clone(), expires_s: 10_000 };
    let other = world.file("other.json", &other, &[&world.root]);
    assert!(matches!(world.releases().adopt(&[], Some(&other), 0), Err(PublishError::AnotherKey { .. })));
    let key = world.releases().standing().unwrap().key;
    let unsigned = Delegation { serial: 2, key, classes, expires_s: 10_000 };
    let unsigned = world.file("unsigned.json", &unsigned, &[&stranger]);
    assert!(matches!(world.releases().adopt(&[], Some(&unsigned), 0), Err(PublishError::Statement { .. })));
    let foreign = world.file("foreign.json", &root(2, &[&stranger]), &[&stranger]);
    assert!(matches!(world.releases().adopt(&[foreign], None, 0), Err(PublishError::Statement { .. })));
}

#[test]
fn the_root_is_replaced_by_one_that_it_signs_and_a_delegation_never_by_an_older_one() {
    let mut world = World::delegated("any");
    let second = world.delegation(2, "any");
    world.releases().adopt(&[], Some(&second), 0).unwrap();
    let first = world.delegation(1, "any");
    assert!(matches!(world.releases().adopt(&[], Some(&first), 0), Err(PublishError::Statement { .. })));
    let next = SecretKey::generate().unwrap();
    let rotated = world.file("root2.json", &root(2, &[&next]), &[&world.root, &next]);
    world.releases().adopt(&[rotated], None, 0).unwrap();
    // The old root's delegation is none under the new one.
    assert!(matches!(world.publish(0), Err(PublishError::NotDelegated { .. })));
    world.root = next;
    let third = world.delegation(3, "any");
    world.releases().adopt(&[], Some(&third), 0).unwrap();
    world.publish(0).unwrap();
    assert_eq!(world.home.root().unwrap().unwrap().version, 2);
}

#[test]
fn a_damaged_bundle_is_not_released() {
    let mut world = World::delegated("any");
    let copy = world.folder.path().join("bundle");
    fs::create_dir(&copy).unwrap();
    for entry in fs::read_dir(built_in()).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    let mut weights = fs::read(copy.join("weights.bin")).unwrap();
    weights[77] ^= 1;
    fs::write(copy.join("weights.bin"), weights).unwrap();
    let damaged = world.releases().publish(&copy, offer("any"), VALIDITY, 0, |_, _| {});
    assert!(matches!(damaged, Err(PublishError::Damaged { path }) if path.ends_with("weights.bin")));
    assert!(world.objects.list("releases/files").unwrap().is_empty());
    assert!(world.releases().standing().unwrap().newest.is_none());
}

#[test]
fn what_boards_say_counts_only_under_their_own_keys() {
    let mut world = World::delegated("any");
    let board = SecretKey::generate().unwrap();
    let text = |text: &str| blip::caption::Caption::new(text).unwrap();
    let request = EnrolmentRequest {
        key: board.public(),
        name: "garden".parse().unwrap(),
        board: text("a board"),
        version: text("0.1.0"),
    };
    world.home.approve(&signed::sign(&request, &[&board]), Approval::default()).unwrap();
    let report = |name: &str, reason: &str| HealthReport {
        device: name.parse().unwrap(),
        sequence: 1,
        release: Digest::of(b"release"),
        outcome: Outcome::Returned(text(reason)),
        version: "0.1.0".parse().unwrap(),
        at_s: 1,
    };
    let signed_by = |report: &HealthReport, key: &SecretKey| signed::sign(report, &[key]);
    let ours = signed_by(&report("garden", "it hangs"), &board);
    let forged = signed_by(&report("garden", "all is well"), &SecretKey::generate().unwrap());
    let others = signed_by(&report("shed", "it hangs"), &board);
    for bytes in [&ours, &forged, &others, &b"{}".to_vec()] {
        world.objects.put(&health_place(&"garden".parse().unwrap(), Digest::of(bytes)), bytes).unwrap();
    }
    let World { home, objects, .. } = &mut world;
    let reports = Releases::open(home, objects).unwrap().reports(home).unwrap();
    assert_eq!(reports, [report("garden", "it hangs")]);
}

#[test]
fn a_place_that_was_away_gets_everything_later() {
    let mut world = World::delegated("any");
    world.publish(100).unwrap();
    let (place, away) = (world.folder.path().join("host/objects"), world.folder.path().join("away"));
    let next = SecretKey::generate().unwrap();
    let rotated = world.file("root2.json", &root(2, &[&next]), &[&world.root, &next]);
    fs::rename(&place, &away).unwrap();
    assert!(matches!(world.releases().adopt(std::slice::from_ref(&rotated), None, 0), Err(PublishError::Remote(_))));
    assert!(matches!(world.releases().renew(Some(0), VALIDITY, 200), Err(PublishError::NotDelegated { .. })));
    fs::rename(&away, &place).unwrap();
    world.releases().adopt(&[rotated], None, 0).unwrap();
    world.root = next;
    let again = world.delegation(1, "any");
    world.releases().adopt(&[], Some(&again), 0).unwrap();
    // A word that is written down and not there.
    let old = fs::read(place.join(NEWEST)).unwrap();
    world.releases().renew(Some(0), VALIDITY, 300).unwrap();
    fs::write(place.join(NEWEST), old).unwrap();
    assert_eq!(world.releases().keep_fresh(301).unwrap(), None, "it is young");
    let mut trust = Trust::new(root(1, &[&SecretKey::generate().unwrap()])).unwrap();
    trust = trust.with_root(world.home.root().unwrap().unwrap()).unwrap();
    assert_eq!(world.taken(&mut trust, 301).0.share, 0);
}

#[test]
fn a_host_that_has_lost_its_release_key_goes_on_with_another_in_the_same_folder() {
    let mut world = World::delegated("any");
    world.publish(100).unwrap();
    let mut trust = Trust::new(world.home.root().unwrap().unwrap()).unwrap();
    world.taken(&mut trust, 100);
    fs::remove_file(world.folder.path().join("host/release.key")).unwrap();
    assert!(world.releases().standing().unwrap().newest.is_none());
    let second = world.delegation(2, "any");
    world.releases().adopt(&[], Some(&second), 0).unwrap();
    assert_eq!(world.releases().keep_fresh(100).unwrap(), None);
    world.publish(200).unwrap();
    assert_eq!(world.taken(&mut trust, 200).0.number, 1);
}

#[test]
fn two_programs_do_not_release_at_once() {
    let world = World::delegated("any");
    let (mut ours, mut theirs) = (place(&world.home), place(&world.home));
    let held = Releases::open(&world.home, &mut ours).unwrap();
    assert!(matches!(Releases::open(&world.home, &mut theirs), Err(PublishError::Busy)));
    assert!(world.home.is_releasing().unwrap());
    drop(held);
    Releases::open(&world.home, &mut theirs).unwrap();
}

#[test]
fn no_root_lets_an_earlier_delegation_in_again() {
    let mut world = World::delegated("any");
    let fifth = world.delegation(5, "any");
    world.releases().adopt(&[], Some(&fifth), 0).unwrap();
    let next = SecretKey::generate().unwrap();
    let rotated = world.file("root2.json", &root(2, &[&next]), &[&world.root, &next]);
    world.releases().adopt(&[rotated], None, 0).unwrap();
    world.root = next;
    let fourth = world.delegation(4, "any");
    let refused = world.releases().adopt(&[], Some(&fourth), 0);
    assert!(matches!(refused, Err(PublishError::Statement { source, .. }) if source.to_string().contains("replays")));
}
