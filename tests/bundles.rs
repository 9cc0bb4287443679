//! Bundles that the tests share, each exported once.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use anyhow::{Context, Result};
use blip::config::Role;
use blip::manifest::{EncoderToken, Precision};
use checkpoint::OpenOptions;
use edgeblip::bundle::Bundle;
use edgeblip::model::Model;
use edgeblip_export::bundle::Settings;
use edgeblip_export::pipeline::{Report, export};
use edgeblip_export::weights::Request;
use tempfile::TempDir;
use terminal::progress::Progress;

/// A file of the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// The files of a folder of the repository, or of a bundle, to be changed.
pub fn copy(folder: &Path) -> Result<TempDir> {
    let copy = TempDir::new()?;
    for entry in repository("").join(folder).read_dir()? {
        let path = entry?.path();
        std::fs::copy(&path, copy.path().join(path.file_name().context("a file has a name")?))?;
    }
    Ok(copy)
}

/// Settings of an export that says no more than it must.
pub fn settings(precision: Precision, encoder_token: EncoderToken) -> Settings {
    Settings { precision, encoder_token, prompt: String::new(), licence: None }
}

/// Exports one checkpoint of the repository to `out`.
pub fn export_to(checkpoint: &str, precision: Precision, out: &Path) -> Result<Report> {
    let request = Request { any: vec![repository(checkpoint)], named: Vec::new() };
    let settings = settings(precision, EncoderToken::Encoder);
    Ok(export(&request, &OpenOptions::default(), &settings, out, &Progress::Silent)?)
}

/// A model of checkpoints of the repository, exported at the first call.
pub fn model(checkpoints: &[&str], precision: Precision, token: EncoderToken) -> Result<Arc<Model>> {
    type Models = Mutex<HashMap<String, Arc<Model>>>;
    static MODELS: OnceLock<(TempDir, Models)> = OnceLock::new();
    let (folder, models) = MODELS.get_or_init(|| (TempDir::new().expect("a temporary folder"), Models::default()));
    let key = format!("{}-{precision}-{token:?}", checkpoints.join("+")).replace('/', "_");
    let mut models = models.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(model) = models.get(&key) {
        return Ok(Arc::clone(model));
    }
    let request = Request { any: checkpoints.iter().map(|path| repository(path)).collect(), named: Vec::new() };
    let out = folder.path().join(&key);
    export(&request, &OpenOptions::default(), &settings(precision, token), &out, &Progress::Silent)
        .with_context(|| format!("exporting {key}"))?;
    let model = Arc::new(load(&out)?);
    models.insert(key, Arc::clone(&model));
    Ok(model)
}

/// Every head of a bundle, on one thread.
pub fn load(folder: &Path) -> Result<Model> {
    let bundle = Arc::new(Bundle::open(folder)?);
    let roles: Vec<Role> = bundle.manifest().roles();
    Ok(Model::load(bundle, &roles, 1)?)
}

/// The starter's captioner and matcher in one bundle.
pub fn starter(precision: Precision) -> Result<Arc<Model>> {
    model(&["models/starter/captioner", "models/starter/matcher"], precision, EncoderToken::Encoder)
}
