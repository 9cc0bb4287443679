//! What runs, what is tried, and where a board goes back to.

use std::fs;
use std::path::Path;

use exchange::release::Outcome;
use update::{Fetched, Slot, State, Updates, Watch};

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

fn denied(state: &State) -> Vec<u64> {
    state.denied.iter().map(|denied| denied.sequence).collect()
}

#[test]
fn a_service_starts_anew_for_another_model_and_never_while_it_loads() {
    let folder = tempfile::tempdir().unwrap();
    let (updates, mut place) = settled(folder.path());
    let slot = ready(&updates, &mut place, 3);
    updates.propose(slot).unwrap();
    let watch = Watch::new(updates.clone());
    assert!(updates.begin().unwrap().is_trial);
    assert!(!watch.is_outdated(), "what it loads is what is tried");
    updates.commit().unwrap();
    assert!(!watch.is_outdated());
    watch.clone().loaded();
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
    let slot = ready(&updates, &mut place, 3);
    updates.propose(slot).unwrap();
    let watch = Watch::new(updates.clone());
    // The disk takes nothing: the service has loaded what ran before.
    assert_eq!(updates.current().slot, Slot::B);
    watch.loaded();
    assert!(!watch.is_outdated());
}

#[test]
fn the_factory_is_tried_and_kept_like_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let (updates, mut place) = settled(folder.path());
    updates.propose(Slot::Factory).unwrap();
    let chosen = updates.begin().unwrap();
    assert!(chosen.is_trial && chosen.folder.is_none());
    updates.commit().unwrap();
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
    assert_eq!(updates.give_back(Slot::B, "it is damaged").unwrap().slot, Slot::A);
    assert!(denied(&updates.state()).is_empty(), "it was good, and may come again");
    // What nobody has tested is nothing to go to.
    let folder = tempfile::tempdir().unwrap();
    let (updates, mut place) = settled(folder.path());
    assert_eq!(ready(&updates, &mut place, 3), Slot::A);
    assert_eq!(updates.give_back(Slot::B, "it is damaged").unwrap().slot, Slot::Factory);
    // Nor is what was given back.
    let folder = tempfile::tempdir().unwrap();
    let (updates, _) = settled(folder.path());
    assert_eq!(updates.roll_back().unwrap(), Slot::A);
    assert_eq!(updates.give_back(Slot::A, "it is damaged").unwrap().slot, Slot::Factory);
}

#[test]
fn an_operator_goes_back_from_what_is_tried_or_runs_and_to_nothing_untested() {
    let folder = tempfile::tempdir().unwrap();
    let (updates, mut place) = settled(folder.path());
    let slot = ready(&updates, &mut place, 3);
    updates.propose(slot).unwrap();
    assert_eq!((updates.roll_back().unwrap(), denied(&updates.state())), (Slot::B, vec![3]));
    assert_eq!(fetch(&updates, &mut place).unwrap(), Fetched::Denied);
    // Release 3 lies where release 1 was.
    assert_eq!((updates.roll_back().unwrap(), denied(&updates.state())), (Slot::Factory, vec![3, 2]));
    assert_eq!(updates.roll_back().unwrap(), Slot::Factory);
    // Whoever wants it all the same has it.
    updates.propose(Slot::B).unwrap();
    updates.begin().unwrap();
    updates.commit().unwrap();
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
