//! The flags that say how a text is written.

use anyhow::{Result, bail};
use blip::decoding::{DecodingOptions, Strategy};
use clap::{Args, ValueEnum};
use edgeblip::decoder::Writing;

/// Top-p that the paper samples with. Source: BLIP `models/blip.py`, `generate`.
const TOP_P: f32 = 0.9;

#[derive(Clone, Copy, ValueEnum)]
enum Decode {
    /// The likeliest token at every step
    Greedy,
    /// The likeliest text among a few that grow together
    Beam,
    /// Random tokens among the likeliest
    Nucleus,
}

/// Decoding flags; what is not given comes from the bundle.
#[derive(Args)]
pub struct WritingFlags {
    /// How to choose tokens
    #[arg(long, value_enum)]
    decode: Option<Decode>,
    /// Texts that grow together in beam search
    #[arg(long, value_name = "N")]
    beams: Option<usize>,
    /// Nucleus: share of the probability to draw from
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    top_p: Option<f32>,
    /// Nucleus: most tokens to draw from
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Nucleus: below 1 safer, above 1 wilder
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    temperature: Option<f32>,
    /// Above 1: tokens that are there become less likely
    #[arg(long, value_name = "R", allow_negative_numbers = true)]
    repetition_penalty: Option<f32>,
    /// No run of N tokens twice
    #[arg(long, value_name = "N")]
    no_repeat_ngram: Option<usize>,
    /// Least tokens, start, prompt and end included
    #[arg(long, value_name = "N")]
    min_length: Option<usize>,
    /// Most tokens, start, prompt and end included
    #[arg(long, value_name = "N")]
    max_length: Option<usize>,
    /// Texts to write for each picture
    #[arg(long, value_name = "N", default_value_t = 1)]
    captions: usize,
    /// Seed of nucleus sampling; the same seed gives the same texts on every machine
    #[arg(long, value_name = "S", default_value_t = 0, allow_negative_numbers = true)]
    seed: u64,
}

impl WritingFlags {
    /// The flags over the bundle's own settings.
    ///
    /// # Errors
    /// Flags that contradict each other.
    pub fn over(&self, defaults: DecodingOptions, prompt: &str) -> Result<Writing> {
        let strategy = self.strategy(defaults.strategy)?;
        let options = DecodingOptions {
            strategy,
            repetition_penalty: self.repetition_penalty.unwrap_or(defaults.repetition_penalty),
            no_repeat_ngram: self.no_repeat_ngram.unwrap_or(defaults.no_repeat_ngram),
            min_length: self.min_length.unwrap_or(defaults.min_length),
            max_length: self.max_length.unwrap_or(defaults.max_length),
            length_penalty: defaults.length_penalty,
        };
        options.validate()?;
        Ok(Writing { prompt: prompt.to_owned(), options, seed: self.seed, texts: self.captions })
    }

    fn strategy(&self, default: Strategy) -> Result<Strategy> {
        let sampling = self.top_p.is_some() || self.top_k.is_some() || self.temperature.is_some();
        let decode = match (self.decode, self.beams, sampling) {
            (Some(decode), _, _) => decode,
            (None, None, false) => return Ok(default),
            (None, Some(_), false) => Decode::Beam,
            (None, None, true) => Decode::Nucleus,
            (None, Some(_), true) => bail!("--beams and --top-p, --top-k or --temperature: choose with --decode"),
        };
        if self.beams.is_some() && !matches!(decode, Decode::Beam) {
            bail!("--beams is for --decode beam");
        }
        if sampling && !matches!(decode, Decode::Nucleus) {
            bail!("--top-p, --top-k and --temperature are for --decode nucleus");
        }
        Ok(match (decode, default) {
            (Decode::Greedy, _) => Strategy::Greedy,
            (Decode::Beam, Strategy::Beam { beams }) => Strategy::Beam { beams: self.beams.unwrap_or(beams) },
            (Decode::Beam, _) => Strategy::Beam { beams: self.beams.unwrap_or(3) },
            (Decode::Nucleus, _) => Strategy::Nucleus {
                top_p: self.top_p.unwrap_or(TOP_P),
                temperature: self.temperature.unwrap_or(1.0),
                top_k: self.top_k,
            },
        })
    }
}
