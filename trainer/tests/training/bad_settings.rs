//! Settings and places that no run can begin with: one message each, that says what to do.

use crate::place::{Place, run, trainer};

#[test]
fn a_setting_that_there_is_not_is_refused_with_the_one_that_is_meant() {
    let place = Place::with_scenes(16);
    let refused = |changes: &[(&str, &str)], words: &[&str]| run(&mut place.pretrain("out", changes)).refused(words);
    refused(&[("run.bach", "3")], &["out.toml: there is no setting \"run.bach\"; did you mean \"run.batch\"?"]);
    refused(
        &[("optimiser.rate", "1e-4")],
        &["there is no setting \"optimiser.rate\"; did you mean \"optimizer.rate\"?"],
    );
    assert!(!place.path("out").exists());
}

#[test]
fn sizes_that_make_no_model_are_refused_by_name() {
    let place = Place::with_scenes(16);
    for (changes, words) in [
        (&[("model.image_size", "20")][..], &["image_size is 20", "a multiple of patch_size, 8"][..]),
        (&[("model.image_size", "0")], &["image_size is 0"]),
        (&[("model.patch_size", "0")], &["patch_size is 0"]),
        (&[("model.image_size", "8192"), ("model.patch_size", "1")], &["vision", "tokens"]),
        (&[("model.vision_heads", "3")], &["width is 16", "a multiple of heads, 3"]),
        (&[("model.text_layers", "0")], &["layers is 0"]),
        (&[("model.vision_width", "1000000"), ("model.vision_layers", "256")], &["parameters", "at most"]),
        (&[("model.projection_width", "1000000"), ("losses.queue", "16000000")], &["values in a queue", "at most"]),
        (&[("data.tokens", "40")], &["data.tokens is 40, the model has 24 positions"]),
        (
            &[("data.prompt", "\"a picture of a scene with a thing and a thing and a thing and a thing in it \"")],
            &["prompt"],
        ),
        (
            &[
                ("run.batch", "65536"),
                ("losses.queue", "65536"),
                ("model.image_size", "4096"),
                ("model.patch_size", "64"),
            ],
            &["batch"],
        ),
        (&[("run.device", "\"abacus\"")], &["there is no device \"abacus\": choose cuda, cpu or auto"]),
    ] {
        let ran = run(&mut place.pretrain("out", changes));
        ran.refused(words);
    }
}

#[test]
fn a_batch_larger_than_the_dataset_is_refused() {
    let place = Place::with_scenes(16);
    let changes = [("run.batch", "32"), ("losses.queue", "64")];
    let words = ["has 16 items, fewer than a batch of 32", "choose a smaller batch"];
    run(&mut place.pretrain("out", &changes)).refused(&words);
    let changes = [("run.batch", "8"), ("run.accumulate", "4")];
    run(&mut place.pretrain("out", &changes)).refused(&["accumulate"]);
}

#[test]
fn a_settings_file_that_is_none_is_refused() {
    let place = Place::with_scenes(16);
    let out = place.path("out");
    for (text, words) in [
        (Some("run = 3"), &["mine.toml", "\"run\""][..]),
        (Some("[run\n"), &["mine.toml", "1"]),
        (Some("[run]\nbatch = -4"), &["mine.toml", "-4"]),
        (Some("[run]\nbatch = \"four\""), &["mine.toml", "four"]),
        (Some("[data]\ntrain = []"), &["name datasets with data.train"]),
        (None, &["mine.toml", "cannot be read", "check that it is there"]),
    ] {
        let path = place.path("mine.toml");
        match text {
            Some(text) => std::fs::write(&path, text).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        run(trainer(["pretrain"]).arg(&path).arg("--out").arg(&out).args(["--device", "cpu"])).refused(words);
    }
}

#[test]
fn a_place_where_nothing_can_be_written_is_named() {
    let place = Place::with_scenes(16);
    std::fs::write(place.path("file"), "mine").unwrap();
    for out in ["file", "file/out"] {
        let mut command = trainer(["pretrain"]);
        command.arg(place.settings("s", &[])).arg("--out").arg(place.path(out));
        run(&mut command).refused(&["file", "--out"]);
    }
    assert_eq!(std::fs::read(place.path("file")).unwrap(), b"mine");
    std::fs::create_dir(place.path("out")).unwrap();
    std::fs::write(place.path("out/snapshots"), "mine").unwrap();
    run(&mut place.pretrain("out", &[])).refused(&["out/snapshots"]);
    std::fs::remove_file(place.path("out/snapshots")).unwrap();
    std::fs::create_dir(place.path("out/journal.jsonl")).unwrap();
    run(&mut place.pretrain("out", &[])).refused(&["out/journal.jsonl"]);
    #[cfg(target_os = "linux")]
    {
        let mut command = trainer(["pretrain"]);
        command.arg(place.settings("s", &[])).args(["--out", "/proc/out"]);
        run(&mut command).refused(&["/proc/out", "--out"]);
    }
}

#[test]
fn a_folder_with_somebody_elses_files_keeps_them() {
    let place = Place::with_scenes(16);
    std::fs::create_dir_all(place.path("out/model")).unwrap();
    std::fs::write(place.path("out/model/mine"), "mine").unwrap();
    std::fs::write(place.path("out/notes"), "mine").unwrap();
    run(&mut place.pretrain("out", &[("run.steps", "2")]));
    assert_eq!(std::fs::read(place.path("out/notes")).unwrap(), b"mine");
}
