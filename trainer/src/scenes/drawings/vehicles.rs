//! Car and boat.

use super::{Colour, Layer, disc, ellipse, polygon, rectangle};

const TYRE: Colour = [30, 30, 34];
const HUB: Colour = [190, 194, 200];
const GLASS: Colour = [176, 214, 236];
const WOOD: Colour = [150, 92, 46];
const SAIL: Colour = [246, 242, 230];
const RED: Colour = [206, 36, 42];
const BLUE: Colour = [40, 90, 190];

pub fn car(style: usize) -> Vec<Layer> {
    let colour = [RED, BLUE, [240, 190, 40], [60, 150, 90]][style];
    let mut layers = match style {
        0 => vec![
            polygon(colour, &[[0.26, 0.48], [0.36, 0.3], [0.66, 0.3], [0.78, 0.48]]),
            polygon(GLASS, &[[0.31, 0.47], [0.38, 0.33], [0.49, 0.33], [0.49, 0.47]]),
            polygon(GLASS, &[[0.53, 0.47], [0.53, 0.33], [0.64, 0.33], [0.73, 0.47]]),
            rectangle(colour, [0.04, 0.47], [0.96, 0.68]),
        ],
        1 => vec![
            polygon(colour, &[[0.06, 0.68], [0.06, 0.26], [0.64, 0.26], [0.78, 0.46], [0.95, 0.5], [0.95, 0.68]]),
            rectangle(GLASS, [0.12, 0.31], [0.28, 0.45]),
            rectangle(GLASS, [0.32, 0.31], [0.48, 0.45]),
            polygon(GLASS, &[[0.52, 0.31], [0.62, 0.31], [0.72, 0.45], [0.52, 0.45]]),
        ],
        2 => vec![
            ellipse(colour, [0.5, 0.5], [0.3, 0.27]),
            ellipse(GLASS, [0.5, 0.48], [0.22, 0.19]),
            rectangle(colour, [0.48, 0.28], [0.52, 0.5]),
            rectangle(colour, [0.1, 0.48], [0.9, 0.68]),
            ellipse(colour, [0.12, 0.58], [0.1, 0.1]),
            ellipse(colour, [0.88, 0.58], [0.1, 0.1]),
        ],
        _ => vec![
            polygon(
                colour,
                &[[0.02, 0.66], [0.06, 0.5], [0.36, 0.46], [0.5, 0.36], [0.72, 0.36], [0.98, 0.48], [0.98, 0.66]],
            ),
            polygon(GLASS, &[[0.42, 0.46], [0.52, 0.39], [0.68, 0.39], [0.76, 0.46]]),
        ],
    };
    for x in [0.25, 0.75] {
        layers.push(disc(TYRE, [x, 0.68], 0.12));
        layers.push(disc(HUB, [x, 0.68], 0.055));
    }
    layers
}

pub fn boat(style: usize) -> Vec<Layer> {
    let hull = |colour, top: f32| polygon(colour, &[[0.03, top], [0.97, top], [0.82, 0.92], [0.18, 0.92]]);
    match style {
        0 => vec![
            rectangle(WOOD, [0.48, 0.06], [0.52, 0.7]),
            polygon(SAIL, &[[0.54, 0.06], [0.54, 0.62], [0.9, 0.62]]),
            polygon(RED, &[[0.46, 0.16], [0.46, 0.62], [0.16, 0.62]]),
            hull(WOOD, 0.68),
        ],
        1 => vec![
            rectangle(RED, [0.52, 0.18], [0.66, 0.5]),
            rectangle([40, 40, 46], [0.52, 0.18], [0.66, 0.26]),
            rectangle(SAIL, [0.26, 0.46], [0.76, 0.68]),
            disc(GLASS, [0.36, 0.56], 0.05),
            disc(GLASS, [0.51, 0.56], 0.05),
            disc(GLASS, [0.66, 0.56], 0.05),
            hull([44, 60, 110], 0.66),
        ],
        2 => vec![
            rectangle(WOOD, [0.46, 0.05], [0.5, 0.72]),
            polygon([60, 130, 200], &[[0.52, 0.05], [0.88, 0.4], [0.52, 0.58]]),
            hull(SAIL, 0.7),
            rectangle([60, 130, 200], [0.1, 0.76], [0.9, 0.8]),
        ],
        _ => vec![
            rectangle(WOOD, [0.3, 0.1], [0.33, 0.66]),
            rectangle(WOOD, [0.66, 0.1], [0.69, 0.66]),
            rectangle(SAIL, [0.16, 0.14], [0.47, 0.52]),
            rectangle(SAIL, [0.53, 0.14], [0.84, 0.52]),
            hull([120, 50, 40], 0.64),
        ],
    }
}
