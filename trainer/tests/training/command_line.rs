//! What the program says of itself.

use serde_json::Value;

use crate::place::{Place, run, trainer};

const TASKS: [&[&str]; 4] =
    [&["pretrain"], &["finetune", "captioner"], &["finetune", "matcher"], &["finetune", "answerer"]];

#[test]
fn every_command_says_what_it_does() {
    let help = run(&mut trainer(["--help"]));
    for command in ["pretrain", "finetune", "capfilt", "evaluate", "scenes"] {
        assert!(help.content().contains(command), "{}", help.out);
        let own = run(&mut trainer([command, "--help"]));
        assert!(own.content().contains("Usage: edgeblip-trainer"), "{}", own.out);
    }
    for task in TASKS {
        let help = run(trainer(task).arg("--help"));
        for words in
            ["A run that was stopped goes on", "--out <DIR>", "--print-settings", "--json", "--device", "[SETTINGS]"]
        {
            assert!(help.content().contains(words), "{words}: {}", help.out);
        }
    }
    assert!(run(&mut trainer(["--version"])).content().starts_with("edgeblip-trainer "));
}

#[test]
fn printed_settings_are_a_file_that_trains() {
    let place = Place::with_scenes(16);
    for task in TASKS {
        let printed = run(trainer(task).arg("--print-settings"));
        let settings: toml::Table = printed.content().parse().unwrap();
        assert!(printed.out.matches('#').count() >= 30 && settings.len() == 8, "{}", printed.out);
        // The whole file, pointed at nothing: its own values are not what is refused.
        let path = place.path("printed.toml");
        std::fs::write(&path, &printed.out).unwrap();
        run(trainer(task).arg(&path).arg("--out").arg(place.path("out"))).refused(&["name datasets with data.train"]);
    }
}

#[test]
fn a_run_without_what_it_needs_says_what_that_is() {
    let ran = run(&mut trainer(["pretrain"]));
    assert_eq!(ran.code, Some(2));
    assert!(ran.err.contains("SETTINGS") && ran.err.contains("--out"), "{}", ran.err);
    assert_eq!(run(&mut trainer(["train"])).code, Some(2));
}

#[test]
fn json_is_one_object_and_nothing_else() {
    let place = Place::with_scenes(16);
    let ran = run(place.pretrain("out", &[("run.steps", "2")]).arg("--json"));
    assert_eq!(ran.content().lines().count(), 1);
    let facts: Value = serde_json::from_str(&ran.out).unwrap();
    let keys: Vec<_> = facts.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["broken_pictures", "losses", "model", "resumed_at", "skipped", "steps"]);
    assert_eq!(facts["model"].as_str(), place.path("out/model").to_str());
    let plain = run(&mut place.pretrain("plain", &[("run.steps", "2")]));
    let expected = ["captioner", "matcher"].map(|role| place.path("plain/model").join(role).display().to_string());
    assert_eq!(plain.content().lines().collect::<Vec<_>>(), expected);
}

#[test]
fn without_a_terminal_a_run_says_plain_lines() {
    let place = Place::with_scenes(16);
    let ran = run(&mut place.pretrain("out", &[("run.steps", "3")]));
    ran.content();
    let lines: Vec<_> = ran.err.lines().collect();
    assert!(
        lines[0].starts_with("pre-training on cpu") && lines[0].contains("parameters, steps 0 to 3, into "),
        "{}",
        ran.err
    );
    assert!(lines.last().unwrap().starts_with("step 3/3 (100 %), epoch 0: itc "), "{}", ran.err);
}

#[test]
fn a_name_that_commands_the_terminal_does_not_reach_it() {
    let place = Place::with_scenes(16);
    let odd = "\u{1b}[31mred\u{7}\r";
    let ran = run(place.pretrain("out", &[("run.steps", "2")]).args(["--out", place.path(odd).to_str().unwrap()]));
    assert_eq!(ran.code, Some(2), "--out twice");
    let mut command = trainer(["pretrain"]);
    command.arg(place.settings("s", &[("run.steps", "2")])).arg("--out").arg(place.path(odd));
    assert!(run(&mut command).content().contains("[31mred"));
    std::fs::rename(place.path("data"), place.path(&format!("{odd}data"))).unwrap();
    let mut command = trainer(["pretrain"]);
    let data = format!("[{:?}]", place.path("data").to_str().unwrap());
    command.arg(place.settings("s", &[("data.train", &data)])).arg("--out").arg(place.path("b"));
    run(&mut command).refused(&["data"]);
}
