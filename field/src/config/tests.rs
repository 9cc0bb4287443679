use std::path::Path;

use proptest::prelude::*;

use super::sections::{KNOBS, SECTIONS};
use super::*;

fn board(name: &str) -> &'static BoardProfile {
    BoardProfile::named(name).unwrap()
}

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("edgeblip.toml"), board("arm64")).map_err(|faults| faults.to_string())
}

#[test]
fn the_example_has_every_setting_at_its_default() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../firmware-config/edgeblip.toml");
    if std::env::var_os("EDGEBLIP_WRITE_EXAMPLE").is_some() {
        fs::write(&path, example()).unwrap();
    }
    let file = fs::read_to_string(path).unwrap();
    assert!(file == example(), "set EDGEBLIP_WRITE_EXAMPLE and run this test to write the example anew");
    let config = parse(&file).unwrap();
    assert_eq!(*config, Settings::default());
    assert!(config.origins.iter().all(|origin| matches!(origin, Origin::File { .. })));
    assert!(firmware_config::EXAMPLE == file, "the example has just been written: run the test again");
}

#[test]
fn what_is_in_effect_reads_back_the_same() {
    for profile in BoardProfile::all() {
        let text = "[camera]\nsource = \"rpicam:0\"\n[privacy]\nmasks = [[0.0, 0.5, 1.0, 0.5]]\n[pins]\nled = 17\n";
        let config = Config::parse(text, Path::new("mine.toml"), profile).unwrap();
        let effective = config.effective(Passwords::Shown);
        let again = Config::parse(&effective, Path::new("mine.toml"), board("arm64")).unwrap();
        assert_eq!(*again, *config, "{effective}");
        for line in ["source = \"rpicam:0\"  # line 2", "led = 17  # line 6", "beams = 3  # default"] {
            assert!(effective.lines().any(|found| found == line), "{line}: {effective}");
        }
    }
}

#[test]
fn a_board_changes_only_settings_that_there_are_to_values_that_are_allowed() {
    for profile in BoardProfile::all() {
        let text = profile.defaults.to_string();
        let file =
            Config::parse(&text, Path::new(&profile.name), board("arm64")).unwrap_or_else(|faults| panic!("{faults}"));
        assert_eq!(*file, *Config::of_board(profile), "{}", profile.name);
        let from_file = file.origins.iter().filter(|origin| matches!(origin, Origin::File { .. })).count();
        let defaults = Config::of_board(profile);
        assert_eq!(defaults.origins.iter().filter(|origin| **origin == Origin::Board).count(), from_file);
    }
}

#[test]
fn the_file_stands_over_the_board_and_may_name_it() {
    let config = parse("[board]\nprofile = \"zero-2w\"\n[camera]\nheight = 240\n").unwrap();
    assert_eq!((config.camera.width, config.camera.height), (640, 240));
    assert_eq!(config.profile().name, "zero-2w");
    assert!(config.effective(Passwords::Shown).contains("width = 640  # board zero-2w\n"));
    assert_eq!(parse("[board]\nprofile = \"auto\"").unwrap().profile().name, "arm64");
}

#[test]
fn paths_are_relative_to_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("edgeblip.toml");
    fs::write(&path, "[store]\nfolder = \"../pairs\"\n[camera]\nsource = \"folder:seen\"\n[model]\nbundle = \"/b\"\n")
        .unwrap();
    let config = Config::read(&path, board("arm64")).unwrap();
    assert_eq!(config.store.folder, folder.path().join("../pairs"));
    assert_eq!(config.camera.source.as_str(), format!("folder:{}/seen", folder.path().display()));
    assert_eq!(config.model.bundle.as_deref(), Some(Path::new("/b")));
    assert_eq!(config.model.cache, None);
    fs::write(&path, "[camera]\nsource = \"rtsp://camera/1\"\n").unwrap();
    assert_eq!(Config::read(&path, board("arm64")).unwrap().camera.source.as_str(), "rtsp://camera/1");
}

#[test]
fn a_file_that_is_missing_or_endless_is_an_error() {
    let missing = Config::read(Path::new("/nowhere/edgeblip.toml"), board("arm64")).unwrap_err().to_string();
    assert!(missing.starts_with("/nowhere/edgeblip.toml: "), "{missing}");
    let endless = Config::read(Path::new("/dev/zero"), board("arm64")).unwrap_err();
    assert!(matches!(endless, ConfigError::Large { .. }), "{endless}");
}

#[test]
fn passwords_are_written_only_where_they_are_asked_for() {
    let source = "rtsp://owner:p@ss:word@camera.local:554/stream?user=a@b#rate=2";
    let config = parse(&format!("[camera]\nsource = {source:?}\n")).unwrap();
    assert!(config.effective(Passwords::Shown).contains(source));
    let shown = config.effective(Passwords::Hidden);
    assert!(shown.contains("source = \"rtsp://owner:hidden@camera.local:554/stream?user=a@b#rate=2\""), "{shown}");
    let changes = Config::changes(&parse("").unwrap(), &config);
    assert!(changes.len() == 1 && !format!("{changes:?}").contains("ss:word"), "{changes:?}");
    // Nothing to hide.
    for plain in ["http://camera/stream?at=me@home", "v4l:/dev/video0", "http://[::1]:80/"] {
        let config = parse(&format!("[camera]\nsource = {plain:?}\n")).unwrap();
        assert!(config.effective(Passwords::Hidden).contains(plain));
    }
}

#[test]
fn changes_say_what_takes_a_restart() {
    let old = parse("[triggers]\nevery_s = 5\n").unwrap();
    let new = parse("[triggers]\nevery_s = \"never\"\n[store]\nfolder = \"other\"\n").unwrap();
    let changes: Vec<_> = Config::changes(&old, &new)
        .into_iter()
        .map(|change| (change.section, change.key, change.effect, change.from, change.to))
        .collect();
    let text = |text: &str| text.to_owned();
    assert_eq!(
        changes,
        [
            ("triggers", "every_s", Effect::AtOnce, text("5.0"), text("\"never\"")),
            ("store", "folder", Effect::Restart, text("\"pairs\""), text("\"other\"")),
        ]
    );
    assert_eq!(Config::changes(&old, &old), []);
}

#[test]
fn a_running_program_adopts_what_takes_no_restart() {
    let mut running = parse("[triggers]\nbefore = 2\n").unwrap();
    let new =
        parse("[triggers]\nbefore = 4\nburst = 3\n[place]\nzone = \"+02:00\"\n[privacy]\nmasks = [[0, 0, 1, 1]]\n")
            .unwrap();
    assert_eq!(running.adopt(&new).len(), 4);
    assert_eq!((running.triggers.before, running.triggers.burst), (2, 3));
    assert_eq!((&running.place, &running.privacy), (&new.place, &new.privacy));
    assert!(running.effective(Passwords::Shown).contains("burst = 3  # line 3\n"));
    // What is left is what takes the restart.
    let left: Vec<_> = running.adopt(&new).into_iter().map(|change| (change.key, change.effect)).collect();
    assert_eq!(left, [("before", Effect::Restart)]);
}

proptest! {
    #[test]
    fn any_text_is_a_configuration_or_a_message(text in ".*") {
        let _ = parse(&text);
    }

    #[test]
    fn a_configuration_with_some_of_it_changed_is_one_or_a_message(
        changes in prop::collection::vec((any::<prop::sample::Index>(), "[ -~\n]{0,3}"), 1..6),
    ) {
        let mut text = firmware_config::EXAMPLE.to_owned();
        for (place, new) in changes {
            let place = text.floor_char_boundary(place.index(text.len()));
            text.replace_range(place..text.floor_char_boundary(text.len().min(place + 2)), &new);
        }
        if let Ok(config) = parse(&text) {
            prop_assert_eq!(&*parse(&config.effective(Passwords::Shown)).unwrap(), &*config);
        }
    }
}

#[test]
fn the_ends_of_every_range_are_allowed_and_what_lies_beyond_is_not() {
    for knob in KNOBS {
        let allowed = (knob.allowed)();
        let Some((_, range)) = allowed.split_once("number from ") else { continue };
        let (low, high) = range.split_once(" to ").unwrap();
        for end in [low, high] {
            let value: toml::Value = toml::from_str::<toml::Table>(&format!("end = {end}")).unwrap()["end"].clone();
            let mut settings = Settings::default();
            assert!((knob.read)(&mut settings, &value), "{} = {end}", knob.name());
            let written = (knob.write)(&settings);
            let number = |value: &toml::Value| value.as_float().or(value.as_integer().map(|whole| whole as f64));
            assert_eq!(number(&written), number(&value), "{}", knob.name());
        }
        let beyond = [low.parse::<f64>().unwrap() - 1.0, high.parse::<f64>().unwrap() * 2.0 + 1.0, f64::NAN];
        for value in beyond {
            assert!(!(knob.read)(&mut Settings::default(), &toml::Value::Float(value)), "{} = {value}", knob.name());
            if value.is_finite() && value.abs() < 1e18 {
                let whole = toml::Value::Integer(value as i64);
                assert!(!(knob.read)(&mut Settings::default(), &whole), "{} = {whole}", knob.name());
            }
        }
    }
}

#[test]
fn every_setting_is_there_once_and_explained() {
    let mut names: Vec<String> = KNOBS.iter().map(Knob::name).collect();
    names.sort();
    let before = names.len();
    names.dedup();
    assert_eq!(names.len(), before);
    for (section, about) in SECTIONS {
        assert!(!about.is_empty(), "{section}");
    }
    for knob in KNOBS {
        assert!(!knob.about.is_empty(), "{}", knob.name());
    }
}

#[test]
fn a_flag_is_over_the_file_and_its_paths_are_relative_to_where_it_is_given() {
    let mut config = parse("[camera]\nsource = \"folder:a\"\n").unwrap();
    config.set("camera.source", "folder:b", Path::new("/here")).unwrap();
    config.set("model.bundle", "built-in", Path::new("/here")).unwrap();
    config.set("store.folder", "pairs", Path::new("/here")).unwrap();
    assert_eq!(config.camera.source.as_str(), "folder:/here/b");
    assert_eq!((config.model.bundle.as_ref(), &*config.store.folder), (None, Path::new("/here/pairs")));
    assert!(config.effective(Passwords::Shown).contains("source = \"folder:/here/b\"  # flag\n"));
    let error = config.set("camera.source", "nothing", Path::new("/here")).unwrap_err();
    assert!(error.to_string().contains("camera.source"), "{error}");
}
