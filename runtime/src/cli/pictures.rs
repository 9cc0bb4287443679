//! Pictures that a user names: files, and what is in folders.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Endings of the names of pictures inside a folder.
const ENDINGS: &[&str] = &["bmp", "gif", "jpeg", "jpg", "pbm", "pgm", "png", "pnm", "ppm", "tif", "tiff", "webp"];

/// Every named file, and the pictures of every named folder by name; subfolders are not entered.
pub fn find(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let reading = || format!("reading the folder {}", path.display());
    let mut pictures = Vec::new();
    for entry in path.read_dir().with_context(reading)? {
        let file = entry.with_context(reading)?.path();
        if is_picture(&file) && !file.is_dir() {
            pictures.push(file);
        }
    }
    if pictures.is_empty() {
        bail!("{}: no picture in this folder (looked for {})", path.display(), ENDINGS.join(", "));
    }
    pictures.sort();
    Ok(pictures)
}

fn is_picture(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str()).map(str::to_ascii_lowercase);
    ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str()))
}
