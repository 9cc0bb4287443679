//! Bodies as servers write them.

use super::*;
use crate::mjpeg::tests::jpeg;

const LIMIT: usize = 1 << 16;

fn read(body: &[u8], piece: usize) -> (Vec<Vec<u8>>, Skipped) {
    let mut multipart = Multipart::new(LIMIT);
    let mut pictures = Vec::new();
    for piece in body.chunks(piece) {
        multipart.push(piece);
        pictures.extend(std::iter::from_fn(|| multipart.next_picture()));
    }
    (pictures, multipart.take_skipped())
}

/// A body of `pictures`, each after what `before` writes for it.
fn body(pictures: &[Vec<u8>], before: impl Fn(usize, &[u8]) -> String, after: &str) -> Vec<u8> {
    let part =
        |(index, picture): (usize, &Vec<u8>)| [before(index, picture).as_bytes(), picture, after.as_bytes()].concat();
    pictures.iter().enumerate().flat_map(part).collect()
}

#[test]
fn every_way_to_write_a_body_gives_the_same_pictures() {
    let pictures: Vec<Vec<u8>> = (0..3).map(|index| jpeg(index * 50, b"\r\n\r\n--frame\r\n\r\n")).collect();
    let length = |picture: &[u8]| picture.len();
    type Before<'a> = Box<dyn Fn(usize, &[u8]) -> String + 'a>;
    let ways: Vec<(&str, Before, &str)> = vec![
        (
            "as ffmpeg does",
            Box::new(|_, picture| {
                format!("--ffmpeg\r\nContent-type: image/jpeg\r\nContent-length: {}\r\n\r\n", length(picture))
            }),
            "\r\n",
        ),
        ("without lengths", Box::new(|_, _| "--b\r\nContent-Type: image/jpeg\r\n\r\n".to_owned()), "\r\n"),
        (
            "lines that end with a line feed alone",
            Box::new(|_, _| "--b\nContent-Type: image/jpeg\n\n".to_owned()),
            "\n",
        ),
        (
            "the first boundary left out",
            Box::new(|index, picture| {
                let boundary = if index == 0 { "" } else { "--b\r\n" };
                format!("{boundary}Content-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n", length(picture))
            }),
            "\r\n",
        ),
        (
            "the boundary twice",
            Box::new(|_, picture| format!("--b\r\n--b\r\nCONTENT-LENGTH:{}\r\n\r\n", length(picture))),
            "",
        ),
        (
            "a boundary without dashes and an empty line after it",
            Box::new(|_, picture| format!("b\r\n\r\nContent-Length: {}\r\n\r\n", length(picture))),
            "\r\n",
        ),
        ("a length of -1", Box::new(|_, _| "--b\r\nContent-Length: -1\r\n\r\n".to_owned()), "\r\n"),
        ("a length of 0", Box::new(|_, _| "--b\r\nContent-Length: 0\r\n\r\n".to_owned()), "\r\n"),
        ("a huge length", Box::new(|_, _| "--b\r\nContent-Length: 99999999999999999999\r\n\r\n".to_owned()), "\r\n"),
        ("too short a length", Box::new(|_, _| "--b\r\nContent-Length: 10\r\n\r\n".to_owned()), "\r\n"),
        (
            "padding within the length",
            Box::new(|_, picture| format!("--b\r\nContent-Length: {}\r\n\r\n", length(picture) + 4)),
            "\0\0\0\0\r\n",
        ),
        ("nothing between pictures", Box::new(|_, _| String::new()), ""),
    ];
    for (way, before, after) in ways {
        let body = body(&pictures, before, after);
        for piece in [1, 13, 1000, body.len()] {
            let (read, skipped) = read(&body, piece);
            assert_eq!(read, pictures, "{way}, in pieces of {piece}");
            assert_eq!((skipped.damaged, skipped.too_large), (0, 0), "{way}, in pieces of {piece}");
        }
    }
}

#[test]
fn too_long_a_length_costs_a_picture_and_not_the_stream() {
    let pictures: Vec<Vec<u8>> = (0..6).map(|index| jpeg(index, b"")).collect();
    let long = |index: usize, picture: &[u8]| {
        let length = picture.len() + if index == 1 { 500 } else { 0 };
        format!("--b\r\nContent-Length: {length}\r\n\r\n")
    };
    let (read, _) = read(&body(&pictures, long, "\r\n"), 700);
    assert_eq!(read.first(), pictures.first());
    assert_eq!(read.last(), pictures.last());
    assert!(read.len() >= 5);
}

#[test]
fn endless_headers_and_lines_are_passed() {
    let picture = jpeg(9, b"");
    let line = "X-Header: value\r\n".repeat(100_000);
    for noise in [line.as_str(), &"x".repeat(1_000_000), &"\r\n".repeat(500_000)] {
        let body = [noise.as_bytes(), &picture, b"\r\n"].concat();
        let mut multipart = Multipart::new(LIMIT);
        let mut pictures = Vec::new();
        for piece in body.chunks(4096) {
            multipart.push(piece);
            pictures.extend(std::iter::from_fn(|| multipart.next_picture()));
            assert!(multipart.splitter.unread().len() <= MAX_HEADER_BYTES + 4096);
        }
        assert_eq!(pictures, std::slice::from_ref(&picture));
    }
}

/// What the fuzz target promises, over bodies that are nearly right.
#[test]
fn changed_bodies_give_pictures_within_the_limit_and_never_hang() {
    let pictures: Vec<Vec<u8>> = (0..3).map(|index| jpeg(index, b"note")).collect();
    let whole = body(&pictures, |_, picture| format!("--b\r\nContent-Length: {}\r\n\r\n", picture.len()), "\r\n");
    let mut state = 3_u32;
    for _ in 0..2000 {
        let mut random = |below: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as usize % below
        };
        let mut changed = whole.clone();
        for _ in 0..=random(5) {
            let at = random(changed.len());
            match random(3) {
                0 => changed[at] = [0xFF, 0xD8, b'\n', b'9'][random(4)],
                1 => drop(changed.drain(at..(at + random(80)).min(changed.len()))),
                _ => drop(changed.splice(at..at, *b"\r\nContent-Length: 77\r\n\r\n")),
            }
        }
        let (read, _) = read(&changed, 1 + random(5000));
        for picture in read {
            assert!(picture.len() <= LIMIT);
            assert_eq!(whole_picture(&picture), Some(picture.as_slice()));
        }
    }
}
