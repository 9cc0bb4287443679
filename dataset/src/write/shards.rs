//! Tars of `KEY.jpg`, `KEY.txt` and `KEY.json`.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tar::{Builder, Header};

use super::{Named, Pending, WriteError, WriteOptions};

/// Writes `PREFIX-000000.tar` and so on.
pub(super) struct Shards {
    folder: PathBuf,
    options: WriteOptions,
    number: usize,
    open: Option<(PathBuf, Builder<Pending>)>,
    bytes: u64,
}

impl Shards {
    pub(super) fn create(folder: &Path, options: &WriteOptions) -> Result<Shards, WriteError> {
        let mut shards =
            Shards { folder: folder.to_owned(), options: options.clone(), number: 0, open: None, bytes: 0 };
        shards.begin()?;
        Ok(shards)
    }

    fn begin(&mut self) -> Result<(), WriteError> {
        let target = self.folder.join(format!("{}-{:06}.tar", self.options.prefix, self.number));
        self.open = Some((target.clone(), Builder::new(Pending::create(target)?)));
        self.number += 1;
        self.bytes = 0;
        Ok(())
    }

    pub(super) fn add(&mut self, named: &Named) -> Result<(), WriteError> {
        if self.bytes >= self.options.shard_bytes {
            self.end()?;
        }
        if self.open.is_none() {
            self.begin()?;
        }
        let pair = named.pair;
        let texts: Vec<Value> = pair
            .texts
            .iter()
            .map(|text| json!({"text": text.text, "origin": text.origin, "score": text.score}))
            .collect();
        let mut fields = json!({"key": pair.key, "texts": texts});
        if let Some(truth) = &pair.truth {
            fields["truth"] = truth.clone();
        }
        self.member(&format!("{}.{}", named.name, named.ending), &pair.picture)?;
        if let Some(first) = pair.texts.first() {
            self.member(&format!("{}.txt", named.name), first.text.as_bytes())?;
        }
        self.member(&format!("{}.json", named.name), fields.to_string().as_bytes())?;
        self.bytes += pair.picture.len() as u64;
        Ok(())
    }

    /// Owner, time and mode are the same in every tar, so that the same pairs are the same bytes.
    fn member(&mut self, name: &str, bytes: &[u8]) -> Result<(), WriteError> {
        let Some((target, tar)) = &mut self.open else { return Ok(()) };
        let mut header = Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        let added = tar.append_data(&mut header, name, bytes);
        added.map_err(|source| WriteError::Write { file: target.clone(), source })
    }

    fn end(&mut self) -> Result<(), WriteError> {
        let Some((target, tar)) = self.open.take() else { return Ok(()) };
        tar.into_inner().map_err(|source| WriteError::Write { file: target, source })?.keep()
    }

    pub(super) fn finish(mut self) -> Result<(), WriteError> {
        self.end()
    }
}
