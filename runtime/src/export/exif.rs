//! EXIF: a small TIFF of up to three directories.
//!
//! Of a block that a camera wrote every byte stays in its place, and the directories that say more come behind them: what
//! points into the block, as a maker's notes and the thumbnail do, still does.
//!
//! Source: CIPA DC-008-2019 (EXIF 2.32): 4.6.2 (types), 4.6.4 and 4.6.5 (tags of the first and the EXIF directory), 4.6.6
//! (GPS), 4.6.8 (what a JPEG must say).

mod directory;

use super::known::Known;
use directory::{Directory, Order, Value};

const IMAGE_DESCRIPTION: u16 = 0x010e;
const X_RESOLUTION: u16 = 0x011a;
const Y_RESOLUTION: u16 = 0x011b;
const RESOLUTION_UNIT: u16 = 0x0128;
const SOFTWARE: u16 = 0x0131;
const CHROMA_POSITION: u16 = 0x0213;
const EXIF_DIRECTORY: u16 = 0x8769;
const GPS_DIRECTORY: u16 = 0x8825;
const EXPOSURE_TIME: u16 = 0x829a;
const EXIF_VERSION: u16 = 0x9000;
const DATE_TIME_ORIGINAL: u16 = 0x9003;
const OFFSET_TIME_ORIGINAL: u16 = 0x9011;
const COMPONENTS: u16 = 0x9101;
const SUB_SEC_TIME_ORIGINAL: u16 = 0x9291;
const FLASHPIX_VERSION: u16 = 0xa000;
const COLOR_SPACE: u16 = 0xa001;
const COLUMNS: u16 = 0xa002;
const ROWS: u16 = 0xa003;
const GPS_VERSION: u16 = 0;
const GPS_LATITUDE_REF: u16 = 1;
const GPS_LATITUDE: u16 = 2;
const GPS_LONGITUDE_REF: u16 = 3;
const GPS_LONGITUDE: u16 = 4;
const GPS_MAP_DATUM: u16 = 0x12;
/// A TIFF before its first directory, which stands behind it.
const HEADER: [u8; 8] = *b"II*\0\x08\0\0\0";
/// Inches, in which a resolution without a meaning of its own is told.
const INCHES: u16 = 2;
const USUAL_RESOLUTION: u32 = 72;
/// Colour between four points, as JFIF has it.
const CENTRED: u16 = 1;
const SRGB: u16 = 1;

/// A block for a picture that has none; columns and rows are of the picture.
pub(super) fn block(known: &Known, [columns, rows]: [u16; 2]) -> Vec<u8> {
    let resolution = Value::Rational(vec![[USUAL_RESOLUTION, 1]]);
    let mut first = Directory::default();
    first.set(X_RESOLUTION, resolution.clone());
    first.set(Y_RESOLUTION, resolution);
    first.set(RESOLUTION_UNIT, Value::Short(INCHES));
    first.set(CHROMA_POSITION, Value::Short(CENTRED));
    let mut exif = Directory::default();
    exif.set(COMPONENTS, Value::Undefined(vec![1, 2, 3, 0]));
    exif.set(FLASHPIX_VERSION, Value::Undefined(b"0100".to_vec()));
    exif.set(COLOR_SPACE, Value::Short(SRGB));
    exif.set(COLUMNS, Value::Short(columns));
    exif.set(ROWS, Value::Short(rows));
    tell(known, &mut first, &mut exif);
    let gps = with_place(known, Directory::default());
    behind(HEADER.to_vec(), Order::Little, [Some(first), Some(exif), gps])
}

/// A camera's block with what is known besides; `None` if it cannot be read. The caption replaces the camera's
/// description; time, exposure and place are added where the camera does not tell them.
pub(super) fn merged(camera: &[u8], known: &Known) -> Option<Vec<u8>> {
    let order = Order::of(camera)?;
    let mut first = Directory::read(camera, order, order.number(camera.get(4..8)?.try_into().ok()?))?;
    let inner = |tag| match first.place(tag, order) {
        Some(place) => Directory::read(camera, order, place),
        None => Some(Directory::default()),
    };
    let (mut exif, gps) = (inner(EXIF_DIRECTORY)?, inner(GPS_DIRECTORY)?);
    tell(known, &mut first, &mut exif);
    Some(behind(camera.to_vec(), order, [Some(first), Some(exif), with_place(known, gps)]))
}

fn tell(known: &Known, first: &mut Directory, exif: &mut Directory) {
    if let Some(caption) = &known.caption {
        first.set(IMAGE_DESCRIPTION, Value::text(caption));
    }
    first.add(SOFTWARE, Value::text(concat!("edgeblip ", env!("CARGO_PKG_VERSION"))));
    exif.add(EXIF_VERSION, Value::Undefined(b"0232".to_vec()));
    if let Some(exposure) = known.exposure_us {
        exif.add(EXPOSURE_TIME, Value::Rational(vec![[exposure, 1_000_000]]));
    }
    // A time that somebody guessed would be taken for one that is known.
    let taken = known.taken.as_deref().filter(|_| known.is_trusted && !exif.has(DATE_TIME_ORIGINAL));
    if let Some((time, offset)) = taken.and_then(|taken| taken.split_at_checked("2026-11-27T09:30:00".len())) {
        exif.set(DATE_TIME_ORIGINAL, Value::text(&time.replace('-', ":").replace('T', " ")));
        exif.set(OFFSET_TIME_ORIGINAL, Value::text(offset));
        exif.set(SUB_SEC_TIME_ORIGINAL, Value::text(&format!("{:03}", known.milliseconds)));
    }
}

/// The camera's directory with the board's place; nothing where the place is not known or the camera tells its own.
fn with_place(known: &Known, mut gps: Directory) -> Option<Directory> {
    let [north, east] = known.coordinates.filter(|_| !gps.has(GPS_LATITUDE))?;
    let side = |degrees: f64, sides: [&str; 2]| Value::text(if degrees < 0.0 { sides[1] } else { sides[0] });
    gps.add(GPS_VERSION, Value::Byte(vec![2, 3, 0, 0]));
    gps.set(GPS_LATITUDE_REF, side(north, ["N", "S"]));
    gps.set(GPS_LATITUDE, degrees(north));
    gps.set(GPS_LONGITUDE_REF, side(east, ["E", "W"]));
    gps.set(GPS_LONGITUDE, degrees(east));
    gps.set(GPS_MAP_DATUM, Value::text("WGS-84"));
    Some(gps)
}

/// Degrees, minutes and ten thousandths of seconds, which is 3 mm.
fn degrees(degrees: f64) -> Value {
    const PART: u32 = 10_000;
    let parts = (degrees.abs() * 3600.0 * f64::from(PART)).round() as u64;
    let part = |number: u64| u32::try_from(number).unwrap_or_default();
    let (minutes, seconds) = (parts / (60 * u64::from(PART)), parts % (60 * u64::from(PART)));
    Value::Rational(vec![[part(minutes / 60), 1], [part(minutes % 60), 1], [part(seconds), PART]])
}

/// The block with new directories behind it: the first one, and those that it names.
fn behind(mut block: Vec<u8>, order: Order, [first, exif, gps]: [Option<Directory>; 3]) -> Vec<u8> {
    // Directories begin at even places.
    block.resize(block.len().next_multiple_of(2), 0);
    let place = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    let mut first = first.unwrap_or_default();
    for (tag, directory) in [(EXIF_DIRECTORY, &exif), (GPS_DIRECTORY, &gps)] {
        if directory.is_some() {
            first.set(tag, Value::Directory(0));
        }
    }
    // Its length does not depend on where the others are.
    let mut at = block.len() + first.coded(order, place(block.len())).len();
    let mut others = Vec::new();
    for (tag, directory) in [(EXIF_DIRECTORY, exif), (GPS_DIRECTORY, gps)] {
        let Some(directory) = directory else { continue };
        first.set(tag, Value::Directory(place(at)));
        let coded = directory.coded(order, place(at));
        at += coded.len();
        others.extend(coded);
    }
    let first_at = place(block.len());
    if let Some(field) = block.get_mut(4..8) {
        field.copy_from_slice(&order.bytes(first_at));
    }
    block.extend(first.coded(order, first_at));
    block.extend(others);
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIENTATION: u16 = 0x0112;
    const MAKER_NOTE: u16 = 0x927c;

    fn known() -> Known {
        Known {
            caption: Some("an owl".to_owned()),
            taken: Some("2026-11-27T09:30:00+01:00".to_owned()),
            milliseconds: 7,
            is_trusted: true,
            coordinates: Some([52.5, -13.25]),
            ..Known::default()
        }
    }

    /// What a camera may write, in either order: a description, an orientation, a time, notes, and a thumbnail's directory.
    fn of_a_camera(order: Order) -> Vec<u8> {
        let mut first = Directory::default();
        first.set(IMAGE_DESCRIPTION, Value::text("MAKER'S OWN CAMERA"));
        first.set(ORIENTATION, Value::Short(6));
        first.next = order.bytes(0x1234);
        let mut exif = Directory::default();
        exif.set(DATE_TIME_ORIGINAL, Value::text("2020:01:02 03:04:05"));
        exif.set(MAKER_NOTE, Value::Undefined(b"notes of the maker".to_vec()));
        let header = if matches!(order, Order::Little) { HEADER } else { *b"MM\0*\0\0\0\x08" };
        behind(header.to_vec(), order, [Some(first), Some(exif), None])
    }

    fn read(block: &[u8]) -> [Directory; 3] {
        let order = Order::of(block).unwrap();
        let first = Directory::read(block, order, order.number(block[4..8].try_into().unwrap())).unwrap();
        let inner = |tag| Directory::read(block, order, first.place(tag, order).unwrap()).unwrap();
        let (exif, gps) = (inner(EXIF_DIRECTORY), inner(GPS_DIRECTORY));
        [first, exif, gps]
    }

    #[test]
    fn what_a_camera_wrote_stays_in_its_place_and_more_comes_behind_it() {
        for order in [Order::Little, Order::Big] {
            let camera = of_a_camera(order);
            let merged = merged(&camera, &known()).unwrap();
            assert_eq!(merged[..4], camera[..4]);
            assert_eq!(merged[8..camera.len()], camera[8..]);
            let [first, exif, gps] = read(&merged);
            assert_eq!(first.next, order.bytes(0x1234));
            assert_eq!(first.short(ORIENTATION, order), Some(6));
            assert_eq!(first.content(IMAGE_DESCRIPTION, &merged, order).unwrap(), b"an owl\0");
            assert_eq!(exif.content(DATE_TIME_ORIGINAL, &merged, order).unwrap(), b"2020:01:02 03:04:05\0");
            assert!(!exif.has(OFFSET_TIME_ORIGINAL), "a zone of ours for a time of the camera's");
            assert_eq!(exif.content(MAKER_NOTE, &merged, order).unwrap(), b"notes of the maker");
            assert_eq!(gps.content(GPS_LONGITUDE_REF, &merged, order).unwrap(), b"W\0");
        }
    }

    #[test]
    fn a_place_of_the_cameras_own_stays() {
        let camera = block(&Known { coordinates: Some([1.0, 2.0]), ..known() }, [4, 3]);
        let merged = merged(&camera, &known()).unwrap();
        let gps = |block: &[u8]| read(block)[2].content(GPS_LATITUDE, block, Order::Little).unwrap().to_vec();
        assert_eq!(gps(&merged), gps(&camera));
    }

    #[test]
    fn a_time_that_was_guessed_is_not_told() {
        let block = block(&Known { is_trusted: false, ..known() }, [4, 3]);
        assert!(!read(&block)[1].has(DATE_TIME_ORIGINAL));
    }

    #[test]
    fn a_block_that_is_cut_short_is_merged_or_refused_and_never_stops_the_program() {
        let camera = of_a_camera(Order::Big);
        for length in 0..camera.len() {
            let _ = merged(&camera[..length], &known());
        }
        for place in 0..camera.len() {
            let mut wrong = camera.clone();
            wrong[place] ^= 0xff;
            let _ = merged(&wrong, &known());
        }
        assert!(merged(b"", &known()).is_none());
        assert!(merged(b"II*\0\xff\xff\xff\xff", &known()).is_none());
    }

    #[test]
    fn degrees_are_told_in_minutes_and_seconds() {
        let Value::Rational(parts) = degrees(-52.520_008) else { panic!("no rational") };
        assert_eq!(parts, [[52, 1], [31, 1], [120_288, 10_000]]);
        let Value::Rational(parts) = degrees(179.999_999_999_99) else { panic!("no rational") };
        assert_eq!(parts, [[180, 1], [0, 1], [0, 10_000]]);
    }
}
