//! Streams as cameras write them, and as nobody should.

use super::*;
use blip::pixels::Rgb8;
use picture::{JpegQuality, encode_jpeg};

const LIMIT: usize = 1 << 16;

/// A real JPEG, with a comment of `note` and a thumbnail in it.
pub(crate) fn jpeg(shade: u8, note: &[u8]) -> Vec<u8> {
    let pixels = (0..32 * 24).flat_map(|index| [shade, (index * 7) as u8, (index / 32 * 10) as u8]).collect();
    let bytes = encode_jpeg(&Rgb8::new(32, 24, pixels).unwrap(), JpegQuality::default()).unwrap();
    let mut segments = segment(0xFE, note);
    segments.extend(segment(0xE1, &[b"Exif\0\0".as_slice(), &bytes].concat()));
    [&bytes[..2], &segments, &bytes[2..]].concat()
}

fn segment(marker: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len() + 2).unwrap().to_be_bytes();
    [&[0xFF, marker], length.as_slice(), content].concat()
}

/// Splits a stream that comes in pieces of `piece` bytes.
fn split(stream: &[u8], piece: usize) -> (Vec<Vec<u8>>, Skipped) {
    let mut splitter = Splitter::new(LIMIT);
    let mut pictures = Vec::new();
    for piece in stream.chunks(piece) {
        splitter.push(piece);
        pictures.extend(std::iter::from_fn(|| splitter.next_picture()));
    }
    (pictures, splitter.take_skipped())
}

#[test]
fn pictures_come_out_as_they_went_in_however_the_stream_is_cut() {
    let pictures: Vec<Vec<u8>> = (0..4).map(|index| jpeg(index * 60, b"note")).collect();
    let stream = pictures.concat();
    for piece in [1, 2, 3, 7, 100, 4096, stream.len()] {
        assert_eq!(split(&stream, piece), (pictures.clone(), Skipped::default()), "pieces of {piece}");
    }
    for picture in &pictures {
        assert!(picture::decode(picture).is_ok());
    }
}

#[test]
fn markers_in_coded_data_and_in_segments_end_nothing() {
    let mut picture = b"\xff\xd8".to_vec();
    picture.extend(segment(0xE0, b"\xff\xd9\xff\xd8\xff\xda\xff\xd9"));
    picture.extend([0xFF; 5]);
    picture.extend(segment(0xDA, b"header"));
    picture.extend(b"data\xff\x00more\xff\xd0\xff\xd7rest\xff\xff\xff\x00");
    picture.extend(segment(0xC4, b"\xff\xd9"));
    picture.extend(segment(0xDA, b"second"));
    picture.extend(b"data\xff\xff\xd9");
    for piece in [1, 5, picture.len()] {
        assert_eq!(split(&picture, piece), (vec![picture.clone()], Skipped::default()));
    }
    assert_eq!(whole_picture(&[picture.as_slice(), b"padding\xff\xd9"].concat()), Some(picture.as_slice()));
    assert_eq!(whole_picture(&picture[1..]), None);
    assert_eq!(whole_picture(&picture[..picture.len() - 1]), None);
}

#[test]
fn garbage_is_skipped_and_counted() {
    let (one, two) = (jpeg(1, b""), jpeg(2, b""));
    let stream = [b"HTTP/1.0 200\r\n\xff\xff\xd8 \xff".as_slice(), &one, b"--boundary\r\n", &two, b"\xff"].concat();
    for piece in [1, 10, stream.len()] {
        let (pictures, skipped) = split(&stream, piece);
        assert_eq!(pictures, [one.clone(), two.clone()]);
        assert_eq!(skipped, Skipped { bytes: 19 + 12, damaged: 0, too_large: 0 }, "pieces of {piece}");
    }
}

#[test]
fn picture_that_is_cut_short_costs_only_itself() {
    let (one, two) = (jpeg(1, b"first"), jpeg(2, b"second"));
    // A segment that is cut swallows what its length says, which is 64 KiB at most.
    let rest = two.repeat((1 << 16) / two.len() + 2);
    for length in (3..one.len()).step_by(11) {
        let (pictures, skipped) = split(&[&one[..length], &rest].concat(), 4096);
        assert!(pictures.last() == Some(&two), "cut at {length}");
        assert!(pictures.iter().skip(1).all(|picture| *picture == two), "cut at {length}");
        assert!(skipped.damaged >= 1 || pictures[0] != two, "cut at {length}: {skipped:?}");
    }
}

#[test]
fn picture_above_the_limit_is_skipped_and_the_stream_goes_on() {
    let good = jpeg(3, b"");
    let mut endless = b"\xff\xd8".to_vec();
    endless.extend(segment(0xDA, b"header"));
    endless.extend(vec![7; 3 * LIMIT]);
    let mut headers = b"\xff\xd8".to_vec();
    (0..100).for_each(|_| headers.extend(segment(0xE0, &[7; 60_000])));
    for huge in [endless, headers] {
        for piece in [1000, 1 << 20] {
            let (pictures, skipped) = split(&[huge.as_slice(), b"\xff\xd9", &good].concat(), piece);
            assert_eq!(pictures, std::slice::from_ref(&good));
            assert_eq!(skipped.too_large, 1);
        }
    }
}

#[test]
fn memory_stays_within_the_limit_whatever_comes() {
    let mut splitter = Splitter::new(LIMIT);
    let mut state = 1_u32;
    for round in 0..2000 {
        let mut piece = b"\xff\xd8\xff\xe0\xff\xff".to_vec();
        for _ in 0..1000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            piece.push([0xFF, 0xD8, 0xDA, 0x00, (state >> 16) as u8][(state >> 24) as usize % 5]);
        }
        splitter.push(&piece);
        while splitter.next_picture().is_some() {}
        assert!(splitter.unread().len() <= LIMIT + piece.len(), "round {round}");
    }
}

/// What the fuzz target promises, over streams that are nearly right.
#[test]
fn changed_streams_give_pictures_within_the_limit_and_account_for_every_byte() {
    let stream: Vec<u8> = (0..3).flat_map(|index| jpeg(index, b"note")).collect();
    let mut state = 7_u32;
    for _ in 0..2000 {
        let mut random = |below: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as usize % below
        };
        let mut changed = stream.clone();
        for _ in 0..=random(4) {
            let at = random(changed.len());
            match random(3) {
                0 => changed[at] = [0xFF, 0xD8, 0xD9, 0x00][random(4)],
                1 => drop(changed.drain(at..(at + random(50)).min(changed.len()))),
                _ => drop(changed.splice(at..at, [0xFF, 0xD8, 0xFF])),
            }
        }
        let mut splitter = Splitter::new(LIMIT);
        let mut bytes = 0;
        for piece in changed.chunks(1 + random(3000)) {
            splitter.push(piece);
            while let Some(picture) = splitter.next_picture() {
                assert!(picture.starts_with(b"\xff\xd8\xff") && picture.ends_with(b"\xff\xd9"));
                assert_eq!(whole_picture(&picture), Some(picture.as_slice()));
                bytes += picture.len();
            }
        }
        let skipped = usize::try_from(splitter.take_skipped().bytes).unwrap();
        assert_eq!(bytes + skipped + splitter.unread().len(), changed.len());
    }
}
