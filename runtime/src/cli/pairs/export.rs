//! `edgeblip pairs export`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use edgeblip::export::{GuessedTimes, Metadata, Options, Project, Target, export};
use field::clock::written;
use formats::Format;
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
    /// Leave the pictures as they are, to the byte: no time, place and caption as EXIF and XMP
    #[arg(long)]
    leave_pictures: bool,
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
            metadata: if self.leave_pictures { Metadata::Leave } else { Metadata::Write },
        };
        let reader = self.place.reader()?;
        let counts = reader.counts()?;
        let progress = Progress::new("pairs");
        progress.stage("exporting", usize::try_from(counts.kept + counts.rejected).unwrap_or(usize::MAX));
        let exported = export(&reader, &target, &self.folder, &options, || progress.step());
        progress.finish();
        let exported = exported?;
        for fault in &exported.damaged {
            complain(&anyhow::anyhow!("left out: {fault}"));
        }
        let damaged = exported.damaged.len();
        if self.place.json {
            say_json(&json!({
                "folder": self.folder.display().to_string(), "pairs": exported.pairs, "damaged": damaged,
                "untimed": exported.untimed, "own_metadata": exported.own_metadata,
            }))?;
        } else {
            say(&format!("{}: {} pairs", shown(&self.folder), exported.pairs))?;
            if exported.untimed > 0 {
                let words = "pairs are left out, for nobody had set the clock: --guessed-times takes them too";
                say(&format!("{} {words}", exported.untimed))?;
            }
            if exported.own_metadata > 0 {
                say(&format!("{} pictures had EXIF or XMP of their own, and keep it", exported.own_metadata))?;
            }
        }
        Ok(if damaged > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
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
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let created = i64::try_from(now).ok().and_then(|now| written(now * 1000)).context("the clock shows no date")?;
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
