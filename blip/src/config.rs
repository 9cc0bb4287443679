//! Sizes and token ids of one BLIP model, as a checkpoint states them.

use serde::{Deserialize, Serialize};

/// Largest value that any single size may have; a configuration beyond it is refused before anything is allocated.
pub const MAX_SIZE: usize = 1 << 20;
/// Largest number of layers in a stack.
pub const MAX_LAYERS: usize = 256;

/// What a checkpoint's heads are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Writes a text for a picture: image encoder and image-grounded text decoder.
    Captioner,
    /// Says whether a text matches a picture: image encoder, text encoder, ITC projections and ITM head.
    Matcher,
    /// Answers a question about a picture: image encoder, question encoder and answer decoder.
    Answerer,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Role::Captioner => "captioner",
            Role::Matcher => "matcher",
            Role::Answerer => "answerer",
        })
    }
}

/// The image encoder: a ViT with a class token, a learned position table and pre-norm layers.
///
/// Source: BLIP `models/vit.py`, `VisionTransformer.__init__`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VisionConfig {
    /// Width of a token.
    pub width: usize,
    /// Number of layers.
    pub layers: usize,
    /// Attention heads; divides `width`.
    pub heads: usize,
    /// Width inside the feed-forward block.
    pub feed_forward: usize,
    /// Side of a square patch, in pixels.
    pub patch_size: usize,
    /// Side of the square input, in pixels; a multiple of `patch_size`.
    pub image_size: usize,
    /// Epsilon of every layer norm.
    pub norm_eps: f32,
}

impl VisionConfig {
    /// Patches along one side of the picture.
    pub fn grid(&self) -> usize {
        self.image_size / self.patch_size
    }

    /// Tokens that the encoder returns: the class token and one for each patch.
    pub fn tokens(&self) -> usize {
        1 + self.grid() * self.grid()
    }
}

/// One text stack: BERT with cross-attention in every layer, as encoder or as decoder.
///
/// Source: BLIP `models/med.py`, `BertModel`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TextConfig {
    /// Width of a token.
    pub width: usize,
    /// Number of layers.
    pub layers: usize,
    /// Attention heads; divides `width`.
    pub heads: usize,
    /// Width inside the feed-forward block.
    pub feed_forward: usize,
    /// Rows of the word embedding.
    pub vocabulary_size: usize,
    /// Rows of the position table: the longest text, in tokens.
    pub positions: usize,
    /// Width of the states that the cross-attention reads: the image encoder's, or the question encoder's.
    pub cross_width: usize,
    /// Epsilon of every layer norm.
    pub norm_eps: f32,
}

/// Ids of the tokens with a meaning of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecialTokens {
    /// `[PAD]`.
    pub pad: u32,
    /// `[UNK]`, for what the vocabulary cannot spell.
    pub unknown: u32,
    /// `[CLS]`, the first token of the text encoder.
    pub class: u32,
    /// `[SEP]`, the end of a text.
    pub separator: u32,
    /// `[DEC]`, the first token of the decoder.
    pub decoder_start: u32,
    /// `[ENC]`, the first token of the image-grounded text encoder as it was trained.
    pub encoder_start: u32,
}

/// A whole model: the parts that a checkpoint has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// The image encoder.
    pub vision: VisionConfig,
    /// The text encoder: a matcher's, or an answerer's question encoder.
    pub encoder: Option<TextConfig>,
    /// The text decoder: a captioner's, or an answerer's.
    pub decoder: Option<TextConfig>,
    /// Width of the ITC vectors, where there are ITC projections.
    pub projection_width: Option<usize>,
}

/// A configuration that no model can have.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{part} {field} is {value}: {rule}")]
pub struct ConfigError {
    part: &'static str,
    field: &'static str,
    value: usize,
    rule: String,
}

impl Config {
    /// Checks every size against the others and against the limits of this module.
    ///
    /// # Errors
    /// The first size that is zero, too large or does not divide what it must divide.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let vision = &self.vision;
        let part = "vision";
        stack(part, [vision.width, vision.layers, vision.heads, vision.feed_forward])?;
        within(part, "patch_size", vision.patch_size, MAX_SIZE)?;
        within(part, "image_size", vision.image_size, 8192)?;
        divides(part, "image_size", vision.image_size, ("patch_size", vision.patch_size))?;
        within(part, "tokens", vision.tokens(), 1 << 16)?;
        for (part, text) in [("encoder", &self.encoder), ("decoder", &self.decoder)] {
            let Some(text) = text else { continue };
            stack(part, [text.width, text.layers, text.heads, text.feed_forward])?;
            within(part, "vocabulary_size", text.vocabulary_size, MAX_SIZE)?;
            within(part, "positions", text.positions, MAX_SIZE)?;
            within(part, "cross_width", text.cross_width, MAX_SIZE)?;
        }
        match self.projection_width {
            Some(width) => within("projection", "width", width, MAX_SIZE),
            None => Ok(()),
        }
    }
}

fn stack(part: &'static str, [width, layers, heads, feed_forward]: [usize; 4]) -> Result<(), ConfigError> {
    within(part, "width", width, MAX_SIZE)?;
    within(part, "layers", layers, MAX_LAYERS)?;
    within(part, "heads", heads, MAX_SIZE)?;
    within(part, "feed_forward", feed_forward, MAX_SIZE)?;
    divides(part, "width", width, ("heads", heads))
}

fn within(part: &'static str, field: &'static str, value: usize, most: usize) -> Result<(), ConfigError> {
    if (1..=most).contains(&value) {
        return Ok(());
    }
    Err(ConfigError { part, field, value, rule: format!("it must lie between 1 and {most}") })
}

fn divides(
    part: &'static str,
    field: &'static str,
    value: usize,
    (divisor_name, divisor): (&str, usize),
) -> Result<(), ConfigError> {
    if value.is_multiple_of(divisor) {
        return Ok(());
    }
    Err(ConfigError { part, field, value, rule: format!("it must be a multiple of {divisor_name}, {divisor}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Config {
        Config {
            vision: VisionConfig {
                width: 768,
                layers: 12,
                heads: 12,
                feed_forward: 3072,
                patch_size: 16,
                image_size: 384,
                norm_eps: 1e-6,
            },
            encoder: None,
            decoder: None,
            projection_width: None,
        }
    }

    #[test]
    fn base_model_at_384_pixels_has_577_tokens() {
        let config = base();
        assert_eq!(config.validate(), Ok(()));
        assert_eq!(config.vision.tokens(), 577);
    }

    #[test]
    fn heads_that_do_not_divide_the_width_are_refused() {
        let mut config = base();
        config.vision.heads = 7;
        let message = config.validate().unwrap_err().to_string();
        assert_eq!(message, "vision width is 768: it must be a multiple of heads, 7");
    }

    #[test]
    fn zero_and_huge_sizes_are_refused() {
        for size in [0, usize::MAX] {
            let mut config = base();
            config.vision.patch_size = size;
            assert!(config.validate().is_err());
        }
    }
}
