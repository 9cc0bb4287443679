//! What is fetched, and what is refused.

use std::fs;

use exchange::release::{
    Board, DELEGATION, Delegation, HealthReport, NEWEST, Outcome, Root, file_place, release_place, root_place,
};
use exchange::{Digest, signed};
use update::{Fetched, Offered, Slot, UpdateError, Updates};

use crate::place::{Place, WEIGHTS, believing, device, fetch, fetch_at, host, key, root};

#[test]
fn a_release_is_fetched_once_tried_kept_and_reported() {
    let folder = tempfile::tempdir().unwrap();
    let (updates, mut place) = (believing(folder.path()), Place::new());
    assert_eq!(fetch(&updates, &mut place).unwrap(), Fetched::Nothing);
    let release = place.release(1);
    let ready = fetch(&updates, &mut place).unwrap();
    assert_eq!(ready, Fetched::Ready { slot: Slot::A, sequence: 1, bytes: release.bytes() });
    // Until it is proposed, nothing is tried.
    assert_eq!(updates.begin().unwrap().slot, Slot::Factory);
    assert!(matches!(fetch(&updates, &mut place).unwrap(), Fetched::Ready { bytes: 0, .. }));
    updates.propose(Slot::A).unwrap();
    let chosen = updates.begin().unwrap();
    assert!(chosen.is_trial && chosen.folder.as_ref().unwrap().join("weights.bin").is_file());
    assert_eq!(fetch(&updates, &mut place).unwrap(), Fetched::Current);
    updates.commit(&chosen).unwrap();
    assert_eq!(updates.begin().unwrap(), update::Chosen { is_trial: false, ..chosen });
    assert!(updates.verify(Slot::A).unwrap().is_empty());

    assert_eq!(updates.send_reports(&mut place, &device(), &key(7), "0.1.0".parse().unwrap(), 5).unwrap(), 1);
    assert_eq!(updates.send_reports(&mut place, &device(), &key(7), "0.1.0".parse().unwrap(), 5).unwrap(), 0);
    let (_, bytes) = place.objects.iter().find(|(name, _)| name.starts_with("devices/garden/health/")).unwrap();
    let report: HealthReport = signed::open(bytes, &[key(7).public()]).unwrap();
    assert_eq!((report.sequence, report.outcome), (1, Outcome::Kept));
}

#[test]
fn the_next_release_brings_only_what_is_new() {
    let folder = tempfile::tempdir().unwrap();
    let (updates, mut place) = (believing(folder.path()), Place::new());
    place.release(1);
    fetch(&updates, &mut place).unwrap();
    updates.propose(Slot::A).unwrap();
    updates.commit(&updates.begin().unwrap()).unwrap();
    let second = place.release(2);
    let shared = second.files["tokenizer.json"].bytes;
    let ready = fetch(&updates, &mut place).unwrap();
    assert_eq!(ready, Fetched::Ready { slot: Slot::B, sequence: 2, bytes: second.bytes() - shared });
}

#[test]
fn a_connection_may_end_at_any_request_and_no_piece_comes_twice() {
    let whole = {
        let folder = tempfile::tempdir().unwrap();
        let mut place = Place::new();
        place.release(1);
        fetch(&believing(folder.path()), &mut place).unwrap();
        place.asked
    };
    for ends_at in 1..=whole {
        let folder = tempfile::tempdir().unwrap();
        let (updates, mut place) = (believing(folder.path()), Place::new());
        let release = place.release(1);
        place.ends_at = Some(ends_at);
        assert!(matches!(fetch(&updates, &mut place), Err(UpdateError::Remote(_))), "{ends_at}");
        assert_eq!(updates.begin().unwrap().slot, Slot::Factory);
        place.ends_at = None;
        assert!(matches!(fetch(&updates, &mut place).unwrap(), Fetched::Ready { .. }));
        assert_eq!(place.given, release.bytes(), "cut at request {ends_at}");
    }
}

#[test]
fn what_is_not_what_was_signed_is_refused_and_nothing_is_tried() {
    let tampered = |change: &dyn Fn(&mut Place)| {
        let folder = tempfile::tempdir().unwrap();
        let (updates, mut place) = (believing(folder.path()), Place::new());
        place.release(1);
        change(&mut place);
        let error = fetch(&updates, &mut place).unwrap_err();
        let state = updates.state();
        assert!(state.slots.is_empty() && state.trial.is_none(), "{error}");
        error.to_string()
    };
    let weights = |place: &Place| {
        let name = place.objects.iter().find(|(_, bytes)| bytes.len() == WEIGHTS).unwrap().0;
        name.clone()
    };
    let flipped = tampered(&|place| {
        let name = weights(place);
        place.objects.get_mut(&name).unwrap()[77] ^= 1;
    });
    assert!(flipped.contains("weights.bin"), "{flipped}");
    let cut = tampered(&|place| {
        let name = weights(place);
        place.objects.get_mut(&name).unwrap().truncate(1000);
    });
    assert!(cut.contains("is not there"), "{cut}");
    let gone = tampered(&|place| drop(place.objects.remove(&release_place(1))));
    assert!(gone.contains("releases/1.json"), "{gone}");
    let swapped = tampered(&|place| {
        let mut other = Place::new();
        other.release(2);
        place.objects.insert(release_place(1), other.objects[&release_place(2)].clone());
    });
    assert!(swapped.contains("not the one"), "{swapped}");
    let foreign = tampered(&|place| drop(place.release_by(1, 8)));
    assert!(foreign.contains("not signed by"), "{foreign}");
    let page = tampered(&|place| drop(place.objects.insert(NEWEST.to_owned(), b"<html>log in</html>".to_vec())));
    assert!(page.contains("no signed"), "{page}");
}

#[test]
fn old_words_and_old_releases_are_refused_and_a_frozen_host_is_known_to_be() {
    let folder = tempfile::tempdir().unwrap();
    let (updates, mut place) = (believing(folder.path()), Place::new());
    place.release(5);
    let old = place.objects.clone();
    fetch(&updates, &mut place).unwrap();
    place.release(6);
    fetch(&updates, &mut place).unwrap();
    let mut replayed = Place { objects: old, ..Place::new() };
    let error = fetch(&updates, &mut replayed).unwrap_err().to_string();
    assert!(error.contains("replays"), "{error}");
    let fifth = place.release(5);
    let error = fetch(&updates, &mut place).unwrap_err().to_string();
    assert!(error.contains("number 5") && error.contains("number 6"), "{error}");
    place.announce(&fifth, 9, 1000);
    assert!(fetch(&updates, &mut place).is_err());
    // Nobody says anything new, and the last word expires.
    place.release(7);
    fetch(&updates, &mut place).unwrap();
    assert_eq!(updates.state().heard_s, Some(1000));
    let error = fetch_at(&updates, &mut place, 900_000).unwrap_err().to_string();
    assert!(error.contains("expired"), "{error}");
    assert_eq!(updates.state().heard_s, Some(1000), "since when nothing fresh was heard");
}

#[test]
fn keys_rotate_forward_and_after_the_online_key_was_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (updates, mut place) = (believing(folder.path()), Place::new());
    place.release(u64::MAX);
    fetch(&updates, &mut place).unwrap();
    // The thief has used up every number; the root names another key.
    place.delegate(2, 10);
    place.number = 0;
    place.release_by(1, 10);
    assert!(matches!(fetch(&updates, &mut place).unwrap(), Fetched::Ready { sequence: 1, .. }));
    // The root itself is replaced.
    let next = Root { version: 2, keys: vec![key(2).public()], threshold: 1 };
    let bytes = signed::sign(&next, &[&key(1), &key(2)]);
    place.objects.insert(root_place(2), bytes);
    assert!(fetch(&updates, &mut place).unwrap_err().to_string().contains("delegation"));
    let classes = vec!["any".parse().unwrap()];
    let delegation = exchange::release::Delegation { serial: 3, key: key(10).public(), classes, expires_s: 1_000_000 };
    place.put(exchange::release::DELEGATION, &delegation, 2);
    assert!(matches!(fetch(&updates, &mut place).unwrap(), Fetched::Ready { .. }));
    // A grant of the old days does not bring the old root back.
    updates.believe(&root(), host()).unwrap();
    assert_eq!(updates.state().trust.unwrap().root().version, 2);
}

#[test]
fn a_delegation_that_has_expired_is_remembered_and_none_before_it_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let (updates, mut place) = (believing(folder.path()), Place::new());
    let stolen = place.objects.clone();
    let classes = vec!["any".parse().unwrap()];
    let expired = Delegation { serial: 2, key: key(10).public(), classes, expires_s: 900 };
    place.put(DELEGATION, &expired, 1);
    assert!(fetch(&updates, &mut place).unwrap_err().to_string().contains("expired"));
    let error = fetch(&updates, &mut Place { objects: stolen, ..Place::new() }).unwrap_err().to_string();
    assert!(error.contains("replays"), "{error}");
}

#[test]
fn another_host_brings_its_own_root_and_only_one_program_fetches() {
    let folder = tempfile::tempdir().unwrap();
    let (updates, mut place) = (believing(folder.path()), Place::new());
    place.release(1);
    let claim = updates.claim().unwrap();
    assert!(matches!(fetch(&updates, &mut place), Err(UpdateError::Claimed)));
    drop(claim);
    let other = Root { version: 1, keys: vec![key(2).public()], threshold: 1 };
    updates.believe(&other, host()).unwrap();
    assert_eq!(updates.state().trust.unwrap().root(), &root(), "a host has one root of a version");
    updates.believe(&other, key(6).public()).unwrap();
    assert_eq!(updates.state().trust.unwrap().root(), &other);
    assert!(fetch(&updates, &mut place).unwrap_err().to_string().contains("delegation"));
}

#[test]
fn only_what_no_slot_has_needs_room() {
    let folder = tempfile::tempdir().unwrap();
    let (updates, mut place) = (believing(folder.path()), Place::new());
    place.keep(&updates, 1);
    let second = place.release(2);
    let board = Board { classes: Vec::new(), version: "0.1.0".parse().unwrap() };
    let leave = u64::MAX / 2;
    let offered = Offered { device: &device(), board: &board, now_s: 1000, leave };
    let refused = updates.fetch(&updates.claim().unwrap(), &mut place, &offered).unwrap_err();
    let UpdateError::NoRoom { needed, .. } = refused else { panic!("{refused}") };
    assert_eq!(needed, leave + second.bytes() - second.files["tokenizer.json"].bytes);
}

#[test]
fn other_boards_and_boards_without_a_root_take_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut place = Place::new();
    let release = place.release(1);
    assert_eq!(fetch(&Updates::at(folder.path()), &mut place).unwrap(), Fetched::Nothing);
    let updates = believing(folder.path());
    place.announce(&release, 9, 0);
    assert_eq!(fetch(&updates, &mut place).unwrap(), Fetched::Later);
    let mut other = release.clone();
    other.classes = vec!["raspberry-pi-5".parse().unwrap()];
    place.announce(&other, 9, 1000);
    assert!(fetch(&updates, &mut place).unwrap_err().to_string().contains("other boards"));
    // A file that nobody can have.
    place.announce(&release, 9, 1000);
    let weights = release.files["weights.bin"].sha256;
    place.objects.remove(&file_place(weights));
    assert!(matches!(fetch(&updates, &mut place), Err(UpdateError::Missing(_))));
}

#[test]
fn a_slot_that_was_damaged_is_filled_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (updates, mut place) = (believing(folder.path()), Place::new());
    let release = place.release(1);
    fetch(&updates, &mut place).unwrap();
    updates.propose(Slot::A).unwrap();
    let chosen = updates.begin().unwrap();
    updates.commit(&chosen).unwrap();
    let weights = chosen.folder.unwrap().join("weights.bin");
    let mut bytes = fs::read(&weights).unwrap();
    bytes[9] ^= 4;
    fs::write(&weights, bytes).unwrap();
    assert_eq!(updates.verify(Slot::A).unwrap(), ["weights.bin"]);
    assert_eq!(updates.give_back(&updates.current(), "it is damaged").unwrap().slot, Slot::Factory);
    let again = fetch(&updates, &mut place).unwrap();
    assert_eq!(again, Fetched::Ready { slot: Slot::A, sequence: 1, bytes: release.bytes() });
    assert!(updates.verify(Slot::A).unwrap().is_empty());
    assert_eq!(Digest::of(&fs::read(&weights).unwrap()), release.files["weights.bin"].sha256);
}
