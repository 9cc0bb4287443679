//! Each thing that a model is trained for, one after the other as a user does it.

use std::path::{Path, PathBuf};

use blip::config::Role;
use checkpoint::{Checkpoint, OpenOptions};
use serde_json::Value;

use crate::place::{Place, SIDE, files, names, run};

const FEW: [(&str, &str); 3] = [("run.steps", "5"), ("run.seed", "7"), ("output.snapshot_every", "0")];

fn list(paths: &[PathBuf]) -> String {
    let quoted: Vec<_> = paths.iter().map(|path| format!("{:?}", path.to_str().unwrap())).collect();
    format!("[{}]", quoted.join(", "))
}

/// Opens a folder that a run wrote, and reads all of it.
fn opens(folder: &Path, role: Role) -> Checkpoint {
    let checkpoint = Checkpoint::open(folder, &OpenOptions::default()).unwrap();
    assert_eq!(checkpoint.roles(), [role]);
    assert_eq!(checkpoint.warnings(), [] as [String; 0]);
    assert_eq!(checkpoint.config().vision.image_size, SIDE);
    let tensors: Vec<_> = checkpoint.names().map(|(name, shape)| (name.to_owned(), shape.to_vec())).collect();
    assert!(tensors.len() > 50);
    for (name, shape) in tensors {
        let values = checkpoint.tensor(&name).unwrap().values;
        assert_eq!(values.len(), shape.iter().product::<usize>(), "{name}");
        assert!(values.iter().all(|value| value.is_finite()), "{name}");
    }
    checkpoint
}

/// Runs a task for five steps; its losses.
fn trained(place: &Place, task: &[&str], out: &str, changes: &[(&str, &str)]) -> Vec<(String, f64)> {
    let ran = run(place.train(task, out, &[&FEW, changes].concat()).arg("--json"));
    let facts: Value = serde_json::from_str(ran.content()).unwrap();
    assert_eq!((&facts["steps"], &facts["broken_pictures"]), (&5.into(), &0.into()));
    assert_eq!(place.journal(out).len(), 5);
    let losses = facts["losses"].as_object().unwrap().iter();
    losses.map(|(name, loss)| (name.clone(), loss.as_f64().unwrap())).collect()
}

fn named(losses: &[(String, f64)]) -> Vec<&str> {
    losses.iter().map(|(name, _)| name.as_str()).collect()
}

#[test]
fn a_model_is_pretrained_and_then_finetuned_for_each_of_its_uses() {
    let place = Place::with_scenes(24);
    place.questions("questions", "data");
    let losses = trained(&place, &["pretrain"], "pre", &[]);
    assert_eq!(named(&losses), ["itc", "itm", "lm"]);
    assert_eq!(names(&place.path("pre/model")), ["captioner", "matcher"]);
    let [captioner, matcher] = ["captioner", "matcher"].map(|role| place.path("pre/model").join(role));
    opens(&captioner, Role::Captioner);
    assert!(opens(&matcher, Role::Matcher).temperature().is_some());

    let from = list(std::slice::from_ref(&captioner));
    assert_eq!(named(&trained(&place, &["finetune", "captioner"], "captioner", &[("model.from", &from)])), ["lm"]);
    opens(&place.path("captioner/model/captioner"), Role::Captioner);

    let from = list(std::slice::from_ref(&matcher));
    let losses = trained(&place, &["finetune", "matcher"], "matcher", &[("model.from", &from)]);
    assert_eq!(named(&losses), ["itc", "itm"]);
    opens(&place.path("matcher/model/matcher"), Role::Matcher);

    let (from, data) = (list(&[captioner, matcher]), list(&[place.path("questions/vqa.json")]));
    let changes = [("model.from", from.as_str()), ("data.train", &data)];
    assert_eq!(named(&trained(&place, &["finetune", "answerer"], "answerer", &changes)), ["lm"]);
    opens(&place.path("answerer/model/answerer"), Role::Answerer);

    let changes = [("model.from", from.as_str())];
    assert_eq!(named(&trained(&place, &["pretrain"], "again", &changes)), ["itc", "itm", "lm"]);
}

#[test]
fn what_is_trained_further_starts_with_the_weights_that_it_was_given() {
    let place = Place::with_scenes(24);
    trained(&place, &["pretrain"], "pre", &[]);
    let from = list(&[place.path("pre/model/captioner"), place.path("pre/model/matcher")]);
    // A rate of zero leaves the weights as they came, but for the order of tensors in the file.
    let still = [
        ("model.from", from.as_str()),
        ("optimizer.rate", "0.0"),
        ("optimizer.warm_up_from", "0.0"),
        ("optimizer.least_rate", "0.0"),
    ];
    trained(&place, &["pretrain"], "same", &still);
    for role in ["captioner", "matcher"] {
        assert!(files(&place.path("pre/model").join(role)) == files(&place.path("same/model").join(role)), "{role}");
    }
}

#[test]
fn a_run_shows_its_losses_on_a_page_and_to_tensorboard() {
    let place = Place::with_scenes(24);
    trained(&place, &["pretrain"], "out", &[]);
    let page = std::fs::read_to_string(place.path("out/page.html")).unwrap();
    for word in ["itc", "itm", "lm", "<svg", "run.batch"] {
        assert!(page.contains(word), "{word}");
    }
    assert!(!page.contains("http-equiv"), "a page that is done does not load itself again");
    assert!(names(&place.path("out")).iter().any(|name| name.starts_with("events.out.tfevents.")));
}
