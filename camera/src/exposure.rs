//! For how long a JPEG was exposed, as its camera wrote it into the file.
//!
//! Source: CIPA DC-008 (Exif 2.32), 4.5.5, 4.6.2 and 4.6.5; TIFF 6.0, section 2.

use std::time::Duration;

/// Tags, and the kinds of value that they have.
const EXIF_FOLDER: (u16, u16) = (0x8769, LONG);
const EXPOSURE_TIME: (u16, u16) = (0x829A, RATIONAL);
const LONG: u16 = 4;
const RATIONAL: u16 = 5;
/// Longest exposure that is believed.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The exposure time of a JPEG, if it has one that can be.
pub(crate) fn exposure(jpeg: &[u8]) -> Option<Duration> {
    let tiff = Tiff::in_jpeg(jpeg)?;
    let folder = tiff.long(4)?;
    let folder = tiff.long(tiff.value_of(EXIF_FOLDER, folder)?)?;
    let value = tiff.long(tiff.value_of(EXPOSURE_TIME, folder)?)?;
    let (numerator, denominator) = (tiff.long(value)?, tiff.long(value.checked_add(4)?)?);
    let seconds = f64::from(u32::try_from(numerator).ok()?) / f64::from(u32::try_from(denominator).ok()?);
    let exposure = Duration::try_from_secs_f64(seconds).ok()?;
    (!exposure.is_zero() && exposure <= LONGEST).then_some(exposure)
}

/// What a camera says of a picture: numbered values in folders, at places that are given by their distance from the
/// start.
struct Tiff<'a> {
    bytes: &'a [u8],
    is_little: bool,
}

impl<'a> Tiff<'a> {
    /// The first one before the picture's data.
    fn in_jpeg(jpeg: &'a [u8]) -> Option<Self> {
        let mut rest = jpeg.get(2..)?;
        loop {
            let [0xFF, marker, high, low] = *rest.first_chunk()? else { return None };
            let end = 2 + usize::from(u16::from_be_bytes([high, low]));
            let content = rest.get(4..end)?;
            match (marker, content.strip_prefix(b"Exif\0\0")) {
                (0xE1, Some(bytes)) => return Self::new(bytes),
                (0xDA, _) => return None,
                _ => rest = &rest[end..],
            }
        }
    }

    fn new(bytes: &'a [u8]) -> Option<Self> {
        let is_little = match bytes.first_chunk()? {
            b"II*\0" => true,
            b"MM\0*" => false,
            _ => return None,
        };
        Some(Self { bytes, is_little })
    }

    fn short(&self, at: usize) -> Option<u16> {
        let bytes = *self.bytes.get(at..)?.first_chunk()?;
        Some(if self.is_little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    }

    fn long(&self, at: usize) -> Option<usize> {
        let bytes = *self.bytes.get(at..)?.first_chunk()?;
        let long = if self.is_little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) };
        usize::try_from(long).ok()
    }

    /// Where the value of a tag, or the place of its value, stands in a folder.
    fn value_of(&self, (tag, kind): (u16, u16), folder: usize) -> Option<usize> {
        let count = usize::from(self.short(folder)?);
        let entries = (0..count).map(|entry| folder.checked_add(2 + 12 * entry));
        let entry = entries.map_while(|entry| entry).find(|entry| self.short(*entry) == Some(tag))?;
        let is_one = self.short(entry.checked_add(2)?)? == kind && self.long(entry.checked_add(4)?)? == 1;
        if is_one { entry.checked_add(8) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A JPEG that was exposed for 1/250 s. Source: Pillow 13.0.0, `Image.save` of 8 x 8 pixels with
    /// `Exif` that has `ExposureTime` 1/250 and `Make` "edgeblip".
    const PILLOW: &[u8] = include_bytes!("exposure/pillow.jpg");

    #[test]
    fn exposure_is_what_the_camera_wrote() {
        assert_eq!(exposure(PILLOW), Some(Duration::from_millis(4)));
        assert!(picture::decode(PILLOW).is_ok());
        assert_eq!(exposure(&crate::mjpeg::tests::jpeg(1, b"")), None);
    }

    #[test]
    fn both_orders_of_bytes_are_read_and_what_cannot_be_is_not() {
        let tiff = |[numerator, denominator]: [u32; 2]| {
            let mut bytes = b"MM\0*\0\0\0\x08\0\x01\x87\x69\0\x04\0\0\0\x01\0\0\0\x1a\0\0\0\0".to_vec();
            bytes.extend(b"\0\x01\x82\x9a\0\x05\0\0\0\x01\0\0\0\x2c\0\0\0\0");
            bytes.extend(numerator.to_be_bytes().into_iter().chain(denominator.to_be_bytes()));
            let length = u16::try_from(bytes.len() + 8).unwrap().to_be_bytes();
            [b"\xff\xd8\xff\xe1".as_slice(), &length, b"Exif\0\0", &bytes].concat()
        };
        assert_eq!(exposure(&tiff([1, 2])), Some(Duration::from_millis(500)));
        for [numerator, denominator] in [[0, 1], [1, 0], [0, 0], [u32::MAX, 1]] {
            assert_eq!(exposure(&tiff([numerator, denominator])), None, "{numerator} / {denominator}");
        }
    }

    #[test]
    fn files_that_are_cut_or_changed_never_panic() {
        for length in 0..PILLOW.len() {
            exposure(&PILLOW[..length]);
        }
        for at in 0..PILLOW.len().min(300) {
            for value in [0, 1, 0x7F, 0xFF] {
                let mut changed = PILLOW.to_vec();
                changed[at] = value;
                exposure(&changed);
            }
        }
    }
}
