//! Random crops, flips and RandAugment, as the authors train with.
//!
//! What happens to a picture depends on nothing but the seed, the epoch and the sample's place in it: not on threads,
//! ranks, or what was drawn for other samples.

mod draw;
mod geometry;
mod tone;

use blip::pixels::{Rgb8, resize};
use serde::{Deserialize, Serialize};

pub use draw::Draw;

/// A level at which an operation is strongest. Source: BLIP `transform/randaugment.py`, `MAX_LEVEL`.
const MAX_LEVEL: f64 = 10.0;
/// Pixels that `TranslateX` and `TranslateY` move at [`MAX_LEVEL`]. Source: the same file, `translate_const`.
const MAX_TRANSLATION: f64 = 10.0;
/// What stands where a picture was moved away. Source: the same file, `replace_value`.
const FILL: [u8; 3] = [128; 3];
/// Crops that are tried before the middle is taken. Source: torchvision `RandomResizedCrop.get_params`.
const CROP_TRIES: usize = 10;

/// What is done to a picture before training reads it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Augmentation {
    /// Least and greatest share of the area that a crop keeps.
    pub scale: [f64; 2],
    /// Least and greatest width over height of a crop.
    pub ratio: [f64; 2],
    /// How often a picture is mirrored. Zero where texts say left or right.
    pub flip: f64,
    /// What is drawn from afterwards; without it nothing is.
    pub rand_augment: Option<RandAugment>,
}

/// Some operations, drawn with replacement, each at one level.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandAugment {
    /// What is drawn from.
    pub operations: Vec<Operation>,
    /// How many are drawn.
    pub count: usize,
    /// How often a drawn one is done.
    pub probability: f64,
    /// How strong each is, from 0 to 10.
    pub level: f64,
}

/// What RandAugment may do to a picture.
///
/// Source: BLIP `transform/randaugment.py`, `func_dict` and `arg_dict`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// Nothing.
    Identity,
    /// Stretches each channel to the whole range, as Pillow's `ImageOps.autocontrast`.
    ///
    /// The authors' function means the same, but negates an unsigned byte, which makes a channel white whose least
    /// value is not 0; that is not repeated.
    AutoContrast,
    /// Spreads the values of each channel evenly, as Pillow's `ImageOps.equalize`.
    Equalize,
    /// Times a factor between 0.1 and 1.9; nothing at level 5.
    Brightness,
    /// Towards the smoothed picture, or away from it, by a factor between 0.1 and 1.9; nothing at level 5.
    ///
    /// Where a value leaves the range it is clamped; the authors' cast wraps around above level 5.
    Sharpness,
    /// Rows move sideways, up to 0.3 of their height.
    ShearX,
    /// Columns move up or down, up to 0.3 of their distance.
    ShearY,
    /// Sideways, by up to 10 pixels.
    TranslateX,
    /// Up or down, by up to 10 pixels.
    TranslateY,
    /// About the middle, by up to 30 degrees.
    Rotate,
}

/// To which side an operation goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// As the level says.
    Plus,
    /// The other way.
    Minus,
}

/// A part of a picture, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    /// Columns left of it.
    pub left: usize,
    /// Rows above it.
    pub top: usize,
    /// Its columns, at least one.
    pub width: usize,
    /// Its rows, at least one.
    pub height: usize,
}

impl Augmentation {
    /// As in pre-training: crops keep between 0.2 and 1 of the area.
    ///
    /// Source: BLIP `pretrain.py` (`min_scale=0.2`) and `data/__init__.py`, `create_dataset`.
    pub fn pretraining() -> Self {
        Self { scale: [0.2, 1.0], ..Self::finetuning() }
    }

    /// As in fine-tuning: crops keep between 0.5 and 1 of the area, of ratio 3:4 to 4:3; half are mirrored.
    ///
    /// Source: BLIP `data/__init__.py`, `create_dataset`; torchvision's `RandomResizedCrop` for the ratio.
    pub fn finetuning() -> Self {
        Self { scale: [0.5, 1.0], ratio: [3.0 / 4.0, 4.0 / 3.0], flip: 0.5, rand_augment: Some(RandAugment::default()) }
    }

    /// Crops, resizes to `side` x `side`, mirrors, and applies RandAugment.
    ///
    /// # Panics
    /// If `side` is zero or beyond [`blip::pixels::MAX_SIDE`].
    pub fn apply(&self, picture: &Rgb8, side: usize, draw: &mut Draw) -> Rgb8 {
        let area = self.area((picture.width(), picture.height()), draw);
        let mut picture = resize(&geometry::crop(picture, area), side);
        if draw.share() < self.flip {
            picture = geometry::mirror(&picture);
        }
        match &self.rand_augment {
            Some(rand_augment) => rand_augment.apply(picture, draw),
            None => picture,
        }
    }

    /// A random crop of a picture of `width` x `height`.
    ///
    /// Source: torchvision `transforms.py`, `RandomResizedCrop.get_params`.
    pub fn area(&self, (width, height): (usize, usize), draw: &mut Draw) -> Area {
        let [least, greatest] = self.ratio;
        for _ in 0..CROP_TRIES {
            let target = (width * height) as f64 * draw.between(self.scale[0], self.scale[1]);
            let ratio = draw.between(least.ln(), greatest.ln()).exp();
            let columns = (target * ratio).sqrt().round_ties_even() as usize;
            let rows = (target / ratio).sqrt().round_ties_even() as usize;
            if (1..=width).contains(&columns) && (1..=height).contains(&rows) {
                let top = draw.below(height - rows + 1);
                let left = draw.below(width - columns + 1);
                return Area { left, top, width: columns, height: rows };
            }
        }
        let ratio = width as f64 / height as f64;
        let (mut columns, mut rows) = (width, height);
        if ratio < least {
            rows = ((width as f64 / least).round_ties_even() as usize).clamp(1, height);
        } else if ratio > greatest {
            columns = ((height as f64 * greatest).round_ties_even() as usize).clamp(1, width);
        }
        Area { left: (width - columns) / 2, top: (height - rows) / 2, width: columns, height: rows }
    }
}

impl Default for RandAugment {
    /// Two of ten operations, each done half the time, at level 5.
    ///
    /// Source: BLIP `data/__init__.py`, `create_dataset`, and `transform/randaugment.py`, `RandomAugment`.
    fn default() -> Self {
        let operations = [
            Operation::Identity,
            Operation::AutoContrast,
            Operation::Brightness,
            Operation::Sharpness,
            Operation::Equalize,
            Operation::ShearX,
            Operation::ShearY,
            Operation::TranslateX,
            Operation::TranslateY,
            Operation::Rotate,
        ];
        Self { operations: operations.to_vec(), count: 2, probability: 0.5, level: 5.0 }
    }
}

impl RandAugment {
    fn apply(&self, mut picture: Rgb8, draw: &mut Draw) -> Rgb8 {
        for _ in 0..self.count {
            let operation = match self.operations.len() {
                0 => Operation::Identity,
                count => self.operations[draw.below(count)],
            };
            let (is_done, side) = (draw.share() < self.probability, draw.side());
            if is_done {
                picture = operation.apply(&picture, self.level, side);
            }
        }
        picture
    }
}

impl Operation {
    /// Does it at a level between 0 and 10. `side` is for what can go two ways.
    ///
    /// Source: BLIP `transform/randaugment.py`: `*_level_to_args` scale the level.
    pub fn apply(self, picture: &Rgb8, level: f64, side: Side) -> Rgb8 {
        let share = level / MAX_LEVEL;
        let factor = share * 1.8 + 0.1;
        let signed = |strength: f64| if side == Side::Plus { share * strength } else { -share * strength };
        match self {
            Operation::Identity => picture.clone(),
            Operation::AutoContrast => tone::auto_contrast(picture),
            Operation::Equalize => tone::equalize(picture),
            Operation::Brightness => tone::brighten(picture, factor as f32),
            Operation::Sharpness => tone::sharpen(picture, factor as f32),
            Operation::ShearX => geometry::shear(picture, [signed(0.3) as f32, 0.0]),
            Operation::ShearY => geometry::shear(picture, [0.0, signed(0.3) as f32]),
            Operation::TranslateX => geometry::translate(picture, [signed(MAX_TRANSLATION) as f32, 0.0]),
            Operation::TranslateY => geometry::translate(picture, [0.0, signed(MAX_TRANSLATION) as f32]),
            Operation::Rotate => geometry::rotate(picture, signed(30.0)),
        }
    }
}

#[cfg(test)]
mod tests;
