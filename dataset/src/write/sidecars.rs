//! Pictures with a text file beside each.

use std::path::Path;

use super::{Named, WriteError, write_file};

/// Writes `images/NAME.jpg` and `images/NAME.txt`: a text on each line, the first text first.
pub(super) fn add(folder: &Path, named: &Named) -> Result<(), WriteError> {
    let place = folder.join("images").join(&named.name);
    // Names have no dot of their own.
    write_file(place.with_extension(named.ending), &named.pair.picture)?;
    let line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ") + "\n";
    let lines: String = named.pair.texts.iter().map(|text| line(&text.text)).collect();
    write_file(place.with_extension("txt"), lines.as_bytes())
}
