//! Star, moon, tree, flower, mushroom, fish.

use super::{Colour, Layer, around, disc, ellipse, hole, polygon, rectangle};

const YELLOW: Colour = [250, 205, 40];
const GOLD: Colour = [226, 158, 20];
const CREAM: Colour = [250, 240, 190];
const WHITE: Colour = [248, 248, 244];
const BARK: Colour = [112, 72, 40];
const LEAF: Colour = [34, 120, 50];
const DARK_LEAF: Colour = [18, 84, 44];
const ORANGE: Colour = [244, 130, 30];
const RED: Colour = [214, 40, 40];
const PINK: Colour = [240, 120, 170];
const VIOLET: Colour = [140, 84, 190];
const BLUE: Colour = [52, 110, 210];
const TEAL: Colour = [30, 160, 160];
const BLACK: Colour = [24, 24, 28];

pub fn star(style: usize) -> Vec<Layer> {
    let (points, inner, colour) = [(5, 0.2, YELLOW), (5, 0.25, ORANGE), (6, 0.26, GOLD), (8, 0.27, CREAM)][style];
    let corners = around(points, 0.48);
    let between = around(points * 2, inner);
    let outline: Vec<_> =
        corners.into_iter().enumerate().flat_map(|(index, corner)| [corner, between[index * 2 + 1]]).collect();
    let mut layers = vec![polygon(colour, &outline)];
    if style == 1 {
        layers.push(disc(YELLOW, [0.5, 0.5], 0.14));
    }
    layers
}

pub fn moon(style: usize) -> Vec<Layer> {
    let colour = [CREAM, YELLOW, [226, 228, 236], [238, 214, 150]][style];
    let bite = [([0.66, 0.42], 0.38), ([0.34, 0.4], 0.38), ([0.72, 0.5], 0.42), ([0.62, 0.5], 0.36)][style];
    let mut layers = vec![disc(colour, [0.5, 0.5], 0.47)];
    if style == 3 {
        layers.push(disc([214, 186, 120], [0.16, 0.5], 0.05));
        layers.push(disc([214, 186, 120], [0.26, 0.76], 0.06));
    }
    layers.push(hole(bite.0, [bite.1, bite.1]));
    layers
}

pub fn tree(style: usize) -> Vec<Layer> {
    let trunk = rectangle(BARK, [0.44, 0.6], [0.56, 0.98]);
    match style {
        0 => vec![trunk, disc(LEAF, [0.5, 0.36], 0.34)],
        1 => vec![
            trunk,
            polygon(DARK_LEAF, &[[0.5, 0.02], [0.74, 0.36], [0.26, 0.36]]),
            polygon(DARK_LEAF, &[[0.5, 0.2], [0.82, 0.6], [0.18, 0.6]]),
            polygon(DARK_LEAF, &[[0.5, 0.42], [0.9, 0.84], [0.1, 0.84]]),
        ],
        2 => vec![trunk, ellipse([80, 150, 50], [0.5, 0.4], [0.2, 0.39])],
        _ => vec![
            trunk,
            disc([60, 140, 60], [0.3, 0.46], 0.22),
            disc([60, 140, 60], [0.7, 0.46], 0.22),
            disc([74, 156, 66], [0.5, 0.26], 0.24),
            disc(RED, [0.36, 0.42], 0.04),
            disc(RED, [0.62, 0.36], 0.04),
            disc(RED, [0.7, 0.54], 0.04),
        ],
    }
}

pub fn flower(style: usize) -> Vec<Layer> {
    let stem = rectangle(LEAF, [0.47, 0.5], [0.53, 0.98]);
    let leaf = ellipse(LEAF, [0.62, 0.78], [0.12, 0.05]);
    if style == 2 {
        let cup = [[0.28, 0.1], [0.4, 0.24], [0.5, 0.06], [0.6, 0.24], [0.72, 0.1], [0.7, 0.5], [0.3, 0.5]];
        return vec![stem, leaf, polygon(RED, &cup), ellipse(RED, [0.5, 0.5], [0.2, 0.12])];
    }
    let (petals, colour, middle) = [(5, PINK, YELLOW), (8, WHITE, YELLOW), (5, RED, RED), (6, VIOLET, ORANGE)][style];
    let mut layers = vec![stem, leaf];
    let placed = around(petals, 0.19).into_iter().map(|[x, y]| [x, y - 0.18]);
    let size = if petals == 8 { 0.1 } else { 0.13 };
    layers.extend(placed.map(|centre| disc(colour, centre, size)));
    layers.push(disc(middle, [0.5, 0.32], 0.11));
    layers
}

pub fn mushroom(style: usize) -> Vec<Layer> {
    let (cap, spot) = [(RED, WHITE), ([150, 98, 56], [180, 130, 84]), ([236, 186, 90], WHITE), (VIOLET, PINK)][style];
    let width = [0.46, 0.42, 0.3, 0.44][style];
    let tall = [0.36, 0.26, 0.42, 0.3][style];
    let mut layers = vec![
        ellipse(cap, [0.5, 0.48], [width, tall]),
        Layer { colour: None, ..rectangle(cap, [0.0, 0.5], [1.0, 1.0]) },
        ellipse(CREAM, [0.5, 0.52], [width * 0.9, 0.04]),
        rectangle(CREAM, [0.41, 0.52], [0.59, 0.92]),
        ellipse(CREAM, [0.5, 0.92], [0.13, 0.06]),
    ];
    if style != 1 {
        layers.extend([[0.36, 0.36], [0.54, 0.28], [0.66, 0.4]].map(|centre| disc(spot, centre, 0.055)));
    }
    layers
}

pub fn fish(style: usize) -> Vec<Layer> {
    let (body, fin) =
        [(ORANGE, [220, 90, 20]), (BLUE, [30, 70, 160]), (TEAL, YELLOW), ([150, 158, 170], [96, 104, 116])][style];
    let tall = [0.22, 0.17, 0.3, 0.13][style];
    let mut layers = vec![
        polygon(fin, &[[0.3, 0.5], [0.03, 0.5 - tall], [0.1, 0.5], [0.03, 0.5 + tall]]),
        polygon(fin, &[[0.4, 0.5 - tall * 0.7], [0.5, 0.42 - tall], [0.7, 0.5 - tall * 0.7]]),
        ellipse(body, [0.58, 0.5], [0.38, tall]),
        disc(WHITE, [0.8, 0.46], 0.045),
        disc(BLACK, [0.81, 0.46], 0.022),
    ];
    if style == 0 || style == 2 {
        let stripe = |x: f32| rectangle(WHITE, [x, 0.5 - tall * 0.8], [x + 0.06, 0.5 + tall * 0.8]);
        layers.extend([stripe(0.44), stripe(0.62)]);
    }
    layers
}
