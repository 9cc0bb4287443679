//! Application segments of a JPEG. What is coded in it is not touched.
//!
//! Sources: ITU-T T.81, annex B (markers); CIPA DC-008 (EXIF), 4.7; Adobe's XMP specification, part 3, 1.1.3.

use std::ops::Range;

/// What an EXIF segment begins with.
pub(super) const EXIF: &[u8] = b"Exif\0\0";
/// What an XMP segment begins with.
pub(super) const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";
const START: u8 = 0xd8;
const FRAMES: Range<u8> = 0xc0..0xd0;
/// Among the numbers of frames: code tables, an extension, and conditions of arithmetic coding.
const NO_FRAMES: [u8; 3] = [0xc4, 0xc8, 0xcc];
const APPLICATION_0: u8 = 0xe0;
const APPLICATION_1: u8 = 0xe1;
const SCAN: u8 = 0xda;
const END: u8 = 0xd9;

/// A segment before the first scan.
struct Segment<'a> {
    marker: u8,
    /// Where it stands, marker and length included.
    range: Range<usize>,
    content: &'a [u8],
}

struct Segments<'a> {
    file: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Segments<'a> {
    type Item = Segment<'a>;

    fn next(&mut self) -> Option<Segment<'a>> {
        let start = self.at;
        let mut at = start;
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
        Some(Segment { marker, range: start..end, content })
    }
}

fn segments(file: &[u8]) -> Segments<'_> {
    let is_jpeg = file.starts_with(&[0xff, START]);
    Segments { file, at: if is_jpeg { 2 } else { file.len() } }
}

/// Columns and rows; nothing where no frame is found.
pub(super) fn size(file: &[u8]) -> Option<[u16; 2]> {
    let is_frame = |marker: u8| FRAMES.contains(&marker) && !NO_FRAMES.contains(&marker);
    let frame = segments(file).find(|segment| is_frame(segment.marker))?;
    let [_, rows_0, rows_1, columns_0, columns_1] = *frame.content.first_chunk()?;
    Some([u16::from_be_bytes([columns_0, columns_1]), u16::from_be_bytes([rows_0, rows_1])])
}

/// What an application wrote: the content of its first segment behind the application's name.
pub(super) fn written<'a>(file: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    segments(file)
        .filter(|segment| segment.marker == APPLICATION_1)
        .find_map(|segment| segment.content.strip_prefix(name))
}

/// The picture with an application's data, in place of its first segment if there is one, else behind the first segments:
/// JFIF wants to stand first. `None` if they are too long for a segment, or if this is no JPEG.
pub(super) fn with(file: &[u8], name: &[u8], data: &[u8]) -> Option<Vec<u8>> {
    if !file.starts_with(&[0xff, START]) {
        return None;
    }
    let length = u16::try_from(2 + name.len() + data.len()).ok()?.to_be_bytes();
    let is_its = |segment: &Segment<'_>| segment.marker == APPLICATION_1 && segment.content.starts_with(name);
    let place = segments(file).find(is_its).map(|segment| segment.range).unwrap_or_else(|| {
        let is_first = |segment: &Segment<'_>| {
            let is_exif = segment.marker == APPLICATION_1 && segment.content.starts_with(EXIF);
            segment.marker == APPLICATION_0 || is_exif
        };
        let behind = segments(file).take_while(is_first).last().map_or(2, |segment| segment.range.end);
        behind..behind
    });
    let (before, after) = (file.get(..place.start)?, file.get(place.end..)?);
    Some([before, &[0xff, APPLICATION_1], &length, name, data, after].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    const JFIF: &[u8] = b"\xff\xe0\x00\x04JF";
    const FIRST: &[u8] = b"\xff\xe1\x00\x0cExif\0\0II*\0";
    const REST: &[u8] = b"\xff\xc4\x00\x03x\xff\xc0\x00\x07\x08\x00\x03\x00\x04\xff\xda\x00\x02coded\xff\xd9";

    fn file(segments: &[&[u8]]) -> Vec<u8> {
        [&[0xff, START][..], &segments.concat(), REST].concat()
    }

    #[test]
    fn new_segments_stand_behind_jfif_and_the_rest_stays() {
        assert_eq!(with(&file(&[JFIF]), EXIF, b"II*\0").unwrap(), file(&[JFIF, FIRST]));
        assert_eq!(with(&file(&[]), EXIF, b"II*\0").unwrap(), file(&[FIRST]));
        let both = with(&file(&[JFIF, FIRST]), XMP, b"<x/>").unwrap();
        assert!(both.starts_with(&file(&[JFIF, FIRST])[..2 + JFIF.len() + FIRST.len()]));
        assert!(both.ends_with(REST));
        assert_eq!((written(&both, EXIF), written(&both, XMP)), (Some(&b"II*\0"[..]), Some(&b"<x/>"[..])));
        assert_eq!(written(&file(&[JFIF]), EXIF), None);
        assert_eq!(size(&both), Some([4, 3]));
    }

    #[test]
    fn a_segment_that_is_there_is_replaced_where_it_stands() {
        let comment: &[u8] = b"\xff\xfe\x00\x05abc";
        let old = file(&[comment, b"\xff\xff\xe1\x00\x0aExif\0\0MM", JFIF]);
        assert_eq!(with(&old, EXIF, b"II*\0").unwrap(), file(&[comment, FIRST, JFIF]));
        assert_eq!(with(&old, XMP, &[0; 70_000]), None);
    }

    #[test]
    fn what_is_no_jpeg_or_is_cut_short_never_stops_the_program() {
        let whole = file(&[JFIF, FIRST]);
        for length in 0..whole.len() {
            let cut = &whole[..length];
            let _ = (size(cut), written(cut, EXIF));
            assert_eq!(with(cut, XMP, b"<x/>").is_some(), length >= 2);
        }
        assert_eq!(with(b"GIF89a", EXIF, b"II*\0"), None);
    }
}
