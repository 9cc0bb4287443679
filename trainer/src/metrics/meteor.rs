//! METEOR and SPICE, which are Java programs: a child process, where it can run.

use std::io::Write;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use super::captions::CaptionSet;

/// A score that a child process may give.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JavaScore {
    /// The mean over the set, 0 to 1.
    Measured(f64),
    /// There is no score.
    NotMeasured {
        /// What is missing, and how to get it.
        why: String,
    },
}

impl std::fmt::Display for JavaScore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Measured(score) => write!(f, "{score:.4}"),
            Self::NotMeasured { why } => write!(f, "not measured: {why}"),
        }
    }
}

/// METEOR by `python`'s pycocoevalcap, if that and Java are there.
pub fn meteor(captions: &CaptionSet, python: &str) -> JavaScore {
    let not_measured = |why: &str| JavaScore::NotMeasured { why: why.to_owned() };
    if !runs("java", &["-version"]) {
        return not_measured("Java is missing; install a runtime (Debian: default-jre-headless)");
    }
    if !runs(python, &["-c", "import pycocoevalcap.meteor.meteor"]) {
        return not_measured(&format!("{python} cannot import pycocoevalcap; pip install pycocoevalcap"));
    }
    match scored(captions, python) {
        Ok(score) => JavaScore::Measured(score),
        Err(error) => not_measured(&format!("pycocoevalcap's METEOR failed: {error}")),
    }
}

/// SPICE is offered by pycocoevalcap, which downloads CoreNLP's models at its first use: we do not run it.
pub fn spice() -> JavaScore {
    JavaScore::NotMeasured {
        why: "it downloads its models at its first use; run pycocoevalcap.spice on the written captions".to_owned(),
    }
}

fn runs(program: &str, arguments: &[&str]) -> bool {
    let mut child = Command::new(program);
    child.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    child.status().is_ok_and(|status| status.success())
}

#[derive(Serialize)]
struct Question<'a> {
    candidates: Vec<String>,
    references: Vec<&'a [String]>,
}

#[derive(Deserialize)]
struct Answer {
    meteor: f64,
}

fn scored(captions: &CaptionSet, python: &str) -> std::io::Result<f64> {
    let pictures = captions.pictures();
    let question = Question {
        candidates: pictures.iter().map(|picture| picture.candidate.clone()).collect(),
        references: pictures.iter().map(|picture| picture.references.as_slice()).collect(),
    };
    let mut child = Command::new(python)
        .args(["-c", include_str!("meteor.py")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut input = child.stdin.take().ok_or_else(|| std::io::Error::other("the child has no input"))?;
    input.write_all(&serde_json::to_vec(&question)?)?;
    drop(input);
    let output = child.wait_with_output()?;
    if !output.status.success() {
        return Err(std::io::Error::other(format!("it ended with {}", output.status)));
    }
    Ok(serde_json::from_slice::<Answer>(&output.stdout)?.meteor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Captioned;

    #[test]
    fn what_is_missing_is_named() {
        let one = Captioned { candidate: "a cat".to_owned(), references: vec!["a cat".to_owned()] };
        let set = CaptionSet::new(vec![one]).unwrap();
        let JavaScore::NotMeasured { why } = meteor(&set, "no-such-python") else { panic!("it was measured") };
        assert!(why.contains("Java is missing") || why.contains("no-such-python cannot import pycocoevalcap"), "{why}");
        assert!(spice().to_string().starts_with("not measured: "));
    }
}
