//! Pictures of single things with nothing around them: drawn, from Tux Paint's stamps, or from a folder.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use image::{ImageFormat, ImageReader, Limits};
use serde::{Deserialize, Serialize};

use super::chance::Chance;
use super::combinations::rank;
use super::{SceneError, SceneSettings, Split, drawings};

/// Where Debian's package `tuxpaint-stamps-default` puts its stamps.
pub const STAMPS_FOLDER: &str = "/usr/share/tuxpaint/stamps";
/// Most bytes of a cut-out's file.
const MAX_FILE_BYTES: u64 = 16 << 20;
/// Longest side of a cut-out's file.
const MAX_FILE_SIDE: u32 = 4096;
/// Most files that a folder is searched for.
const MAX_FILES: usize = 100_000;
/// Most cut-outs in all.
const MAX_CUTOUTS: usize = 4096;
/// Most bytes of a stamp's description.
const MAX_DESCRIPTION_BYTES: u64 = 1 << 16;

/// Where objects come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CutoutSource {
    /// Shapes that we draw: nothing has to be installed.
    #[default]
    Drawn,
    /// Tux Paint's stamps: PNG files, each with a description whose first line ends with the noun.
    Stamps,
    /// A folder of `NOUN.png` and `NOUN/*.png`, with alpha.
    Folder,
}

/// Why there are no cut-outs.
#[derive(Debug, thiserror::Error)]
pub enum CutoutError {
    /// `cutouts = "folder"` alone.
    #[error("scenes: cutouts = \"folder\" needs cutout-folder = \"PATH\", a folder of NOUN.png and NOUN/*.png")]
    NoFolderGiven,
    /// Stamps without a choice.
    #[error("scenes: the stamps hold hundreds of things: list the nouns you want, as nouns = [\"bear\", \"bus\"]")]
    NoNounsGiven,
    /// The stamps are not there.
    #[error(
        "scenes: no stamps in {}: install the package tuxpaint-stamps-default, give cutout-folder, or use cutouts = \
         \"drawn\"", path.display()
    )]
    NoStamps {
        /// Where we looked.
        path: PathBuf,
    },
    /// The operating system does not give it to us.
    #[error("{} cannot be read: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not a picture that can be cut out.
    #[error("{} is not a cut-out: {reason}", path.display())]
    NotACutout {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Beyond what we hold.
    #[error("{} has more than {limit} files or cut-outs; give a smaller folder or fewer nouns", path.display())]
    TooMany {
        /// The folder.
        path: PathBuf,
        /// The most.
        limit: usize,
    },
}

/// A thing without surroundings: red, green and blue already multiplied by alpha, 0 to 255; alpha 0 to 1.
pub struct Cutout {
    name: String,
    width: usize,
    height: usize,
    values: Vec<[f32; 4]>,
}

impl Cutout {
    /// Cuts `values` (as [`Cutout`] has them) down to what is not transparent, and to at most `largest` a side.
    ///
    /// None where everything is transparent.
    pub fn new(name: String, width: usize, values: &[[f32; 4]], largest: usize) -> Option<Self> {
        let visible = |index: &usize| values[*index][3] > VISIBLE;
        let columns = || (0..values.len()).filter(visible).map(|index| index % width);
        let (left, right) = (columns().min()?, columns().max()? + 1);
        let rows = || (0..values.len()).filter(visible).map(|index| index / width);
        let (top, bottom) = (rows().min()?, rows().max()? + 1);
        let step = (right - left).max(bottom - top).div_ceil(largest);
        let (new_width, new_height) = ((right - left).div_ceil(step), (bottom - top).div_ceil(step));
        let mut shrunk = Vec::with_capacity(new_width * new_height);
        for row in 0..new_height {
            for column in 0..new_width {
                let mut sum = [0.0; 4];
                for y in (top + row * step)..(top + (row + 1) * step).min(bottom) {
                    for x in (left + column * step)..(left + (column + 1) * step).min(right) {
                        sum.iter_mut().zip(values[y * width + x]).for_each(|(sum, value)| *sum += value);
                    }
                }
                shrunk.push(sum.map(|sum| sum / (step * step) as f32));
            }
        }
        Some(Self { name, width: new_width, height: new_height, values: shrunk })
    }

    /// Width and height in its own pixels.
    pub fn size(&self) -> [usize; 2] {
        [self.width, self.height]
    }

    /// The value at a point in its own pixels, between the four nearest; nothing outside.
    pub fn at(&self, x: f32, y: f32) -> [f32; 4] {
        let (x, y) = (x - 0.5, y - 0.5);
        let (left, top) = (x.floor(), y.floor());
        let (right_share, low_share) = (x - left, y - top);
        let knot = |dx: f32, dy: f32| {
            let (column, row) = (left + dx, top + dy);
            if column < 0.0 || row < 0.0 || column >= self.width as f32 || row >= self.height as f32 {
                return [0.0; 4];
            }
            self.values[row as usize * self.width + column as usize]
        };
        let (a, b, c, d) = (knot(0.0, 0.0), knot(1.0, 0.0), knot(0.0, 1.0), knot(1.0, 1.0));
        let mut value = [0.0; 4];
        for channel in 0..4 {
            let high = a[channel] + (b[channel] - a[channel]) * right_share;
            let low = c[channel] + (d[channel] - c[channel]) * right_share;
            value[channel] = high + (low - high) * low_share;
        }
        value
    }
}

/// Alpha above which a pixel belongs to the thing.
const VISIBLE: f32 = 0.02;

/// The cut-outs of each noun, those of the split first.
pub struct Cutouts {
    nouns: Vec<String>,
    of_noun: BTreeMap<String, OfNoun>,
}

struct OfNoun {
    ours: Vec<Cutout>,
    is_whole: bool,
}

impl Cutouts {
    /// Reads the cut-outs of the settings' nouns, and keeps those of the split.
    ///
    /// # Errors
    /// Files that cannot be read, and nouns without a cut-out.
    pub fn read(settings: &SceneSettings) -> Result<Self, SceneError> {
        let largest = settings.side.max(64);
        let mut found: BTreeMap<String, Vec<Cutout>> = BTreeMap::new();
        let place = match settings.cutouts {
            CutoutSource::Drawn => {
                for (noun, cutout) in drawings::all(&settings.nouns, largest) {
                    found.entry(noun).or_default().push(cutout);
                }
                PathBuf::from("the drawings")
            }
            CutoutSource::Stamps => {
                let folder = settings.cutout_folder.clone().unwrap_or_else(|| PathBuf::from(STAMPS_FOLDER));
                load(stamps(&folder, &settings.nouns)?, &folder, largest, &mut found)?;
                folder
            }
            CutoutSource::Folder => {
                let folder = settings.cutout_folder.clone().ok_or(CutoutError::NoFolderGiven)?;
                load(named_files(&folder, &settings.nouns)?, &folder, largest, &mut found)?;
                folder
            }
        };
        if let Some(noun) = settings.nouns.iter().find(|noun| !found.contains_key(*noun)) {
            return Err(SceneError::NoCutout { noun: noun.clone(), place });
        }
        if found.is_empty() {
            return Err(SceneError::NoCutout { noun: "anything".to_owned(), place });
        }
        let keep = |(noun, all): (String, Vec<Cutout>)| {
            let ours = of_split(&noun, all, settings);
            (noun, ours)
        };
        let of_noun: BTreeMap<_, _> = found.into_iter().map(keep).collect();
        Ok(Self { nouns: of_noun.keys().cloned().collect(), of_noun })
    }

    /// In alphabetical order.
    pub fn nouns(&self) -> &[String] {
        &self.nouns
    }

    /// Nouns whose cut-outs are the same in both splits.
    pub fn nouns_in_both_splits(&self) -> Vec<&str> {
        self.of_noun.iter().filter(|(_, of_noun)| of_noun.is_whole).map(|(noun, _)| noun.as_str()).collect()
    }

    /// The name of one of a noun's cut-outs, and its width and height.
    pub fn draw(&self, noun: &str, chance: &mut Chance) -> (&str, [f32; 2]) {
        let cutout = chance.one_of(&self.of_noun[noun].ours);
        (&cutout.name, cutout.size().map(|size| size as f32))
    }

    /// The cut-out of this name.
    pub fn named(&self, noun: &str, name: &str) -> Option<&Cutout> {
        self.of_noun.get(noun)?.ours.iter().find(|cutout| cutout.name == name)
    }
}

/// Which are held out depends on their names, not on the seed.
fn of_split(noun: &str, mut all: Vec<Cutout>, settings: &SceneSettings) -> OfNoun {
    all.sort_by(|a, b| a.name.cmp(&b.name));
    if all.len() < 2 || settings.held_out_cutouts == 0.0 {
        return OfNoun { ours: all, is_whole: true };
    }
    let held_out = ((all.len() as f64 * settings.held_out_cutouts).ceil() as usize).clamp(1, all.len() - 1);
    all.sort_by(|a, b| rank(&format!("{noun}/{}", a.name)).total_cmp(&rank(&format!("{noun}/{}", b.name))));
    let training = all.split_off(held_out);
    OfNoun { ours: if settings.split == Split::HeldOut { all } else { training }, is_whole: false }
}

/// Files by noun.
type Files = Vec<(String, PathBuf)>;

fn load(
    files: Files,
    folder: &Path,
    largest: usize,
    found: &mut BTreeMap<String, Vec<Cutout>>,
) -> Result<(), CutoutError> {
    if files.len() > MAX_CUTOUTS {
        return Err(CutoutError::TooMany { path: folder.to_owned(), limit: MAX_CUTOUTS });
    }
    for (noun, path) in files {
        let name = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().replace('\\', "/");
        let cutout = open(&path, name, largest)?;
        found.entry(noun).or_default().push(cutout);
    }
    Ok(())
}

fn open(path: &Path, name: String, largest: usize) -> Result<Cutout, CutoutError> {
    let bytes = bytes_of(path, MAX_FILE_BYTES)?;
    let refuse = |reason: String| CutoutError::NotACutout { path: path.to_owned(), reason };
    let mut reader = ImageReader::with_format(Cursor::new(bytes), ImageFormat::Png);
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_FILE_SIDE);
    limits.max_image_height = Some(MAX_FILE_SIDE);
    reader.limits(limits);
    let picture = reader.decode().map_err(|error| refuse(error.to_string()))?.into_rgba8();
    let values: Vec<[f32; 4]> = picture.pixels().map(|pixel| premultiplied(pixel.0)).collect();
    Cutout::new(name, picture.width() as usize, &values, largest)
        .ok_or_else(|| refuse("all of it is transparent".to_owned()))
}

/// As [`Cutout`] holds a value.
pub fn premultiplied([red, green, blue, alpha]: [u8; 4]) -> [f32; 4] {
    let share = f32::from(alpha) / 255.0;
    [f32::from(red) * share, f32::from(green) * share, f32::from(blue) * share, share]
}

fn bytes_of(path: &Path, limit: u64) -> Result<Vec<u8>, CutoutError> {
    let fault = |source| CutoutError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(fault)?.take(limit + 1).read_to_end(&mut bytes).map_err(fault)?;
    if bytes.len() as u64 > limit {
        return Err(CutoutError::NotACutout {
            path: path.to_owned(),
            reason: format!("it has more than {limit} bytes"),
        });
    }
    Ok(bytes)
}

/// PNG files whose description's first line ends with one of the nouns: "A green bus." is a bus.
fn stamps(folder: &Path, nouns: &[String]) -> Result<Files, CutoutError> {
    if nouns.is_empty() {
        return Err(CutoutError::NoNounsGiven);
    }
    if !folder.is_dir() {
        return Err(CutoutError::NoStamps { path: folder.to_owned() });
    }
    let mut found = Vec::new();
    for path in png_files(folder)? {
        let description = path.with_extension("txt");
        if !description.is_file() {
            continue;
        }
        let bytes = bytes_of(&description, MAX_DESCRIPTION_BYTES)?;
        let text = String::from_utf8_lossy(&bytes);
        let line = text.lines().next().unwrap_or_default().to_lowercase();
        let line = line.trim_end_matches(|c: char| !c.is_alphanumeric());
        let ends_with = |noun: &&String| {
            let before = line.strip_suffix(noun.as_str());
            before.is_some_and(|before| before.is_empty() || before.ends_with(' '))
        };
        if let Some(noun) = nouns.iter().find(ends_with) {
            found.push((noun.clone(), path));
        }
    }
    Ok(found)
}

/// `NOUN.png` and `NOUN/*.png`; an underscore is a space.
fn named_files(folder: &Path, nouns: &[String]) -> Result<Files, CutoutError> {
    let mut found = Vec::new();
    for path in png_files(folder)? {
        let inside = path.strip_prefix(folder).unwrap_or(&path);
        let first = inside.components().next().map(|part| part.as_os_str().to_string_lossy().into_owned());
        let noun = first.unwrap_or_default().trim_end_matches(".png").to_lowercase().replace('_', " ");
        if inside.components().count() <= 2 && (nouns.is_empty() || nouns.contains(&noun)) {
            found.push((noun, path));
        }
    }
    Ok(found)
}

/// Every PNG file below a folder, by name. Links are not followed.
fn png_files(folder: &Path) -> Result<Vec<PathBuf>, CutoutError> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    let mut seen = 0;
    while let Some(open) = folders.pop() {
        let fault = |source| CutoutError::Read { path: open.clone(), source };
        for entry in open.read_dir().map_err(fault)? {
            let entry = entry.map_err(fault)?;
            seen += 1;
            if seen > MAX_FILES {
                return Err(CutoutError::TooMany { path: folder.to_owned(), limit: MAX_FILES });
            }
            let kind = entry.file_type().map_err(fault)?;
            let path = entry.path();
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() && path.extension().is_some_and(|ending| ending == "png") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}
