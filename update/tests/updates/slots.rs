//! What runs, what is tried, and where a board goes back to.

use std::fs;
use std::path::Path;

use exchange::release::Outcome;
use update::{Fetched, Slot, State, Updates, Watch, Written};

use crate::place::{Place, believing, fetch};

/// A board that has taken up releases 1 and 2.
fn settled(folder: &Path) -> (Updates, Place) {
    let (updates, mut place) = (believing(folder), Place { weights: 5000, ..Place::new() });
    assert_eq!((place.keep(&updates, 1), place.keep(&updates, 2)), (Slot::A, Slot::B));
    (updates, place)
}

fn ready(updates: &Updates, place: &mut Place, sequence: u64) -> Slot {
    place.release(sequence);
    let Fetched::Ready { slot, .. } = fetch(updates, place).unwrap() else { panic!("it is not there") };
    slot
}

/// A release that has passed its test.
fn proposed(updates: &Updates, place: &mut Place, sequence: u64) -> Slot {
    let slot = ready(updates, place, sequence);
    updates.propose(slot).unwrap();
    slot
}

fn denied(state: &State) -> Vec<u64> {
    state.denied.iter().map(|denied| denied.sequence).collect()
}

#[test]
fn a_service_starts_anew_for_another_model_and_never_while_it_loads() {
    let folder = tempfile::tempdir().unwrap();
    let (updates, mut place) = settled(folder.path());
    proposed(&updates, &mut place, 3);
    let watch = Watch::new(updates.clone());
    let chosen = updates.begin().unwrap();
    assert!(chosen.is_trial);
    assert!(!watch.is_outdated(), "what it loads is what is tried");
    updates.commit(&chosen).unwrap();
    assert!(!watch.is_outdated());
    watch.clone().loaded(&chosen, Written::All);
    assert!(!watch.is_outdated());
    let slot = ready(&updates, &mut place, 4);
    assert!(!watch.is_outdated(), "nobody has tested it");
    updates.propose(slot).unwrap();
    assert!(watch.is_outdated());
    updates.roll_back().unwrap();
    assert!(!watch.is_outdated(), "it runs what is to run");
    updates.roll_back().unwrap();
    assert!(watch.is_outdated());
    fs::write(folder.path().join("state.json"), "{").unwrap();
    assert!(!watch.is_outdated(), "what cannot be read is no reason");
}

#[test]
fn a_trial_that_cannot_be_counted_does_not_make_the_service_start_again_and_again() {
    let folder = tempfile::tempdir().unwrap();
    let (updates, mut place) = settled(folder.path());
    proposed(&updates, &mut place, 3);
    let watch = Watch::new(updates.clone());
    // The disk takes nothing: the service has loaded what ran before.
    assert_eq!(updates.current().slot, Slot::B);
    watch.loaded(&updates.current(), Written::NotAll);
    assert!(!watch.is_outdated());
}

#[test]
fn the_factory_is_tried_and_kept_like_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let (updates, mut place) = settled(folder.path());
    updates.propose(Slot::Factory).unwrap();
    let chosen = updates.begin().unwrap();
    assert!(chosen.is_trial && chosen.folder.is_none());
    updates.commit(&chosen).unwrap();
    let state = updates.state();
    assert_eq!((state.current, state.before, state.trial), (Slot::Factory, Slot::B, None));
    // What is older goes first.
    let slot = ready(&updates, &mut place, 3);
    assert!(updates.state().slots.contains_key(&slot));
    // The factory that does not come up is left after three tries.
    let folder = tempfile::tempdir().unwrap();
    let (updates, _) = settled(folder.path());
    updates.propose(Slot::Factory).unwrap();
    for _ in 0..3 {
        assert_eq!(updates.begin().unwrap().slot, Slot::Factory);
    }
    assert_eq!(updates.begin().unwrap().slot, Slot::B);
}

#[test]
fn a_test_that_takes_the_board_down_is_begun_three_times() {
    let folder = tempfile::tempdir().unwrap();
    let (updates, mut place) = settled(folder.path());
    let slot = ready(&updates, &mut place, 3);
    for _ in 0..3 {
        assert!(matches!(fetch(&updates, &mut place).unwrap(), Fetched::Ready { bytes: 0, .. }));
        assert!(updates.begin_test(slot).unwrap().is_some());
    }
    assert_eq!(updates.begin_test(slot).unwrap(), None);
    assert_eq!(denied(&updates.state()), [3]);
    let told = updates.state().reports.pop().unwrap();
    assert!(matches!(told.outcome, Outcome::Returned(reason) if reason.as_str().contains("3 tries")));
    assert_eq!(fetch(&updates, &mut place).unwrap(), Fetched::Denied);
}

#[test]
fn a_slot_that_is_damaged_is_left_only_for_what_was_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (updates, _) = settled(folder.path());
    assert_eq!(updates.give_back(&updates.current(), "it is damaged").unwrap().slot, Slot::A);
    assert!(denied(&updates.state()).is_empty(), "it was good, and may come again");
    // What nobody has tested is nothing to go to.
    let folder = tempfile::tempdir().unwrap();
    let (updates, mut place) = settled(folder.path());
    assert_eq!(ready(&updates, &mut place, 3), Slot::A);
    assert_eq!(updates.give_back(&updates.current(), "it is damaged").unwrap().slot, Slot::Factory);
    // Nor is what was given back.
    let folder = tempfile::tempdir().unwrap();
    let (updates, _) = settled(folder.path());
    assert_eq!(updates.roll_back().unwrap(), Slot::A);
    assert_eq!(updates.give_back(&updates.current(), "it is damaged").unwrap().slot, Slot::Factory);
}

#[test]
fn an_operator_goes_back_from_what_is_tried_or_runs_and_to_nothing_untested() {
    let folder = tempfile::tempdir().unwrap();
    let (updates, mut place) = settled(folder.path());
    proposed(&updates, &mut place, 3);
    assert_eq!((updates.roll_back().unwrap(), denied(&updates.state())), (Slot::B, vec![3]));
    assert_eq!(fetch(&updates, &mut place).unwrap(), Fetched::Denied);
    // Release 3 lies where release 1 was.
    assert_eq!((updates.roll_back().unwrap(), denied(&updates.state())), (Slot::Factory, vec![3, 2]));
    assert_eq!(updates.roll_back().unwrap(), Slot::Factory);
    // Whoever wants it all the same has it.
    updates.propose(Slot::B).unwrap();
    updates.commit(&updates.begin().unwrap()).unwrap();
    assert_eq!((updates.begin().unwrap().slot, denied(&updates.state())), (Slot::B, vec![3]));
}

#[test]
fn a_state_that_is_damaged_is_set_aside_and_one_that_cannot_be_read_is_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let (updates, mut place) = settled(folder.path());
    let path = folder.path().join("state.json");
    let half = fs::read(&path).unwrap().split_off(100);
    fs::write(&path, &half).unwrap();
    assert_eq!(updates.begin().unwrap().slot, Slot::Factory);
    let updates = believing(folder.path());
    assert_eq!(fs::read(folder.path().join("state.json.damaged")).unwrap(), half);
    assert!(matches!(fetch(&updates, &mut place).unwrap(), Fetched::Ready { sequence: 2, .. }));
    // As a disk with an error there does.
    fs::rename(&path, folder.path().join("other")).unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(updates.begin().unwrap().slot, Slot::Factory);
    assert!(updates.propose(Slot::A).is_err() && path.is_dir());
}

#[test]
fn what_happens_while_a_release_loads_is_not_taken_for_it() {
    // The operator goes back.
    let folder = tempfile::tempdir().unwrap();
    let (updates, mut place) = settled(folder.path());
    proposed(&updates, &mut place, 3);
    let (watch, chosen) = (Watch::new(updates.clone()), updates.begin().unwrap());
    updates.roll_back().unwrap();
    updates.commit(&chosen).unwrap();
    watch.loaded(&chosen, Written::All);
    assert_eq!((updates.state().current, denied(&updates.state())), (Slot::B, vec![3]));
    assert!(watch.is_outdated(), "it does not go on with what was given back");
    // Another release comes in its place.
    let folder = tempfile::tempdir().unwrap();
    let (updates, mut place) = settled(folder.path());
    let slot = proposed(&updates, &mut place, 3);
    let (watch, chosen) = (Watch::new(updates.clone()), updates.begin().unwrap());
    updates.roll_back().unwrap();
    assert_eq!(ready(&updates, &mut place, 4), slot);
    updates.propose(slot).unwrap();
    updates.commit(&chosen).unwrap();
    assert_eq!(updates.give_back(&chosen, "it is slow").unwrap().slot, Slot::B);
    assert_eq!(denied(&updates.state()), [3], "nothing is said of release 4");
    assert_eq!(updates.state().trial.unwrap().tries, 3, "it is still to be tried");
    watch.loaded(&chosen, Written::All);
    assert!(watch.is_outdated());
    // A release is proposed while what runs is loaded.
    let folder = tempfile::tempdir().unwrap();
    let (updates, mut place) = settled(folder.path());
    let (watch, chosen) = (Watch::new(updates.clone()), updates.begin().unwrap());
    proposed(&updates, &mut place, 3);
    watch.loaded(&chosen, Written::All);
    assert!(watch.is_outdated());
}

#[test]
fn an_operator_s_choice_stands_until_there_is_something_newer() {
    let folder = tempfile::tempdir().unwrap();
    let (updates, mut place) = settled(folder.path());
    updates.propose(Slot::Factory).unwrap();
    updates.commit(&updates.begin().unwrap()).unwrap();
    assert_eq!(fetch(&updates, &mut place).unwrap(), Fetched::Current);
    let slot = ready(&updates, &mut place, 3);
    // A test that cannot be started is none.
    for _ in 0..9 {
        assert!(updates.begin_test(slot).unwrap().is_some());
        updates.forget_test(slot).unwrap();
    }
}

#[test]
fn what_is_left_of_others_makes_room_before_room_is_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    let (updates, mut place) = settled(folder.path());
    let leftovers = ["partial/half", "slots/a.new/weights.bin", "slots/c/weights.bin"];
    for name in leftovers {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }
    place.release(3);
    let board = exchange::release::Board { classes: Vec::new(), version: "0.1.0".parse().unwrap() };
    let device = crate::place::device();
    let offered = update::Offered { device: &device, board: &board, now_s: 1000, leave: u64::MAX };
    let full = updates.fetch(&updates.claim().unwrap(), &mut place, &offered);
    assert!(matches!(full, Err(update::UpdateError::NoRoom { .. })));
    assert!(leftovers.iter().all(|name| !folder.path().join(name).exists()));
    assert!(updates.verify(Slot::A).unwrap().is_empty() && updates.verify(Slot::B).unwrap().is_empty());
}
