//! How much was noise.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::decide::{Decision, Reason};
use super::{CapfiltError, CapfiltSettings};
use crate::dataset::Origin;

/// Share of synthetic texts that a healthy filter rejects at least. With shared parameters it rejected 8 %, which the
/// paper calls confirmation bias; apart 25 %. Source: arXiv 2201.12086, table 4.
pub const HEALTHY_SHARE: f64 = 0.10;
/// Share of nucleus texts that the paper's filter rejected; of beam-search texts it was 0.19. Source: table 2.
pub const NUCLEUS_SHARE: f64 = 0.25;
/// Synthetic texts from which a share says something.
const ENOUGH: usize = 50;
/// Broken pictures that are named; all are counted.
const MAX_NAMED: usize = 20;

/// Texts of one source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// All.
    pub texts: usize,
    /// In the new dataset.
    pub kept: usize,
    /// Called noise by the filter.
    pub noise: usize,
    /// Left out since another text says the same.
    pub duplicates: usize,
    /// Left out since they have no words.
    pub empty: usize,
}

impl Counts {
    /// Share of the judged texts that is noise, 0 to 1; 0 where nothing was judged.
    pub fn noise_share(&self) -> f64 {
        let judged = self.texts - self.empty;
        if judged == 0 { 0.0 } else { self.noise as f64 / judged as f64 }
    }

    fn add(&mut self, reason: Reason) {
        self.texts += 1;
        self.kept += usize::from(reason.keeps());
        self.noise += usize::from(reason.is_noise());
        self.duplicates += usize::from(reason == Reason::Duplicate);
        self.empty += usize::from(reason == Reason::Empty);
    }
}

/// What a run of CapFilt came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Hash of everything that the decisions depend on.
    pub identity: String,
    /// How texts were made and judged.
    pub settings: CapfiltSettings,
    /// Pictures of the dataset.
    pub pictures: usize,
    /// Pictures of the new dataset: those with a text.
    pub pictures_kept: usize,
    /// Pictures that could not be read.
    pub broken: usize,
    /// The first of them, printable, each with its reason.
    pub first_broken: Vec<String>,
    /// Texts that people wrote.
    pub human: Counts,
    /// Texts that were found.
    pub web: Counts,
    /// Texts that the captioner wrote.
    pub synthetic: Counts,
    /// Share of the found texts that the filter calls noise.
    pub web_noise: f64,
    /// Share of the captioner's texts that the filter calls noise.
    pub synthetic_noise: f64,
    /// What a person should look at.
    pub warnings: Vec<String>,
}

impl Summary {
    pub(super) fn new(identity: String, settings: &CapfiltSettings, pictures: usize) -> Summary {
        Summary {
            identity,
            settings: settings.clone(),
            pictures,
            pictures_kept: 0,
            broken: 0,
            first_broken: Vec::new(),
            human: Counts::default(),
            web: Counts::default(),
            synthetic: Counts::default(),
            web_noise: 0.0,
            synthetic_noise: 0.0,
            warnings: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, decision: &Decision) {
        match decision.origin {
            Origin::Human => self.human.add(decision.reason),
            Origin::Web => self.web.add(decision.reason),
            Origin::Synthetic => self.synthetic.add(decision.reason),
        }
    }

    pub(super) fn add_broken(&mut self, line: &str) {
        self.broken += 1;
        if self.first_broken.len() < MAX_NAMED {
            self.first_broken.push(line.to_owned());
        }
    }

    /// Shares and warnings.
    ///
    /// # Errors
    /// No picture that is left.
    pub(super) fn finish(mut self) -> Result<Summary, CapfiltError> {
        if self.pictures_kept == 0 {
            let reason = match self.first_broken.first() {
                Some(first) if self.broken == self.pictures => format!("no picture can be read, first {first}"),
                _ => format!("no text reaches {}; lower the threshold or mend the filter", self.settings.threshold),
            };
            return Err(CapfiltError::Empty { reason });
        }
        self.web_noise = self.web.noise_share();
        self.synthetic_noise = self.synthetic.noise_share();
        if self.synthetic.texts >= ENOUGH && self.synthetic_noise < HEALTHY_SHARE {
            self.warnings.push(format!(
                "the filter rejects {:.1} % of the captioner's texts, the paper's {:.0} %: where captioner and filter share \
                 weights the filter believes what the captioner says; fine-tune them apart",
                100.0 * self.synthetic_noise,
                100.0 * NUCLEUS_SHARE
            ));
        }
        if self.broken > 0 {
            self.warnings.push(format!("{} of {} pictures cannot be read", self.broken, self.pictures));
        }
        Ok(self)
    }

    /// A row for each source: name, texts, kept, noise, duplicates, empty, share of noise.
    pub fn rows(&self) -> Vec<Vec<String>> {
        let row = |name: &str, counts: &Counts| {
            let numbers = [counts.texts, counts.kept, counts.noise, counts.duplicates, counts.empty];
            let mut row = vec![name.to_owned()];
            row.extend(numbers.map(|number| number.to_string()));
            row.push(format!("{:.1} %", 100.0 * counts.noise_share()));
            row
        };
        vec![row("human", &self.human), row("web", &self.web), row("synthetic", &self.synthetic)]
    }
}

/// Names of [`Summary::rows`].
pub(super) const HEAD: [&str; 7] = ["texts", "all", "kept", "noise", "duplicates", "empty", "share of noise"];

impl fmt::Display for Summary {
    /// A table for a terminal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |f: &mut fmt::Formatter<'_>, cells: &[&str]| {
            write!(f, "{:<10}", cells[0])?;
            cells[1..].iter().try_for_each(|cell| write!(f, "  {cell:>14}"))?;
            writeln!(f)
        };
        line(f, &HEAD)?;
        for row in self.rows() {
            line(f, &row.iter().map(String::as_str).collect::<Vec<_>>())?;
        }
        writeln!(f, "{} of {} pictures are in the new dataset", self.pictures_kept, self.pictures)?;
        self.warnings.iter().try_for_each(|warning| writeln!(f, "warning: {}", terminal::printable(warning)))
    }
}
