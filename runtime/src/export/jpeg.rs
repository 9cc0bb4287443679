//! Application segments of a JPEG. What is coded in it is not touched.
//!
//! Sources: ITU-T T.81, annex B (markers); CIPA DC-008 (EXIF), 4.7; Adobe's XMP specification, part 3, 1.1.3.

/// What an EXIF segment begins with.
pub(super) const EXIF: &[u8] = b"Exif\0\0";
/// What an XMP segment begins with.
pub(super) const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";
/// Most bytes of a segment, its length included.
const MAX_SEGMENT: usize = 65_535;
const START: u8 = 0xd8;
const APPLICATION_0: u8 = 0xe0;
const APPLICATION_1: u8 = 0xe1;
const SCAN: u8 = 0xda;
const END: u8 = 0xd9;

/// Which application data a picture has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Applications {
    pub(super) exif: bool,
    pub(super) xmp: bool,
}

/// Segments up to the first scan, each with its marker, its place and its content.
struct Segments<'a> {
    file: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Segments<'a> {
    /// Marker, where the segment ends, content.
    type Item = (u8, usize, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let mut at = self.at;
        if *self.file.get(at)? != 0xff {
            return None;
        }
        // Any number of 0xff may stand before a marker.
        while *self.file.get(at)? == 0xff {
            at += 1;
        }
        let marker = *self.file.get(at)?;
        if matches!(marker, START | SCAN | END | 0) {
            return None;
        }
        let length = usize::from(u16::from_be_bytes(*self.file.get(at + 1..)?.first_chunk()?));
        let end = at + 1 + length;
        let content = self.file.get(at + 3..end)?;
        self.at = end;
        Some((marker, end, content))
    }
}

fn segments(file: &[u8]) -> Segments<'_> {
    let is_jpeg = file.starts_with(&[0xff, START]);
    Segments { file, at: if is_jpeg { 2 } else { file.len() } }
}

/// Which application data a picture has.
pub(super) fn applications(file: &[u8]) -> Applications {
    let mut found = Applications::default();
    for (marker, _, content) in segments(file) {
        found.exif |= marker == APPLICATION_1 && content.starts_with(EXIF);
        found.xmp |= marker == APPLICATION_1 && content.starts_with(XMP);
    }
    found
}

/// A segment with an application's data; nothing where they are too long for one.
pub(super) fn segment(name: &[u8], data: &[u8]) -> Vec<u8> {
    let length = 2 + name.len() + data.len();
    let Some(length) = u16::try_from(length).ok().filter(|length| usize::from(*length) <= MAX_SEGMENT) else {
        return Vec::new();
    };
    [&[0xff, APPLICATION_1][..], &length.to_be_bytes(), name, data].concat()
}

/// The picture with segments behind its first ones: JFIF wants to stand first. What is no JPEG stays as it is.
pub(super) fn with_segments(file: &[u8], new: &[u8]) -> Vec<u8> {
    let first = segments(file).take_while(|(marker, ..)| *marker == APPLICATION_0).last();
    let place = first.map_or(2, |(_, end, _)| end);
    match (file.starts_with(&[0xff, START]), file.get(..place), file.get(place..)) {
        (true, Some(before), Some(after)) => [before, new, after].concat(),
        _ => file.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JFIF: &[u8] = b"\xff\xe0\x00\x04JF";
    const REST: &[u8] = b"\xff\xdb\x00\x03x\xff\xda\x00\x02coded\xff\xd9";

    fn file(segments: &[&[u8]]) -> Vec<u8> {
        [b"\xff\xd8", &segments.concat(), REST].concat()
    }

    #[test]
    fn new_segments_stand_behind_jfif_and_the_rest_stays() {
        let exif = segment(EXIF, b"II*\0");
        assert_eq!(exif, b"\xff\xe1\x00\x0cExif\0\0II*\0");
        assert_eq!(with_segments(&file(&[JFIF]), &exif), file(&[JFIF, &exif]));
        assert_eq!(with_segments(&file(&[]), &exif), file(&[&exif]));
        let both = file(&[JFIF, &exif, &segment(XMP, b"<x/>")]);
        assert_eq!(applications(&both), Applications { exif: true, xmp: true });
        assert_eq!(applications(&file(&[JFIF])), Applications::default());
        assert!(segment(XMP, &[0; 70_000]).is_empty());
    }

    #[test]
    fn what_is_no_jpeg_or_is_cut_short_stays_as_it_is_or_gets_its_segments_and_never_stops_the_program() {
        let exif = segment(EXIF, b"II*\0");
        let whole = file(&[JFIF, &exif]);
        for length in 0..whole.len() {
            let cut = &whole[..length];
            let _ = applications(cut);
            let with = with_segments(cut, &exif);
            assert!(with == cut || with.len() == cut.len() + exif.len());
        }
        assert_eq!(with_segments(b"GIF89a", &exif), b"GIF89a");
    }
}
