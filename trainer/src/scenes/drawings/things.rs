//! House, ball, key, cup.

use super::{Colour, Layer, disc, ellipse, gap, hole, polygon, rectangle};

const ROOF: Colour = [170, 54, 40];
const SLATE: Colour = [84, 92, 110];
const DOOR: Colour = [96, 58, 34];
const PANE: Colour = [180, 216, 236];
const WHITE: Colour = [246, 246, 242];
const RED: Colour = [214, 40, 44];
const BLUE: Colour = [44, 92, 200];
const BLACK: Colour = [28, 28, 32];
const GOLD: Colour = [220, 168, 40];
const SILVER: Colour = [168, 174, 184];
const BRONZE: Colour = [166, 104, 52];

pub fn house(style: usize) -> Vec<Layer> {
    let walls = [[236, 214, 170], [196, 96, 70], [222, 232, 238], [238, 200, 90]][style];
    let door = rectangle(DOOR, [0.43, 0.68], [0.57, 0.96]);
    let window = |x: f32, y: f32| rectangle(PANE, [x, y], [x + 0.14, y + 0.14]);
    match style {
        0 => vec![
            rectangle(walls, [0.14, 0.44], [0.86, 0.96]),
            polygon(ROOF, &[[0.5, 0.06], [0.96, 0.46], [0.04, 0.46]]),
            door,
            window(0.21, 0.54),
            window(0.65, 0.54),
        ],
        1 => vec![
            rectangle(SLATE, [0.68, 0.08], [0.78, 0.3]),
            rectangle(walls, [0.1, 0.4], [0.9, 0.96]),
            polygon(SLATE, &[[0.24, 0.16], [0.76, 0.16], [0.97, 0.42], [0.03, 0.42]]),
            door,
            window(0.18, 0.5),
            window(0.68, 0.5),
        ],
        2 => vec![
            rectangle(walls, [0.26, 0.36], [0.74, 0.97]),
            polygon(BLUE, &[[0.5, 0.02], [0.82, 0.38], [0.18, 0.38]]),
            door,
            window(0.32, 0.44),
            window(0.54, 0.44),
        ],
        _ => vec![
            rectangle(walls, [0.06, 0.54], [0.94, 0.94]),
            polygon([60, 120, 70], &[[0.06, 0.26], [0.94, 0.44], [0.99, 0.56], [0.01, 0.56]]),
            rectangle(DOOR, [0.16, 0.64], [0.3, 0.94]),
            rectangle(PANE, [0.42, 0.64], [0.84, 0.8]),
        ],
    }
}

pub fn ball(style: usize) -> Vec<Layer> {
    let (middle, radius) = ([0.5, 0.5], 0.46);
    match style {
        0 => vec![
            disc(RED, middle, radius),
            ellipse(WHITE, middle, [0.26, radius]),
            ellipse(BLUE, middle, [0.09, radius]),
        ],
        1 => {
            let mut layers = vec![disc(WHITE, middle, radius), disc(BLACK, middle, 0.13)];
            let spots = [[0.5, 0.13], [0.85, 0.4], [0.72, 0.8], [0.28, 0.8], [0.15, 0.4]];
            layers.extend(spots.map(|centre| disc(BLACK, centre, 0.075)));
            layers
        }
        2 => vec![
            disc([232, 124, 40], middle, radius),
            rectangle(BLACK, [0.485, 0.05], [0.515, 0.95]),
            rectangle(BLACK, [0.05, 0.485], [0.95, 0.515]),
        ],
        _ => vec![
            disc([60, 170, 90], middle, radius),
            disc([250, 220, 60], [0.34, 0.34], 0.09),
            disc([250, 220, 60], [0.66, 0.4], 0.09),
            disc([250, 220, 60], [0.46, 0.68], 0.09),
        ],
    }
}

pub fn key(style: usize) -> Vec<Layer> {
    let metal = [GOLD, SILVER, BRONZE, [92, 98, 108]][style];
    let mut layers = match style {
        1 => vec![rectangle(metal, [0.04, 0.3], [0.4, 0.7]), gap([0.14, 0.4], [0.3, 0.6])],
        2 => vec![
            disc(metal, [0.16, 0.38], 0.13),
            disc(metal, [0.16, 0.62], 0.13),
            disc(metal, [0.32, 0.5], 0.13),
            hole([0.16, 0.38], [0.06, 0.06]),
            hole([0.16, 0.62], [0.06, 0.06]),
        ],
        _ => vec![disc(metal, [0.23, 0.5], 0.21), hole([0.23, 0.5], [0.1, 0.1])],
    };
    layers.push(rectangle(metal, [0.38, 0.45], [0.96, 0.55]));
    let teeth: &[f32] = [&[0.7, 0.84][..], &[0.66, 0.76, 0.86], &[0.82], &[0.6, 0.86]][style];
    layers.extend(teeth.iter().map(|x| rectangle(metal, [*x, 0.5], [x + 0.08, 0.72])));
    layers
}

pub fn cup(style: usize) -> Vec<Layer> {
    let colour = [WHITE, RED, [70, 150, 190], [240, 170, 60]][style];
    let handle = [disc(colour, [0.74, 0.5], 0.2), hole([0.74, 0.5], [0.12, 0.12])];
    let body = match style {
        0 => polygon(colour, &[[0.08, 0.18], [0.74, 0.18], [0.66, 0.88], [0.16, 0.88]]),
        1 => rectangle(colour, [0.12, 0.14], [0.7, 0.9]),
        2 => ellipse(colour, [0.42, 0.24], [0.34, 0.6]),
        _ => polygon(colour, &[[0.04, 0.3], [0.78, 0.3], [0.58, 0.78], [0.24, 0.78]]),
    };
    let mut layers: Vec<Layer> = handle.into();
    layers.push(body);
    match style {
        0 => layers.push(rectangle(BLUE, [0.11, 0.42], [0.71, 0.52])),
        1 => layers.push(rectangle(WHITE, [0.12, 0.3], [0.7, 0.38])),
        2 => {
            layers.push(gap([0.0, 0.0], [1.0, 0.24]));
            layers.push(ellipse([90, 56, 34], [0.42, 0.24], [0.34, 0.05]));
        }
        _ => layers.push(ellipse(WHITE, [0.41, 0.86], [0.38, 0.07])),
    }
    layers
}
