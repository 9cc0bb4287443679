//! What is known about a picture and may be written into it.

use field::hours::Zone;
use store::{Origin, PairFacts, Text};

/// What goes into a picture.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Known {
    pub(super) caption: Option<String>,
    /// When it was taken, with the offset of its zone, as `2026-11-27T09:30:00+01:00`.
    pub(super) taken: Option<String>,
    /// Milliseconds of that second.
    pub(super) milliseconds: u16,
    /// Whether somebody had set the clock.
    pub(super) is_trusted: bool,
    /// Degrees north and east.
    pub(super) coordinates: Option<[f64; 2]>,
    /// Seconds for which it was exposed, in millionths.
    pub(super) exposure_us: Option<u32>,
    /// What the place is called.
    pub(super) place: Option<String>,
    /// The source, as configured.
    pub(super) camera: String,
    /// Further texts.
    pub(super) texts: Vec<String>,
    /// Those of all texts that are the trigger's name.
    pub(super) keywords: Vec<String>,
    /// Probability that the caption matches, and the bundle that says so.
    pub(super) judged: Option<(f32, String)>,
}

impl Known {
    /// What the store knows, with the texts that go with the picture.
    pub(super) fn of(facts: &PairFacts, texts: &[Text]) -> Known {
        let words = |text: &Text| text.words.as_str().to_owned();
        let (first, place) = (texts.first(), facts.place.as_ref());
        let zone = place.and_then(|place| place.time_zone.as_ref()?.as_str().parse().ok()).unwrap_or_else(Zone::utc);
        let wall_ms = facts.taken.wall_ms;
        Known {
            caption: first.map(words),
            taken: wall_ms.and_then(|wall_ms| zone.written(wall_ms)),
            milliseconds: wall_ms.map_or(0, |wall_ms| u16::try_from(wall_ms.rem_euclid(1000)).unwrap_or_default()),
            is_trusted: facts.taken.trusted_ms().is_some(),
            coordinates: place.and_then(|place| place.coordinates),
            exposure_us: facts.sensor.exposure_us.filter(|exposure| *exposure > 0),
            place: place.map(|place| place.name.as_str().to_owned()).filter(|name| !name.is_empty()),
            camera: facts.sensor.camera.as_str().to_owned(),
            texts: texts.iter().skip(1).map(words).collect(),
            keywords: texts.iter().filter(|text| text.origin == Origin::Tag).map(words).collect(),
            judged: first.and_then(|text| {
                let bundle = text.model.as_ref().or(facts.bundle.as_ref());
                Some((text.itm?, bundle.map_or_else(String::new, |bundle| bundle.as_str().to_owned())))
            }),
        }
    }
}
