//! What can be wrong with a checkpoint, said so that a person can act on it.

use crate::archive::ArchiveError;
use crate::pickle::PickleError;
use crate::safetensors::SafetensorsError;
use std::path::PathBuf;

/// A tensor of another shape than the model's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misshapen {
    /// Its name in the file.
    pub name: String,
    /// Its shape in the file.
    pub found: Vec<usize>,
    /// The shape that the configuration asks for.
    pub expected: Vec<usize>,
}

/// Why a checkpoint is not read; `file` is the file at fault.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file cannot be read.
    #[error("{file}: cannot be read", file = file.display())]
    Io {
        /// Which.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is longer than such a file may be.
    #[error("{file}: has {bytes} bytes, at most {most} are read", file = file.display())]
    TooLarge {
        /// Which.
        file: PathBuf,
        /// Its length.
        bytes: u64,
        /// The limit.
        most: u64,
    },
    /// The file is not the JSON that it should be.
    #[error("{file}: is not the JSON that is expected there: {source}", file = file.display())]
    Json {
        /// Which.
        file: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// The header of a safetensors file lies.
    #[error("{file}: {source}", file = file.display())]
    Safetensors {
        /// Which.
        file: PathBuf,
        /// How.
        source: SafetensorsError,
    },
    /// The zip archive of a PyTorch file is broken.
    #[error("{file}: {source}", file = file.display())]
    Archive {
        /// Which.
        file: PathBuf,
        /// How.
        source: ArchiveError,
    },
    /// The pickle of a PyTorch file is broken, or wants more than data.
    #[error("{file}: {source}", file = file.display())]
    Pickle {
        /// Which.
        file: PathBuf,
        /// How.
        source: PickleError,
    },
    /// The file is sound, but not a BLIP checkpoint that this crate reads.
    #[error("{file}: {reason}", file = file.display())]
    Unsupported {
        /// Which.
        file: PathBuf,
        /// What it is, and what to do.
        reason: String,
    },
    /// The sizes are those of no model.
    #[error("{file}: {source}", file = file.display())]
    Config {
        /// Where the sizes come from.
        file: PathBuf,
        /// Which size.
        source: blip::config::ConfigError,
    },
    /// The tensors are not those of the model: every one that is missing, left over or misshapen.
    #[error("{}", tensors_message(.file, .missing, .unexpected, .misshapen))]
    Tensors {
        /// Which.
        file: PathBuf,
        /// Names in the file of those that are not there.
        missing: Vec<String>,
        /// Names of those that the model has no use for.
        unexpected: Vec<String>,
        /// Those of another shape.
        misshapen: Vec<Misshapen>,
    },
    /// A tensor whose values cannot be used.
    #[error("{file}: tensor {tensor:?} {reason}", file = file.display())]
    Values {
        /// Which.
        file: PathBuf,
        /// Its name in the file.
        tensor: String,
        /// What is wrong with them.
        reason: String,
    },
    /// A vocabulary that does not fit the model.
    #[error("{file}: {reason}", file = file.display())]
    Vocabulary {
        /// Which.
        file: PathBuf,
        /// How, and what to do.
        reason: String,
    },
    /// A name that [`crate::Checkpoint::names`] does not have.
    #[error("the checkpoint has no tensor {0:?}")]
    NoSuchTensor(String),
}

fn tensors_message(
    file: &std::path::Path,
    missing: &[String],
    unexpected: &[String],
    misshapen: &[Misshapen],
) -> String {
    let mut message = format!("{}: its tensors are not those of the model", file.display());
    for (what, names) in [("missing", missing), ("unexpected", unexpected)] {
        if !names.is_empty() {
            message.push_str(&format!("\n{what} ({}):", names.len()));
            names.iter().for_each(|name| message.push_str(&format!("\n  {name}")));
        }
    }
    if !misshapen.is_empty() {
        message.push_str(&format!("\nmisshapen ({}):", misshapen.len()));
        for Misshapen { name, found, expected } in misshapen {
            message.push_str(&format!("\n  {name}: {found:?} in the file, {expected:?} in the model"));
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tensor_at_fault_has_a_line() {
        let error = CheckpointError::Tensors {
            file: "model.safetensors".into(),
            missing: vec!["a.weight".into(), "a.bias".into()],
            unexpected: vec!["b".into()],
            misshapen: vec![Misshapen { name: "c".into(), found: vec![2, 3], expected: vec![3, 2] }],
        };
        assert_eq!(
            error.to_string(),
            "model.safetensors: its tensors are not those of the model\nmissing (2):\n  a.weight\n  a.bias\n\
             unexpected (1):\n  b\nmisshapen (1):\n  c: [2, 3] in the file, [3, 2] in the model"
        );
    }
}
