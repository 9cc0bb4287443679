//! `scenes`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use edgeblip_trainer::dataset::write::{DatasetWriter, WriteOptions};
use edgeblip_trainer::dataset::{Format, Origin, Pair, Text};
use edgeblip_trainer::scenes::{SceneSettings, Scenes, Split};
use image::ImageEncoder;
use terminal::progress::Progress;

/// The captions are true unless noise is asked for; the truth is always kept beside them.
#[derive(Args)]
pub struct Make {
    /// Folder to make
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 1000)]
    count: u64,
    /// Number of the first one: other numbers are other scenes
    #[arg(long, value_name = "N", default_value_t = 0)]
    first: u64,
    /// Sides in pixels
    #[arg(long, value_name = "PIXELS")]
    side: Option<usize>,
    /// Seed
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Share of texts that are wrong
    #[arg(long, value_name = "SHARE")]
    noise: Option<f64>,
    /// Scenes of held-out things and combinations, which training never sees
    #[arg(long)]
    held_out: bool,
    /// How to store them
    #[arg(long, value_enum, default_value_t = Store::Folder)]
    format: Store,
    /// Settings of the generator, as TOML
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
}

/// How a dataset is stored.
#[derive(Clone, Copy, ValueEnum)]
pub enum Store {
    /// Pictures and metadata.jsonl
    Folder,
    /// WebDataset tars
    Tar,
    /// The authors' json
    Json,
    /// COCO's json
    Coco,
    /// Parquet
    Parquet,
}

impl Store {
    /// The format of that name.
    pub fn format(self) -> Format {
        match self {
            Store::Folder => Format::ImageFolder,
            Store::Tar => Format::WebDataset,
            Store::Json => Format::BlipJson,
            Store::Coco => Format::CocoJson,
            Store::Parquet => Format::Parquet,
        }
    }
}

impl Make {
    pub fn run(self) -> Result<()> {
        let mut settings = match &self.settings {
            Some(path) => {
                let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
                toml::from_str(&text).with_context(|| format!("reading {}", path.display()))?
            }
            None => SceneSettings::default(),
        };
        settings.side = self.side.unwrap_or(settings.side);
        settings.seed = self.seed.unwrap_or(settings.seed);
        settings.noise.share = self.noise.unwrap_or(settings.noise.share);
        if self.held_out {
            settings.split = Split::HeldOut;
        }
        // CapFilt keeps what people wrote and judges what may be noise.
        let origin = if settings.noise.share > 0.0 { Origin::Web } else { Origin::Human };
        let scenes = Scenes::new(&settings)?;
        let mut writer = DatasetWriter::create(&self.out, self.format.format(), &WriteOptions::default())?;
        let progress = Progress::new("scenes");
        progress.stage("painting", self.count as usize);
        for index in self.first..self.first + self.count {
            writer.add(&pair(&scenes, index, origin)?)?;
            progress.step();
        }
        writer.finish()?;
        progress.finish();
        println!("{} scenes in {}", self.count, terminal::shown(&self.out));
        Ok(())
    }
}

fn pair(scenes: &Scenes, index: u64, origin: Origin) -> Result<Pair> {
    let (scene, noisy) = (scenes.scene(index), scenes.text(index));
    let mut png = Vec::new();
    let (width, height) = (scene.picture.width() as u32, scene.picture.height() as u32);
    image::codecs::png::PngEncoder::new(&mut png).write_image(
        scene.picture.values(),
        width,
        height,
        image::ExtendedColorType::Rgb8,
    )?;
    let truth = serde_json::json!({
        "captions": scene.truth.captions(), "noise": noisy.kind, "scene": scene.truth,
    });
    Ok(Pair {
        key: format!("{index:08}"),
        picture: png,
        texts: vec![Text { text: noisy.text, origin, score: None }],
        truth: Some(truth),
    })
}
