//! Paints a scene: the background, the objects, the light.

use blip::pixels::Rgb8;

use super::caption::{Background, Light, Object, Truth};
use super::chance::Chance;
use super::cutouts::{Cutout, Cutouts};
use super::layout::turn;

/// Paints `truth` on a square of `side` pixels.
pub fn paint(truth: &Truth, cutouts: &Cutouts, side: usize, chance: &mut Chance) -> Rgb8 {
    let mut pixels = background(truth.background, side, chance);
    for object in &truth.objects {
        if let Some(cutout) = cutouts.named(&object.noun, &object.cutout) {
            paste(&mut pixels, side, object, cutout);
        }
    }
    let values = pixels.iter().flat_map(|pixel| lit(*pixel, truth.light).map(|value| value.round() as u8)).collect();
    Rgb8::new(side, side, values).expect("the settings keep the side within what a picture may have")
}

type Pixel = [f32; 3];

fn background(background: Background, side: usize, chance: &mut Chance) -> Vec<Pixel> {
    let (base, spread, stretch) = match background {
        Background::Grass => ([70.0, 140.0, 55.0], [30.0, 38.0, 24.0], [1.0, 1.0]),
        Background::Sand => ([214.0, 187.0, 130.0], [22.0, 22.0, 24.0], [1.0, 1.0]),
        Background::Water => ([48.0, 110.0, 180.0], [26.0, 32.0, 36.0], [0.35, 2.0]),
        Background::Snow => ([232.0, 237.0, 244.0], [14.0, 12.0, 9.0], [0.6, 0.6]),
        Background::Night => ([16.0, 18.0, 46.0], [8.0, 8.0, 16.0], [0.4, 0.4]),
    };
    let shift = [(); 3].map(|()| chance.between(-10.0, 10.0));
    let coarse = Noise::new([6.0 * stretch[0], 6.0 * stretch[1]], chance);
    let fine = Noise::new([20.0 * stretch[0], 20.0 * stretch[1]], chance);
    let mut pixels = Vec::with_capacity(side * side);
    for row in 0..side {
        for column in 0..side {
            let at = [(column as f32 + 0.5) / side as f32, (row as f32 + 0.5) / side as f32];
            let wave = 0.6 * coarse.at(at) + 0.4 * fine.at(at);
            let channel = |c: usize| (base[c] + shift[c] + spread[c] * wave).clamp(0.0, 255.0);
            pixels.push([channel(0), channel(1), channel(2)]);
        }
    }
    if background == Background::Night {
        stars(&mut pixels, side, chance);
    }
    pixels
}

/// Points of light, at most one pixel in 200; the darkening of the night is undone for them.
fn stars(pixels: &mut [Pixel], side: usize, chance: &mut Chance) {
    let radius = side as f32 / 160.0;
    for _ in 0..12 {
        let (x, y) = (chance.between(0.0, side as f32), chance.between(0.0, side as f32));
        for row in 0..side {
            for column in 0..side {
                let (dx, dy) = (column as f32 + 0.5 - x, row as f32 + 0.5 - y);
                let light = (radius + 0.5 - (dx * dx + dy * dy).sqrt()).clamp(0.0, 1.0);
                let pixel = &mut pixels[row * side + column];
                *pixel = pixel.map(|value| value + (255.0 - value) * light);
            }
        }
    }
}

/// Smooth noise between -1 and 1 on a lattice that repeats.
struct Noise {
    cells: [f32; 2],
    lattice: Vec<f32>,
}

impl Noise {
    /// `cells`: how many waves there are across and down.
    fn new(cells: [f32; 2], chance: &mut Chance) -> Self {
        Self { cells, lattice: (0..LATTICE * LATTICE).map(|_| chance.between(-1.0, 1.0)).collect() }
    }

    fn at(&self, [x, y]: [f32; 2]) -> f32 {
        let (x, y) = (x * self.cells[0], y * self.cells[1]);
        let (left, top) = (x.floor(), y.floor());
        let (right_share, low_share) = (smooth(x - left), smooth(y - top));
        let knot = |dx: usize, dy: usize| {
            self.lattice[(top as usize + dy) % LATTICE * LATTICE + (left as usize + dx) % LATTICE]
        };
        let high = knot(0, 0) + (knot(1, 0) - knot(0, 0)) * right_share;
        let low = knot(0, 1) + (knot(1, 1) - knot(0, 1)) * right_share;
        high + (low - high) * low_share
    }
}

/// Knots on each side of the lattice: more than any background has waves.
const LATTICE: usize = 48;

fn smooth(share: f32) -> f32 {
    share * share * (3.0 - 2.0 * share)
}

/// Puts a cut-out into the object's box: turned, scaled, tinted, each pixel the mean of a grid of samples.
fn paste(pixels: &mut [Pixel], side: usize, object: &Object, cutout: &Cutout) {
    let [left, top, width, height] = object.place;
    let (cosine, sine) = turn(object.rotation);
    let [cut_width, cut_height] = cutout.size().map(|size| size as f32);
    let scale = width / (cut_width * cosine + cut_height * sine.abs());
    let centre = [left + 0.5 * width, top + 0.5 * height];
    let samples = (1.0 / scale).ceil().clamp(2.0, 8.0) as usize;
    let step = 1.0 / samples as f32;
    let columns = (left.floor().max(0.0) as usize)..((left + width).ceil() as usize).min(side);
    let rows = (top.floor().max(0.0) as usize)..((top + height).ceil() as usize).min(side);
    for row in rows {
        for column in columns.clone() {
            let mut sum = [0.0; 4];
            for sample in 0..samples * samples {
                let x = column as f32 + (0.5 + (sample % samples) as f32) * step - centre[0];
                let y = row as f32 + (0.5 + (sample / samples) as f32) * step - centre[1];
                let at_x = (x * cosine + y * sine) / scale + 0.5 * cut_width;
                let at_y = (y * cosine - x * sine) / scale + 0.5 * cut_height;
                let value = cutout.at(at_x, at_y);
                sum.iter_mut().zip(value).for_each(|(sum, value)| *sum += value);
            }
            let [red, green, blue, alpha] = sum.map(|sum| sum * step * step);
            let pixel = &mut pixels[row * side + column];
            let over = [red, green, blue];
            for channel in 0..3 {
                let tinted = (over[channel] * object.tint[channel]).min(255.0 * alpha);
                pixel[channel] = pixel[channel] * (1.0 - alpha) + tinted;
            }
        }
    }
}

fn lit(pixel: Pixel, light: Light) -> Pixel {
    let grey = 0.299 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2];
    let (gain, colour) = match light {
        Light::Day => ([1.0, 1.0, 1.0], 1.0),
        Light::Overcast => ([0.84, 0.86, 0.9], 0.75),
        Light::Dusk => ([1.0, 0.86, 0.72], 1.0),
        Light::Night => ([0.62, 0.66, 0.86], 0.8),
    };
    [0, 1, 2].map(|channel| ((grey + (pixel[channel] - grey) * colour) * gain[channel]).clamp(0.0, 255.0))
}
