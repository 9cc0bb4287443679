//! Sample captions: what a run writes about a few pictures while it learns.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::place::{Place, names, run};

const EVERY_THREE: [(&str, &str); 2] = [("output.captions_every", "3"), ("output.captions", "2")];

/// Steps with the names and texts of their captions.
fn captions(place: &Place, out: &str) -> Vec<(u64, Vec<(String, String)>)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let pair = |caption: &Value| (text(&caption["picture"]), text(&caption["text"]));
    let of = |record: Value| {
        let captions = record["captions"].as_array()?.iter().map(pair).collect();
        Some((record["step"].as_u64().unwrap(), captions))
    };
    place.journal(out).into_iter().filter_map(of).collect()
}

fn steps(captions: &[(u64, Vec<(String, String)>)]) -> Vec<u64> {
    captions.iter().map(|(step, _)| *step).collect()
}

fn event_file(folder: &Path) -> PathBuf {
    let name = names(folder).into_iter().find(|name| name.starts_with("events.out.tfevents.")).unwrap();
    folder.join(name)
}

#[test]
fn a_run_with_sample_captions_ends_byte_for_byte_as_one_without() {
    let place = Place::with_scenes(40);
    run(&mut place.pretrain("without", &[("output.captions_every", "0")])).content();
    let ran = run(&mut place.pretrain("with", &EVERY_THREE));
    ran.content();
    assert!(place.results("without") == place.results("with"));
    let losses = |out| place.journal(out).into_iter().map(|record| record["losses"].clone()).collect::<Vec<_>>();
    assert_eq!(losses("without"), losses("with"));
    assert_eq!(captions(&place, "without"), []);

    let captions = captions(&place, "with");
    assert_eq!(steps(&captions), [3, 6, 9, 12]);
    let pictures: Vec<&String> = captions[0].1.iter().map(|(picture, _)| picture).collect();
    assert!(pictures.len() == 2 && pictures[0] != pictures[1]);
    let page = std::fs::read_to_string(place.path("with/page.html")).unwrap();
    let events = std::fs::read(event_file(&place.path("with"))).unwrap();
    let in_events = |text: &str| events.windows(text.len()).any(|bytes| bytes == text.as_bytes());
    assert!(page.contains("Sample captions") && page.matches("<img src=\"data:image/png").count() == 2);
    for (step, written) in &captions {
        assert!(page.contains(&format!("step {step}</small>")), "{step}");
        assert_eq!(written.iter().map(|(picture, _)| picture).collect::<Vec<_>>(), pictures);
        for (picture, text) in written {
            assert!(ran.err.contains(&format!("step {step}, {picture}: {text}")), "{}", ran.err);
            assert!(page.contains(text.as_str()) && in_events(text), "{text}");
            assert!(in_events(&format!("captions/{picture}")) && in_events(&format!("pictures/{picture}")));
        }
    }
}

#[test]
fn captions_are_of_the_validation_pairs_where_there_are_some() {
    let place = Place::with_scenes(40);
    place.scenes("held-out", 3);
    let held_out = format!("{:?}", place.path("held-out").to_str().unwrap());
    let changes = [("data.validation", held_out.as_str()), ("output.captions_every", "6"), ("output.captions", "60")];
    run(&mut place.train(&["finetune", "captioner"], "out", &changes)).content();
    let captions = captions(&place, "out");
    assert_eq!(steps(&captions), [6, 12]);
    assert!(captions.iter().all(|(_, written)| written.len() == 3), "each picture once");

    let changes = [("data.validation", "\"nowhere\""), EVERY_THREE[0]];
    run(&mut place.pretrain("none", &changes)).refused(&["nowhere"]);
}

#[test]
fn an_answerer_answers_and_a_matcher_writes_nothing() {
    let place = Place::with_scenes(24);
    place.questions("questions", "data");
    let data = format!("[{:?}]", place.path("questions/vqa.json").to_str().unwrap());
    let changes = [EVERY_THREE[0], EVERY_THREE[1], ("data.train", data.as_str()), ("run.steps", "4")];
    run(&mut place.train(&["finetune", "answerer"], "answerer", &changes)).content();
    let captions = captions(&place, "answerer");
    assert_eq!(steps(&captions), [3]);
    assert!(captions[0].1.iter().all(|(_, text)| text.contains('?')), "{captions:?}");

    let changes = [EVERY_THREE[0], ("run.steps", "4")];
    run(&mut place.train(&["finetune", "matcher"], "matcher", &changes)).content();
    assert_eq!(self::captions(&place, "matcher"), []);
}

#[test]
fn a_picture_that_cannot_be_read_is_named_and_the_others_captioned() {
    let place = Place::with_scenes(40);
    place.scenes("held-out", 4);
    let pictures = place.path("held-out/images");
    let broken = names(&pictures).into_iter().next().unwrap();
    std::fs::write(pictures.join(&broken), "no picture").unwrap();
    let held_out = format!("{:?}", place.path("held-out").to_str().unwrap());
    let changes = [("data.validation", held_out.as_str()), ("output.captions_every", "12"), ("output.captions", "4")];
    let ran = run(&mut place.pretrain("out", &changes));
    ran.content();
    let line =
        format!("sample captions of 3 pictures: 1 cannot be read, the first: {}", broken.trim_end_matches(".png"));
    assert!(ran.err.contains(&line), "{}", ran.err);
    assert_eq!(captions(&place, "out")[0].1.len(), 3);
}
