//! Parts of a picture, in shares of its sides, so that they outlast a change of size.

/// Most corners of a polygon.
const MAX_CORNERS: usize = 64;

/// A part of a picture, from the top left corner. It lies inside the picture, and is not empty.
#[derive(Clone, Debug, PartialEq)]
pub enum Region {
    /// An upright rectangle.
    Rectangle {
        /// Of the left side.
        left: f64,
        /// Of the top side.
        top: f64,
        /// From left to right.
        width: f64,
        /// From top to bottom.
        height: f64,
    },
    /// The inside of a line through corners, each with its column and row.
    Polygon(Vec<[f64; 2]>),
}

impl Region {
    /// The region of a list of shares: four are a rectangle's left, top, width and height, more are the columns and rows of
    /// a polygon's corners in turn. `None` if it is empty or leaves the picture.
    pub fn new(shares: &[f64]) -> Option<Region> {
        if !shares.iter().all(|share| (0.0..=1.0).contains(share)) {
            return None;
        }
        if let [left, top, width, height] = *shares {
            let fits = |start: f64, length: f64| length > 0.0 && start + length <= 1.0 + f64::EPSILON;
            return (fits(left, width) && fits(top, height)).then_some(Region::Rectangle { left, top, width, height });
        }
        let (corners, rest) = shares.as_chunks::<2>();
        let is_polygon = rest.is_empty() && (3..=MAX_CORNERS).contains(&corners.len());
        is_polygon.then(|| Region::Polygon(corners.to_vec()))
    }

    /// The list of shares that it is made from.
    pub fn shares(&self) -> Vec<f64> {
        match self {
            Region::Rectangle { left, top, width, height } => vec![*left, *top, *width, *height],
            Region::Polygon(corners) => corners.concat(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_lies_inside_the_picture() {
        for shares in [&[0.0, 0.0, 1.0, 1.0][..], &[0.7, 0.7, 0.3, 0.3], &[0.0, 0.0, 1.0, 0.5, 0.2, 1.0]] {
            assert_eq!(Region::new(shares).unwrap().shares(), shares);
        }
        for shares in [
            &[][..],
            &[0.5],
            &[0.1, 0.2],
            &[0.0, 0.0, 0.0, 1.0],
            &[0.5, 0.0, 0.6, 1.0],
            &[-0.1, 0.0, 0.5, 0.5],
            &[f64::NAN, 0.0, 0.5, 0.5],
            &[0.0, 0.0, 1.0, 0.5, 0.2],
            &[0.0, 0.0, 1.0, 0.5, 0.2, 1.1],
            &[0.5; 2 * (MAX_CORNERS + 1)],
        ] {
            assert_eq!(Region::new(shares), None, "{shares:?}");
        }
    }
}
