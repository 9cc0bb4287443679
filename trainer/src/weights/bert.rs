//! Text stacks from a BERT.
//!
//! Source of the names: transformers `modeling_bert.py`; older files say `gamma` and `beta` where newer ones say
//! `weight` and `bias` (there `_load_state_dict_into_model`). What BLIP takes of BERT: `models/med.py`, whose
//! `BertEmbeddings` has no token types and whose layers have cross-attention besides.

use std::path::Path;

use blip::config::TextConfig;
use checkpoint::{Tensor, Vocabulary};

use super::WeightsError;
use super::parts::Part;
use super::start::{Start, size};
use crate::model::Entry;

/// Words that BLIP adds to BERT's: `[DEC]` and `[ENC]`.
const ADDED_WORDS: usize = 2;

impl Start<'_> {
    /// Fills encoder and decoder from a BERT's safetensors or PyTorch file, or a Hugging Face folder of one. Cross-attention
    /// stays random, and so do the words that BLIP adds after BERT's. Words are compared with those of the tokenizer
    /// beside the file, or of bert-base-uncased where there are as many.
    ///
    /// # Errors
    /// A file that is no BERT's or has other sizes or words; values that differ from an earlier source's.
    pub fn text(&mut self, path: &Path) -> Result<(), WeightsError> {
        let (mut part, _) = Part::open(path, "BERT", &["embeddings.word_embeddings.weight"])?;
        let Some(text) = self.config.encoder.as_ref().or(self.config.decoder.as_ref()) else {
            return Err(WeightsError::Useless { source_file: path.to_owned() });
        };
        part.same_heads("text heads", text.heads)?;
        part.same("text layers", part.layers("encoder.layer."), text.layers)?;
        self.same_words(&part, text)?;
        self.begin(path);
        let entries = self.layout.entries();
        let wanted = entries.iter().filter_map(|entry| Some((entry, names(&entry.name)?)));
        let mut lacking = Vec::new();
        for (entry, names) in wanted {
            match part.find(&names) {
                Some(name) => {
                    let tensor = part.tensor(&name)?;
                    self.take(path, entry, tensor)?;
                }
                None if entry.name.starts_with("decoder.head.") => (),
                None => lacking.push(names[0].clone()),
            }
        }
        if !lacking.is_empty() {
            return Err(part.missing(lacking));
        }
        let unused = part.unused();
        if unused.iter().any(|name| name.contains("token_type_embeddings")) {
            self.note(path, "its token types are left out: BLIP's texts have none");
        }
        self.end(path, unused)
    }

    fn same_words(&mut self, part: &Part, text: &TextConfig) -> Result<(), WeightsError> {
        let theirs = part.shape("embeddings.word_embeddings.weight").and_then(|shape| shape.first().copied());
        let rows = theirs.unwrap_or(0);
        if rows != text.vocabulary_size && rows + ADDED_WORDS != text.vocabulary_size {
            part.same("vocabulary size", rows, text.vocabulary_size)?;
        }
        let folder = if part.path.is_dir() { Some(part.path.as_path()) } else { part.path.parent() };
        let beside =
            folder.filter(|folder| ["tokenizer.json", "vocab.txt"].iter().any(|file| folder.join(file).is_file()));
        let known = match beside {
            Some(folder) => Vocabulary::read(folder)?,
            None => Vocabulary::built_in(),
        };
        if known.words.len() == rows {
            return self.compare_words(&part.path, &known.words);
        }
        self.note(&part.path, "no tokenizer lies beside it, so its words were not compared with the model's");
        Ok(())
    }

    /// Fills a tensor whose rows may be fewer or, for positions, more than the file's.
    fn take(&mut self, path: &Path, entry: &Entry, tensor: Tensor) -> Result<(), WeightsError> {
        let (ours, theirs) = (&entry.shape, &tensor.shape);
        let fits = match (ours.first(), theirs.first()) {
            (Some(our_rows), Some(rows)) if ours[1..] == theirs[1..] => {
                let adds_words = entry.name.ends_with(".words") || entry.name == "decoder.head.bias";
                let fewer_positions = entry.name.ends_with(".positions") && our_rows < rows;
                our_rows == rows || adds_words && *our_rows == rows + ADDED_WORDS || fewer_positions
            }
            _ => false,
        };
        if !fits {
            return Err(size(path, (&entry.name, ours), theirs));
        }
        let (kept, length) = (tensor.values.len(), entry.parameter.length);
        if kept < length {
            let words = &self.vocabulary[self.vocabulary.len().saturating_sub(ADDED_WORDS)..];
            let sentence = format!("{}: the rows of {} stay random", entry.name, words.join(" and "));
            self.note(path, &sentence);
        }
        if kept > length {
            let sentence = format!("{}: the first {} of its {} rows are used", entry.name, ours[0], theirs[0]);
            self.note(path, &sentence);
        }
        self.put(entry, &tensor.values);
        Ok(())
    }
}

/// What BERT's files may call a tensor of ours; nothing where BERT has none.
fn names(ours: &str) -> Option<Vec<String>> {
    let (stack, rest) = ours.split_once('.')?;
    if !matches!(stack, "encoder" | "decoder") {
        return None;
    }
    let (module, kind) = rest.rsplit_once('.')?;
    let theirs = match module {
        "embeddings" if kind == "words" => return Some(vec!["embeddings.word_embeddings.weight".to_owned()]),
        "embeddings" if kind == "positions" => return Some(vec!["embeddings.position_embeddings.weight".to_owned()]),
        "embeddings.norm" => "embeddings.LayerNorm".to_owned(),
        "head.transform" => "cls.predictions.transform.dense".to_owned(),
        "head.norm" => "cls.predictions.transform.LayerNorm".to_owned(),
        "head" => "cls.predictions".to_owned(),
        _ => {
            let (layer, module) = module.strip_prefix("layers.")?.split_once('.')?;
            let theirs = match module {
                "self.query" => "attention.self.query",
                "self.key" => "attention.self.key",
                "self.value" => "attention.self.value",
                "self.output" => "attention.output.dense",
                "self.norm" => "attention.output.LayerNorm",
                "intermediate" => "intermediate.dense",
                "output" => "output.dense",
                "norm" => "output.LayerNorm",
                _ => return None,
            };
            format!("encoder.layer.{layer}.{theirs}")
        }
    };
    let older = if kind == "weight" { "gamma" } else { "beta" };
    let mut names = vec![format!("{theirs}.{kind}")];
    if theirs.ends_with("LayerNorm") {
        names.push(format!("{theirs}.{older}"));
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_names_are_found_under_berts_and_cross_attention_is_not() {
        assert_eq!(names("decoder.embeddings.words").unwrap(), ["embeddings.word_embeddings.weight"]);
        let norm = "encoder.layer.2.attention.output.LayerNorm";
        assert_eq!(names("encoder.layers.2.self.norm.bias").unwrap(), [format!("{norm}.bias"), format!("{norm}.beta")]);
        assert_eq!(names("decoder.layers.0.output.weight").unwrap(), ["encoder.layer.0.output.dense.weight"]);
        assert_eq!(names("decoder.head.bias").unwrap(), ["cls.predictions.bias"]);
        assert_eq!(names("encoder.layers.0.cross.query.weight"), None);
        assert_eq!(names("vision.norm.weight"), None);
        assert_eq!(names("itm_head.weight"), None);
    }
}
