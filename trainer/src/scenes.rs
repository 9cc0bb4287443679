//! Composed pictures with known captions: objects, counts, relations, backgrounds, light.
//!
//! Scene `i` depends on the settings and on `i` alone, so it is the same in any order, on any rank and in any format.

mod canvas;
pub mod caption;
mod chance;
mod combinations;
pub mod cutouts;
mod drawings;
mod layout;
pub mod noise;

use std::path::PathBuf;

use blip::pixels::Rgb8;
use serde::{Deserialize, Serialize};

pub use caption::{Arrangement, Background, Light, Relation, Truth, wrong_but_plausible};
pub use cutouts::{CutoutError, CutoutSource};
pub use drawings::DRAWN_NOUNS;
pub use noise::{NoiseKind, NoiseSettings, NoisyText};

use chance::Chance;
use combinations::Combinations;
use cutouts::Cutouts;

/// Smallest and largest side of a scene, in pixels.
pub const SIDES: std::ops::RangeInclusive<usize> = 16..=2048;
/// Largest number of objects of one noun: "three".
pub const LARGEST_COUNT: usize = 3;

/// Which half of the cut-outs and of the combinations a scene is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// Everything that is not held out.
    Train,
    /// Only held-out cut-outs in held-out combinations.
    HeldOut,
}

/// What scenes are made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct SceneSettings {
    /// Another seed gives other scenes; what is held out does not depend on it.
    pub seed: u64,
    /// Pixels on each side, within [`SIDES`].
    pub side: usize,
    /// Training scenes or those that training never sees.
    pub split: Split,
    /// Where the objects come from.
    pub cutouts: CutoutSource,
    /// The folder of the stamps ([`cutouts::STAMPS_FOLDER`] without one) or of the cut-outs.
    pub cutout_folder: Option<PathBuf>,
    /// The nouns; all that the cut-outs have if empty. The stamps need a list, since they hold hundreds.
    pub nouns: Vec<String>,
    /// The relations between two objects; without any, scenes are groups of one noun.
    pub relations: Vec<Relation>,
    /// What may lie behind the objects.
    pub backgrounds: Vec<Background>,
    /// Most objects of one noun, 1 to [`LARGEST_COUNT`].
    pub largest_count: usize,
    /// Share of scenes with two different nouns in a relation, 0 to 1.
    pub pair_share: f64,
    /// Share of combinations (nouns, relation or count, background) that are held out, 0 to 1.
    pub held_out_combinations: f64,
    /// Share of each noun's cut-outs that are held out, 0 to 1: at least one and never all, where it has two.
    pub held_out_cutouts: f64,
    /// What is wrong with the texts.
    pub noise: NoiseSettings,
}

impl Default for SceneSettings {
    fn default() -> Self {
        Self {
            seed: 0,
            side: 64,
            split: Split::Train,
            cutouts: CutoutSource::Drawn,
            cutout_folder: None,
            nouns: Vec::new(),
            relations: Relation::ALL.to_vec(),
            backgrounds: Background::ALL.to_vec(),
            largest_count: LARGEST_COUNT,
            pair_share: 0.5,
            held_out_combinations: 0.1,
            held_out_cutouts: 0.25,
            noise: NoiseSettings::default(),
        }
    }
}

/// Why no scenes can be made.
#[derive(Debug, thiserror::Error)]
pub enum SceneError {
    /// A number that a setting may not have.
    #[error("scenes: {setting} is {found}, but it must be {expected}")]
    Setting {
        /// The key in the settings file.
        setting: &'static str,
        /// Its value.
        found: String,
        /// What it may be.
        expected: String,
    },
    /// The cut-outs cannot be had.
    #[error(transparent)]
    Cutouts(#[from] CutoutError),
    /// A noun without a cut-out.
    #[error("scenes: there is no cut-out of {noun:?} in {}; take it from `nouns`, or add a picture of it", place.display())]
    NoCutout {
        /// The noun.
        noun: String,
        /// Where we looked.
        place: PathBuf,
    },
    /// Nothing is left after holding out.
    #[error(
        "scenes: none of the {kind} is in the split {split:?}; add nouns, backgrounds or relations, or change \
         `held-out-combinations`"
    )]
    NoCombination {
        /// Groups or pairs.
        kind: &'static str,
        /// The split.
        split: Split,
    },
}

/// One picture and what is true of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    /// The picture.
    pub picture: Rgb8,
    /// What is in it.
    pub truth: Truth,
    /// A caption that is true.
    pub caption: String,
}

/// A source of scenes without end.
pub struct Scenes {
    settings: SceneSettings,
    cutouts: Cutouts,
    combinations: Combinations,
}

impl Scenes {
    /// Checks the settings and reads the cut-outs.
    ///
    /// # Errors
    /// A setting out of its range, cut-outs that cannot be read, a noun without one, or a split with nothing in it.
    pub fn new(settings: &SceneSettings) -> Result<Self, SceneError> {
        check(settings)?;
        let cutouts = Cutouts::read(settings)?;
        let combinations = Combinations::new(settings, cutouts.nouns())?;
        Ok(Self { settings: settings.clone(), cutouts, combinations })
    }

    /// Scene `index`: its picture, truth and caption.
    pub fn scene(&self, index: u64) -> Scene {
        let truth = self.truth(index);
        let mut chance = self.chance("picture", index);
        let picture = canvas::paint(&truth, &self.cutouts, self.settings.side, &mut chance);
        let caption = truth.caption();
        Scene { picture, truth, caption }
    }

    /// What is true of scene `index`, without painting it.
    pub fn truth(&self, index: u64) -> Truth {
        let mut chance = self.chance("truth", index);
        let (arrangement, background) = self.combinations.draw(&mut chance);
        let light = layout::light(background, &mut chance);
        let objects = layout::place(&arrangement, &self.cutouts, self.settings.side, &mut chance);
        Truth { arrangement, background, light, objects }
    }

    /// The text that scene `index` comes with: true, or wrong in one of the ways of the noise settings.
    pub fn text(&self, index: u64) -> NoisyText {
        let mut chance = self.chance("noise", index);
        noise::text(self, &self.settings.noise, index, &mut chance)
    }

    /// A text that is wrong about scene `index` in the way of `kind`.
    pub fn wrong_text(&self, index: u64, kind: NoiseKind) -> String {
        let mut chance = self.chance("wrong", index);
        noise::wrong(self, &self.truth(index), kind, &mut chance)
    }

    /// The nouns, in alphabetical order.
    pub fn nouns(&self) -> &[String] {
        self.cutouts.nouns()
    }

    /// Nouns with a single cut-out, which is therefore in both splits.
    pub fn nouns_in_both_splits(&self) -> Vec<&str> {
        self.cutouts.nouns_in_both_splits()
    }

    /// Every word of a true caption, in alphabetical order.
    pub fn vocabulary(&self) -> Vec<String> {
        let SceneSettings { relations, backgrounds, largest_count, .. } = &self.settings;
        caption::vocabulary(self.nouns(), relations, backgrounds, *largest_count)
    }

    fn chance(&self, purpose: &str, index: u64) -> Chance {
        Chance::new(self.settings.seed, purpose, index)
    }
}

fn check(settings: &SceneSettings) -> Result<(), SceneError> {
    let refuse = |setting, found: String, expected: &str| {
        Err(SceneError::Setting { setting, found, expected: expected.to_owned() })
    };
    if !SIDES.contains(&settings.side) {
        return refuse("side", settings.side.to_string(), &format!("{} to {} pixels", SIDES.start(), SIDES.end()));
    }
    if !(1..=LARGEST_COUNT).contains(&settings.largest_count) {
        return refuse("largest-count", settings.largest_count.to_string(), &format!("1 to {LARGEST_COUNT}"));
    }
    if settings.backgrounds.is_empty() {
        return refuse("backgrounds", "empty".to_owned(), "one or more");
    }
    let shares = [
        ("pair-share", settings.pair_share),
        ("held-out-combinations", settings.held_out_combinations),
        ("held-out-cutouts", settings.held_out_cutouts),
        ("noise.share", settings.noise.share),
    ];
    for (setting, share) in shares {
        if !(0.0..=1.0).contains(&share) {
            return refuse(setting, share.to_string(), "between 0 and 1");
        }
    }
    if settings.pair_share > 0.0 && settings.relations.is_empty() {
        return refuse("pair-share", settings.pair_share.to_string(), "0 where there are no relations");
    }
    if settings.noise.share > 0.0 && settings.noise.kinds.is_empty() {
        return refuse("noise.kinds", "empty".to_owned(), "one or more where noise.share is not 0");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
