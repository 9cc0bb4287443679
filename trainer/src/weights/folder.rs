//! A folder for each role, in Hugging Face's layout.

use std::path::Path;

use blip::config::{Config, Role};
use checkpoint::{Expected, hugging_face_tensors};

use super::tensors::{Planned, TensorWriter, Values};
use super::{Preparation, WeightsError, configurations, tokenizer};
use crate::model::Blip;
use dataset::disk::{DiskError, Existing, Staged, check_free, sync_folder};

/// A model with its values.
#[derive(Clone, Copy)]
pub struct Trained<'a> {
    /// Where each tensor stands.
    pub model: &'a Blip,
    /// Its sizes.
    pub config: &'a Config,
    /// Its parameters, as many as its layout has.
    pub values: &'a [f32],
    /// What goes with it; as many words as the model has.
    pub preparation: &'a Preparation,
}

/// Writes `folder` with a folder for each role, `captioner`, `matcher` or `answerer`, which transformers loads as it is.
/// The folder is complete or not there; what stood there before stays until it is.
///
/// # Errors
/// A role that the model has not the parts of; something at `folder` that is not to be replaced; the system's refusal,
/// after which nothing is left behind.
pub fn write(folder: &Path, trained: Trained<'_>, roles: &[Role], existing: Existing) -> Result<(), WeightsError> {
    check_free(folder, existing)?;
    let parts = roles.iter().map(|role| Ok((*role, sizes_of(*role, trained.config)?)));
    let parts = parts.collect::<Result<Vec<_>, WeightsError>>()?;
    let staged = Staged::beside(folder)?;
    for (role, config) in parts {
        write_role(&staged, trained, role, &config)?;
    }
    Ok(staged.publish(existing)?)
}

/// The sizes of the part of a model that a role needs.
fn sizes_of(role: Role, config: &Config) -> Result<Config, WeightsError> {
    let Config { vision, encoder, decoder, projection_width } = config.clone();
    let (encoder, decoder, projection_width) = match role {
        Role::Captioner => (None, decoder, None),
        Role::Matcher => (encoder, None, projection_width),
        Role::Answerer if projection_width.is_some() => (None, None, None),
        Role::Answerer => (encoder, decoder, None),
    };
    let there = match role {
        Role::Captioner => decoder.is_some(),
        Role::Matcher => encoder.is_some() && projection_width.is_some(),
        Role::Answerer => encoder.is_some() && decoder.is_some(),
    };
    match there {
        true => Ok(Config { vision, encoder, decoder, projection_width }),
        false => Err(WeightsError::Role { role }),
    }
}

fn write_role(staged: &Staged, trained: Trained<'_>, role: Role, config: &Config) -> Result<(), WeightsError> {
    let name = role.to_string();
    let (place, preparation) = (Path::new(&name), trained.preparation);
    staged.folder(&name)?;
    let mut tensors = hugging_face_tensors(config);
    tensors.sort_by(|one, other| one.file_name.cmp(&other.file_name));
    let planned = tensors.iter().map(|tensor| plan(trained, tensor));
    TensorWriter::write(&staged.path().join(place).join("model.safetensors"), &planned.collect::<Vec<_>>())?;
    let temperature = trained.model.layout.entry("temperature").filter(|_| role == Role::Matcher);
    let temperature = temperature.map(|entry| trained.values[entry.parameter.start]);
    staged.file(place.join("config.json"), &configurations::model(role, config, preparation, temperature))?;
    if config.decoder.is_some() {
        staged.file(place.join("generation_config.json"), &configurations::generation(preparation))?;
    }
    let side = config.vision.image_size;
    staged.file(place.join("preprocessor_config.json"), &configurations::preprocessor(side, preparation))?;
    staged.file(place.join("tokenizer.json"), &tokenizer::tokenizer(preparation))?;
    let positions = config.encoder.as_ref().or(config.decoder.as_ref()).map_or(0, |text| text.positions);
    let config = configurations::pretty(&tokenizer::tokenizer_config(preparation, positions));
    staged.file(place.join("tokenizer_config.json"), &config)?;
    staged.file(place.join("vocab.txt"), &tokenizer::vocabulary(preparation))?;
    let path = staged.path().join(place);
    Ok(sync_folder(&path).map_err(|source| DiskError::Io { path, source })?)
}

/// The tensor's values, which in a model that shares its text stacks stand under the encoder's name.
fn plan<'a>(trained: Trained<'a>, tensor: &'a Expected) -> Planned<'a> {
    let layout = &trained.model.layout;
    let shared = || layout.entry(&tensor.name.replacen("decoder.", "encoder.", 1));
    let entry = layout.entry(&tensor.name).or_else(shared).expect("the layout has every tensor of its sizes");
    let values = &trained.values[entry.parameter.start..][..entry.parameter.length];
    Planned { name: &tensor.file_name, shape: &tensor.file_shape, values: Values::Floats(values) }
}
