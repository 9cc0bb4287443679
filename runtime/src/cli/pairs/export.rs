//! `edgeblip pairs export`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, ensure};
use clap::{Args, ValueEnum};
use dataset::Format;
use edgeblip::export::{Exported, GuessedTimes, Metadata, Notice, Options, Project, Target, export};
use field::clock::written;
use serde_json::json;
use store::{PairId, State};
use terminal::progress::Progress;
use terminal::shown;

use super::Where;
use crate::cli::{complain, say, say_json};

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    /// Hugging Face's ImageFolder: pictures and metadata.jsonl
    Imagefolder,
    /// Tars of KEY.jpg, KEY.txt and KEY.json
    Webdataset,
    /// COCO's captions: pictures and annotations.json
    Coco,
    /// BLIP's own json: pictures and annotations.json
    Blip,
    /// Parquet with the pictures inside
    Parquet,
    /// Camera trap data package 1.0.2
    CamtrapDp,
    /// Pictures, each with a .txt beside it
    Sidecars,
}

#[derive(Clone, Copy, ValueEnum)]
enum Which {
    Kept,
    Rejected,
    All,
}

#[derive(Clone, Copy, ValueEnum)]
enum Treatment {
    Write,
    /// Pictures stay as they are, to the byte
    Leave,
}

/// How places were chosen. Source: Camtrap DP 1.0.2, `project.samplingDesign`.
#[derive(Clone, Copy, ValueEnum)]
enum Design {
    SimpleRandom,
    SystematicRandom,
    ClusteredRandom,
    Experimental,
    Targeted,
    Opportunistic,
}

#[derive(Args)]
pub(super) struct Export {
    #[command(flatten)]
    place: Where,
    /// The format
    #[arg(value_enum)]
    format: Name,
    /// A new folder
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Pairs in this state, after what people said
    #[arg(long, value_enum, default_value = "kept")]
    state: Which,
    /// Only pairs behind this one
    #[arg(long, value_name = "PAIR")]
    since: Option<PairId>,
    /// Whether time, place and caption are written into the pictures, as EXIF and XMP
    #[arg(long, value_enum, default_value = "write")]
    metadata: Treatment,
    /// camtrap-dp: what the study is called
    #[arg(long, value_name = "TITLE")]
    project: Option<String>,
    /// camtrap-dp: who makes the package
    #[arg(long, value_name = "NAME")]
    contributor: Option<String>,
    /// camtrap-dp: how places were chosen
    #[arg(long, value_enum, default_value = "opportunistic")]
    sampling_design: Design,
    /// camtrap-dp: degrees north of boards whose configuration names none
    #[arg(long, value_name = "N", allow_negative_numbers = true, requires = "longitude")]
    latitude: Option<f64>,
    /// camtrap-dp: degrees east
    #[arg(long, value_name = "E", allow_negative_numbers = true, requires = "latitude")]
    longitude: Option<f64>,
    /// camtrap-dp: take pictures too whose clock nobody had set, and mark their deployment
    #[arg(long)]
    guessed_times: bool,
}

impl Export {
    pub(super) fn run(&self) -> Result<ExitCode> {
        let target = self.target()?;
        let options = Options {
            state: match self.state {
                Which::Kept => Some(State::Kept),
                Which::Rejected => Some(State::Rejected),
                Which::All => None,
            },
            since: self.since,
            metadata: match self.metadata {
                Treatment::Write => Metadata::Write,
                Treatment::Leave => Metadata::Leave,
            },
        };
        let reader = self.place.reader()?;
        let counts = reader.counts()?;
        let pairs = match options.state {
            Some(State::Kept) => counts.kept,
            Some(State::Rejected) => counts.rejected,
            None => counts.kept + counts.rejected,
        };
        let progress = Progress::new("pairs");
        progress.stage("exporting", usize::try_from(pairs).unwrap_or(usize::MAX));
        let mut notices = Vec::new();
        let exported = export(&reader, &target, &self.folder, &options, |notice| match notice {
            Notice::Pair => progress.step(),
            notice => notices.push(notice),
        });
        progress.finish();
        for notice in notices {
            match notice {
                Notice::Pair => {}
                Notice::Fault(what) => complain(&anyhow!("left out: {what}")),
                Notice::Untimed(pair) => complain(&anyhow!("left out: pair {pair}: nobody had set the clock")),
            }
        }
        let exported = exported?;
        self.tell(&exported)?;
        Ok(if exported.faults > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    fn tell(&self, exported: &Exported) -> Result<()> {
        let Exported { pairs, faults, untimed, partly_told } = *exported;
        if self.place.json {
            return say_json(&json!({
                "folder": self.folder.display().to_string(), "pairs": pairs, "faults": faults, "untimed": untimed,
                "partly_told": partly_told,
            }));
        }
        say(&format!("{}: {pairs} pairs", shown(&self.folder)))?;
        for (number, words) in [
            (faults, "left out, since they are not what was stored"),
            (untimed, "left out, since nobody had set the clock: --guessed-times takes them too"),
            (partly_told, "with EXIF or XMP of their own that cannot be added to, and stays as it is"),
        ] {
            if number > 0 {
                say(&format!("{number} {words}"))?;
            }
        }
        Ok(())
    }

    fn target(&self) -> Result<Target> {
        Ok(Target::Dataset(match self.format {
            Name::Imagefolder => Format::ImageFolder,
            Name::Webdataset => Format::WebDataset,
            Name::Coco => Format::CocoJson,
            Name::Blip => Format::BlipJson,
            Name::Parquet => Format::Parquet,
            Name::Sidecars => Format::Sidecars,
            Name::CamtrapDp => return Ok(Target::CamtrapDp(self.project()?)),
        }))
    }

    fn project(&self) -> Result<Project> {
        let needs = "a camera trap data package names its project and who made it: give --project and --contributor";
        let title = self.project.clone().filter(|title| !title.trim().is_empty()).context(needs)?;
        let contributor = self.contributor.clone().filter(|name| !name.trim().is_empty()).context(needs)?;
        let coordinates = self.latitude.zip(self.longitude).map(|(north, east)| [north, east]);
        if let Some([north, east]) = coordinates {
            let is_place = (-90.0..=90.0).contains(&north) && (-180.0..=180.0).contains(&east);
            ensure!(is_place, "--latitude is from -90 to 90, and --longitude from -180 to 180");
        }
        let created = created().context("reading the time at which the package is made")?;
        Ok(Project {
            title,
            contributor,
            sampling_design: match self.sampling_design {
                Design::SimpleRandom => "simpleRandom",
                Design::SystematicRandom => "systematicRandom",
                Design::ClusteredRandom => "clusteredRandom",
                Design::Experimental => "experimental",
                Design::Targeted => "targeted",
                Design::Opportunistic => "opportunistic",
            },
            coordinates,
            guessed_times: if self.guessed_times { GuessedTimes::Mark } else { GuessedTimes::Leave },
            created,
        })
    }
}

/// Now, or what SOURCE_DATE_EPOCH says, so that the same store can give the same bytes again.
///
/// Source: reproducible-builds.org, "SOURCE_DATE_EPOCH": seconds since 1970.
fn created() -> Result<String> {
    let seconds = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(seconds) => {
            seconds.parse().with_context(|| format!("SOURCE_DATE_EPOCH is {seconds:?}, no number of seconds"))?
        }
        Err(_) => i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))?,
    };
    seconds.checked_mul(1000).and_then(written).context("there is no such date")
}
