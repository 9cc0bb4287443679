//! Which format a dataset has, and which files a brace pattern names.

use dataset::Format;
use dataset::format::is_picture;

use super::DatasetError;
use super::json::{self, JsonKind};
use super::source::Location;

/// Most files that a brace pattern may name.
const MAX_PATTERN_FILES: usize = 1 << 20;
/// What a dataset may be, for a message.
pub(super) const LOOKED_FOR: &str = "looked for metadata.jsonl, pictures, tars, Parquet files and one json; \
                                     say the format if it is there";
/// Tells the format from what lies there.
pub(super) fn find(location: &Location) -> Result<Format, DatasetError> {
    let unknown = |reason: &str| DatasetError::Unknown { location: location.name.clone(), reason: reason.to_owned() };
    if let Some(name) = location.files.first() {
        return match ending(name) {
            "tar" => Ok(Format::WebDataset),
            "parquet" => Ok(Format::Parquet),
            "jsonl" => Ok(Format::ImageFolder),
            "json" => json_format(location, name),
            "gz" | "tgz" | "zip" => Err(unknown("is compressed: unpack it first")),
            _ => Err(unknown("is none of .tar, .parquet, .json and .jsonl")),
        };
    }
    let names: Vec<String> = location.folder.list()?.into_iter().map(|(name, _)| name).collect();
    let has = |wanted: &str| names.iter().any(|name| ending(name) == wanted);
    let jsons: Vec<&String> = names.iter().filter(|name| ending(name) == "json" && !name.contains('/')).collect();
    if names.iter().any(|name| name == "metadata.jsonl") {
        Ok(Format::ImageFolder)
    } else if has("tar") {
        Ok(Format::WebDataset)
    } else if has("parquet") {
        Ok(Format::Parquet)
    } else if let [name] = jsons[..] {
        json_format(location, name)
    } else if jsons.len() > 1 {
        Err(unknown(&format!("has {} json files: name the one that is the dataset", jsons.len())))
    } else if names.iter().any(|name| is_picture(name)) {
        Ok(Format::ImageFolder)
    } else {
        Err(unknown(&format!("holds no dataset: {LOOKED_FOR}")))
    }
}

fn json_format(location: &Location, name: &str) -> Result<Format, DatasetError> {
    Ok(match json::kind(&location.file(name)?)? {
        JsonKind::Captions => Format::BlipJson,
        JsonKind::Questions => Format::VqaJson,
        JsonKind::Coco => Format::CocoJson,
    })
}

/// What follows a name's last dot.
pub(super) fn ending(name: &str) -> &str {
    name.rsplit_once('.').map_or("", |(_, ending)| ending)
}

/// The files that a name with at most one `{FIRST..LAST}` or `{ONE,OTHER}` stands for; numbers keep their width.
pub(super) fn expanded(name: &str) -> Result<Vec<String>, String> {
    let Some((before, rest)) = name.split_once('{') else { return Ok(vec![name.to_owned()]) };
    let (inside, after) = rest.split_once('}').ok_or("the pattern has { without }")?;
    if after.contains('{') {
        return Err("a pattern has one pair of braces at most".to_owned());
    }
    let Some((first, last)) = inside.split_once("..") else {
        return Ok(inside.split(',').map(|part| format!("{before}{part}{after}")).collect());
    };
    let number = |text: &str| text.parse::<usize>().map_err(|_| format!("{text} in the pattern is not a number"));
    let (from, to, width) = (number(first)?, number(last)?, first.len());
    if from > to || to - from >= MAX_PATTERN_FILES {
        return Err(format!("the pattern counts from {from} to {to}: up, and at most {MAX_PATTERN_FILES} files"));
    }
    Ok((from..=to).map(|number| format!("{before}{number:0width$}{after}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_count_with_their_width_or_list_names() {
        assert_eq!(expanded("a-{008..010}.tar").unwrap(), ["a-008.tar", "a-009.tar", "a-010.tar"]);
        assert_eq!(expanded("{train,val}.tar").unwrap(), ["train.tar", "val.tar"]);
        assert_eq!(expanded("one.tar").unwrap(), ["one.tar"]);
    }

    #[test]
    fn pattern_that_is_not_closed_or_not_counted_is_refused() {
        for pattern in ["a-{0..", "a-{0..x}.tar", "a-{5..2}.tar", "a-{0..99999999}.tar", "{a}{b}", "{-1..2}"] {
            assert!(expanded(pattern).is_err(), "{pattern}");
        }
    }
}
