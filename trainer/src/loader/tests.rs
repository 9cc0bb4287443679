//! The order of batches depends on nothing but seed, epoch and step.

use super::*;
use crate::dataset::{Origin, Pair, Text};

/// A PNM of one colour.
fn colour(value: u8) -> Vec<u8> {
    let mut bytes = b"P6 6 5 255\n".to_vec();
    bytes.extend([value; 90]);
    bytes
}

fn pair(number: usize, texts: usize) -> Pair {
    let text = |text: usize| Text { text: format!("{number} {text}"), origin: Origin::Web, score: None };
    Pair {
        key: format!("p{number}"),
        picture: colour(number as u8),
        texts: (0..texts).map(text).collect(),
        truth: None,
    }
}

fn dataset(count: usize) -> Arc<Dataset> {
    Arc::new(Dataset::from_pairs((0..count).map(|number| pair(number, 1 + number % 2))).unwrap())
}

fn settings() -> LoaderSettings {
    let augmentation = Some(Augmentation::pretraining());
    LoaderSettings { batch: 4, seed: 7, image_size: 8, augmentation, threads: 1, ..LoaderSettings::default() }
}

fn batches(dataset: &Arc<Dataset>, settings: LoaderSettings, start: u64) -> Vec<Batch> {
    let loader = Loader::new(dataset.clone(), settings).unwrap();
    loader.epoch(3, start).unwrap().map(Result::unwrap).collect()
}

fn fault(dataset: &Arc<Dataset>, settings: LoaderSettings) -> String {
    Loader::new(dataset.clone(), settings).unwrap_err().to_string()
}

#[test]
fn threads_and_what_is_ahead_change_nothing() {
    let dataset = dataset(21);
    let expected = batches(&dataset, settings(), 0);
    assert_eq!(expected.len(), 7);
    for (threads, ahead) in [(2, 1), (5, 3), (16, 9)] {
        assert_eq!(batches(&dataset, LoaderSettings { threads, ahead, ..settings() }, 0), expected);
    }
}

#[test]
fn resumed_epoch_equals_the_uninterrupted_one() {
    let dataset = dataset(21);
    let expected = batches(&dataset, settings(), 0);
    for start in 0..=8 {
        assert_eq!(batches(&dataset, settings(), start), expected[(start as usize).min(7)..]);
    }
}

#[test]
fn ranks_together_read_what_one_rank_with_the_larger_batch_does() {
    let dataset = dataset(29);
    for pass in [Pass::Training, Pass::Evaluation] {
        let expected = batches(&dataset, LoaderSettings { batch: 6, pass, ..settings() }, 0);
        let ranks: Vec<Vec<Batch>> = (0..3)
            .map(|rank| batches(&dataset, LoaderSettings { batch: 2, rank, world: 3, pass, ..settings() }, 0))
            .collect();
        for (step, expected) in expected.iter().enumerate() {
            let parts: Vec<&Batch> = ranks.iter().map(|batches| &batches[step]).collect();
            let pixels: Vec<f32> = parts.iter().flat_map(|batch| batch.pixels.clone()).collect();
            let texts: Vec<String> = parts.iter().flat_map(|batch| batch.texts.clone()).collect();
            let positions: Vec<u64> = parts.iter().flat_map(|batch| batch.positions.clone()).collect();
            assert_eq!(
                (pixels, texts, positions),
                (expected.pixels.clone(), expected.texts.clone(), expected.positions.clone())
            );
        }
        assert!(ranks.iter().all(|batches| batches.len() == expected.len()));
    }
}

#[test]
fn each_text_comes_once_an_epoch_in_another_order_each() {
    let dataset = dataset(12);
    let loader = Loader::new(dataset, LoaderSettings { batch: 3, ..settings() }).unwrap();
    let texts =
        |epoch| -> Vec<String> { loader.epoch(epoch, 0).unwrap().flat_map(|batch| batch.unwrap().texts).collect() };
    let (first, second) = (texts(0), texts(1));
    assert_ne!(first, second);
    let sorted = |mut texts: Vec<String>| {
        texts.sort();
        texts.dedup();
        texts
    };
    assert_eq!((loader.len(), sorted(first.clone()).len()), (18, 18));
    assert_eq!(sorted(first), sorted(second));
}

#[test]
fn picture_comes_once_an_epoch_with_one_of_its_texts() {
    let dataset = dataset(12);
    let loader = Loader::new(dataset, LoaderSettings { batch: 3, items: Items::Pictures, ..settings() }).unwrap();
    let mut second_texts = 0;
    for epoch in 0..20 {
        let batches: Vec<Batch> = loader.epoch(epoch, 0).unwrap().map(Result::unwrap).collect();
        let mut entries: Vec<usize> = batches.iter().flat_map(|batch| batch.entries.clone()).collect();
        entries.sort();
        assert_eq!(entries, (0..12).collect::<Vec<_>>());
        second_texts += batches.iter().flat_map(|batch| &batch.texts).filter(|text| text.ends_with(" 1")).count();
    }
    assert!((30..90).contains(&second_texts), "{second_texts} of 120");
}

#[test]
fn evaluation_keeps_the_order_and_the_rest() {
    let dataset = Arc::new(Dataset::from_pairs((0..7).map(|number| pair(number, number % 2))).unwrap());
    let settings = LoaderSettings { pass: Pass::Evaluation, items: Items::Pictures, augmentation: None, ..settings() };
    let batches = batches(&dataset, settings, 0);
    let entries: Vec<Vec<usize>> = batches.iter().map(|batch| batch.entries.clone()).collect();
    assert_eq!(entries, [vec![0, 1, 2, 3], vec![4, 5, 6]]);
    assert_eq!(batches[1].texts, ["", "5 0", ""]);
    assert_eq!(batches[1].pixels.len(), 3 * 3 * 8 * 8);
    let value = (4.0 / 255.0 - Normalization::default().mean[0]) / Normalization::default().std[0];
    assert!((batches[1].pixels[0] - value).abs() < 1e-6);
}

/// Every fourth picture is broken in one of the ways.
fn with_broken(count: usize) -> Arc<Dataset> {
    let mut bomb = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xff\xdc\0\0\xff\xdc\x08\x02\0\0\0".to_vec();
    bomb.extend(0x1c35_814c_u32.to_be_bytes());
    bomb.extend(b"\0\0\0\0IDAT");
    let ways = [bomb, Vec::new(), b"a text".to_vec(), colour(3)[..40].to_vec()];
    let pairs = (0..count).map(|number| {
        let pair = pair(number, 1);
        if number % 4 == 1 { Pair { picture: ways[number / 4 % 4].clone(), ..pair } } else { pair }
    });
    Arc::new(Dataset::from_pairs(pairs).unwrap())
}

#[test]
fn broken_pictures_are_replaced_counted_and_named_the_same_on_all_threads_and_ranks() {
    let dataset = with_broken(32);
    let loader = Loader::new(dataset.clone(), settings()).unwrap();
    let mut epoch = loader.epoch(3, 0).unwrap();
    let expected: Vec<Batch> = epoch.by_ref().map(Result::unwrap).collect();
    assert_eq!(epoch.broken().count(), 8);
    assert_eq!(epoch.broken().first().len(), 8);
    for reason in ["65500 x 65500 pixels", "is empty", "is not a picture", "is a PNM that is cut short"] {
        assert!(epoch.broken().first().iter().any(|line| line.contains(reason)), "{reason}");
    }
    assert!(expected.iter().flat_map(|batch| &batch.entries).all(|entry| entry % 4 != 1));
    assert!(expected.iter().all(|batch| batch.len() == 4));
    assert_eq!(batches(&dataset, LoaderSettings { threads: 7, ..settings() }, 0), expected);
    let second = batches(&dataset, LoaderSettings { batch: 2, rank: 1, world: 2, ..settings() }, 0);
    assert_eq!(second[5].pixels, expected[5].pixels[2 * 3 * 64..]);
}

#[test]
fn broken_pictures_are_left_out_of_an_evaluation() {
    let settings = LoaderSettings { pass: Pass::Evaluation, ..settings() };
    let batches = batches(&with_broken(32), settings, 0);
    assert!(batches.iter().enumerate().all(|(step, batch)| {
        let step = step * 4;
        batch.entries == [step, step + 2, step + 3]
    }));
}

#[test]
fn too_many_broken_pictures_end_the_epoch_with_their_names() {
    let loader = Loader::new(with_broken(64), LoaderSettings { threads: 3, ..settings() }).unwrap();
    let mut epoch = loader.epoch(0, 0).unwrap();
    let error = epoch.by_ref().find_map(Result::err).unwrap();
    let LoaderError::Broken { count: 11.., limit: 10, first } = &error else { panic!("{error}") };
    assert_eq!(first.len(), MAX_NAMED);
    assert!(error.to_string().contains("p"));
    assert!(epoch.next().is_none());
    let generous = LoaderSettings { broken_share: 0.3, ..settings() };
    assert_eq!(batches(&with_broken(64), generous, 0).len(), 16);
    let pair = |number: usize| Pair { picture: b"no".to_vec(), ..pair(number, 1) };
    let none = Arc::new(Dataset::from_pairs((0..4).map(pair)).unwrap());
    let loader = Loader::new(none, settings()).unwrap();
    let error = loader.epoch(0, 0).unwrap().next().unwrap().unwrap_err();
    assert!(matches!(error, LoaderError::Broken { count: 4, .. }));
}

#[test]
fn questions_come_with_their_answers() {
    let root = format!("{}/tests/goldens/datasets/jsons", env!("CARGO_MANIFEST_DIR"));
    let options = crate::dataset::DatasetOptions { image_root: Some(format!("{root}/pictures")), ..Default::default() };
    let dataset = Arc::new(Dataset::open(&format!("{root}/vqa.json"), &options).unwrap());
    let settings = LoaderSettings { batch: 2, items: Items::Questions, ..settings() };
    let batches = batches(&dataset, settings.clone(), 0);
    assert_eq!(batches.len(), 2);
    assert!(batches.iter().all(|batch| batch.questions.len() == 2 && batch.texts.is_empty()));
    assert!(fault(&dataset, LoaderSettings { items: Items::Texts, ..settings }).contains("has a text"));
}

#[test]
fn settings_that_contradict_are_refused() {
    let dataset = dataset(5);
    let cases = [
        LoaderSettings { batch: 0, ..settings() },
        LoaderSettings { batch: 100, ..settings() },
        LoaderSettings { batch: usize::MAX, ..settings() },
        LoaderSettings { image_size: 0, ..settings() },
        LoaderSettings { image_size: 60_000, ..settings() },
        LoaderSettings { rank: 1, ..settings() },
        LoaderSettings { threads: 0, ..settings() },
        LoaderSettings { ahead: usize::MAX, ..settings() },
        LoaderSettings { world: usize::MAX, ..settings() },
        LoaderSettings { broken_share: f64::NAN, ..settings() },
    ];
    for settings in cases {
        assert!(!fault(&dataset, settings).is_empty());
    }
}

#[test]
fn dropping_an_epoch_early_ends_its_threads() {
    let loader = Loader::new(dataset(200), LoaderSettings { threads: 4, ..settings() }).unwrap();
    let mut epoch = loader.epoch(0, 0).unwrap();
    assert!(epoch.next().unwrap().is_ok());
    drop(epoch);
}
