//! The programs as a user runs them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use blip::manifest::{EncoderToken, Precision};
use serde_json::Value;

use crate::bundles::{model, repository};

const CAPTIONS: &[&str] = &["01.png", "03.png", "05.png", "07.png", "10.png", "11.png"];
const PICTURE: &str = "examples/images/01.png";

/// What a program did.
pub struct Ran {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ran {
    /// The output of a program that is content.
    pub fn content(&self) -> Result<&str> {
        ensure!(self.code == 0, "exit code {}: {}", self.code, self.err);
        Ok(&self.out)
    }

    /// The message of a program that is not, which must hold every one of `words`.
    pub fn refused(&self, words: &[&str]) -> Result<&str> {
        ensure!(self.code == 1 || self.code == 2, "exit code {}: {}", self.code, self.out);
        ensure!(self.err.lines().all(|line| line.len() < 2000), "a message as long as a book: {}", self.err);
        for word in words {
            ensure!(self.err.contains(word), "{word:?} is not in {:?}", self.err);
        }
        Ok(&self.err)
    }

    /// Standard output as one JSON value a line.
    pub fn json(&self) -> Result<Vec<Value>> {
        self.content()?.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
    }
}

/// A program of this repository that was built beside this test.
pub fn program(name: &str) -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let folder = test.parent().and_then(Path::parent).context("a test lies in a folder of the target folder")?;
    let path = folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    ensure!(
        path.is_file(),
        "{} is not there: run all tests at once, which builds the programs, or `cargo build` with the same profile",
        path.display()
    );
    Ok(path)
}

/// Runs a program in the repository and looks at what no run may do: panic, end by a signal, command a terminal.
pub fn run<A: AsRef<OsStr>>(name: &str, arguments: &[A]) -> Result<Ran> {
    let mut command = Command::new(program(name)?);
    command.args(arguments);
    finish(&mut command)
}

/// As [`run`], for a command that starts the program some other way.
pub fn finish(command: &mut Command) -> Result<Ran> {
    // Whoever runs the tests has a cache of their own.
    ["CACHE_DIRECTORY", "XDG_CACHE_HOME", "HOME"].iter().for_each(|variable| _ = command.env_remove(variable));
    let done = command.current_dir(repository("")).stdin(Stdio::null()).output()?;
    let code = done.status.code().with_context(|| format!("{command:?} ended with {}", done.status))?;
    let ran = Ran { code, out: String::from_utf8(done.stdout)?, err: String::from_utf8(done.stderr)? };
    ensure!(!ran.err.contains("panicked"), "{command:?}: {}", ran.err);
    for text in [&ran.out, &ran.err] {
        let commands = text.find(|c: char| c.is_control() && c != '\n');
        ensure!(commands.is_none(), "{command:?} writes a control character: {text:?}");
    }
    Ok(ran)
}

/// `edgeblip` with arguments that are words.
pub fn edgeblip(words: &str) -> Result<Ran> {
    run("edgeblip", &words.split_whitespace().collect::<Vec<_>>())
}

/// `edgeblip COMMAND --bundle DIR` with the int8 bundle of a checkpoint of the repository.
pub fn with_bundle(command: &str, checkpoint: &str, arguments: &[&str]) -> Result<Ran> {
    let model = model(&[checkpoint], Precision::Int8, EncoderToken::Encoder)?;
    let place = model.bundle().place().to_str().context("temporary folders have plain names")?;
    run("edgeblip", &[&[command, "--bundle", place], arguments].concat())
}

fn keys(line: &Value) -> Result<Vec<&str>> {
    Ok(line.as_object().context("a line is an object")?.keys().map(String::as_str).collect())
}

fn sorted<const N: usize>(mut names: [&str; N]) -> Vec<&str> {
    names.sort_unstable();
    names.to_vec()
}

fn number(value: &Value) -> Result<f64> {
    value.as_f64().with_context(|| format!("{value} is no number"))
}

fn token_ids(line: &Value) -> Result<Vec<u32>> {
    Ok(serde_json::from_value(line["token_ids"].clone())?)
}

/// Token ids of the captions that flags give for one picture with the tiny captioner.
fn tiny(flags: &str) -> Result<Vec<Vec<u32>>> {
    let arguments: Vec<&str> = [PICTURE, "--json"].into_iter().chain(flags.split_whitespace()).collect();
    with_bundle("caption", "tests/goldens/tiny-b/captioner", &arguments)?.json()?.iter().map(token_ids).collect()
}

#[test]
fn the_examples_have_their_captions() -> Result<()> {
    let captions: Vec<Value> = serde_json::from_slice(&std::fs::read(repository("examples/images/captions.json"))?)?;
    let line = |entry: &Value| {
        let text = |key: &str| entry[key].as_str().context("a caption has its words");
        Ok(format!("examples/images/{}: {}\n", text("file")?, text("caption")?))
    };
    let expected: String = captions.iter().map(line).collect::<Result<_>>()?;
    let ran = edgeblip("caption examples/images")?;
    assert_eq!(ran.content()?, expected);
    assert_eq!(ran.err, "");
    Ok(())
}

#[test]
fn a_json_line_has_exactly_the_fields_that_are_promised() -> Result<()> {
    let lines = edgeblip("caption --json examples/images")?.json()?;
    assert_eq!(lines.len(), CAPTIONS.len());
    let manifest = edgeblip::bundle::Bundle::built_in()?;
    let tokens = manifest.manifest().tokens;
    for (line, name) in lines.iter().zip(CAPTIONS) {
        let fields = ["image", "caption", "token_ids", "log_prob", "itm", "itc", "bundle", "timing_ms"];
        assert_eq!(keys(line)?, sorted(fields));
        assert_eq!(line["image"], format!("examples/images/{name}"));
        let ids = token_ids(line)?;
        assert_eq!(ids.first(), Some(&tokens.decoder_start));
        assert_eq!(ids.last(), Some(&tokens.separator));
        assert_eq!(line["caption"], manifest.tokenizer().decode(&ids));
        assert_eq!(line["bundle"], manifest.id());
        assert!(number(&line["log_prob"])? < 0.0);
        assert!((0.0..=1.0).contains(&number(&line["itm"])?), "{line}");
        assert!((-1.0..=1.0).contains(&number(&line["itc"])?), "{line}");
        let timing = &line["timing_ms"];
        assert_eq!(keys(timing)?, sorted(["decode_image", "preprocess", "vision", "decoder", "match"]));
        for (stage, time) in timing.as_object().context("times are an object")? {
            assert!((0.0..60_000.0).contains(&number(time)?), "{stage}: {time}");
        }
    }
    Ok(())
}

#[test]
fn a_bundle_without_a_matcher_gives_null_scores() -> Result<()> {
    let lines = with_bundle("caption", "tests/goldens/tiny-b/captioner", &["--json", PICTURE])?.json()?;
    assert_eq!((&lines[0]["itm"], &lines[0]["itc"]), (&Value::Null, &Value::Null));
    Ok(())
}

#[test]
fn one_broken_picture_does_not_stop_the_others_and_makes_the_exit_code_1() -> Result<()> {
    let ran = edgeblip("caption examples/images/01.png README.md no/such.png examples/images/03.png no/folder/")?;
    assert_eq!(ran.code, 1);
    assert_eq!(ran.out, "examples/images/01.png: a car at night\nexamples/images/03.png: three buses on grass\n");
    let complaints: Vec<&str> = ran.err.lines().collect();
    assert_eq!(complaints.len(), 3, "{}", ran.err);
    assert!(complaints[0].starts_with("edgeblip: README.md: is not a picture"), "{}", ran.err);
    assert!(complaints[1].starts_with("edgeblip: no/such.png: cannot be read"), "{}", ran.err);
    assert!(complaints[2].starts_with("edgeblip: no/folder/: cannot be read"), "{}", ran.err);
    Ok(())
}

#[test]
fn lengths_count_every_token() -> Result<()> {
    for length in [2, 5, 20, 24] {
        for decode in ["greedy", "beam", "nucleus"] {
            let ids = &tiny(&format!("--decode {decode} --min-length {length} --max-length {length}"))?[0];
            assert_eq!(ids.len(), length, "{decode}: {ids:?}");
        }
    }
    let separator = 5;
    let free = &tiny("--decode greedy --no-repeat-ngram 1 --max-length 24")?[0];
    let ends = free.iter().position(|&id| id == separator).context("this caption ends by itself")?;
    assert_eq!(ends + 1, free.len());
    let longer = &tiny(&format!("--decode greedy --no-repeat-ngram 1 --max-length 24 --min-length {}", free.len()))?[0];
    assert!(longer.len() > free.len(), "{longer:?} and {free:?}");
    Ok(())
}

#[test]
fn several_captions_come_from_beams_and_from_samples() -> Result<()> {
    let beams = tiny("--beams 4 --captions 4")?;
    assert_eq!(beams.len(), 4);
    assert!(beams.iter().enumerate().all(|(place, caption)| !beams[..place].contains(caption)), "{beams:?}");
    let samples = tiny("--decode nucleus --captions 6 --seed 3")?;
    assert_eq!(samples.len(), 6);
    assert!(samples.iter().any(|caption| *caption != samples[0]), "{samples:?}");
    assert_eq!(tiny("--decode nucleus --captions 2 --seed 3")?, samples[..2]);
    Ok(())
}

#[test]
fn one_beam_and_one_choice_are_greedy() -> Result<()> {
    let greedy = tiny("--decode greedy")?;
    assert_eq!(tiny("--beams 1")?, greedy);
    assert_eq!(tiny("--top-k 1")?, greedy);
    assert_eq!(tiny("--top-p 0.000001 --seed 9")?, greedy);
    assert_eq!(tiny("--decode nucleus --temperature 0.0001")?, greedy);
    assert_eq!(tiny("--decode greedy --threads 1")?, greedy);
    assert_ne!(tiny("--beams 4")?, greedy);
    Ok(())
}

#[test]
fn a_seed_repeats_and_another_differs() -> Result<()> {
    let first = tiny("--decode nucleus --seed 1")?;
    assert_eq!(tiny("--decode nucleus --seed 1")?, first);
    assert_eq!(tiny("--decode nucleus")?, tiny("--decode nucleus --seed 0")?);
    assert_ne!(tiny("--decode nucleus --seed 2")?, first);
    Ok(())
}

#[test]
fn a_prompt_starts_the_caption_and_an_empty_one_is_none() -> Result<()> {
    let words = edgeblip("caption examples/images --json --prompt two")?.json()?;
    for line in &words {
        let caption = line["caption"].as_str().context("a caption has words")?;
        assert!(caption.starts_with("two"), "{caption}");
    }
    let empty = run("edgeblip", &["caption", "examples/images", "--prompt", ""])?;
    assert_eq!(empty.content()?, edgeblip("caption examples/images")?.content()?);
    Ok(())
}

#[test]
fn repetition_is_forbidden_and_punished() -> Result<()> {
    let repeats = |ids: &[u32], run: usize| {
        ids.windows(run).enumerate().any(|(at, here)| ids[..at + run - 1].windows(run).any(|before| before == here))
    };
    let free = &tiny("--decode greedy")?[0];
    assert!(repeats(free, 1) && repeats(free, 2), "{free:?}");
    for run in [1, 2, 3] {
        for decode in ["greedy", "beam", "nucleus"] {
            let ids = &tiny(&format!("--decode {decode} --no-repeat-ngram {run}"))?[0];
            assert!(!repeats(ids, run), "{decode}, {run}: {ids:?}");
        }
    }
    let distinct = |ids: &[u32]| ids.iter().collect::<std::collections::BTreeSet<_>>().len();
    let punished = &tiny("--decode greedy --repetition-penalty 5 --min-length 20")?[0];
    assert!(distinct(punished) > distinct(free), "{punished:?}");
    Ok(())
}

#[test]
fn flags_that_contradict_are_refused_with_a_reason() -> Result<()> {
    for (flags, words) in [
        ("--decode greedy --beams 3", "--beams is for --decode beam"),
        ("--decode nucleus --beams 3", "--beams is for --decode beam"),
        ("--decode beam --top-p 0.5", "are for --decode nucleus"),
        ("--decode greedy --temperature 2", "are for --decode nucleus"),
        ("--beams 2 --top-k 5", "choose with --decode"),
        ("--decode greedy --captions 2", "captions is 2"),
        ("--beams 3 --captions 4", "captions is 4"),
        ("--decode nucleus --captions 65", "captions is 65"),
        ("--captions 0", "captions is 0"),
        ("--beams 0", "beams is 0"),
        ("--beams 65", "beams is 65"),
        ("--top-p 0", "top_p is 0"),
        ("--top-p 1.5", "top_p is 1.5"),
        ("--top-p nan", "top_p is NaN"),
        ("--top-k 0", "top_k is 0"),
        ("--temperature 0", "temperature is 0"),
        ("--temperature inf", "temperature is inf"),
        ("--repetition-penalty -1", "repetition_penalty is -1"),
        ("--repetition-penalty 0", "repetition_penalty is 0"),
        ("--min-length 9 --max-length 5", "min_length is 9"),
        ("--max-length 0", "max_length is 0"),
        ("--max-length 1", "max_length is 1"),
        ("--max-length 33", "has 32 positions"),
        ("--max-length 5000", "max_length is 5000"),
        ("--seed -1", "for '--seed <S>'"),
        ("--threads 0", "--threads"),
        ("--decode sideways", "sideways"),
        ("--wings 2", "--wings"),
    ] {
        edgeblip(&format!("caption {PICTURE} {flags}"))?.refused(&[words]).context(flags)?;
    }
    for (words, reason) in [("caption", "<PATH>"), ("", "Usage"), ("embed", "--text"), ("score a.png", "<TEXT>")] {
        let ran = edgeblip(words)?;
        assert_eq!(ran.code, 2);
        ran.refused(&[reason])?;
    }
    edgeblip("embed a.png --text b")?.refused(&["cannot be used with"])?;
    edgeblip("search cat examples/images --top 0")?.refused(&["--top"])?;
    Ok(())
}

#[test]
fn score_gives_both_numbers_for_each_text() -> Result<()> {
    let picture = "examples/images/07.png";
    let words = ["score", picture, "two bears on sand", "a car at night"];
    let plain = run("edgeblip", &words)?;
    let lines: Vec<&str> = plain.content()?.lines().collect();
    assert!(lines.len() == 2 && lines[0].ends_with("  two bears on sand") && lines[1].ends_with("  a car at night"));
    let json = run("edgeblip", &[&words[..], &["--json"]].concat())?.json()?;
    for (line, text) in json.iter().zip(&words[2..]) {
        assert_eq!(keys(line)?, sorted(["image", "text", "itm", "itc"]));
        assert_eq!((&line["image"], &line["text"]), (&picture.into(), &(*text).into()));
        assert!((-1.0..=1.0).contains(&number(&line["itc"])?));
    }
    assert!(number(&json[0]["itm"])? > 0.5 && number(&json[1]["itm"])? < 0.5, "{json:?}");
    assert!(number(&json[0]["itc"])? > number(&json[1]["itc"])?);
    for (line, json) in lines.iter().zip(&json) {
        let [itm, itc] = [number(&json["itm"])?, number(&json["itc"])?];
        assert!(line.starts_with(&format!("ITM {itm:.4}  ITC {itc:+.4}  ")), "{line}");
    }
    Ok(())
}

#[test]
fn embed_gives_unit_vectors_of_pictures_and_texts() -> Result<()> {
    let mut vectors = Vec::new();
    for (arguments, field) in [(["embed", PICTURE], "image"), (["embed", "--text=a car at night"], "text")] {
        let json = run("edgeblip", &[&arguments[..], &["--json"]].concat())?.json()?;
        assert_eq!(keys(&json[0])?, sorted([field, "embedding", "bundle"]));
        let vector: Vec<f32> = serde_json::from_value(json[0]["embedding"].clone())?;
        let length = vector.iter().map(|value| value * value).sum::<f32>();
        assert!((length - 1.0).abs() < 1e-5, "{length}");
        let plain = run("edgeblip", &arguments)?;
        let printed: Vec<f32> = plain.content()?.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        assert_eq!(printed, vector);
        vectors.push(vector);
    }
    let cosine: f32 = vectors[0].iter().zip(&vectors[1]).map(|(a, b)| a * b).sum();
    let scored = run("edgeblip", &["score", PICTURE, "a car at night", "--json"])?.json()?;
    assert!((f64::from(cosine) - number(&scored[0]["itc"])?).abs() < 1e-5);
    Ok(())
}

#[test]
fn search_puts_the_picture_that_is_meant_first() -> Result<()> {
    let found = run("edgeblip", &["search", "two bears on sand", "examples/images", "--json"])?.json()?;
    assert_eq!(found.len(), CAPTIONS.len());
    assert_eq!(found[0]["image"], "examples/images/07.png");
    for line in &found {
        assert_eq!(keys(line)?, sorted(["image", "score", "itm", "itc"]));
        let sum = number(&line["itm"])? + number(&line["itc"])?;
        assert!((number(&line["score"])? - sum).abs() < 1e-5, "{line}");
    }
    assert!(found.is_sorted_by(|a, b| a["score"].as_f64() >= b["score"].as_f64()));
    let top = run("edgeblip", &["search", "three tigers on water", "examples/images", "--top", "2"])?;
    let lines: Vec<&str> = top.content()?.lines().collect();
    assert!(lines.len() == 2 && lines[0].ends_with("  examples/images/05.png"), "{lines:?}");
    Ok(())
}

#[test]
fn ask_answers_and_takes_the_decoding_flags() -> Result<()> {
    let answerer = "tests/goldens/tiny-b/answerer";
    let question = ["tests/goldens/pictures/dots-13x17.png", "what is red?"];
    let json = with_bundle("ask", answerer, &[&question[..], &["--json", "--max-length", "6"]].concat())?.json()?;
    assert_eq!(json.len(), 1);
    assert_eq!(keys(&json[0])?, sorted(["image", "question", "answer", "token_ids", "log_prob", "bundle"]));
    assert_eq!(json[0]["question"], question[1]);
    assert!(token_ids(&json[0])?.len() <= 6);
    assert!(number(&json[0]["log_prob"])? <= 0.0);
    let plain = with_bundle("ask", answerer, &[&question[..], &["--max-length", "6"]].concat())?;
    assert_eq!(Value::from(plain.content()?.trim_end()), json[0]["answer"]);
    let several = with_bundle("ask", answerer, &[&question[..], &["--beams", "3", "--captions", "3"]].concat())?;
    assert_eq!(several.content()?.lines().count(), 3);
    Ok(())
}

#[test]
fn a_head_that_the_bundle_lacks_is_named_with_the_way_to_get_it() -> Result<()> {
    let ran = edgeblip(&format!("ask {PICTURE} why?"))?;
    ran.refused(&["the bundle has no answerer: export one with `edgeblip-export --answerer CHECKPOINT`"])?;
    let ran = with_bundle("caption", "tests/goldens/tiny-b/matcher", &[PICTURE])?;
    ran.refused(&["no captioner"])?;
    let ran = with_bundle("score", "tests/goldens/tiny-b/captioner", &[PICTURE, "a cat"])?;
    ran.refused(&["no matcher"])?;
    Ok(())
}

#[test]
fn the_exporter_reports_in_words_and_in_json() -> Result<()> {
    let folder = tempfile::TempDir::new()?;
    let out = |name: &str| folder.path().join(name).into_os_string();
    let export = |out: &OsStr, flags: &[&str]| {
        let mut arguments: Vec<&OsStr> = ["tests/goldens/tiny-b/captioner", "--out"].map(OsStr::new).to_vec();
        arguments.push(out);
        arguments.extend(flags.iter().map(OsStr::new));
        run("edgeblip-export", &arguments)
    };
    let plain = export(&out("plain"), &[])?;
    for words in ["quantized tensor, worst of", "cosine of image features", "first token", "weights.bin", "captioner"] {
        assert!(plain.content()?.contains(words), "{words} is not in {}", plain.out);
    }
    let json = export(&out("deep/er/json"), &["--json"])?.json()?;
    let fields = ["id", "heads", "bytes", "quantized", "comparison", "warnings", "manifest"];
    assert_eq!((json.len(), keys(&json[0])?), (1, sorted(fields)));
    assert_eq!(json[0]["heads"], serde_json::json!(["captioner"]));
    let errors: Vec<f64> = json[0]["quantized"]
        .as_array()
        .context("a list")?
        .iter()
        .map(|tensor| number(&tensor["error"]))
        .collect::<Result<_>>()?;
    assert!(errors.is_sorted_by(|a, b| a >= b) && errors[0] < 0.02, "{errors:?}");
    assert!(number(&json[0]["comparison"]["feature_cosine"])? > 0.99);
    let float = export(&out("float"), &["--json", "--precision", "fp32"])?.json()?;
    assert_eq!(float[0]["comparison"], Value::Null);
    let names = |path: &Path| -> Result<Vec<_>> { path.read_dir()?.map(|entry| Ok(entry?.file_name())).collect() };
    assert_eq!(names(folder.path())?.len(), 3, "{:?}", names(folder.path())?);
    Ok(())
}

#[test]
fn inspect_shows_a_bundle_and_a_checkpoint() -> Result<()> {
    let bundle = run("edgeblip-export", &["inspect", "models/built-in", "--json"])?.json()?;
    assert_eq!(keys(&bundle[0])?, sorted(["kind", "id", "manifest"]));
    let built_in = edgeblip::bundle::Bundle::built_in()?;
    assert_eq!((&bundle[0]["kind"], &bundle[0]["id"]), (&"bundle".into(), &built_in.id().into()));
    let plain = run("edgeblip-export", &["inspect", "models/built-in"])?;
    assert!(plain.content()?.starts_with(&format!("bundle {}\n", built_in.id())));
    let checkpoint = run("edgeblip-export", &["inspect", "models/starter/matcher", "--json"])?.json()?;
    assert_eq!(keys(&checkpoint[0])?, sorted(["kind", "roles", "config", "tokens", "tensors", "warnings"]));
    assert_eq!(checkpoint[0]["roles"], serde_json::json!(["matcher"]));
    let plain = run("edgeblip-export", &["inspect", "models/starter/captioner"])?;
    assert!(plain.content()?.starts_with("checkpoint: captioner\n") && plain.out.contains(" tensors, "));
    Ok(())
}

#[test]
fn a_reader_that_goes_away_is_no_error() -> Result<()> {
    for (name, arguments) in [
        ("edgeblip", &["caption", "examples/images"][..]),
        ("edgeblip", &["search", "a cat", "examples/images"]),
        ("edgeblip-export", &["inspect", "models/built-in"]),
        ("edgeblip-export", &["inspect", "models/starter/captioner", "--json"]),
    ] {
        let mut command = Command::new(program(name)?);
        command.args(arguments).current_dir(repository("")).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        drop(child.stdout.take());
        let done = child.wait_with_output()?;
        assert_eq!(String::from_utf8(done.stderr)?, "", "{arguments:?}");
        assert_eq!(done.status.code(), Some(0), "{arguments:?}");
    }
    Ok(())
}

#[test]
fn bench_says_what_it_ran_and_what_each_operator_took() -> Result<()> {
    let ran = edgeblip("bench --runs 2 --profile --json --decode greedy --threads 1")?;
    let report = &ran.json()?[0];
    assert_eq!((report["runs"].as_u64(), report["threads"].as_u64()), (Some(2), Some(1)));
    let tokens = report["tokens"].as_f64().context("tokens are a number")?;
    let [token, decoder] = ["token_ms", "decoder_ms"].map(|key| report[key]["median"].as_f64().unwrap_or_default());
    assert!(tokens >= 2.0 && decoder > 0.0 && (token * tokens - decoder).abs() < 0.01 * decoder + 0.01, "{report}");
    let operators = report["operators"].as_array().context("operators are a list")?;
    let linear = operators.iter().find(|row| row["graph"] == "vision.onnx" && row["operator"] == "QuantizedLinear");
    let linear = linear.context("the image encoder has linear layers")?;
    assert_eq!((linear["calls"].as_u64(), &linear["kernel"]), (Some(2 * 16), &report["kernel"]));

    let line = edgeblip("bench --runs 1")?;
    let line = line.content()?;
    assert!(line.lines().count() == 1 && line.contains("answers checked"), "{line}");
    edgeblip("bench no-such-picture.png")?.refused(&["no-such-picture.png"])?;
    edgeblip("bench --runs 0")?.refused(&["--runs"])?;
    Ok(())
}

/// The generator is ChaCha and every sum is taken by `libm`: the same tokens come on every platform.
#[test]
fn a_seed_gives_these_tokens_everywhere() -> Result<()> {
    let expected: [&[u32]; 3] = [
        &[55, 5, 31, 52, 23, 7, 36, 35, 45, 3],
        &[55, 7, 31, 8, 6, 37, 35, 36, 15, 47, 36, 35, 11, 35, 44, 3],
        &[55, 7, 43, 34, 7, 36, 7, 48, 43, 34, 7, 36, 12, 38, 15, 35, 44, 3],
    ];
    let flags =
        "caption examples/images/10.png --json --decode nucleus --top-p 0.95 --temperature 3 --captions 3 --seed 7";
    let lines = edgeblip(flags)?.json()?;
    for (line, expected) in lines.iter().zip(expected) {
        assert_eq!(token_ids(line)?, expected, "{}", line["caption"]);
    }
    Ok(())
}
