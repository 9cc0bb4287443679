//! Twelve things that we draw ourselves, each in four styles, so that scenes need nothing installed.

mod outdoors;
mod things;
mod vehicles;

use super::cutouts::Cutout;

/// The nouns that can be drawn, in alphabetical order.
pub const DRAWN_NOUNS: [&str; 12] =
    ["ball", "boat", "car", "cup", "fish", "flower", "house", "key", "moon", "mushroom", "star", "tree"];
/// Styles of each noun.
const STYLES: usize = 4;
/// Pixels on a side before a drawing is cut down.
const SIDE: usize = 96;
/// Samples of a pixel, in each direction.
const SAMPLES: usize = 4;

/// Red, green and blue.
type Colour = [u8; 3];
/// From the left and from the top, as shares of the drawing's sides.
type Point = [f32; 2];

/// A coloured shape; without a colour it is a hole in what lies under it.
struct Layer {
    colour: Option<Colour>,
    shape: Shape,
}

enum Shape {
    Ellipse { centre: Point, radii: Point },
    Polygon(Vec<Point>),
}

impl Shape {
    fn covers(&self, [x, y]: Point) -> bool {
        match self {
            Self::Ellipse { centre, radii } => {
                let (x, y) = ((x - centre[0]) / radii[0], (y - centre[1]) / radii[1]);
                x * x + y * y <= 1.0
            }
            Self::Polygon(points) => {
                let next = points.iter().cycle().skip(1);
                let crossings = points
                    .iter()
                    .zip(next)
                    .filter(|(a, b)| (a[1] > y) != (b[1] > y) && x < (b[0] - a[0]) * (y - a[1]) / (b[1] - a[1]) + a[0]);
                crossings.count() % 2 == 1
            }
        }
    }
}

/// Every drawing of `nouns`, of all nouns if empty.
pub fn all(nouns: &[String], largest: usize) -> Vec<(String, Cutout)> {
    let wanted = DRAWN_NOUNS.into_iter().filter(|drawn| nouns.is_empty() || nouns.iter().any(|noun| noun == drawn));
    let styles = wanted.flat_map(|noun| (0..STYLES).map(move |style| (noun, style)));
    styles.filter_map(|(noun, style)| Some((noun.to_owned(), drawing(noun, style, largest)?))).collect()
}

fn drawing(noun: &str, style: usize, largest: usize) -> Option<Cutout> {
    let layers = match noun {
        "ball" => things::ball(style),
        "boat" => vehicles::boat(style),
        "car" => vehicles::car(style),
        "cup" => things::cup(style),
        "fish" => outdoors::fish(style),
        "flower" => outdoors::flower(style),
        "house" => things::house(style),
        "key" => things::key(style),
        "moon" => outdoors::moon(style),
        "mushroom" => outdoors::mushroom(style),
        "star" => outdoors::star(style),
        "tree" => outdoors::tree(style),
        _ => return None,
    };
    Cutout::new(format!("drawn-{}", style + 1), SIDE, &rendered(&layers), largest)
}

fn rendered(layers: &[Layer]) -> Vec<[f32; 4]> {
    let mut values = Vec::with_capacity(SIDE * SIDE);
    let grid = (SIDE * SAMPLES) as f32;
    let share = 1.0 / (SAMPLES * SAMPLES) as f32;
    for pixel in 0..SIDE * SIDE {
        let mut sum = [0.0; 4];
        for sample in 0..SAMPLES * SAMPLES {
            let x = ((pixel % SIDE) * SAMPLES + sample % SAMPLES) as f32 + 0.5;
            let y = ((pixel / SIDE) * SAMPLES + sample / SAMPLES) as f32 + 0.5;
            let top = layers.iter().rev().find(|layer| layer.shape.covers([x / grid, y / grid]));
            if let Some(colour) = top.and_then(|layer| layer.colour) {
                (0..3).for_each(|channel| sum[channel] += f32::from(colour[channel]) * share);
                sum[3] += share;
            }
        }
        values.push(sum);
    }
    values
}

fn ellipse(colour: Colour, centre: Point, radii: Point) -> Layer {
    Layer { colour: Some(colour), shape: Shape::Ellipse { centre, radii } }
}

fn disc(colour: Colour, centre: Point, radius: f32) -> Layer {
    ellipse(colour, centre, [radius, radius])
}

fn hole(centre: Point, radii: Point) -> Layer {
    Layer { colour: None, shape: Shape::Ellipse { centre, radii } }
}

fn polygon(colour: Colour, points: &[Point]) -> Layer {
    Layer { colour: Some(colour), shape: Shape::Polygon(points.to_vec()) }
}

/// From the left top to the right bottom.
fn rectangle(colour: Colour, [left, top]: Point, [right, bottom]: Point) -> Layer {
    polygon(colour, &[[left, top], [right, top], [right, bottom], [left, bottom]])
}

fn gap(left_top: Point, right_bottom: Point) -> Layer {
    Layer { colour: None, ..rectangle([0; 3], left_top, right_bottom) }
}

/// `number` points around the middle, the first straight up.
fn around(number: usize, radius: f32) -> Vec<Point> {
    let angle = |index: usize| std::f32::consts::TAU * index as f32 / number as f32;
    (0..number)
        .map(|index| [0.5 + radius * libm::sinf(angle(index)), 0.5 - radius * libm::cosf(angle(index))])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_noun_has_four_drawings_that_differ_and_fill_their_box() {
        let drawings = all(&[], SIDE);
        assert_eq!(drawings.len(), DRAWN_NOUNS.len() * STYLES);
        for (noun, cutout) in &drawings {
            let [width, height] = cutout.size();
            assert!(width.max(height) >= SIDE / 2, "{noun}: {width} x {height}");
            let visible = (0..width * height)
                .filter(|at| cutout.at((at % width) as f32 + 0.5, (at / width) as f32 + 0.5)[3] > 0.5);
            assert!(visible.count() * 100 >= width * height * 12, "{noun}");
        }
        for pair in drawings.chunks(STYLES).flat_map(|styles| styles.windows(2)) {
            let sample = |cutout: &Cutout| {
                (0..64).map(|at| cutout.at((at % 8) as f32 * 12.0, (at / 8) as f32 * 12.0)).collect::<Vec<_>>()
            };
            assert_ne!(sample(&pair[0].1), sample(&pair[1].1), "{}", pair[0].0);
        }
    }

    #[test]
    fn an_edge_is_half_covered_where_it_cuts_a_pixel_in_half() {
        let values = rendered(&[rectangle([200, 100, 50], [0.0, 0.0], [10.5 / SIDE as f32, 1.0])]);
        assert_eq!(values[10], [100.0, 50.0, 25.0, 0.5]);
        assert_eq!((values[9][3], values[11][3]), (1.0, 0.0));
    }
}
