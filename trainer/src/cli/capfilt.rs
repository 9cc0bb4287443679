//! `capfilt`.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use blip::config::Role;
use blip::decoding::Strategy;
use clap::{Args, ValueEnum};
use edgeblip_trainer::capfilt::{Capfilt, CapfiltSettings, Captioned, Share, Summary, calibrated_threshold};
use edgeblip_trainer::engine::Device;
use edgeblip_trainer::ranks::Place;
use edgeblip_trainer::train::open_data;
use terminal::progress::Progress;

use super::models::{Computing, Loaded, Work, compute};
use super::scenes::Store;

/// The captioner writes texts, the filter judges them and those that were there; what people wrote stays. A run that was
/// stopped goes on when the same command is given again; several processes share one folder.
#[derive(Args)]
pub struct Filter {
    /// Pairs to clean and to caption
    #[arg(required = true, value_name = "DATASET")]
    data: Vec<String>,
    /// Writes the texts
    #[arg(long, value_name = "CHECKPOINT")]
    captioner: PathBuf,
    /// Judges them: a matcher that was fine-tuned apart from the captioner
    #[arg(long, value_name = "CHECKPOINT")]
    filter: PathBuf,
    /// Folder for the new dataset, the decisions and the page
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Texts to write for each picture
    #[arg(long, value_name = "N", default_value_t = 1)]
    captions: usize,
    /// Write them with three beams instead of nucleus sampling: fewer are rejected, but they teach less
    #[arg(long)]
    beams: bool,
    /// Write only for pictures without a text by a person, or for all
    #[arg(long, value_enum, default_value_t = Which::Web)]
    pictures: Which,
    /// Texts whose probability of matching is lower are rejected
    #[arg(long, value_name = "P", default_value_t = 0.5)]
    threshold: f32,
    /// Instead, find the threshold at which so large a share of what is kept is right, on pairs by people
    #[arg(long, value_name = "P", requires = "people", conflicts_with = "threshold")]
    precision: Option<f64>,
    /// Pairs by people, for --precision
    #[arg(long, value_name = "DATASET")]
    people: Vec<String>,
    /// Words that texts start with; they are left out of what is written
    #[arg(long, value_name = "TEXT", default_value = "")]
    prompt: String,
    /// Tokens of a text, at least and at most, start and end included
    #[arg(long, num_args = 2, value_names = ["MIN", "MAX"])]
    length: Option<Vec<usize>>,
    /// Seed of the sampling
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// How to store the new dataset
    #[arg(long, value_enum, default_value_t = Store::Folder)]
    format: Store,
    /// Pictures that the page shows
    #[arg(long, value_name = "N", default_value_t = 100)]
    sheet: usize,
    #[command(flatten)]
    computing: Computing,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Which {
    /// Those without a text by a person
    Web,
    /// All of them
    All,
}

impl Filter {
    pub fn run(self) -> Result<()> {
        let (device, threads, json) = (self.computing.device.clone(), self.computing.threads.unwrap_or(0), self.json);
        let Some(summary) = compute(self, &device, threads)? else {
            eprintln!("this rank's shards are done; the rank that finishes last puts them together");
            return Ok(());
        };
        let mut out = std::io::stdout();
        if json {
            return Ok(writeln!(out, "{}", terminal::json(&summary)?)?);
        }
        for row in summary.rows() {
            writeln!(out, "{}", terminal::printable(&row.join("  ")))?;
        }
        for warning in &summary.warnings {
            eprintln!("{}", terminal::printable(warning));
        }
        Ok(())
    }

    fn settings(&self, threshold: f32) -> CapfiltSettings {
        let mut settings = CapfiltSettings { threshold, seed: self.seed, ..CapfiltSettings::default() };
        settings.captioned = match self.pictures {
            Which::Web => Captioned::Web,
            Which::All => Captioned::All,
        };
        settings.writing.texts = self.captions;
        settings.writing.prompt.clone_from(&self.prompt);
        if self.beams {
            settings.writing.options.strategy = Strategy::Beam { beams: 3 };
            settings.writing.options.repetition_penalty = 1.0;
        }
        if let Some([least, most]) = self.length.as_deref() {
            (settings.writing.options.min_length, settings.writing.options.max_length) = (*least, *most);
        }
        settings
    }
}

impl Work for Filter {
    type Output = Option<Summary>;

    fn on<D: Device>(self, device: D) -> Result<Option<Summary>> {
        let data = open_data(&self.data)?;
        let captioner = Loaded::open(&self.captioner, Role::Captioner, &device)?;
        let filter = Loaded::open(&self.filter, Role::Matcher, &device)?;
        let progress = Progress::new("pictures");
        let threshold = match self.precision {
            Some(precision) => {
                let people = open_data(&self.people)?;
                calibrated_threshold(&people, &filter.network(&device), (precision, self.seed), &progress)?
            }
            None => self.threshold,
        };
        let networks = [captioner.network(&device), filter.network(&device)];
        let run = Capfilt::begin(&data, networks, self.settings(threshold), &self.out)?;
        let place = Place::from_environment()?;
        let share = place.map_or(Share { rank: 0, world: 1 }, |place| Share { rank: place.rank, world: place.world });
        run.work(share, &progress)?;
        if share.world > 1 && !run.missing()?.is_empty() {
            return Ok(None);
        }
        Ok(Some(run.assemble(self.format.format(), self.sheet, &progress)?))
    }
}
