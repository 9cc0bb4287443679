//! How pairs lie on disk.

use serde::{Deserialize, Serialize};

/// A format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Hugging Face's: a folder of pictures with `metadata.jsonl`, a line for each text (`file_name`, `text`). Without
    /// that file, each picture's text is the file beside it that ends in `.txt`, if there is one.
    ImageFolder,
    /// Pictures, each with a file beside it that ends in `.txt` and has a text on each line.
    Sidecars,
    /// Tars whose members `KEY.jpg`, `KEY.txt` and `KEY.json` stand together.
    WebDataset,
    /// The authors': a list of `{"image", "caption", "image_id"}`.
    BlipJson,
    /// COCO's captions: `{"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]}`.
    CocoJson,
    /// The authors' for questions: a list of `{"image", "question", "answer", "dataset"}`.
    VqaJson,
    /// Hugging Face's Parquet with the pictures inside: `image` (a struct of `bytes` and `path`, or bytes) and `text`.
    Parquet,
}

/// Endings of picture files, in lower case.
const PICTURE_ENDINGS: [&str; 12] =
    ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "pnm", "ppm", "pgm", "jfif"];

/// Whether a file's name says that it is a picture.
pub fn is_picture(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, ending)| PICTURE_ENDINGS.contains(&ending.to_ascii_lowercase().as_str()))
}
