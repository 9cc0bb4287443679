//! Pictures against Pillow and Hugging Face: `goldens/pixels`, made by the script beside them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use blip::pixels::{Normalization, preprocess, resize};
use edgeblip::picture;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens/pixels")
}

/// Each golden: its path, the picture's path, and the side.
fn goldens() -> Result<Vec<(PathBuf, PathBuf, usize)>> {
    let mut goldens = Vec::new();
    for entry in std::fs::read_dir(folder()).context("list the goldens")? {
        let golden = entry?.path();
        let name = golden.file_name().and_then(|name| name.to_str()).context("a name in UTF-8")?.to_owned();
        let Some((picture, side)) = name.strip_suffix(".png").and_then(|stem| stem.rsplit_once('.')) else { continue };
        goldens.push((golden, folder().join("pictures").join(picture), side.parse()?));
    }
    goldens.sort();
    ensure!(goldens.len() >= 60, "only {} goldens", goldens.len());
    Ok(goldens)
}

#[test]
fn pictures_are_as_pillow_makes_them_to_the_last_bit() -> Result<()> {
    for (golden, path, side) in goldens()? {
        let golden = picture::open(&golden)?;
        let ours = resize(&picture::open(&path)?, side);
        let pairs = || ours.values().iter().zip(golden.values());
        let worst = pairs().map(|(ours, golden)| ours.abs_diff(*golden)).max();
        let unequal = pairs().filter(|(ours, golden)| ours != golden).count();
        let values = golden.values().len();
        ensure!(ours.values().len() == values, "{} at {side} has not {values} values", path.display());
        ensure!(unequal == 0, "{} at {side}: {unequal} of {values} differ, worst {worst:?}", path.display());
    }
    Ok(())
}

#[test]
fn pixel_values_are_those_of_the_hugging_face_processor() -> Result<()> {
    let golden: Vec<f32> = std::fs::read(folder().join("wide.png.32.f32"))?
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        .collect();
    let picture = picture::open(&folder().join("pictures/wide.png"))?;
    assert_eq!(preprocess(&picture, 32, &Normalization::default()), golden);
    Ok(())
}

#[test]
fn file_cut_in_half_is_one_readable_error() -> Result<()> {
    for (_, path, _) in goldens()? {
        let bytes = std::fs::read(&path)?;
        let error = picture::decode(&bytes[..bytes.len() / 2]).err();
        let error = error.with_context(|| format!("{} is read though half of it is missing", path.display()))?;
        ensure!(error.to_string().contains("cut short or damaged"), "{}: {error}", path.display());
    }
    Ok(())
}

#[test]
fn file_cut_or_changed_anywhere_does_not_panic() -> Result<()> {
    for (_, path, _) in goldens()? {
        let bytes = std::fs::read(&path)?;
        for step in 0..40 {
            let at = step * bytes.len() / 40;
            let mut changed = bytes.clone();
            changed[at] ^= 0x55;
            let _ = picture::decode(&bytes[..at]);
            let _ = picture::decode(&changed);
        }
    }
    Ok(())
}
