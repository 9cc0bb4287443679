//! Round trips of checkpoints that transformers wrote.

use std::path::{Path, PathBuf};

use blip::config::{Config, Role};
use checkpoint::{Checkpoint, OpenOptions, TensorFile};

use super::*;
use crate::model::{Blip, Random, Sharing, initial_values};
use dataset::disk::Existing;

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn opened(path: &str) -> (PathBuf, Checkpoint) {
    let path = repository(path);
    let checkpoint = Checkpoint::open(&path, &OpenOptions::default()).unwrap();
    (path, checkpoint)
}

/// Every file that transformers wrote for these tests: folder, and roles in it.
const FOLDERS: [(&str, &[Role]); 4] = [
    ("tests/goldens/tiny-a", &[Role::Captioner, Role::Matcher]),
    ("tests/goldens/tiny-b", &[Role::Captioner, Role::Matcher, Role::Answerer]),
    ("tests/goldens/tiny-c", &[Role::Captioner, Role::Matcher, Role::Answerer]),
    ("models/starter", &[Role::Captioner, Role::Matcher]),
];

/// A pre-training model: the parts of a captioner and of a matcher.
fn joint(captioner: &Config, matcher: &Config) -> Config {
    Config { decoder: captioner.decoder.clone(), ..matcher.clone() }
}

/// Names and values of two files are the same, bit by bit, and so are all bytes.
fn same_file(one: &Path, other: &Path) {
    let (one, other) = (one.join("model.safetensors"), other.join("model.safetensors"));
    let (first, second) = (TensorFile::open(&one).unwrap(), TensorFile::open(&other).unwrap());
    assert!(first.names().eq(second.names()), "{}", one.display());
    for (name, _) in first.names() {
        assert_eq!(first.tensor(name).unwrap(), second.tensor(name).unwrap(), "{name}");
    }
    assert!(
        std::fs::read(&one).unwrap() == std::fs::read(&other).unwrap(),
        "{}: tensors stand elsewhere",
        one.display()
    );
}

#[test]
fn what_is_read_and_written_again_is_byte_for_byte_what_transformers_wrote() {
    for (folder, roles) in FOLDERS {
        for role in roles {
            let (path, checkpoint) = opened(&format!("{folder}/{role}"));
            let (config, preparation) = (checkpoint.config(), Preparation::of(&checkpoint));
            let model = Blip::new(config, Sharing::Apart);
            let mut start =
                Start::random((&model.layout, config), &preparation.vocabulary, Random::seeded(1), Conflicts::Refuse);
            start.checkpoint(&path, &checkpoint).unwrap();
            let (values, report) = start.finish();
            let expected: &[&str] = if *role == Role::Matcher { &["temperature"] } else { &[] };
            assert_eq!(report.random, expected, "{folder}/{role}");
            let place = tempfile::tempdir().unwrap();
            let out = place.path().join("out");
            let trained = Trained { model: &model, config, values: &values, preparation: &preparation };
            write(&out, trained, &[*role], Existing::Refuse).unwrap();
            let written = out.join(role.to_string());
            same_file(&path, &written);
            let again = Checkpoint::open(&written, &OpenOptions::default()).unwrap();
            assert_eq!((again.config(), again.roles()), (config, &[*role][..]));
            assert_eq!((again.vocabulary(), again.tokens()), (checkpoint.vocabulary(), checkpoint.tokens()));
            assert_eq!(again.word_piece_settings(), checkpoint.word_piece_settings());
            assert_eq!(again.normalization(), checkpoint.normalization());
            assert_eq!(again.generation_defaults(), checkpoint.generation_defaults());
            assert_eq!(again.temperature(), (*role == Role::Matcher).then_some(crate::model::TEMPERATURE));
            let text = |path: &Path| std::fs::read_to_string(path.join("tokenizer.json")).unwrap();
            if checkpoint.vocabulary().len() > 50 {
                assert_eq!(text(&path), text(&written), "{folder}/{role}");
            }
        }
    }
}

#[test]
fn a_joint_model_takes_captioner_and_matcher_and_gives_both_back() {
    for folder in ["tests/goldens/tiny-b", "models/starter"] {
        let (captioner_path, captioner) = opened(&format!("{folder}/captioner"));
        let (matcher_path, matcher) = opened(&format!("{folder}/matcher"));
        let config = joint(captioner.config(), matcher.config());
        let preparation = Preparation::of(&captioner);
        let model = Blip::new(&config, Sharing::Joint);
        let mut start =
            Start::random((&model.layout, &config), &preparation.vocabulary, Random::seeded(1), Conflicts::Refuse);
        start.checkpoint(&captioner_path, &captioner).unwrap();
        start.checkpoint(&matcher_path, &matcher).unwrap();
        let (values, report) = start.finish();
        assert_eq!(report.random, ["temperature"], "{folder}");
        assert!(report.unused.is_empty() && report.kept.is_empty());
        let place = tempfile::tempdir().unwrap();
        let trained = Trained { model: &model, config: &config, values: &values, preparation: &preparation };
        write(place.path(), trained, &model.roles(), Existing::Replace).unwrap();
        same_file(&captioner_path, &place.path().join("captioner"));
        same_file(&matcher_path, &place.path().join("matcher"));
        let refused = write(&place.path().join("more"), trained, &[Role::Answerer], Existing::Refuse);
        assert!(matches!(refused, Err(WeightsError::Role { role: Role::Answerer })));
    }
}

#[test]
fn what_a_captioner_lacks_stays_random_and_is_named() {
    let (path, captioner) = opened("models/starter/captioner");
    let (_, matcher) = opened("models/starter/matcher");
    let config = joint(captioner.config(), matcher.config());
    let model = Blip::new(&config, Sharing::Joint);
    let mut start =
        Start::random((&model.layout, &config), captioner.vocabulary(), Random::seeded(5), Conflicts::Refuse);
    start.checkpoint(&path, &captioner).unwrap();
    let (values, report) = start.finish();
    let layers = config.encoder.as_ref().unwrap().layers;
    // Four linears and a norm for each layer's self-attention, then two projections, the ITM head and the temperature.
    assert_eq!(report.random.len(), layers * 10 + 7);
    assert!(report.random.iter().all(|name| !name.starts_with("decoder.") && !name.contains(".cross.")));
    let random = initial_values(&model.layout, Random::seeded(5));
    for entry in model.layout.entries() {
        let place = entry.parameter.start..entry.parameter.start + entry.parameter.length;
        if report.random.contains(&entry.name) {
            assert_eq!(values[place.clone()], random[place], "{}", entry.name);
        }
    }
    let encoder = model.layout.entry("encoder.layers.1.cross.key.weight").unwrap().parameter;
    let theirs = captioner.tensor("decoder.layers.1.cross.key.weight").unwrap().values;
    assert_eq!(values[encoder.start..][..encoder.length], theirs);
}

#[test]
fn sources_that_differ_are_refused_unless_the_first_wins() {
    let (captioner_path, captioner) = opened("tests/goldens/tiny-a/captioner");
    let (matcher_path, matcher) = opened("tests/goldens/tiny-a/matcher");
    let config = joint(captioner.config(), matcher.config());
    let model = Blip::new(&config, Sharing::Joint);
    let both = |conflicts| {
        let mut start = Start::random((&model.layout, &config), captioner.vocabulary(), Random::seeded(1), conflicts);
        start.checkpoint(&captioner_path, &captioner)?;
        start.checkpoint(&matcher_path, &matcher)?;
        Ok::<_, WeightsError>(start.finish())
    };
    let error = both(Conflicts::Refuse).map(drop).unwrap_err().to_string();
    assert!(error.contains("tensors differ from those of") && error.contains("say that the first wins"), "{error}");
    let (values, report) = both(Conflicts::FirstWins).unwrap();
    assert!(report.kept[0].1.contains(&"vision.class_embedding".to_owned()));
    let class = model.layout.entry("vision.class_embedding").unwrap().parameter;
    let theirs = captioner.tensor("vision.class_embedding").unwrap().values;
    assert_eq!(values[class.start..][..class.length], theirs);
}

#[test]
fn an_authors_file_fills_a_captioner_as_the_folder_does() {
    let tokenizer = Some(repository("tests/goldens/tiny-a/captioner"));
    let options = OpenOptions { tokenizer, ..OpenOptions::default() };
    let path = repository("tests/goldens/tiny-a/captioner-pth/zip.pth");
    let pth = Checkpoint::open(&path, &options).unwrap();
    let (folder_path, folder) = opened("tests/goldens/tiny-a/captioner");
    let model = Blip::new(folder.config(), Sharing::Apart);
    let filled = |path: &Path, checkpoint: &Checkpoint| {
        let mut start =
            Start::random((&model.layout, folder.config()), folder.vocabulary(), Random::seeded(1), Conflicts::Refuse);
        start.checkpoint(path, checkpoint).unwrap();
        start.finish().0
    };
    assert!(filled(&path, &pth) == filled(&folder_path, &folder));
}

#[test]
fn sizes_and_words_that_differ_are_refused_by_name() {
    let (path, checkpoint) = opened("tests/goldens/tiny-b/matcher");
    let with = |change: &dyn Fn(&mut Config, &mut Vec<String>)| {
        let (mut config, mut words) = (checkpoint.config().clone(), checkpoint.vocabulary().to_vec());
        change(&mut config, &mut words);
        let model = Blip::new(&config, Sharing::Apart);
        let mut start = Start::random((&model.layout, &config), &words, Random::seeded(1), Conflicts::Refuse);
        start.checkpoint(&path, &checkpoint).unwrap_err().to_string()
    };
    assert!(with(&|config, _| config.vision.heads = 4).contains("image heads is 2, the model's is 4"));
    assert!(with(&|config, _| config.vision.image_size = 50).contains("image size is 40, the model's is 50"));
    assert!(with(&|config, _| config.encoder.as_mut().unwrap().layers = 3).contains("encoder layers is 2"));
    let grown = with(&|config, _| config.encoder.as_mut().unwrap().vocabulary_size = 44);
    assert!(grown.contains("encoder vocabulary size is 43, the model's is 44"), "{grown}");
    assert!(with(&|config, _| config.projection_width = Some(13)).contains("ITC width is 12, the model's is 13"));
    assert!(with(&|_, words| words.swap(7, 8)).contains("its word 7 is"));
}

#[test]
fn positions_of_another_image_size_are_interpolated() {
    let path = repository("tests/goldens/tiny-b/captioner");
    let options = OpenOptions { image_size: Some(60), ..OpenOptions::default() };
    let checkpoint = Checkpoint::open(&path, &options).unwrap();
    let model = Blip::new(checkpoint.config(), Sharing::Apart);
    let vocabulary = checkpoint.vocabulary();
    let mut start =
        Start::random((&model.layout, checkpoint.config()), vocabulary, Random::seeded(1), Conflicts::Refuse);
    start.checkpoint(&path, &checkpoint).unwrap();
    let (values, _) = start.finish();
    let table = model.layout.entry("vision.position_embedding").unwrap();
    assert_eq!(table.shape.iter().product::<usize>(), 37 * 32);
    let expected = checkpoint.tensor("vision.position_embedding").unwrap().values;
    assert_eq!(values[table.parameter.start..][..table.parameter.length], expected);
}

#[test]
fn a_written_temperature_is_read_back() {
    let (path, checkpoint) = opened("tests/goldens/tiny-c/matcher");
    let (config, preparation) = (checkpoint.config(), Preparation::of(&checkpoint));
    let model = Blip::new(config, Sharing::Apart);
    let mut values = initial_values(&model.layout, Random::seeded(3));
    let temperature = model.layout.entry("temperature").unwrap().parameter.start;
    values[temperature] = 0.012_345_678;
    let place = tempfile::tempdir().unwrap();
    let trained = Trained { model: &model, config, values: &values, preparation: &preparation };
    write(place.path(), trained, &[Role::Matcher], Existing::Replace).unwrap();
    let again = Checkpoint::open(&place.path().join("matcher"), &OpenOptions::default()).unwrap();
    let mut start =
        Start::random((&model.layout, config), &preparation.vocabulary, Random::seeded(1), Conflicts::Refuse);
    start.checkpoint(&path, &again).unwrap();
    let (read, report) = start.finish();
    assert!(read == values && report.random.is_empty());
}

#[test]
fn a_pre_training_file_fills_a_joint_model_with_its_temperature() {
    let path = repository("checkpoint/tests/fixtures/pretrained.pth");
    let tokenizer = Some(repository("checkpoint/tests/fixtures/captioner/vocab.txt"));
    let options = OpenOptions { vision_heads: Some(2), text_heads: Some(2), tokenizer, image_size: None };
    let checkpoint = Checkpoint::open(&path, &options).unwrap();
    let config = checkpoint.config();
    let filled = |sharing, conflicts| {
        let model = Blip::new(config, sharing);
        let mut start = Start::random((&model.layout, config), checkpoint.vocabulary(), Random::seeded(1), conflicts);
        start.checkpoint(&path, &checkpoint)?;
        Ok::<_, WeightsError>(start.finish().1)
    };
    let apart = filled(Sharing::Apart, Conflicts::Refuse).unwrap();
    assert!(apart.random.is_empty() && apart.notes[0].contains("repeats itself"), "{apart:?}");
    // The stacks of this file were drawn apart, which no pre-training gives.
    let refused = filled(Sharing::Joint, Conflicts::Refuse).unwrap_err();
    assert!(matches!(refused, WeightsError::Conflict { .. }), "{refused}");
    let joint = filled(Sharing::Joint, Conflicts::FirstWins).unwrap();
    assert!(joint.random.is_empty() && joint.kept[0].1.iter().all(|name| name.starts_with("encoder.")), "{joint:?}");
}
