//! A picture file, with what a text file beside it says.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use picture::{PictureError, PictureLimits};

use super::{Capture, Context, Fed, Feed};
use crate::error::CameraError;
use crate::frame::Image;

/// Most bytes of a note. What a store keeps is shorter; what is cut off is for it to say.
const MAX_NOTE_BYTES: u64 = 4096;

/// One picture, which is given once.
pub(super) struct Picture {
    path: PathBuf,
    is_given: bool,
}

impl Picture {
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), is_given: false }
    }
}

impl Feed for Picture {
    fn next(&mut self, _: &Context) -> Result<Fed, CameraError> {
        if self.is_given {
            return Ok(Fed::End(None));
        }
        let capture = load(&self.path)?;
        self.is_given = true;
        Ok(Fed::Capture(capture))
    }
}

/// Reads a picture that can be decoded: a JPEG stays as it is, anything else becomes pixels.
pub(super) fn load(path: &Path) -> Result<Capture, CameraError> {
    let limits = PictureLimits::default();
    let image = read(path, &limits).and_then(|bytes| image(bytes, &limits));
    let image = image.map_err(|fault| PictureError::File { path: path.to_owned(), fault: Box::new(fault) })?;
    Ok(Capture { note: note(path), origin: Some(path.display().to_string()), ..Capture::from(image) })
}

fn image(bytes: Vec<u8>, limits: &PictureLimits) -> Result<Image, PictureError> {
    if !bytes.starts_with(b"\xff\xd8\xff") {
        return picture::decode_within(&bytes, limits).map(Image::Rgb);
    }
    // Reads all of its data, and makes few pixels of it.
    picture::luma(&bytes, limits)?;
    Ok(Image::Jpeg(bytes))
}

fn read(path: &Path, limits: &PictureLimits) -> Result<Vec<u8>, PictureError> {
    // Opening a pipe would wait for somebody to write.
    if !std::fs::metadata(path).map_err(PictureError::Read)?.is_file() {
        return Err(PictureError::Read(std::io::Error::other("not a file")));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(PictureError::Read)?;
    file.take(limits.file_bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(PictureError::Read)?;
    if bytes.len() as u64 > limits.file_bytes {
        return Err(PictureError::FileTooLarge { limit: limits.file_bytes });
    }
    if bytes.is_empty() { Err(PictureError::Empty) } else { Ok(bytes) }
}

/// What `cat.txt` or `cat.jpg.txt` says of `cat.jpg`.
fn note(picture: &Path) -> Option<String> {
    let mut whole = picture.as_os_str().to_owned();
    whole.push(".txt");
    [picture.with_extension("txt"), whole.into()].iter().find_map(|path| {
        let is_file = std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
        let mut bytes = Vec::new();
        File::open(path).ok().filter(|_| is_file)?.take(MAX_NOTE_BYTES).read_to_end(&mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim_matches(|letter: char| letter.is_whitespace() || letter == '\u{feff}');
        (!text.is_empty()).then(|| text.to_owned())
    })
}
