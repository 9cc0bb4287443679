//! From the shards' decisions to a dataset, with the list of decisions, a summary and a sheet of pictures.

use std::collections::HashMap;

use terminal::progress::Progress;

use super::decide::Decision;
use super::parts::{Part, write_whole};
use super::summary::{HEAD, Summary};
use super::{Capfilt, CapfiltError, identity};
use crate::dataset::write::{DatasetWriter, WriteError, WriteOptions};
use crate::dataset::{Dataset, Format, Origin, Pair, Text};
use crate::engine::Device;
use crate::report::{JudgedText, Page, PictureCard, Verdict};
use dataset::disk::{Existing, Staged};

/// The new dataset's folder, in that of the run.
pub const DATASET_FOLDER: &str = "dataset";
/// Every text with its scores and what became of it, one a line.
pub const DECISIONS_FILE: &str = "decisions.jsonl";
/// Counts and shares.
pub const SUMMARY_FILE: &str = "summary.json";
/// Pictures with their texts.
pub const SHEET_FILE: &str = "sheet.html";

pub(super) fn assemble<D: Device>(
    run: &Capfilt<'_, D>,
    format: Format,
    sheet: usize,
    progress: &Progress,
) -> Result<Summary, CapfiltError> {
    let headers: Vec<_> = (0..run.shards()).map(|shard| run.header(shard)).collect();
    let identity = identity::joined(headers.iter().map(|header| header.identity.as_str()));
    progress.stage("new dataset", run.dataset.len());
    let folder = &run.parts.folder;
    let staged = Staged::beside(&folder.join(DATASET_FOLDER))?;
    let mut new = New {
        dataset: run.dataset,
        writer: DatasetWriter::create(staged.path(), format, &WriteOptions::default())?,
        copies: copies(run.dataset),
        summary: Summary::new(identity, &run.settings, run.dataset.len()),
        cards: Vec::new(),
        every: run.dataset.len().div_ceil(sheet.max(1)),
        sheet,
    };
    let parts = || headers.iter().map(|header| run.parts.read(header));
    for part in parts() {
        new.add(&part?, progress)?;
    }
    let New { writer, summary, cards, .. } = new;
    let summary = summary.finish()?;
    writer.finish()?;
    write_whole(&folder.join(DECISIONS_FILE), |out| {
        for part in parts() {
            for decision in part.map_err(std::io::Error::other)?.decisions {
                writeln!(out, "{}", terminal::json(&decision)?)?;
            }
        }
        Ok(())
    })?;
    staged.publish(Existing::Replace)?;
    page(&summary, &cards).write(&folder.join(SHEET_FILE))?;
    write_whole(&folder.join(SUMMARY_FILE), |out| Ok(serde_json::to_writer_pretty(out, &summary)?))?;
    progress.finish();
    Ok(summary)
}

/// How often each name occurs: datasets that are joined may have some in common.
fn copies(dataset: &Dataset) -> HashMap<&str, usize> {
    let mut copies = HashMap::new();
    dataset.entries().iter().for_each(|entry| *copies.entry(entry.key.as_str()).or_default() += 1);
    copies
}

/// The dataset in the making.
struct New<'d> {
    dataset: &'d Dataset,
    writer: DatasetWriter,
    copies: HashMap<&'d str, usize>,
    summary: Summary,
    cards: Vec<PictureCard>,
    /// Every so many pictures one is on the sheet.
    every: usize,
    sheet: usize,
}

impl New<'_> {
    fn add(&mut self, part: &Part, progress: &Progress) -> Result<(), CapfiltError> {
        part.broken.iter().for_each(|(_, line)| self.summary.add_broken(line));
        part.broken.iter().for_each(|_| progress.step());
        for decisions in part.decisions.chunk_by(|a, b| a.entry == b.entry) {
            decisions.iter().for_each(|decision| self.summary.add(decision));
            let entry = decisions[0].entry;
            let kept = decisions.iter().any(|decision| decision.kept);
            // The picture after each full stretch, or the next that has texts, is shown.
            let shown = self.cards.len() < self.sheet && entry >= self.cards.len() * self.every;
            if kept || shown {
                let picture = self.dataset.picture_bytes(entry)?;
                if shown && let Ok(picture) = picture::decode(&picture) {
                    self.cards.push(PictureCard { picture, texts: decisions.iter().map(judged).collect() });
                }
                if kept {
                    self.write(entry, picture, decisions)?;
                }
            }
            progress.step();
        }
        Ok(())
    }

    fn write(&mut self, entry: usize, picture: Vec<u8>, decisions: &[Decision]) -> Result<(), CapfiltError> {
        let found = self.dataset.entry(entry);
        let kept = decisions.iter().filter(|decision| decision.kept);
        let texts = kept.map(|kept| Text { text: kept.text.clone(), origin: kept.origin, score: kept.itm }).collect();
        let alone = self.copies.get(found.key.as_str()) == Some(&1);
        let key = if alone { found.key.clone() } else { format!("{}-{entry}", found.key) };
        let mut pair = Pair { key, picture, texts, truth: found.truth.clone() };
        match self.writer.add(&pair) {
            // Two names can differ in what a file name cannot have.
            Err(WriteError::Duplicate { .. }) => {
                pair.key = format!("picture-{entry:08}");
                self.writer.add(&pair)?;
            }
            other => other?,
        }
        self.summary.pictures_kept += 1;
        Ok(())
    }
}

fn judged(decision: &Decision) -> JudgedText {
    let source = match decision.origin {
        Origin::Human => "human",
        Origin::Web => "web",
        Origin::Synthetic => "synthetic",
    };
    JudgedText {
        source: format!("{source}, {}", decision.reason.name()),
        text: decision.text.clone(),
        score: decision.itm.map(f64::from),
        verdict: if decision.kept { Verdict::Kept } else { Verdict::Dropped },
    }
}

fn page(summary: &Summary, cards: &[PictureCard]) -> Page {
    let mut page = Page::new("CapFilt")
        .paragraph(&format!(
            "{} of {} pictures are in the new dataset. Texts below {} do not match their picture.",
            summary.pictures_kept, summary.pictures, summary.settings.threshold
        ))
        .table("What became of the texts", &HEAD, &summary.rows());
    for warning in &summary.warnings {
        page = page.paragraph(&format!("Warning: {warning}."));
    }
    for broken in &summary.first_broken {
        page = page.paragraph(&format!("Cannot be read: {broken}"));
    }
    page.section("Pictures").pictures(cards)
}
