//! Pairs out of a store whose clock and place differ from pair to pair.

#![allow(clippy::unwrap_used, reason = "what helps a test may fail as the test does")]

use std::path::Path;
use std::time::Duration;

use blip::caption::Caption;
use blip::pixels::Rgb8;
use dataset::Format;
use edgeblip::export::{
    CamtrapError, ExportError, Exported, GuessedTimes, Metadata, Notice, Options, Project, Target, export,
};
use picture::{JpegQuality, encode_jpeg};
use store::{
    ClockQuality, Decision, Label, LabelAction, Limits, Origin, Pair, PairId, Place, Sensor, Stamp, State, Store, Text,
};
use tempfile::TempDir;

/// 2026-11-27 08:30:00.250 in UTC.
const MORNING: i64 = 1_795_768_200_250;

fn caption(text: &str) -> Caption {
    Caption::new(text).unwrap()
}

fn text(words: &str, itm: f32, decision: Decision) -> Text {
    let (words, model) = (caption(words), Some(caption("a-bundle")));
    Text { words, origin: Origin::Caption, itm: Some(itm), itc: None, log_prob: None, decision, model }
}

fn pair(quality: ClockQuality, coordinates: Option<[f64; 2]>) -> Pair {
    let grey = Rgb8::new(16, 8, vec![90; 16 * 8 * 3]).unwrap();
    let rejected = Decision::Rejected(caption("below the threshold"));
    Pair {
        jpeg: Some(encode_jpeg(&grey, JpegQuality::default()).unwrap()),
        texts: vec![text("a bus", 0.1, rejected), text("an owl", 0.9, Decision::Kept)],
        sensor: Sensor {
            camera: caption("v4l:/dev/video0"),
            trigger: caption("motion"),
            exposure_us: Some(4000),
            temperature_c: None,
            throttled: None,
        },
        place: Some(Place {
            deployment: caption("nest"),
            name: caption("the nest"),
            time_zone: Some(caption("+01:00")),
            coordinates,
        }),
        taken: Stamp { since_boot_ms: 1, wall_ms: Some(MORNING), quality },
        bundle: Some(caption("a-bundle")),
        vector: None,
    }
}

/// A folder with a store in it.
fn stored(pairs: Vec<Pair>) -> (TempDir, Store, Vec<PairId>) {
    let place = tempfile::tempdir().unwrap();
    let boot = caption("01234567-89ab-cdef-0123-456789abcdef");
    let (mut store, _) = Store::open(&place.path().join("pairs"), boot, Limits::default()).unwrap();
    let names = pairs.into_iter().map(|pair| store.put(pair, Duration::ZERO).unwrap()).collect();
    store.flush().unwrap();
    (place, store, names)
}

fn all_of(store: &Store, target: &Target, folder: &Path) -> (Result<Exported, ExportError>, Vec<Notice>) {
    let options = Options { state: Some(State::Kept), since: None, metadata: Metadata::Write };
    let mut notices = Vec::new();
    let exported = export(&store.reader(), target, folder, &options, |notice| notices.push(notice));
    (exported, notices)
}

fn package(guessed_times: GuessedTimes) -> Target {
    Target::CamtrapDp(Project {
        title: "Owls".to_owned(),
        contributor: "Ada".to_owned(),
        sampling_design: "opportunistic",
        coordinates: None,
        guessed_times,
        created: "2026-11-27T09:30:00Z".to_owned(),
    })
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_time_that_nobody_set_is_left_out_of_a_package_or_marked_in_it() {
    let here = Some([52.5, 13.25]);
    let (place, store, pairs) = stored(vec![pair(ClockQuality::Guessed, here), pair(ClockQuality::Rtc, here)]);
    let folder = place.path().join("left-out");
    let (exported, notices) = all_of(&store, &package(GuessedTimes::Leave), &folder);
    assert_eq!(exported.unwrap(), Exported { pairs: 1, untimed: 1, ..Exported::default() });
    assert!(notices.contains(&Notice::Untimed(pairs[0])));
    let table = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    assert!(table("deployments.csv").contains(",2026-11-27T09:30:00+01:00,2026-11-27T09:30:00+01:00,"));
    assert!(table("deployments.csv").contains(",false,"));
    let folder = place.path().join("marked");
    all_of(&store, &package(GuessedTimes::Mark), &folder).0.unwrap();
    let table = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    assert!(table("deployments.csv").contains(",true,"));
    assert!(table("media.csv").contains("the time is a guess"));
    assert_eq!(table("media.csv").lines().count(), 3);
}

#[test]
fn only_guessed_times_make_no_package_and_say_what_would() {
    let (place, store, _) = stored(vec![pair(ClockQuality::Guessed, Some([1.0, 2.0]))]);
    let (exported, _) = all_of(&store, &package(GuessedTimes::Leave), &place.path().join("out"));
    assert!(exported.unwrap_err().to_string().contains("--guessed-times"));
    assert_eq!(names(place.path()), ["pairs"]);
}

#[test]
fn a_deployment_is_where_any_of_its_pictures_knows_and_without_one_there_is_no_package() {
    let lost = || pair(ClockQuality::Gps, None);
    let (place, store, _) = stored(vec![lost(), pair(ClockQuality::Gps, Some([-33.5, 18.25]))]);
    let folder = place.path().join("out");
    all_of(&store, &package(GuessedTimes::Leave), &folder).0.unwrap();
    let deployments = std::fs::read_to_string(folder.join("deployments.csv")).unwrap();
    assert!(deployments.lines().nth(1).unwrap().starts_with("nest,,the nest,-33.5,18.25,,"), "{deployments}");

    let (place, store, _) = stored(vec![lost()]);
    let (exported, _) = all_of(&store, &package(GuessedTimes::Leave), &place.path().join("out"));
    assert!(
        matches!(exported, Err(ExportError::Camtrap(CamtrapError::Nowhere { deployment })) if deployment == "nest")
    );
    assert_eq!(names(place.path()), ["pairs"]);
}

#[test]
fn people_decide_what_is_exported() {
    let (place, mut store, pairs) = stored((0..3).map(|_| pair(ClockQuality::Ntp, None)).collect());
    let at = Stamp::default();
    let mut label = |pair, action| store.label(pair, Label { action, by: None, at }).unwrap();
    label(pairs[0], LabelAction::Reject);
    label(pairs[1], LabelAction::Rewrite(caption("a <tawny> owl")));
    label(pairs[2], LabelAction::Add(caption("an owl that sleeps")));
    let folder = place.path().join("out");
    let (exported, _) = all_of(&store, &Target::Dataset(Format::Sidecars), &folder);
    assert_eq!(exported.unwrap(), Exported { pairs: 2, ..Exported::default() });
    let images = folder.join("images");
    assert_eq!(names(&images), ["01234567-1-2.jpg", "01234567-1-2.txt", "01234567-1-3.jpg", "01234567-1-3.txt"]);
    let texts = |name: &str| std::fs::read_to_string(images.join(name)).unwrap();
    assert_eq!(texts("01234567-1-2.txt"), "a <tawny> owl\n");
    assert_eq!(texts("01234567-1-3.txt"), "an owl that sleeps\nan owl\n");
}

#[test]
fn the_same_pairs_are_the_same_bytes_and_a_place_that_is_taken_stays() {
    let (place, store, _) = stored((0..3).map(|_| pair(ClockQuality::Ntp, Some([1.0, 2.0]))).collect());
    for format in [Format::ImageFolder, Format::WebDataset, Format::CocoJson, Format::BlipJson, Format::Parquet] {
        let [one, other] = ["one", "other"].map(|name| place.path().join(format!("{name}-{format:?}")));
        for folder in [&one, &other] {
            all_of(&store, &Target::Dataset(format), folder).0.unwrap();
        }
        for name in names(&one).iter().filter(|name| one.join(name).is_file()) {
            assert_eq!(std::fs::read(one.join(name)).unwrap(), std::fs::read(other.join(name)).unwrap(), "{name}");
        }
        let (again, _) = all_of(&store, &Target::Dataset(format), &one);
        assert!(again.unwrap_err().to_string().contains("exists already"));
        assert_eq!(names(&one), names(&other));
    }
}

#[test]
fn a_store_without_pictures_makes_no_folder() {
    let (place, store, _) = stored(Vec::new());
    let (exported, _) = all_of(&store, &Target::Dataset(Format::Parquet), &place.path().join("out"));
    assert!(matches!(exported, Err(ExportError::Nothing { .. })));
    assert_eq!(names(place.path()), ["pairs"]);
}
