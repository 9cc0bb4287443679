//! The figures for people: a table on the terminal, sections on a page.

use std::fmt;

use super::{Evaluation, MatchingFigures, RecallFigures, Row};
use crate::report::{Page, Plot, Series};

impl Evaluation {
    /// Name and value of each figure, in the order in which they are shown.
    pub fn rows(&self) -> Vec<(String, String)> {
        let mut rows = vec![
            ("pictures".to_owned(), self.pictures.to_string()),
            ("pictures that cannot be read".to_owned(), self.broken.count.to_string()),
        ];
        let mut row = |name: &str, value: String| rows.push((name.to_owned(), value));
        if let Some(captions) = &self.captions {
            row("captions, BLEU-4", percent(captions.scores.bleu_4));
            row("captions, CIDEr", percent(captions.scores.cider));
            row("captions, ROUGE-L", percent(captions.scores.rouge_l));
            row("captions, exact", percent(captions.scores.exact));
            row("captions, METEOR", captions.meteor.to_string());
            row("captions, SPICE", captions.spice.to_string());
        }
        if let Some(bundle) = &self.bundle {
            row("int8 bundle, BLEU-4", percent(bundle.scores.bleu_4));
            row("int8 bundle, CIDEr", percent(bundle.scores.cider));
            row("int8 bundle, ROUGE-L", percent(bundle.scores.rouge_l));
            row("int8 bundle, exact", percent(bundle.scores.exact));
            row("int8 bundle, captions equal to the model's", percent(bundle.equal));
            row("int8 bundle, bytes", bundle.bytes.to_string());
        }
        if let Some(retrieval) = &self.retrieval {
            let recall = |figures: &RecallFigures| [figures.at_1, figures.at_5, figures.at_10].map(percent).join(" / ");
            row("texts of pictures, R@1/5/10", recall(&retrieval.texts_of_images));
            row("pictures of texts, R@1/5/10", recall(&retrieval.images_of_texts));
            row("texts of pictures, R@1/5/10, ITC alone", recall(&retrieval.texts_of_images_itc));
            row("pictures of texts, R@1/5/10, ITC alone", recall(&retrieval.images_of_texts_itc));
        }
        if let Some(matching) = &self.matching {
            row("matching, pairs", matching.pairs.to_string());
            row("matching, area under ROC", format!("{:.4}", matching.roc_auc));
            row("matching, average precision", format!("{:.4}", matching.average_precision));
            row("matching, calibration error", format!("{:.4}", matching.calibration_error));
        }
        if let Some(answers) = &self.answers {
            row("questions with answers", answers.questions.to_string());
            row("VQA accuracy", answers.accuracy.map_or("no answers to compare with".to_owned(), percent));
        }
        rows
    }

    /// Adds all figures, the threshold table, plots and examples to a page.
    pub fn sections(&self, page: Page) -> Page {
        let figures: Vec<Vec<String>> = self.rows().into_iter().map(|(name, value)| vec![name, value]).collect();
        let mut page = page.section("Evaluation").table("Figures", &["figure", "value"], &figures);
        if let Some(matching) = &self.matching {
            page = matching.sections(page);
        }
        if let Some(captions) = self.captions.as_ref().filter(|captions| !captions.examples.is_empty()) {
            let rows: Vec<Vec<String>> = captions
                .examples
                .iter()
                .map(|example| vec![example.key.clone(), example.caption.clone(), example.references.join(" | ")])
                .collect();
            page = page.section("Captions").table("The first captions", &["picture", "caption", "references"], &rows);
        }
        if self.broken.count > 0 {
            let lines: Vec<Vec<String>> = self.broken.first.iter().map(|line| vec![line.clone()]).collect();
            page = page.section("Broken pictures").table("The first ones", &["picture and reason"], &lines);
        }
        page
    }
}

impl fmt::Display for Evaluation {
    /// A line for each figure, the values under each other.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.rows();
        let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for (name, value) in rows {
            writeln!(f, "{name:width$}  {}", terminal::printable(&value))?;
        }
        if let Some(matching) = &self.matching {
            writeln!(f, "\n{:>9}  {:>9}  {:>9}  {:>9}", "threshold", "precision", "recall", "kept")?;
            for row in matching.table() {
                writeln!(f, "{:>9}  {:>9}  {:>9}  {:>9}", row[0], row[1], row[2], row[3])?;
            }
        }
        Ok(())
    }
}

impl MatchingFigures {
    fn table(&self) -> Vec<Vec<String>> {
        let cells = |row: &Row| {
            vec![
                format!("{:.4}", row.threshold),
                format!("{:.4}", row.precision),
                format!("{:.4}", row.recall),
                row.kept.to_string(),
            ]
        };
        let mut rows: Vec<Vec<String>> = self.thresholds.iter().map(cells).collect();
        for (precision, found) in &self.precisions {
            let none = || vec!["none".to_owned(), format!("{precision:.4}"), "-".to_owned(), "0".to_owned()];
            rows.push(found.as_ref().map_or_else(none, cells));
        }
        rows
    }

    fn sections(&self, page: Page) -> Page {
        let head = ["threshold", "precision", "recall", "kept"];
        let line = |name: &str, points: Vec<(f64, f64)>| Series { name: name.to_owned(), points };
        let of_rows = |value: fn(&Row) -> f64| self.thresholds.iter().map(|row| (row.threshold, value(row))).collect();
        let thresholds = Plot {
            title: "What a threshold gives".to_owned(),
            x_label: "threshold".to_owned(),
            y_label: "share".to_owned(),
            series: vec![line("precision", of_rows(|row| row.precision)), line("recall", of_rows(|row| row.recall))],
        };
        let filled = self.calibration.iter().filter(|shelf| shelf.pairs > 0);
        let calibration = Plot {
            title: "Calibration".to_owned(),
            x_label: "mean score".to_owned(),
            y_label: "share that matches".to_owned(),
            series: vec![
                line("scores", filled.map(|shelf| (shelf.score, shelf.matches)).collect()),
                line("perfect", vec![(0.0, 0.0), (1.0, 1.0)]),
            ],
        };
        page.section("Matching")
            .table("Thresholds", &head, &self.table())
            .line_plot(&thresholds)
            .line_plot(&calibration)
    }
}

/// As papers write it: 100 times the value.
fn percent(value: f64) -> String {
    format!("{:.2}", 100.0 * value)
}
