//! The second start of a bundle: what the first one kept is used as long as it is what was kept.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use blip::config::Role;
use edgeblip::bundle::{Bundle, Cache};
use edgeblip::golden::check;
use edgeblip::model::Model;
use tempfile::TempDir;

use crate::bundles::repository;
use crate::command_line::run;

/// A bundle of one's own and a cache for it.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Result<Place> {
        let folder = TempDir::new()?;
        fs::create_dir(folder.path().join("bundle"))?;
        for file in fs::read_dir(repository("models/built-in"))? {
            let file = file?;
            fs::copy(file.path(), folder.path().join("bundle").join(file.file_name()))?;
        }
        Ok(Place { folder })
    }

    fn bundle(&self) -> PathBuf {
        self.folder.path().join("bundle")
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    /// Starts and answers as the bundle should; what the start warns of.
    fn start(&self) -> Result<Option<String>> {
        let bundle = Arc::new(Bundle::open_with(&self.bundle(), Some(&Cache::at(self.cache())))?);
        let model = Model::load(bundle, &[Role::Captioner, Role::Matcher], 1)?;
        check(&model)?;
        Ok(model.cache_error().map(ToString::to_string))
    }

    /// Makes the cache remember a file as it now is.
    fn stamp(&self, path: &Path) -> Result<()> {
        let stamps = self.packed()?.with_file_name("files.json");
        let mut list: serde_json::Value = serde_json::from_slice(&fs::read(&stamps)?)?;
        let name = path.file_name().and_then(|name| name.to_str()).context("a file has a name")?;
        let keys = list.as_object().context("stamps have names")?.keys();
        let key = keys.into_iter().find(|key| key.ends_with(name)).context("the file has a stamp")?.clone();
        let facts = fs::metadata(path)?;
        list[key] = serde_json::json!({
            "device": facts.dev(),
            "inode": facts.ino(),
            "bytes": facts.size(),
            "modified": [facts.mtime(), facts.mtime_nsec()],
            "changed": [facts.ctime(), facts.ctime_nsec()],
        });
        Ok(fs::write(&stamps, list.to_string())?)
    }

    /// The packed weights that were kept.
    fn packed(&self) -> Result<PathBuf> {
        let entry = fs::read_dir(self.cache())?.next().context("the cache has no bundle")??;
        let mut files = fs::read_dir(entry.path())?.filter_map(|file| Some(file.ok()?.path()));
        let is_packed = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "bin");
        files.find(is_packed).context("nothing is packed")
    }
}

/// What a write would change.
fn identity(path: &Path) -> Result<(u64, std::time::SystemTime)> {
    let facts = fs::metadata(path)?;
    Ok((facts.ino(), facts.modified()?))
}

#[test]
fn the_second_start_maps_what_the_first_packed() -> Result<()> {
    let place = Place::new()?;
    assert_eq!(place.start()?, None);
    let packed = identity(&place.packed()?)?;
    assert_eq!(place.start()?, None);
    assert_eq!(identity(&place.packed()?)?, packed, "it was packed again");

    // Other weights, with a stamp as if they were what was packed, give another answer: it is they that are used.
    let path = place.packed()?;
    let mut bytes = fs::read(&path)?;
    let header = bytes.iter().position(|&byte| byte == b'\n').context("it begins with a line")?;
    bytes[header + 64..].fill(1);
    fs::write(&path, bytes)?;
    place.stamp(&path)?;
    assert!(place.start().is_err(), "the packed weights are not used");
    Ok(())
}

#[test]
fn weights_that_are_remembered_are_not_read_again() -> Result<()> {
    let place = Place::new()?;
    place.start()?;
    // Beyond the end of every tensor, where only a hash would find it.
    let weights = place.bundle().join("weights.bin");
    let mut bytes = fs::read(&weights)?;
    let padding = bytes.len() - 1;
    bytes[padding] ^= 1;
    fs::write(&weights, bytes)?;
    assert!(place.start().is_err(), "it changed");
    place.stamp(&weights)?;
    place.start().map(|_| ()).or_else(|error| {
        // The last byte may be a weight's: then the answer is another one, but the file was taken as it is.
        ensure!(!error.to_string().contains("SHA-256"), "{error}");
        Ok(())
    })
}

#[test]
fn packed_weights_that_somebody_touched_are_packed_again() -> Result<()> {
    let place = Place::new()?;
    place.start()?;
    let good = fs::read(place.packed()?)?;
    let middle = good.len() / 2;
    let flipped = [&good[..middle], &[!good[middle]], &good[middle + 1..]].concat();
    for bad in [&flipped[..], &good[..middle], &[], b"{}\n"] {
        fs::write(place.packed()?, bad)?;
        assert_eq!(place.start()?, None);
        assert!(fs::read(place.packed()?)? == good, "{} bytes were not packed again", bad.len());
    }
    fs::remove_file(place.packed()?)?;
    place.start()?;
    assert!(fs::read(place.packed()?)? == good);
    Ok(())
}

#[test]
fn weights_that_changed_since_are_read_again() -> Result<()> {
    let place = Place::new()?;
    place.start()?;
    let weights = place.bundle().join("weights.bin");
    let times = fs::metadata(&weights)?.modified()?;
    let mut bytes = fs::read(&weights)?;
    bytes[1000] ^= 1;
    fs::write(&weights, bytes)?;
    fs::File::options().write(true).open(&weights)?.set_modified(times)?;
    let error = place.start().err().context("the bundle opens")?;
    assert!(error.to_string().contains("do not have the SHA-256"), "{error}");
    Ok(())
}

#[test]
fn a_cache_that_cannot_be_written_is_named_and_missed_by_nobody() -> Result<()> {
    let place = Place::new()?;
    fs::write(place.cache(), "a file where the folder belongs")?;
    let warning = place.start()?.context("there is no warning")?;
    assert!(warning.contains("cache") && warning.contains("name another folder"), "{warning}");

    let [bundle, cache] = [place.bundle(), place.cache()].map(|path| path.display().to_string());
    let ran = run("edgeblip", &["caption", "--bundle", &bundle, "--cache", &cache, "examples/images/01.png"])?;
    assert!(ran.content()?.contains("a car at night"), "{}", ran.out);
    assert!(ran.err.contains("edgeblip: warning: ") && ran.err.contains("cache"), "{}", ran.err);
    Ok(())
}

#[test]
fn nobody_else_can_read_or_write_the_cache() -> Result<()> {
    let place = Place::new()?;
    place.start()?;
    let folder = place.packed()?;
    let mode = fs::metadata(folder.parent().context("a file lies in a folder")?)?.permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    Ok(())
}
