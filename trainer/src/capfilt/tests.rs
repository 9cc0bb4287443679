use std::collections::BTreeMap;

use super::decide::Decision;
use super::*;
use crate::dataset::{DatasetOptions, Origin, Pair, Text};
use crate::engine::cpu::Cpu;
use crate::generation::checkpoints::{Opened, held_out, repository};

struct Models {
    captioner: Opened,
    filter: Opened,
}

impl Models {
    fn new() -> Models {
        Models { captioner: Opened::new("models/starter/captioner"), filter: Opened::new("models/starter/matcher") }
    }

    fn networks(&self) -> [Network<'_, Cpu>; 2] {
        [self.captioner.network(), self.filter.network()]
    }
}

fn settings() -> CapfiltSettings {
    let mut settings = CapfiltSettings { shard: 8, batch: 3, ..CapfiltSettings::default() };
    settings.writing.texts = 3;
    settings
}

const ALONE: Share = Share { rank: 0, world: 1 };
const HOSTILE: &str = "</script><script>alert(1)</script>\u{1b}[2J\u{202e}";

fn text(text: &str, origin: Origin) -> Text {
    Text { text: text.to_owned(), origin, score: None }
}

/// Scenes of which every fifth has a person's text, and the others in turn the truth, another scene's text, and a
/// hostile one; two files are broken.
fn dataset() -> Dataset {
    let pair = |(number, (scene, _)): (usize, (serde_json::Value, _))| {
        let name = scene["file"].as_str().unwrap();
        let picture = std::fs::read(repository(&format!("tests/goldens/starter/held-out/{name}"))).unwrap();
        let (truth, wrong) = (scene["truth"].as_str().unwrap(), scene["wrong"].as_str().unwrap());
        let texts = match number % 5 {
            0 => vec![text(truth, Origin::Human), text(wrong, Origin::Web)],
            1 | 2 => vec![text(truth, Origin::Web)],
            3 => vec![text(wrong, Origin::Web), text("  ", Origin::Web)],
            _ => vec![text(HOSTILE, Origin::Web)],
        };
        let picture = if number % 15 == 7 { b"\x89PNG\r\n\x1a\nbroken".to_vec() } else { picture };
        Pair { key: name.to_owned(), picture, texts, truth: None }
    };
    Dataset::from_pairs(held_out().into_iter().take(30).enumerate().map(pair)).unwrap()
}

/// Every file of a folder, by its name.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            found.extend(files(&path).into_iter().map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)));
        } else {
            found.insert(name, std::fs::read(&path).unwrap());
        }
    }
    found
}

fn decisions(folder: &Path) -> Vec<Decision> {
    let lines = std::fs::read_to_string(folder.join(DECISIONS_FILE)).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn noise_goes_truth_and_people_stay_and_every_decision_is_recorded() {
    let (models, dataset, folder) = (Models::new(), dataset(), tempfile::tempdir().unwrap());
    let run = Capfilt::begin(&dataset, models.networks(), settings(), folder.path()).unwrap();
    assert_eq!(run.work(ALONE, &Progress::Silent).unwrap(), Worked { made: 4, found: 0 });
    let summary = run.assemble(Format::ImageFolder, 10, &Progress::Silent).unwrap();

    let decisions = decisions(folder.path());
    let human: Vec<&Decision> = decisions.iter().filter(|decision| decision.origin == Origin::Human).collect();
    assert_eq!((human.len(), summary.human.kept), (6, 6));
    assert!(human.iter().all(|decision| decision.kept && decision.itm.is_some()));
    assert_eq!(summary.broken, 2);
    assert!(summary.first_broken[0].starts_with("007.png: "), "{:?}", summary.first_broken);
    // 30 scenes less 2 broken and 6 with a person's text, three texts each.
    assert_eq!(summary.synthetic.texts, 3 * 22);
    let wrong = |decision: &&Decision| decision.origin == Origin::Web && decision.text.contains("script");
    assert!(decisions.iter().filter(wrong).all(|decision| !decision.kept));
    for decision in decisions.iter().filter(|decision| decision.origin == Origin::Web) {
        let scene = &held_out()[decision.entry].0;
        if decision.text == scene["wrong"].as_str().unwrap() {
            let itm = decision.itm.unwrap();
            assert!((f64::from(itm) - scene["itm_enc_wrong"].as_f64().unwrap()).abs() < 1e-4);
            assert_eq!(decision.kept, itm >= 0.5);
        }
    }
    assert_eq!(summary.web.empty, 6);

    let kept = decisions.iter().filter(|decision| decision.kept).count();
    let new = Dataset::open(folder.path().join(DATASET_FOLDER).to_str().unwrap(), &DatasetOptions::default()).unwrap();
    assert_eq!(new.len(), summary.pictures_kept);
    assert_eq!(new.entries().iter().map(|entry| entry.texts.len()).sum::<usize>(), kept);
    assert!(new.entries().iter().flat_map(|entry| &entry.texts).all(|text| text.score.is_some()));

    let html = std::fs::read_to_string(folder.path().join(SHEET_FILE)).unwrap();
    assert!(html.contains("&lt;/script&gt;&lt;script&gt;") && !html.contains("<script"), "escaped");
    let raw = std::fs::read_to_string(folder.path().join(DECISIONS_FILE)).unwrap();
    assert!(!raw.contains('\u{1b}') && !raw.contains('\u{202e}'));
    let saved: Summary = serde_json::from_slice(&std::fs::read(folder.path().join(SUMMARY_FILE)).unwrap()).unwrap();
    assert_eq!(saved, summary);
}

#[test]
fn a_run_that_was_killed_ends_with_the_same_bytes_and_so_do_two_ranks() {
    let (models, dataset) = (Models::new(), dataset());
    let whole = tempfile::tempdir().unwrap();
    for format in [Format::WebDataset, Format::BlipJson, Format::ImageFolder] {
        let run = Capfilt::begin(&dataset, models.networks(), settings(), whole.path()).unwrap();
        run.work(ALONE, &Progress::Silent).unwrap();
        run.assemble(format, 5, &Progress::Silent).unwrap();
        let expected = files(whole.path());

        // Killed after one shard, in the middle of writing another, and in the middle of assembling.
        let killed = tempfile::tempdir().unwrap();
        let run = Capfilt::begin(&dataset, models.networks(), settings(), killed.path()).unwrap();
        run.work_on(2, &Progress::Silent).unwrap();
        let leftovers = [killed.path().join("parts/.writing-abc"), killed.path().join(".writing-dataset-abc")];
        std::fs::write(&leftovers[0], "{\"shard\":1,").unwrap();
        std::fs::create_dir(&leftovers[1]).unwrap();
        std::fs::create_dir(killed.path().join(DATASET_FOLDER)).unwrap();
        std::fs::write(killed.path().join(DATASET_FOLDER).join("half"), "of something").unwrap();
        let again = Capfilt::begin(&dataset, models.networks(), settings(), killed.path()).unwrap();
        assert_eq!(again.missing().unwrap(), [0, 1, 3]);
        let error = again.assemble(format, 5, &Progress::Silent).unwrap_err().to_string();
        assert!(error.starts_with("3 of 4 shards are not done, first 0"), "{error}");
        for rank in [1, 0] {
            let found = again.work(Share { rank, world: 2 }, &Progress::Silent).unwrap();
            assert_eq!(found, Worked { made: 2 - usize::from(rank == 0), found: usize::from(rank == 0) });
        }
        again.assemble(format, 5, &Progress::Silent).unwrap();
        std::fs::remove_file(&leftovers[0]).unwrap();
        std::fs::remove_dir(&leftovers[1]).unwrap();
        let found = files(killed.path());
        assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        for (name, bytes) in found {
            assert!(bytes == expected[&name], "{name} differs");
        }
    }
}

#[test]
fn another_seed_or_model_is_another_run_and_a_changed_text_another_shard() {
    let (models, folder) = (Models::new(), tempfile::tempdir().unwrap());
    let dataset = dataset();
    let begin = |dataset, settings| {
        Capfilt::begin(dataset, models.networks(), settings, folder.path()).map(|run| run.missing().unwrap())
    };
    let run = Capfilt::begin(&dataset, models.networks(), settings(), folder.path()).unwrap();
    run.work(ALONE, &Progress::Silent).unwrap();
    let error = begin(&dataset, CapfiltSettings { seed: 1, ..settings() }).unwrap_err().to_string();
    assert!(error.contains("was begun with other settings or other models"), "{error}");
    let [captioner, filter] = models.networks();
    let class = Network { encoder_token: models.filter.tokenizer.tokens().class, ..filter };
    assert!(Capfilt::begin(&dataset, [captioner, class], settings(), folder.path()).is_err());

    let pairs = dataset.entries().iter().enumerate().map(|(entry, found)| {
        let mut texts = found.texts.clone();
        if entry == 9 {
            texts[0].text.push_str(" again");
        }
        Pair { key: found.key.clone(), picture: dataset.picture_bytes(entry).unwrap(), texts, truth: None }
    });
    let changed = Dataset::from_pairs(pairs).unwrap();
    assert_eq!(begin(&changed, settings()).unwrap(), [1]);
}

#[test]
fn settings_out_of_range_and_wrong_models_are_named() {
    let (models, dataset, folder) = (Models::new(), dataset(), tempfile::tempdir().unwrap());
    for (field, settings) in [
        ("threshold", CapfiltSettings { threshold: f32::NAN, ..settings() }),
        ("similarity", CapfiltSettings { similarity: Some(2.0), ..settings() }),
        ("duplicate", CapfiltSettings { duplicate: -0.1, ..settings() }),
        ("batch", CapfiltSettings { batch: 0, ..settings() }),
        ("shard", CapfiltSettings { shard: 0, ..settings() }),
    ] {
        let error = Capfilt::begin(&dataset, models.networks(), settings, folder.path()).err().unwrap().to_string();
        assert!(error.starts_with(&format!("{field} is ")), "{error}");
    }
    let [captioner, filter] = models.networks();
    let error = Capfilt::begin(&dataset, [filter, captioner], settings(), folder.path()).err().unwrap().to_string();
    assert!(error.starts_with("the model has no text decoder"), "{error}");
}

#[test]
fn names_that_datasets_share_stay_apart() {
    let (models, folder) = (Models::new(), tempfile::tempdir().unwrap());
    let pair = |key: &str, scene: usize| {
        let bytes = std::fs::read(repository(&format!("tests/goldens/starter/held-out/{scene:03}.png"))).unwrap();
        Pair { key: key.to_owned(), picture: bytes, texts: vec![text("an owl", Origin::Human)], truth: None }
    };
    let one = || Dataset::from_pairs([pair("a b", 0), pair("a_b", 1)]).unwrap();
    let both = Dataset::joined([one(), one()]).unwrap();
    let run = Capfilt::begin(&both, models.networks(), settings(), folder.path()).unwrap();
    run.work(ALONE, &Progress::Silent).unwrap();
    let summary = run.assemble(Format::WebDataset, 0, &Progress::Silent).unwrap();
    assert_eq!((summary.pictures_kept, summary.synthetic.texts), (4, 0));
    let new = Dataset::open(folder.path().join(DATASET_FOLDER).to_str().unwrap(), &DatasetOptions::default()).unwrap();
    assert_eq!(new.len(), 4);
}

#[test]
fn a_filter_that_believes_everything_is_warned_of() {
    let (models, dataset, folder) = (Models::new(), dataset(), tempfile::tempdir().unwrap());
    let settings = CapfiltSettings { threshold: 0.0, captioned: Captioned::All, ..settings() };
    let run = Capfilt::begin(&dataset, models.networks(), settings, folder.path()).unwrap();
    run.work(ALONE, &Progress::Silent).unwrap();
    let summary = run.assemble(Format::ImageFolder, 1, &Progress::Silent).unwrap();
    assert_eq!(summary.synthetic.texts, 3 * 28);
    assert!(summary.warnings[0].starts_with("the filter rejects 0.0 % of the captioner's texts"), "{summary}");
}

#[test]
fn a_threshold_is_found_for_a_precision() {
    let (models, progress) = (Models::new(), Progress::Silent);
    let pairs = held_out().into_iter().take(40).map(|(scene, _)| {
        let name = scene["file"].as_str().unwrap();
        let picture = std::fs::read(repository(&format!("tests/goldens/starter/held-out/{name}"))).unwrap();
        Pair {
            key: name.to_owned(),
            picture,
            texts: vec![text(scene["truth"].as_str().unwrap(), Origin::Human)],
            truth: None,
        }
    });
    let people = Dataset::from_pairs(pairs).unwrap();
    let filter = models.filter.network();
    let loose = calibrated_threshold(&people, &filter, (0.8, 1), &progress).unwrap();
    let strict = calibrated_threshold(&people, &filter, (0.99, 1), &progress).unwrap();
    assert!(0.0 < loose && loose <= strict && strict <= 1.0, "{loose} {strict}");
}

/// The folder in which this program, started again by a test, is to filter.
const FOLDER: &str = "EDGEBLIP_TEST_CAPFILT";

/// Does nothing unless [`filtered_without_room`] started it.
#[test]
fn filters_where_it_is_told() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let (models, dataset) = (Models::new(), dataset());
    let filtered = || -> Result<Summary, CapfiltError> {
        let run = Capfilt::begin(&dataset, models.networks(), settings(), Path::new(&folder))?;
        run.work(ALONE, &Progress::Silent)?;
        run.assemble(Format::WebDataset, 5, &Progress::Silent)
    };
    println!("\nrefused: {}", filtered().unwrap_err());
}

/// Starts this test program again where a file can have so many blocks: what it says.
#[cfg(unix)]
fn filtered_without_room(folder: &Path, blocks: usize) -> String {
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"")]);
    command.arg(std::env::current_exe().unwrap()).args(["--exact", "capfilt::tests::filters_where_it_is_told"]);
    let output = command.arg("--nocapture").env(FOLDER, folder).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let refused = text.lines().find_map(|line| line.strip_prefix("refused: "));
    refused.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr))).to_owned()
}

/// A limit on the length of a file fails as a full disk does.
#[cfg(unix)]
#[test]
fn a_full_disk_leaves_the_older_dataset_and_nothing_half() {
    let empty = tempfile::tempdir().unwrap();
    let message = filtered_without_room(empty.path(), 0);
    assert!(message.contains("run.json") && message.contains("File too large"), "{message}");
    assert!(message.contains("see that there is room and run it again"), "{message}");
    assert!(files(empty.path()).is_empty());

    let (models, dataset) = (Models::new(), dataset());
    let folder = tempfile::tempdir().unwrap();
    let run = Capfilt::begin(&dataset, models.networks(), settings(), folder.path()).unwrap();
    run.work(ALONE, &Progress::Silent).unwrap();
    run.assemble(Format::ImageFolder, 5, &Progress::Silent).unwrap();
    let older = files(folder.path());
    for (blocks, file) in [(0, "shard-000000.tar"), (8, "shard-000000.tar")] {
        let message = filtered_without_room(folder.path(), blocks);
        assert!(message.contains(file) && message.contains("File too large"), "{message}");
        assert!(message.contains("see that there is room"), "{message}");
        assert!(files(folder.path()) == older, "{blocks} blocks");
    }
    let part = folder.path().join("parts/00000002.jsonl");
    std::fs::remove_file(&part).unwrap();
    let message = filtered_without_room(folder.path(), 0);
    assert!(message.contains("00000002.jsonl") && message.contains("run it again"), "{message}");
    assert!(!part.exists() && files(folder.path()).len() == older.len() - 1);
}
