//! What is known about a picture, on its way into the picture.

use field::hours::Zone;
use store::{PairFacts, Text};

use super::{exif, jpeg, xmp};

/// What goes into a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// The caption.
    pub caption: Option<String>,
    /// When it was taken, with the offset of its zone, as `2026-11-27T09:30:00+01:00`.
    pub taken: Option<String>,
    /// Milliseconds of that second.
    pub milliseconds: u16,
    /// Whether the clock could be trusted.
    pub is_trusted: bool,
    /// Degrees north and east.
    pub coordinates: Option<[f64; 2]>,
    /// Seconds for which it was exposed, in millionths.
    pub exposure_us: Option<u32>,
    /// What the place is called.
    pub place: Option<String>,
    /// Further texts.
    pub texts: Vec<String>,
    /// Probability that the caption matches, and the bundle that says so.
    pub judged: Option<(f32, String)>,
}

/// A picture with what is known about it.
pub(super) struct Written {
    pub(super) jpeg: Vec<u8>,
    /// It had EXIF or XMP already, which stays.
    pub(super) had_its_own: bool,
}

impl Known {
    /// What the store knows, with the texts that go with the picture.
    pub fn of(facts: &PairFacts, texts: &[Text]) -> Known {
        let first = texts.first();
        let place = facts.place.as_ref();
        let zone = place.and_then(|place| place.time_zone.as_ref()?.as_str().parse().ok()).unwrap_or_else(Zone::utc);
        let wall_ms = facts.taken.wall_ms;
        let bundle = || facts.bundle.as_ref().map_or_else(String::new, |bundle| bundle.as_str().to_owned());
        Known {
            caption: first.map(|text| text.words.as_str().to_owned()),
            taken: wall_ms.and_then(|wall_ms| zone.written(wall_ms)),
            milliseconds: wall_ms.map_or(0, |wall_ms| u16::try_from(wall_ms.rem_euclid(1000)).unwrap_or_default()),
            is_trusted: facts.taken.trusted_ms().is_some(),
            coordinates: place.and_then(|place| place.coordinates),
            exposure_us: facts.sensor.exposure_us,
            place: place.map(|place| place.name.as_str().to_owned()).filter(|name| !name.is_empty()),
            texts: texts.iter().skip(1).map(|text| text.words.as_str().to_owned()).collect(),
            judged: first.and_then(|text| Some((text.itm?, bundle()))),
        }
    }

    /// The picture with EXIF and XMP, each unless it has some already.
    pub(super) fn written_into(&self, picture: &[u8]) -> Written {
        let has = jpeg::applications(picture);
        let mut segments = Vec::new();
        if !has.exif {
            segments.extend(jpeg::segment(jpeg::EXIF, &exif::block(self)));
        }
        if !has.xmp {
            segments.extend(jpeg::segment(jpeg::XMP, xmp::packet(self).as_bytes()));
        }
        Written { jpeg: jpeg::with_segments(picture, &segments), had_its_own: has.exif || has.xmp }
    }
}
