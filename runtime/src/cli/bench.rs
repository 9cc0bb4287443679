//! `edgeblip bench`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use blip::config::Role;
use blip::pixels::Rgb8;
use clap::Args;
use edgeblip::decoder::Writing;
use edgeblip::golden::{check_captioner, test_card};
use edgeblip::inference::OperatorTime;
use edgeblip::kernels::quantized_linear::instruction_set;
use edgeblip::model::Model;
use serde::Serialize;
use terminal::printable;

use super::writing::WritingFlags;
use super::{Common, milliseconds, say, say_json};

/// The captioner's answer is checked before anything is timed: another one than where the bundle was made is an error.
#[derive(Args)]
pub struct Bench {
    /// Picture to caption; a drawn test card if none is named
    #[arg(value_name = "PICTURE")]
    picture: Option<PathBuf>,
    /// Captions to time, after one that is not
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    runs: u32,
    /// List every operator with its calls, its time and the kernel that ran
    #[arg(long)]
    profile: bool,
    #[command(flatten)]
    writing: WritingFlags,
    #[command(flatten)]
    common: Common,
}

/// Median, least and most of several runs, in milliseconds.
#[derive(Clone, Copy, Serialize)]
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

/// What the owner of a board can send us.
#[derive(Serialize)]
struct Report {
    version: &'static str,
    machine: String,
    cores: usize,
    threads: usize,
    kernel: String,
    bundle: String,
    runs: u32,
    caption: String,
    tokens: usize,
    load_ms: f64,
    preprocess_ms: Spread,
    vision_ms: Spread,
    decoder_ms: Spread,
    token_ms: Spread,
    caption_ms: Spread,
    peak_memory_mb: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    operators: Vec<OperatorTime>,
}

/// One caption: preprocessing, image encoder, decoder.
struct Run {
    parts: [Duration; 3],
    token_ids: Vec<u32>,
    text: String,
}

impl Bench {
    pub fn run(&self) -> Result<ExitCode> {
        let start = Instant::now();
        let model = self.common.load(|_| vec![Role::Captioner])?;
        let load = start.elapsed();
        check_captioner(&model).context("checking the captioner before timing it")?;
        let facts = model.captioner()?.facts();
        let writing = Writing { texts: 1, ..self.writing.over(facts.decoding, &facts.prompt)? };
        let read = model.bundle().tokenizer().prompt(&writing.prompt)?.len();
        let picture = match &self.picture {
            Some(path) => picture::open(path)?,
            None => test_card()?,
        };
        let first = caption(&model, &picture, &writing)?;
        if self.profile {
            model.profile().start();
        }
        let runs = (0..self.runs).map(|_| caption(&model, &picture, &writing)).collect::<Result<Vec<_>>>()?;
        ensure!(
            runs.iter().all(|run| run.token_ids == first.token_ids),
            "two runs on one picture gave different captions: please report this as a bug"
        );
        let report = self.report(&model, (first, read), &runs, load);
        if self.common.json {
            say_json(&report)?;
        } else {
            report.operators.iter().try_for_each(|row| say(&row_of(row, &report)))?;
            say(&report.line())?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// `read` of the first caption's tokens are its start and its prompt, which the decoder reads at once.
    fn report(&self, model: &Model, (first, read): (Run, usize), runs: &[Run], load: Duration) -> Report {
        let tokens = first.token_ids.len().saturating_sub(read).max(1);
        let of = |time: &dyn Fn(&Run) -> Duration| Spread::of(runs.iter().map(|run| milliseconds(time(run))));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Report {
            version: env!("CARGO_PKG_VERSION"),
            machine: machine(),
            cores,
            threads: self.common.threads(),
            kernel: instruction_set().to_string(),
            bundle: model.bundle().id().chars().take(12).collect(),
            runs: self.runs,
            caption: first.text,
            tokens,
            load_ms: milliseconds(load),
            preprocess_ms: of(&|run| run.parts[0]),
            vision_ms: of(&|run| run.parts[1]),
            decoder_ms: of(&|run| run.parts[2]),
            token_ms: of(&|run| run.parts[2] / tokens as u32),
            caption_ms: of(&|run| run.parts.iter().sum()),
            peak_memory_mb: peak_memory_mb(),
            operators: if self.profile { model.profile().rows() } else { Vec::new() },
        }
    }
}

fn caption(model: &Model, picture: &Rgb8, writing: &Writing) -> Result<Run> {
    let mut view = model.see(picture)?;
    let start = Instant::now();
    let captions = model.captioner()?.describe(&mut view, writing)?;
    let parts = [view.preprocess, view.vision, start.elapsed()];
    let best = captions.into_iter().next().context("the captioner wrote nothing")?;
    Ok(Run { parts, token_ids: best.token_ids, text: best.text })
}

impl Spread {
    /// # Panics
    /// Without a run.
    fn of(times: impl Iterator<Item = f64>) -> Spread {
        let mut times: Vec<f64> = times.collect();
        times.sort_by(f64::total_cmp);
        Spread { median: times[times.len() / 2], least: times[0], most: times[times.len() - 1] }
    }
}

impl Report {
    /// One line, to be sent as it is.
    fn line(&self) -> String {
        let spread = |spread: &Spread| format!("{:.1} ({:.1} to {:.1})", spread.median, spread.least, spread.most);
        let memory = self.peak_memory_mb.map_or("unknown".to_owned(), |peak| format!("{peak:.0} MB"));
        let machine = printable(&self.machine).replace('\n', " ");
        format!(
            "edgeblip {} on {machine}, {} of {} cores, {} kernel, bundle {}: caption ms {}, image ms {}, a token ms {}, {} tokens, \
             load {:.0} ms, peak {memory}, {} runs, answers checked",
            self.version,
            self.threads,
            self.cores,
            self.kernel,
            self.bundle,
            spread(&self.caption_ms),
            spread(&self.vision_ms),
            spread(&self.token_ms),
            self.tokens,
            self.load_ms,
            self.runs,
        )
    }
}

/// Graph, operator, kernel, calls of a caption, milliseconds of a caption, share.
fn row_of(row: &OperatorTime, report: &Report) -> String {
    let all: f64 = report.operators.iter().map(|row| row.time.as_secs_f64()).sum();
    let runs = f64::from(report.runs);
    format!(
        "{:<14} {:<20} {:<18} {:>7.1} calls {:>9.3} ms {:>5.1} %",
        row.graph,
        row.operator,
        row.kernel,
        row.calls as f64 / runs,
        row.time.as_secs_f64() * 1e3 / runs,
        100.0 * row.time.as_secs_f64() / all.max(f64::MIN_POSITIVE)
    )
}

/// The board's name, or else the processor's.
fn machine() -> String {
    let board = std::fs::read_to_string("/proc/device-tree/model").ok();
    let processor = || {
        let facts = std::fs::read_to_string("/proc/cpuinfo").ok()?;
        let line = facts.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let named = board.map(|name| name.trim_matches(['\0', '\n', ' ']).to_owned()).or_else(processor);
    named.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// The most memory that this process had at once, files that it maps included; only Linux tells.
fn peak_memory_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024.0 / 1e6)
}
