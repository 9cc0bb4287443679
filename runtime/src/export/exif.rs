//! EXIF: a small TIFF of three directories, in little-endian order.
//!
//! Source: CIPA DC-008-2019 (EXIF 2.32): 4.6.2 (types), 4.6.4 and 4.6.5 (tags of the first and the EXIF directory), 4.6.6 (GPS).

use super::metadata::Known;

/// What a directory says.
enum Value {
    Ascii(Vec<u8>),
    Byte(Vec<u8>),
    Undefined(Vec<u8>),
    Rational(Vec<[u32; 2]>),
    /// The place of another directory.
    Directory(u32),
}

impl Value {
    fn text(text: &str) -> Value {
        Value::Ascii([text.as_bytes(), b"\0"].concat())
    }

    /// Its type, how many there are, and their bytes.
    fn coded(&self) -> (u16, u32, Vec<u8>) {
        let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        match self {
            Value::Byte(bytes) => (1, count(bytes.len()), bytes.clone()),
            Value::Ascii(bytes) => (2, count(bytes.len()), bytes.clone()),
            Value::Directory(place) => (4, 1, place.to_le_bytes().to_vec()),
            Value::Rational(parts) => {
                let bytes = parts.iter().flatten().flat_map(|part| part.to_le_bytes()).collect();
                (5, count(parts.len()), bytes)
            }
            Value::Undefined(bytes) => (7, count(bytes.len()), bytes.clone()),
        }
    }
}

/// A directory: tags in ascending order.
type Directory = Vec<(u16, Value)>;

const IMAGE_DESCRIPTION: u16 = 0x010e;
const SOFTWARE: u16 = 0x0131;
const EXIF_DIRECTORY: u16 = 0x8769;
const GPS_DIRECTORY: u16 = 0x8825;
const EXPOSURE_TIME: u16 = 0x829a;
const EXIF_VERSION: u16 = 0x9000;
const DATE_TIME_ORIGINAL: u16 = 0x9003;
const OFFSET_TIME_ORIGINAL: u16 = 0x9011;
const SUB_SEC_TIME_ORIGINAL: u16 = 0x9291;
const GPS_VERSION: u16 = 0;
const GPS_LATITUDE_REF: u16 = 1;
const GPS_LATITUDE: u16 = 2;
const GPS_LONGITUDE_REF: u16 = 3;
const GPS_LONGITUDE: u16 = 4;
const GPS_MAP_DATUM: u16 = 0x12;
/// Bytes before the first directory.
const HEADER: u32 = 8;

/// The block behind `Exif\0\0`.
pub(super) fn block(known: &Known) -> Vec<u8> {
    let (exif, gps) = (exif_directory(known), gps_directory(known));
    // Directories have the same length whatever the places in them are.
    let first_at = |exif_at: u32, gps_at: u32| {
        let mut first: Directory = Vec::new();
        first.extend(known.caption.as_deref().map(|caption| (IMAGE_DESCRIPTION, Value::text(caption))));
        first.push((SOFTWARE, Value::text(concat!("edgeblip ", env!("CARGO_PKG_VERSION")))));
        first.push((EXIF_DIRECTORY, Value::Directory(exif_at)));
        first.extend(gps.is_some().then_some((GPS_DIRECTORY, Value::Directory(gps_at))));
        coded(&first, HEADER)
    };
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let exif_at = HEADER + length(&first_at(0, 0));
    let exif = coded(&exif, exif_at);
    let gps_at = exif_at + length(&exif);
    let gps = gps.as_ref().map_or_else(Vec::new, |gps| coded(gps, gps_at));
    [b"II*\0\x08\0\0\0".to_vec(), first_at(exif_at, gps_at), exif, gps].concat()
}

fn exif_directory(known: &Known) -> Directory {
    let mut exif: Directory = Vec::new();
    exif.extend(known.exposure_us.map(|exposure| (EXPOSURE_TIME, Value::Rational(vec![[exposure, 1_000_000]]))));
    exif.push((EXIF_VERSION, Value::Undefined(b"0232".to_vec())));
    // A time that somebody guessed would be taken for one that is known.
    let taken = known.taken.as_deref().filter(|_| known.is_trusted);
    if let Some((time, offset)) = taken.and_then(|taken| taken.split_at_checked(19)) {
        exif.push((DATE_TIME_ORIGINAL, Value::text(&time.replace('-', ":").replace('T', " "))));
        exif.push((OFFSET_TIME_ORIGINAL, Value::text(offset)));
        exif.push((SUB_SEC_TIME_ORIGINAL, Value::text(&format!("{:03}", known.milliseconds))));
    }
    exif
}

fn gps_directory(known: &Known) -> Option<Directory> {
    let [north, east] = known.coordinates?;
    let side = |degrees: f64, signs: [&str; 2]| Value::text(if degrees < 0.0 { signs[1] } else { signs[0] });
    Some(vec![
        (GPS_VERSION, Value::Byte(vec![2, 3, 0, 0])),
        (GPS_LATITUDE_REF, side(north, ["N", "S"])),
        (GPS_LATITUDE, degrees(north)),
        (GPS_LONGITUDE_REF, side(east, ["E", "W"])),
        (GPS_LONGITUDE, degrees(east)),
        (GPS_MAP_DATUM, Value::text("WGS-84")),
    ])
}

/// Degrees, minutes and ten thousandths of seconds, which is 3 mm.
fn degrees(degrees: f64) -> Value {
    const PART: u32 = 10_000;
    let parts = (degrees.abs() * 3600.0 * f64::from(PART)).round() as u64;
    let part = |number: u64| u32::try_from(number).unwrap_or_default();
    let (minutes, seconds) = (parts / (60 * u64::from(PART)), parts % (60 * u64::from(PART)));
    Value::Rational(vec![[part(minutes / 60), 1], [part(minutes % 60), 1], [part(seconds), PART]])
}

/// A directory at a place: its entries, and behind them what does not fit into four bytes.
fn coded(directory: &Directory, at: u32) -> Vec<u8> {
    let count = u16::try_from(directory.len()).unwrap_or_default();
    let mut entries = count.to_le_bytes().to_vec();
    let mut rest = Vec::new();
    let rest_at = at + 2 + u32::from(count) * 12 + 4;
    for (tag, value) in directory {
        let (kind, count, mut bytes) = value.coded();
        entries.extend(tag.to_le_bytes());
        entries.extend(kind.to_le_bytes());
        entries.extend(count.to_le_bytes());
        if bytes.len() <= 4 {
            bytes.resize(4, 0);
            entries.extend(bytes);
        } else {
            entries.extend((rest_at + u32::try_from(rest.len()).unwrap_or_default()).to_le_bytes());
            // Values begin at even places.
            bytes.resize(bytes.len().next_multiple_of(2), 0);
            rest.extend(bytes);
        }
    }
    // There is no next directory.
    entries.extend([0; 4]);
    entries.extend(rest);
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn degrees_are_told_in_minutes_and_seconds() {
        let Value::Rational(parts) = degrees(-52.520_008) else { panic!("no rational") };
        assert_eq!(parts, [[52, 1], [31, 1], [120_288, 10_000]]);
        let Value::Rational(parts) = degrees(179.999_999_999_99) else { panic!("no rational") };
        assert_eq!(parts, [[180, 1], [0, 1], [0, 10_000]]);
    }
}
