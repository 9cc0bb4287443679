//! `evaluate`.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Result, bail};
use blip::config::Role;
use clap::Args;
use edgeblip_trainer::engine::Device;
use edgeblip_trainer::evaluation::{BundleSettings, Evaluation, EvaluationSettings, Models, evaluate};
use edgeblip_trainer::report::Page;
use edgeblip_trainer::train::open_data;
use terminal::progress::Progress;

use super::models::{Computing, Loaded, Work, compute};

/// What is measured follows from the models that are named.
#[derive(Args)]
pub struct Evaluate {
    /// Pairs, or questions, to measure on
    #[arg(required = true, value_name = "DATASET")]
    data: Vec<String>,
    /// Measures captions: BLEU-4, CIDEr, ROUGE-L, exact ones; METEOR where Java and pycocoevalcap are there
    #[arg(long, value_name = "CHECKPOINT")]
    captioner: Option<PathBuf>,
    /// Measures retrieval (ITC, then ITM), matching, and which threshold gives which precision
    #[arg(long, value_name = "CHECKPOINT")]
    matcher: Option<PathBuf>,
    /// Measures answers
    #[arg(long, value_name = "CHECKPOINT")]
    answerer: Option<PathBuf>,
    /// Words that captions start with
    #[arg(long, value_name = "TEXT", default_value = "")]
    prompt: String,
    /// Tokens of a caption, at least and at most, start and end included
    #[arg(long, num_args = 2, value_names = ["MIN", "MAX"])]
    length: Option<Vec<usize>>,
    /// Pictures in a pass
    #[arg(long, value_name = "N", default_value_t = 32)]
    batch: usize,
    /// Compare the captioner with an int8 bundle of it: needs edgeblip-export and edgeblip beside this program
    #[arg(long, requires = "captioner")]
    int8: bool,
    /// Also write a page with tables and plots
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
    #[command(flatten)]
    computing: Computing,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

impl Evaluate {
    pub fn run(self) -> Result<()> {
        if self.captioner.is_none() && self.matcher.is_none() && self.answerer.is_none() {
            bail!("name what to measure: --captioner, --matcher or --answerer CHECKPOINT");
        }
        let (device, threads) = (self.computing.device.clone(), self.computing.threads.unwrap_or(0));
        let (json, page) = (self.json, self.page.clone());
        let found = compute(self, &device, threads)?;
        if let Some(path) = page {
            found.sections(Page::new("edgeblip: evaluation")).write(&path)?;
        }
        let mut out = std::io::stdout();
        match json {
            true => Ok(writeln!(out, "{}", terminal::json(&found)?)?),
            false => Ok(write!(out, "{found}")?),
        }
    }

    fn settings(&self) -> Result<EvaluationSettings> {
        let mut settings = EvaluationSettings { batch: self.batch, ..EvaluationSettings::default() };
        settings.captions.prompt.clone_from(&self.prompt);
        if let Some([least, most]) = self.length.as_deref() {
            (settings.captions.options.min_length, settings.captions.options.max_length) = (*least, *most);
        }
        if let (true, Some(checkpoint)) = (self.int8, &self.captioner) {
            let beside = |name: &str| Ok::<_, anyhow::Error>(std::env::current_exe()?.with_file_name(name));
            settings.bundle = Some(BundleSettings {
                checkpoint: checkpoint.clone(),
                exporter: beside("edgeblip-export")?,
                runtime: beside("edgeblip")?,
            });
        }
        Ok(settings)
    }
}

impl Work for Evaluate {
    type Output = Evaluation;

    fn on<D: Device>(self, device: D) -> Result<Evaluation> {
        let data = open_data(&self.data)?;
        let captioner = Loaded::maybe(self.captioner.as_ref(), Role::Captioner, &device)?;
        let matcher = Loaded::maybe(self.matcher.as_ref(), Role::Matcher, &device)?;
        let answerer = Loaded::maybe(self.answerer.as_ref(), Role::Answerer, &device)?;
        let models = Models {
            captioner: captioner.as_ref().map(|loaded| loaded.network(&device)),
            matcher: matcher.as_ref().map(|loaded| loaded.network(&device)),
            answerer: answerer.as_ref().map(|loaded| loaded.network(&device)),
        };
        let progress = Progress::new("pictures");
        let found = evaluate(&data, &models, &self.settings()?, &progress)?;
        progress.finish();
        Ok(found)
    }
}
