//! Checkpoints on a device, for commands that do not train.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use blip::config::Role;
use blip::tokenizer::{Tokenizer, Vocabulary};
use checkpoint::{Checkpoint, OpenOptions};
use clap::Args;
use edgeblip_trainer::engine::Device;
use edgeblip_trainer::engine::cpu::Cpu;
use edgeblip_trainer::engine::cuda::Cuda;
use edgeblip_trainer::generation::Network;
use edgeblip_trainer::model::{Blip, Random, Sharing};
use edgeblip_trainer::ranks::Place;
use edgeblip_trainer::weights::{Conflicts, Preparation, Start};

/// Where a command computes.
#[derive(Args)]
pub struct Computing {
    /// Where to compute; "auto" is a GPU where there is one
    #[arg(long, value_name = "cuda|cpu|auto", default_value = "auto")]
    pub device: String,
    /// Threads of the CPU device; all cores if none is named
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

/// What runs on either device.
pub trait Work {
    /// What it gives.
    type Output;
    /// Does it.
    fn on<D: Device>(self, device: D) -> Result<Self::Output>;
}

/// Does the work on the device that was asked for.
pub fn compute<W: Work>(work: W, device: &str, threads: usize) -> Result<W::Output> {
    let on_cpu = |work: W| {
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            threads => threads,
        };
        work.on(Cpu::<f32>::new(threads)?)
    };
    let local_rank = Place::from_environment()?.map_or(0, |place| place.local_rank);
    match device {
        "cpu" => on_cpu(work),
        "cuda" => work.on(Cuda::open(local_rank)?),
        "auto" => match Cuda::open(local_rank) {
            Ok(gpu) => work.on(gpu),
            Err(error) => {
                eprintln!("on the CPU: {}", terminal::explained(&error));
                on_cpu(work)
            }
        },
        other => bail!("there is no device {other:?}: choose cuda, cpu or auto"),
    }
}

/// A checkpoint with all its weights on a device.
pub struct Loaded<D: Device> {
    model: Blip,
    weights: D::Flat,
    tokenizer: Tokenizer,
    preparation: Preparation,
}

impl<D: Device> Loaded<D> {
    /// Reads a checkpoint that is wanted for `role`.
    pub fn open(path: &Path, role: Role, device: &D) -> Result<Loaded<D>> {
        let checkpoint = Checkpoint::open(path, &OpenOptions::default())?;
        if !checkpoint.roles().contains(&role) {
            let roles: Vec<String> = checkpoint.roles().iter().map(ToString::to_string).collect();
            bail!("{}: is a {}, a {role} is wanted", path.display(), roles.join(" and "));
        }
        let preparation = Preparation::of(&checkpoint);
        let sharing = if checkpoint.roles().len() > 1 { Sharing::Joint } else { Sharing::Apart };
        let model = Blip::new(checkpoint.config(), sharing);
        let parts = (&model.layout, checkpoint.config());
        let mut start = Start::random(parts, &preparation.vocabulary, Random::seeded(0), Conflicts::Refuse);
        start.checkpoint(path, &checkpoint)?;
        let (values, _) = start.finish();
        let words = Vocabulary::new(preparation.vocabulary.clone())?;
        let tokenizer = Tokenizer::new(words, preparation.settings, preparation.tokens)
            .with_context(|| path.display().to_string())?;
        Ok(Loaded { weights: device.flat(&values)?, model, tokenizer, preparation })
    }

    /// The same, if there is a path.
    pub fn maybe(path: Option<&PathBuf>, role: Role, device: &D) -> Result<Option<Loaded<D>>> {
        path.map(|path| Loaded::open(path, role, device)).transpose()
    }

    /// The model, ready to run.
    pub fn network<'m>(&'m self, device: &'m D) -> Network<'m, D> {
        Network {
            device,
            model: &self.model,
            parameters: &self.weights,
            tokenizer: &self.tokenizer,
            normalization: self.preparation.normalization,
            encoder_token: self.preparation.tokens.encoder_start,
        }
    }
}
