//! Files that are no pictures.

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::PICTURE;
use crate::bundles::repository;
use crate::command_line::run;

#[test]
fn every_bad_picture_is_named_and_the_good_one_is_captioned() -> Result<()> {
    let folder = TempDir::new()?;
    let place = |name: &str| folder.path().join(name);
    let good = std::fs::read(repository(PICTURE))?;
    let photo = std::fs::read(repository("tests/goldens/pixels/pictures/colour_420.jpg"))?;
    let mut header = b"\xff\xd8\xff\xc0\0\x11\x08\xff\xdc\xff\xdc\x03\x01\x11\0\x02\x11\0\x03\x11\0".to_vec();
    header.extend(b"\xff\xda\0\x0c\x03\x01\0\x02\0\x03\0\0\x3f\0");
    let files: [(&str, &[u8], &str); 10] = [
        ("a-good.png", &good, ""),
        ("b-cut.png", &good[..good.len() / 2], "is a PNG that is cut short or damaged"),
        ("c-cut-header.png", &good[..20], "is a PNG that is cut short or damaged"),
        ("d-cut.jpg", &photo[..photo.len() / 2], "is a JPEG that is cut short or damaged"),
        ("e-empty.png", b"", "is empty (zero bytes); copy it again from where it came"),
        ("f-huge.ppm", b"P6 65500 65500 255\nabc", "is 65500 x 65500 pixels, more than the "),
        ("g-huge.jpg", &header, "is 65500 x 65500 pixels, more than the "),
        ("h-text.jpg", b"Dear diary, today I saw a cat.\n", "is not a picture that can be read: use JPEG, PNG, "),
        ("i-zeros.bmp", &[0; 300], "is not a picture that can be read"),
        ("j-overflow.ppm", b"P6 4294967295 4294967295 255\nabc", ""),
    ];
    for (name, bytes, _) in files {
        std::fs::write(place(name), bytes)?;
    }
    for command in [&["caption"][..], &["caption", "--json"]] {
        let mut arguments: Vec<_> = command.iter().map(std::ffi::OsString::from).collect();
        arguments.push(folder.path().into());
        let ran = run("edgeblip", &arguments)?;
        assert_eq!(ran.code, 1);
        assert_eq!(ran.out.lines().count(), 1, "{}", ran.out);
        assert!(ran.out.contains("a-good.png") && ran.out.contains("a car at night"), "{}", ran.out);
        assert_eq!(ran.err.lines().count(), files.len() - 1, "{}", ran.err);
        for ((name, _, words), line) in files[1..].iter().zip(ran.err.lines()) {
            let start = format!("edgeblip: {}: {words}", place(name).display());
            assert!(line.starts_with(&start), "{line:?} does not start with {start:?}");
        }
    }
    let found = run("edgeblip", &["search".as_ref(), "a car at night".as_ref(), folder.path().as_os_str()])?;
    assert_eq!((found.code, found.out.lines().count(), found.err.lines().count()), (1, 1, files.len() - 1));
    for (name, _, words) in &files[1..] {
        let path = place(name);
        let path = path.to_str().context("a plain name")?;
        run("edgeblip", &["score", path, "a cat"])?.refused(&[path, words])?;
        run("edgeblip", &["embed", path])?.refused(&[path, words])?;
    }
    Ok(())
}

#[test]
fn a_folder_without_pictures_is_named() -> Result<()> {
    let folder = TempDir::new()?;
    let path = folder.path().to_str().context("a plain name")?;
    run("edgeblip", &["caption", path])?.refused(&[path, "no picture in this folder"])?;
    run("edgeblip", &["search", "a cat", path])?.refused(&[path, "no picture in this folder"])?;
    run("edgeblip", &["score", path, "a cat"])?.refused(&[path, "cannot be read"])?;
    Ok(())
}

#[cfg(unix)]
#[test]
fn a_picture_whose_name_commands_the_terminal_does_not_reach_it() -> Result<()> {
    let folder = TempDir::new()?;
    let odd = "\u{1b}[31mred\n\u{7}\r\u{9b}2J\u{202e}";
    std::fs::copy(repository(PICTURE), folder.path().join(format!("{odd}.png")))?;
    std::fs::write(folder.path().join(format!("broken{odd}.png")), "no picture")?;
    let ran = run("edgeblip", &["caption".as_ref(), folder.path().as_os_str()])?;
    assert_eq!((ran.code, ran.out.lines().count()), (1, 1), "{}", ran.out);
    assert!(
        ran.out.ends_with("[31mred\u{fffd}\u{fffd}\u{fffd}\u{fffd}2J\u{fffd}.png: a car at night\n"),
        "{}",
        ran.out
    );
    assert!(ran.err.contains("broken") && !ran.err.contains('\u{202e}'), "{}", ran.err);
    let searched = run("edgeblip", &["search".as_ref(), "a car".as_ref(), folder.path().as_os_str()])?;
    assert_eq!(searched.out.lines().count(), 1, "{}", searched.out);
    Ok(())
}

#[cfg(target_os = "linux")]
#[test]
fn a_name_that_is_no_unicode_is_read_and_shown_with_replacements() -> Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let folder = TempDir::new()?;
    std::fs::copy(repository(PICTURE), folder.path().join(std::ffi::OsStr::from_bytes(b"caf\xe9.png")))?;
    for flags in [&[][..], &["--json"]] {
        let mut arguments = vec!["caption".as_ref(), folder.path().as_os_str()];
        arguments.extend(flags.iter().map(std::ffi::OsStr::new));
        let ran = run("edgeblip", &arguments)?;
        assert!(ran.content()?.contains("caf\u{fffd}.png") && ran.out.contains("a car at night"), "{}", ran.out);
    }
    Ok(())
}
