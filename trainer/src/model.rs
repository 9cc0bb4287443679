//! BLIP: image encoder, and text models that share what the paper shares.
//!
//! A model here is names and places: where each parameter stands in one long vector. The same model reads the trained
//! weights, their momentum copy, or a checkpoint. Names are those of crate `checkpoint`; in a joint model the two text
//! stacks share embeddings, cross-attention and feed-forward, which are named for the encoder.

mod layout;
mod vision;
mod text;

pub use layout::{Entry, Initial, Layout, Random, initial_values};
pub use text::{Cache, Continued, Embeddings, LanguageHead, Memory, TextLayer, TextStack, Texts};
pub use vision::{Vision, VisionLayer};

use blip::config::{Config, Role};

use crate::engine::Device;
use crate::tape::{Linear, Norm, Parameter};
use layout::Builder;

/// Whether encoder and decoder share everything but self-attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// As in pre-training. Source: BLIP `models/blip_pretrain.py`, `tie_encoder_decoder_weights`.
    Joint,
    /// As after fine-tuning: each stack has its own.
    Apart,
}

/// What is dropped in training, as shares.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shares {
    /// Of the values after each sublayer and after the embeddings of a text stack.
    pub hidden: f32,
    /// Of a text stack's attention probabilities.
    pub attention: f32,
    /// Of whole sublayers of the last image-encoder layer; earlier layers less, down to none in the first.
    pub path: f32,
}

/// What a pass leaves out at random, and which layers it computes twice to save memory.
pub struct Pass<'p, D: Device> {
    /// What is dropped; nothing outside training.
    pub shares: Shares,
    /// The step's seed.
    pub seed: Option<&'p D::Indices>,
    /// Which pass of the step this is, so that no two draw alike.
    pub number: u32,
    /// How many of the last layers keep nothing for the backward pass and run again.
    pub checkpointed: usize,
}

impl<D: Device> Clone for Pass<'_, D> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<D: Device> Copy for Pass<'_, D> {}

impl<'p, D: Device> Pass<'p, D> {
    /// A pass outside training.
    pub fn still() -> Pass<'p, D> {
        Pass { shares: Shares::default(), seed: None, number: 0, checkpointed: 0 }
    }

    fn site(&self, layer: usize, place: u32) -> u32 {
        self.number << 16 | (layer as u32) << 4 | place
    }

    /// What [`crate::tape::Tape::dropout`] takes.
    fn drop(&self, share: f32, layer: usize, place: u32) -> Option<(f32, &'p D::Indices, u32)> {
        let seed = self.seed.filter(|_| share > 0.0)?;
        Some((share, seed, self.site(layer, place)))
    }
}

/// A model's parts, by place.
#[derive(Clone, Debug)]
pub struct Blip {
    /// The image encoder.
    pub vision: Vision,
    /// The text encoder, also image-grounded: a matcher's, or an answerer's question encoder.
    pub encoder: Option<TextStack>,
    /// The text decoder with its head.
    pub decoder: Option<(TextStack, LanguageHead)>,
    /// ITC projections and ITM head.
    pub matching: Option<Matching>,
    /// Every parameter.
    pub layout: Layout,
}

/// What a matcher has besides its encoders.
#[derive(Clone, Copy, Debug)]
pub struct Matching {
    /// From the image's class token.
    pub vision_projection: Linear,
    /// From the text's first token.
    pub text_projection: Linear,
    /// Two classes; the second is "match".
    pub itm_head: Linear,
    /// The learned temperature, one value.
    pub temperature: Parameter,
}

/// Starting value of the temperature. Source: BLIP `models/blip_pretrain.py`, `self.temp`.
pub const TEMPERATURE: f32 = 0.07;

impl Blip {
    /// Lays out a model of these sizes. What has momentum copies stands first: [`Layout::momentum_length`].
    pub fn new(config: &Config, sharing: Sharing) -> Blip {
        let mut b = Builder::default();
        let vision = Vision::build(&mut b, &config.vision);
        let encoder = config.encoder.as_ref().map(|text| TextStack::build(&mut b, "encoder", text));
        let projections = config.projection_width.zip(config.encoder.as_ref()).map(|(width, text)| {
            let vision = b.projection("vision_projection", [width, config.vision.width]);
            (vision, b.projection("text_projection", [width, text.width]))
        });
        b.end_momentum();
        let decoder = config.decoder.as_ref().map(|text| {
            let stack = match (&encoder, sharing) {
                (Some(encoder), Sharing::Joint) => encoder.sharing(&mut b, text),
                _ => TextStack::build(&mut b, "decoder", text),
            };
            let head = LanguageHead::build(&mut b, &stack);
            (stack, head)
        });
        let matching = projections.zip(config.encoder.as_ref()).map(|((vision_projection, text_projection), text)| {
            let itm_head = b.projection("itm_head", [2, text.width]);
            let temperature = b.add("temperature", &[1], Initial::Constant(TEMPERATURE));
            Matching { vision_projection, text_projection, itm_head, temperature }
        });
        Blip { vision, encoder, decoder, matching, layout: b.finish() }
    }

    /// What this model can be used as.
    pub fn roles(&self) -> Vec<Role> {
        match (&self.encoder, &self.decoder, &self.matching) {
            (Some(_), Some(_), Some(_)) => vec![Role::Captioner, Role::Matcher],
            (Some(_), Some(_), None) => vec![Role::Answerer],
            (_, None, Some(_)) => vec![Role::Matcher],
            _ => vec![Role::Captioner],
        }
    }
}

/// Self-attention or cross-attention of a text layer, up to its norm.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// Queries; for self-attention queries, keys and values in one.
    pub query: Linear,
    /// Keys and values, where they are apart.
    pub memory: Option<[Linear; 2]>,
    /// After the heads.
    pub output: Linear,
    /// After the sum.
    pub norm: Norm,
}
