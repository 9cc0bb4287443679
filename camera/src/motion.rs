//! Whether something moves: a coarse picture is compared with what has been there for a while.
//!
//! A change of light is no motion: the median difference of all pixels is taken off first, and a change of nearly
//! everything starts anew. A pixel that changes alone is noise. The background follows slowly, so that what stops
//! moving becomes part of it. Time is an argument.

use std::time::Duration;

use picture::Luma8;

use crate::mask::Mask;

/// What counts as motion.
#[derive(Clone, Debug, PartialEq)]
pub struct Sensitivity {
    /// How far a pixel must be from the background, of 255.
    pub threshold: u8,
    /// The smallest part of the picture that must have changed.
    pub area: f32,
    /// The largest: beyond it the light or the camera has changed.
    pub most: f32,
    /// How fast the background follows: after so long it has made up 63 parts of 100 of a difference.
    pub background: Duration,
    /// Where nothing counts, such as a road or a tree.
    pub ignored: Mask,
}

impl Default for Sensitivity {
    /// 20 of 255 in half a hundredth of the picture, against the last ten seconds.
    fn default() -> Self {
        Self { threshold: 20, area: 0.005, most: 0.7, background: Duration::from_secs(10), ignored: Mask::default() }
    }
}

/// What a frame shows of motion.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Motion {
    /// The part of the picture that has changed, from 0 to 1.
    pub area: f32,
    /// Whether that counts.
    pub is_motion: bool,
    /// Whether so much has changed that the background starts anew.
    pub is_new_scene: bool,
    /// Left, top, right and bottom of what has changed, in shares of the picture.
    pub bounds: Option<[f32; 4]>,
}

/// Looks at one frame after another.
#[derive(Clone, Debug)]
pub struct MotionDetector {
    sensitivity: Sensitivity,
    scene: Option<Scene>,
}

#[derive(Clone, Debug)]
struct Scene {
    width: usize,
    height: usize,
    background: Vec<f32>,
    /// Pixels where nothing counts.
    ignored: Vec<bool>,
    last: Duration,
}

/// Side of the picture that [`MotionDetector::see`] is best given: see [`crate::Frame::luma`].
pub const LUMA_SIDE: usize = 160;
/// Changed neighbours, of eight, that a changed pixel needs.
const NEIGHBOURS: usize = 3;

const STILL: Motion = Motion { area: 0.0, is_motion: false, is_new_scene: false, bounds: None };

impl MotionDetector {
    /// Starts without a background: the first frame is it.
    pub fn new(sensitivity: Sensitivity) -> Self {
        Self { sensitivity, scene: None }
    }

    /// Compares a frame with those before it. `taken` is when it was captured, and never goes back.
    pub fn see(&mut self, luma: &Luma8, taken: Duration) -> Motion {
        let (width, height) = (luma.width(), luma.height());
        let Some(scene) = self.scene.as_mut().filter(|scene| (scene.width, scene.height) == (width, height)) else {
            self.scene = Some(Scene::new(luma, &self.sensitivity.ignored, taken));
            return Motion { is_new_scene: true, ..STILL };
        };
        let changed = scene.changed(luma, self.sensitivity.threshold);
        let motion = scene.motion(&changed, &self.sensitivity);
        if motion.is_new_scene {
            self.scene = Some(Scene::new(luma, &self.sensitivity.ignored, taken));
        } else {
            scene.follow(luma, taken, self.sensitivity.background);
        }
        motion
    }
}

impl Scene {
    fn new(luma: &Luma8, ignored: &Mask, taken: Duration) -> Self {
        Self {
            width: luma.width(),
            height: luma.height(),
            background: luma.values().iter().map(|value| f32::from(*value)).collect(),
            ignored: ignored.pixels(luma.width(), luma.height()),
            last: taken,
        }
    }

    /// Pixels that have changed, with enough neighbours that have.
    fn changed(&self, luma: &Luma8, threshold: u8) -> Vec<bool> {
        let differences: Vec<i16> = luma
            .values()
            .iter()
            .zip(&self.background)
            .map(|(value, background)| (f32::from(*value) - background).round() as i16)
            .collect();
        let light = median(differences.iter().zip(&self.ignored).filter(|(_, ignored)| !**ignored).map(|(d, _)| *d));
        let far: Vec<bool> = differences
            .iter()
            .zip(&self.ignored)
            .map(|(difference, ignored)| !ignored && (difference - light).unsigned_abs() > u16::from(threshold))
            .collect();
        (0..far.len()).map(|at| far[at] && self.neighbours(&far, at) >= NEIGHBOURS).collect()
    }

    fn neighbours(&self, far: &[bool], at: usize) -> usize {
        let (x, y) = (at % self.width, at / self.width);
        let columns = x.saturating_sub(1)..(x + 2).min(self.width);
        let rows = y.saturating_sub(1)..(y + 2).min(self.height);
        let all = rows.flat_map(|y| far[y * self.width..][columns.clone()].iter()).filter(|far| **far).count();
        all - usize::from(far[at])
    }

    fn motion(&self, changed: &[bool], sensitivity: &Sensitivity) -> Motion {
        let looked_at = self.ignored.iter().filter(|ignored| !**ignored).count();
        let places = || changed.iter().enumerate().filter(|(_, changed)| **changed).map(|(at, _)| at);
        let count = places().count();
        if count == 0 {
            return STILL;
        }
        let (columns, rows) = (places().map(|at| at % self.width), places().map(|at| at / self.width));
        let (left, right) = columns.fold((self.width, 0), |(least, most), x| (least.min(x), most.max(x + 1)));
        let (top, bottom) = rows.fold((self.height, 0), |(least, most), y| (least.min(y), most.max(y + 1)));
        let share = |part: usize, whole: usize| part as f32 / whole as f32;
        let area = share(count, looked_at);
        let is_new_scene = area > sensitivity.most;
        Motion {
            area,
            is_motion: area >= sensitivity.area && !is_new_scene,
            is_new_scene,
            bounds: Some([
                share(left, self.width),
                share(top, self.height),
                share(right, self.width),
                share(bottom, self.height),
            ]),
        }
    }

    fn follow(&mut self, luma: &Luma8, taken: Duration, background: Duration) {
        let passed = taken.saturating_sub(self.last).as_secs_f32();
        self.last = taken;
        let weight = 1.0 - (-passed / background.as_secs_f32().max(1e-3)).exp();
        for (background, value) in self.background.iter_mut().zip(luma.values()) {
            *background += (f32::from(*value) - *background) * weight;
        }
    }
}

/// The middle one of differences between -255 and 255; zero of none.
fn median(differences: impl Iterator<Item = i16>) -> i16 {
    const MOST: i16 = 255;
    let mut counts = [0_usize; 2 * MOST as usize + 1];
    let mut all = 0;
    for difference in differences {
        counts[(difference.clamp(-MOST, MOST) + MOST) as usize] += 1;
        all += 1;
    }
    let mut below = 0;
    let middle = counts.iter().position(|count| {
        below += count;
        2 * below >= all && all > 0
    });
    middle.map_or(0, |middle| middle as i16 - MOST)
}

#[cfg(test)]
mod tests;
