//! A folder with data and settings, and the program that trains there.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

/// Side of the scenes, in pixels.
pub const SIDE: usize = 16;

/// Settings of a model that is as small as one can be, with all that is random in training.
const TINY: &str = r#"
[model]
tokenizer = "captions"
vision_width = 16
vision_layers = 2
vision_heads = 2
vision_feed_forward = 32
patch_size = 8
text_width = 16
text_layers = 2
text_heads = 2
text_feed_forward = 32
positions = 24
projection_width = 8
image_size = 16

[data]
tokens = 16
threads = 1
ahead = 2

[losses]
queue = 16

[optimizer]
rate = 1e-3
warm_up_steps = 2

[run]
batch = 4
steps = 12
device = "cpu"
threads = 1
patience = 60

[output]
snapshot_every = 2
"#;

/// A folder that goes away.
pub struct Place(TempDir);

impl Place {
    pub fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A place with scenes in `data`.
    pub fn with_scenes(count: usize) -> Place {
        let place = Place::new();
        place.scenes("data", count);
        place
    }

    /// Makes scenes of drawn things.
    pub fn scenes(&self, name: &str, count: usize) {
        let (count, side) = (count.to_string(), SIDE.to_string());
        let arguments = ["scenes", "--count", &count, "--side", &side, "--out"].map(OsStr::new);
        let out = self.path(name);
        run(trainer(arguments).arg(out)).content();
    }

    /// Makes a json of two questions for each picture of a dataset.
    pub fn questions(&self, name: &str, scenes: &str) {
        std::fs::create_dir(self.path(name)).unwrap();
        let lines = std::fs::read_to_string(self.path(scenes).join("metadata.jsonl")).unwrap();
        let mut rows = Vec::new();
        for (number, line) in lines.lines().enumerate() {
            let row: Value = serde_json::from_str(line).unwrap();
            let picture = row["file_name"].as_str().unwrap();
            let folder = self.path(name).join(picture);
            std::fs::create_dir_all(folder.parent().unwrap()).unwrap();
            std::fs::copy(self.path(scenes).join(picture), folder).unwrap();
            let answer = if number % 2 == 0 { "yes" } else { "no" };
            rows.push(json!({"image": picture, "question": "is it an even one?", "answer": [answer, answer, "both"],
                "dataset": "vqa", "question_id": 2 * number}));
            rows.push(json!({"image": picture, "question": "what number is it?", "answer": number.to_string(),
                "dataset": "vg", "question_id": 2 * number + 1}));
        }
        std::fs::write(self.path(name).join("vqa.json"), Value::from(rows).to_string()).unwrap();
    }

    /// Writes a settings file: the tiny ones that learn from `data`, and changes of them as `section.key` and TOML.
    pub fn settings(&self, name: &str, changes: &[(&str, &str)]) -> PathBuf {
        let mut table: toml::Table = TINY.parse().unwrap();
        let data = format!("[{:?}]", self.path("data").to_str().unwrap());
        for (key, value) in std::iter::once(&("data.train", data.as_str())).chain(changes) {
            let (section, key) = key.split_once('.').unwrap();
            let value: toml::Table = format!("value = {value}").parse().unwrap();
            let section = table.entry(section).or_insert_with(|| toml::Table::new().into());
            section.as_table_mut().unwrap().insert(key.to_owned(), value["value"].clone());
        }
        let path = self.path(&format!("{name}.toml"));
        std::fs::write(&path, toml::to_string(&table).unwrap()).unwrap();
        path
    }

    /// `pretrain` with such settings, into a folder of that name.
    pub fn pretrain(&self, out: &str, changes: &[(&str, &str)]) -> Command {
        self.train(&["pretrain"], out, changes)
    }

    /// A task with such settings.
    pub fn train(&self, task: &[&str], out: &str, changes: &[(&str, &str)]) -> Command {
        let mut command = trainer(task);
        command.arg(self.settings(out, changes)).arg("--out").arg(self.path(out));
        command
    }

    /// The record of each step, but for what a clock says.
    pub fn journal(&self, out: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path(out).join("journal.jsonl")).unwrap();
        text.lines()
            .map(|line| {
                let mut record: Value = serde_json::from_str(line).unwrap();
                for clock in ["time", "pairs_per_second"] {
                    record.as_object_mut().unwrap().remove(clock).unwrap();
                }
                record
            })
            .collect()
    }

    /// The weights that a run ends with, and all that it would go on from: names and bytes.
    pub fn results(&self, out: &str) -> Vec<(String, Vec<u8>)> {
        let out = self.path(out);
        let mut found = Vec::new();
        for folder in ["model", "snapshots"] {
            let mut roles = names(&out.join(folder));
            roles.retain(|name| !name.starts_with('.'));
            for role in roles {
                for (file, bytes) in files(&out.join(folder).join(&role)) {
                    found.push((format!("{folder}/{role}/{file}"), bytes));
                }
            }
        }
        assert!(!found.is_empty());
        found
    }
}

/// The program, without the ranks of whoever runs the tests.
pub fn trainer<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edgeblip-trainer"));
    for variable in ["RANK", "WORLD_SIZE", "LOCAL_RANK", "SLURM_PROCID", "TORCHELASTIC_USE_AGENT_STORE"] {
        command.env_remove(variable);
    }
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What the program did.
#[derive(Debug)]
pub struct Ran {
    /// Nothing where a signal ended it.
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// Looks at what no run may do: panic, or command a terminal that is not there.
    pub fn of(output: Output) -> Ran {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let ran = Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) };
        assert!(!ran.err.contains("panicked"), "{}", ran.err);
        for text in [&ran.out, &ran.err] {
            assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "a control character in {text:?}");
        }
        ran
    }

    /// The output of a run that is content.
    pub fn content(&self) -> &str {
        assert_eq!(self.code, Some(0), "{}", self.err);
        &self.out
    }

    /// A run that ends with one message, in which each of `words` stands.
    pub fn refused(&self, words: &[&str]) {
        assert_eq!(self.code, Some(1), "{}{}", self.out, self.err);
        let messages: Vec<_> = self.err.lines().filter(|line| line.starts_with("edgeblip-trainer: ")).collect();
        assert_eq!(messages.len(), 1, "{}", self.err);
        assert!(self.err.len() < 3000, "a message as long as a book: {}", self.err);
        for word in words {
            assert!(self.err.contains(word), "{word:?} is not in {:?}", self.err);
        }
    }
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Ran {
    Ran::of(command.output().unwrap())
}

/// What lies in a folder, in alphabetical order.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = folder.read_dir().unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The files of a folder with their bytes.
pub fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    names(folder).into_iter().map(|name| (name.clone(), std::fs::read(folder.join(name)).unwrap())).collect()
}
