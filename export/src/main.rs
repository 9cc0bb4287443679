//! `edgeblip-export`: a trained BLIP checkpoint in, a bundle out.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use blip::config::Role;
use blip::manifest::{EncoderToken, Precision, WEIGHTS};
use checkpoint::OpenOptions;
use clap::{Args, Parser, Subcommand, ValueEnum};
use edgeblip_export::bundle::Settings;
use edgeblip_export::inspect::{Inspection, inspect};
use edgeblip_export::pipeline::{self, Report};
use edgeblip_export::weights::Request;
use terminal::progress::Progress;
use terminal::{explained, json, printable, shown};

/// Worst tensors that are printed.
const WORST: usize = 10;

/// Turns trained BLIP checkpoints into one bundle of int8 ONNX graphs.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    export: Export,
}

#[derive(Subcommand)]
enum Command {
    /// Print what is in a bundle or a checkpoint
    Inspect(Inspect),
}

#[derive(Args)]
struct Export {
    /// Hugging Face folders or the authors' .pth files; each takes the heads that it has
    #[arg(value_name = "CHECKPOINT")]
    checkpoints: Vec<PathBuf>,
    /// Checkpoint of the captioner
    #[arg(long, value_name = "CHECKPOINT")]
    captioner: Option<PathBuf>,
    /// Checkpoint of the matcher (ITM and ITC)
    #[arg(long, value_name = "CHECKPOINT")]
    matcher: Option<PathBuf>,
    /// Checkpoint of the answerer (VQA)
    #[arg(long, value_name = "CHECKPOINT")]
    answerer: Option<PathBuf>,
    /// Folder to make; it must not exist
    #[arg(long, value_name = "DIR", required = true)]
    out: Option<PathBuf>,
    /// How to store weights
    #[arg(long, value_enum, default_value_t = PrecisionFlag::Int8)]
    precision: PrecisionFlag,
    /// Token 0 of the image-grounded encoder: ENC as trained, CLS as Hugging Face's classes
    #[arg(long, value_enum, default_value_t = EncoderTokenFlag::Enc, ignore_case = true)]
    encoder_token: EncoderTokenFlag,
    /// Words that captions start with unless the reader says otherwise
    #[arg(long, value_name = "TEXT", default_value = "")]
    prompt: String,
    /// Licence of the weights, for the manifest
    #[arg(long, value_name = "NAME")]
    licence: Option<String>,
    #[command(flatten)]
    reading: Reading,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// How checkpoints are read.
#[derive(Args)]
struct Reading {
    /// Side of the picture in pixels, if not the trained one: the position table is interpolated
    #[arg(long, value_name = "PIXELS")]
    image_size: Option<usize>,
    /// Attention heads of the image encoder, for a .pth whose heads are not 64 wide
    #[arg(long, value_name = "N")]
    vision_heads: Option<usize>,
    /// Attention heads of the text stacks, for a .pth whose heads are not 64 wide
    #[arg(long, value_name = "N")]
    text_heads: Option<usize>,
    /// vocab.txt, tokenizer.json or a folder with one, for a .pth with a vocabulary of its own
    #[arg(long, value_name = "PATH")]
    tokenizer: Option<PathBuf>,
}

#[derive(Args)]
struct Inspect {
    /// A bundle's or checkpoint's folder, or a .pth file
    path: PathBuf,
    #[command(flatten)]
    reading: Reading,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum PrecisionFlag {
    Int8,
    Fp32,
}

#[derive(Clone, Copy, ValueEnum)]
enum EncoderTokenFlag {
    #[value(name = "ENC")]
    Enc,
    #[value(name = "CLS")]
    Cls,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.command {
        Some(Command::Inspect(command)) => run_inspect(command),
        None => run_export(&cli.export),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr().lock(), "edgeblip-export: {}", explained(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

impl Reading {
    fn options(&self) -> OpenOptions {
        OpenOptions {
            image_size: self.image_size,
            vision_heads: self.vision_heads,
            text_heads: self.text_heads,
            tokenizer: self.tokenizer.clone(),
        }
    }
}

fn run_export(export: &Export) -> Result<()> {
    let out = export.out.as_deref().context("name a folder with --out")?;
    let named =
        [(Role::Captioner, &export.captioner), (Role::Matcher, &export.matcher), (Role::Answerer, &export.answerer)];
    let named = named.into_iter().filter_map(|(role, path)| Some((role, path.clone()?))).collect();
    let request = Request { any: export.checkpoints.clone(), named };
    let settings = Settings {
        precision: match export.precision {
            PrecisionFlag::Int8 => Precision::Int8,
            PrecisionFlag::Fp32 => Precision::Fp32,
        },
        encoder_token: match export.encoder_token {
            EncoderTokenFlag::Enc => EncoderToken::Encoder,
            EncoderTokenFlag::Cls => EncoderToken::Class,
        },
        prompt: export.prompt.clone(),
        licence: export.licence.clone(),
    };
    let report = pipeline::export(&request, &export.reading.options(), &settings, out, &Progress::new("tensors"))?;
    for warning in &report.warnings {
        let _ = writeln!(std::io::stderr().lock(), "warning: {}", printable(warning));
    }
    if export.json { print(&json(&report).context("writing JSON")?) } else { print(&table(out, &report)) }
}

fn table(out: &Path, report: &Report) -> String {
    let manifest = &report.manifest;
    let mut lines = Vec::new();
    if !report.quantized.is_empty() {
        lines.push(format!("{:>8}  {:<13}  quantized tensor, worst of {}", "error", "shape", report.quantized.len()));
        for tensor in report.quantized.iter().take(WORST) {
            let [rows, width] = tensor.shape;
            lines.push(format!("{:>7.3}%  {:<13}  {}", tensor.error * 100.0, format!("{rows} x {width}"), tensor.name));
        }
        lines.push(String::new());
    }
    if let Some(comparison) = &report.comparison {
        let pictures = comparison.pictures;
        lines.push(format!("int8 against fp32 on {pictures} test pictures:"));
        lines.push(format!("  cosine of image features, worst token: {:.5}", comparison.feature_cosine));
        if let Some(agrees) = comparison.first_token_agrees {
            lines.push(format!("  first token of the caption agrees: {agrees} of {pictures}"));
        }
        lines.push(String::new());
    }
    let sizes = manifest.graphs.keys().map(String::as_str).chain([WEIGHTS]).map(|name| {
        let bytes = manifest.files.get(name).map_or(0, |file| file.bytes);
        format!("{:>10}  {name}", size(bytes))
    });
    lines.extend(sizes);
    let heads: Vec<String> = report.heads.iter().map(Role::to_string).collect();
    lines.push(format!("{:>10}  {} ({}, {})", size(report.bytes), shown(out), manifest.precision, heads.join(", ")));
    lines.join("\n")
}

fn run_inspect(command: &Inspect) -> Result<()> {
    let inspection = inspect(&command.path, &command.reading.options())?;
    if command.json {
        return print(&json(&inspection).context("writing JSON")?);
    }
    match inspection {
        Inspection::Bundle { id, manifest } => {
            let text = String::from_utf8(manifest.to_json()).context("the manifest is text")?;
            print(&format!("bundle {id}\n{}", text.trim_end()))
        }
        Inspection::Checkpoint { roles, config, tokens, tensors, warnings } => {
            let roles: Vec<String> = roles.iter().map(Role::to_string).collect();
            let mut lines =
                vec![format!("checkpoint: {}", roles.join(", ")), format!("{config:#?}"), format!("{tokens:?}")];
            lines
                .extend(tensors.iter().map(|tensor| format!("{:<20}  {}", format!("{:?}", tensor.shape), tensor.name)));
            let values: usize = tensors.iter().map(|tensor| tensor.shape.iter().product::<usize>()).sum();
            lines.push(format!("{} tensors, {values} values", tensors.len()));
            lines.extend(warnings.iter().map(|warning| format!("warning: {warning}")));
            print(&lines.join("\n"))
        }
    }
}

fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{}", printable(text)) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        done => done.context("writing to standard output"),
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}
