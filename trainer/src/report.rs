//! One HTML page about a run, with its plots.
//!
//! A page holds all that it shows: no network, no script. What it is given is untrusted: texts are escaped, and the
//! page's own policy forbids everything but its style and the pictures inside it.

pub mod curves;
pub mod plot;

use std::io::Cursor;
use std::path::{Path, PathBuf};

use blip::pixels::Rgb8;
use terminal::printable;

use dataset::disk::write_whole;

pub use curves::{loss_plots, thinned};
pub use plot::{Plot, Series};

/// Longest side of a picture on the page, in pixels.
const THUMBNAIL_SIDE: u32 = 160;

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The operating system refuses.
    #[error("the page {} cannot be written: {source}", path.display())]
    Write {
        /// The page.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// What became of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on into the new dataset.
    Kept,
    /// It does not.
    Dropped,
    /// It was not judged.
    Shown,
}

/// A text under a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct JudgedText {
    /// Who wrote it: "raw", "synthetic", "human".
    pub source: String,
    /// As it is in the data.
    pub text: String,
    /// How well it fits, 0 to 1.
    pub score: Option<f64>,
    /// What became of it.
    pub verdict: Verdict,
}

/// A picture and its texts.
#[derive(Clone, Debug)]
pub struct PictureCard {
    /// Shown small.
    pub picture: Rgb8,
    /// Under it, in this order.
    pub texts: Vec<JudgedText>,
}

/// A page that is being put together, from top to bottom.
#[derive(Clone, Debug)]
pub struct Page {
    title: String,
    refresh_seconds: Option<u32>,
    body: String,
}

impl Page {
    /// An empty page.
    pub fn new(title: &str) -> Self {
        Self { title: title.to_owned(), refresh_seconds: None, body: String::new() }
    }

    /// The browser reads the page again so often, if at all: for a run that is still going.
    pub fn refresh_seconds(mut self, seconds: Option<u32>) -> Self {
        self.refresh_seconds = seconds;
        self
    }

    /// Starts a section.
    pub fn section(mut self, heading: &str) -> Self {
        self.body.push_str(&format!("<h2>{}</h2>\n", escaped(heading)));
        self
    }

    /// A paragraph.
    pub fn paragraph(mut self, text: &str) -> Self {
        self.body.push_str(&format!("<p>{}</p>\n", escaped(text)));
        self
    }

    /// A table: its caption, its head, and rows with as many cells. Cells that are numbers stand to the right.
    pub fn table(mut self, caption: &str, head: &[&str], rows: &[Vec<String>]) -> Self {
        let named = format!(
            "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{0}\"><table><caption>{0}</caption>\n<thead><tr>",
            escaped(caption)
        );
        self.body.push_str(&named);
        head.iter().for_each(|cell| self.body.push_str(&format!("<th scope=\"col\">{}</th>", escaped(cell))));
        self.body.push_str("</tr></thead>\n<tbody>\n");
        for row in rows {
            self.body.push_str("<tr>");
            row.iter().for_each(|cell| self.body.push_str(&table_cell(cell)));
            self.body.push_str("</tr>\n");
        }
        self.body.push_str("</tbody></table></div>\n");
        self
    }

    /// A plot of lines.
    pub fn line_plot(mut self, plot: &Plot) -> Self {
        self.body.push_str(&plot.svg());
        self
    }

    /// Pictures with their texts, each marked as kept or dropped.
    pub fn pictures(mut self, cards: &[PictureCard]) -> Self {
        self.body.push_str("<ul class=\"pictures\">\n");
        cards.iter().for_each(|card| self.body.push_str(&picture_card(card)));
        self.body.push_str("</ul>\n");
        self
    }

    /// The page as HTML.
    pub fn html(&self) -> String {
        let refresh = match self.refresh_seconds {
            Some(seconds) => format!("<meta http-equiv=\"refresh\" content=\"{seconds}\">\n"),
            None => String::new(),
        };
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n{refresh}<title>{0}</title>\n<style>\n{1}</style>\n</head>\n\
             <body>\n<main>\n<h1>{0}</h1>\n{2}</main>\n</body>\n</html>\n",
            escaped(&self.title),
            include_str!("report/style.css"),
            self.body
        )
    }

    /// Writes the page so that a reader sees the old one or the new one, never half of one.
    ///
    /// # Errors
    /// A folder that cannot be written, or a full disk.
    pub fn write(&self, path: &Path) -> Result<(), ReportError> {
        let fault = |source| ReportError::Write { path: path.to_owned(), source };
        write_whole(path, |out| out.write_all(self.html().as_bytes())).map_err(fault)
    }
}

/// Text for HTML, in an element or in an attribute, without what could command a terminal or turn the writing.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in printable(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

fn table_cell(cell: &str) -> String {
    let is_number = cell.trim_end_matches([' ', '%']).parse::<f64>().is_ok();
    format!("<td{}>{}</td>", if is_number { " class=\"number\"" } else { "" }, escaped(cell))
}

fn picture_card(card: &PictureCard) -> String {
    let (url, [width, height]) = thumbnail(&card.picture);
    let about = card.texts.first().map_or("a picture without a text", |text| text.text.as_str());
    let mut html = format!(
        "<li><img src=\"{url}\" width=\"{width}\" height=\"{height}\" alt=\"Picture that came with: {}\">\n",
        escaped(about)
    );
    for JudgedText { source, text, score, verdict } in &card.texts {
        let (class, word) = match verdict {
            Verdict::Kept => ("kept", "kept"),
            Verdict::Dropped => ("dropped", "dropped"),
            Verdict::Shown => ("shown", ""),
        };
        let score = score.map_or(String::new(), |score| format!("{score:.2}"));
        let mut note = [word, source, &score].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>();
        note.dedup();
        let text = if text.is_empty() { "(no text)" } else { text };
        html.push_str(&format!(
            "<p class=\"{class}\"><span class=\"text\">{}</span> <small>{}</small></p>\n",
            escaped(text),
            escaped(&note.join(", "))
        ));
    }
    html.push_str("</li>\n");
    html
}

/// A `data:` URL of a small PNG, and its size.
fn thumbnail(picture: &Rgb8) -> (String, [usize; 2]) {
    let small = reduced(picture);
    (format!("data:image/png;base64,{}", base64(&png(&small))), [small.width(), small.height()])
}

/// A picture as small as a page shows it.
pub fn reduced(picture: &Rgb8) -> Rgb8 {
    let (width, height) = (picture.width() as u32, picture.height() as u32);
    let longest = width.max(height);
    if longest <= THUMBNAIL_SIDE {
        return picture.clone();
    }
    let side = |side: u32| (u64::from(side) * u64::from(THUMBNAIL_SIDE) / u64::from(longest)).max(1) as u32;
    let small = image::imageops::thumbnail(&raster(picture), side(width), side(height));
    let [width, height] = [small.width(), small.height()].map(|side| side as usize);
    Rgb8::new(width, height, small.into_raw()).expect("a raster has three values a pixel")
}

/// The bytes of a PNG file.
pub fn png(picture: &Rgb8) -> Vec<u8> {
    let mut png = Cursor::new(Vec::new());
    raster(picture).write_to(&mut png, image::ImageFormat::Png).expect("memory takes the bytes of an RGB picture");
    png.into_inner()
}

fn raster(picture: &Rgb8) -> image::RgbImage {
    let (width, height) = (picture.width() as u32, picture.height() as u32);
    image::RgbImage::from_raw(width, height, picture.values().to_vec()).expect("an Rgb8 has three values a pixel")
}

/// Source: RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |place: usize| u32::from(three.get(place).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * place) & 63) as usize] as char;
            text.push(if place <= three.len() { letter } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const ATTACK: &str = "</p><script>alert(1)</script>\" onload='x' \u{202e}&amp;";

    fn attacked() -> Page {
        let text = JudgedText {
            source: ATTACK.to_owned(),
            text: ATTACK.to_owned(),
            score: Some(0.5),
            verdict: Verdict::Dropped,
        };
        let picture = Rgb8::new(2, 1, vec![255, 0, 0, 0, 0, 255]).unwrap();
        let series = Series { name: ATTACK.to_owned(), points: vec![(0.0, 1.0), (1.0, 2.0)] };
        let label = || ATTACK.to_owned();
        let plot = Plot { title: label(), x_label: label(), y_label: label(), series: vec![series] };
        Page::new(ATTACK)
            .section(ATTACK)
            .paragraph(ATTACK)
            .table(ATTACK, &[ATTACK], &[vec![label()]])
            .line_plot(&plot)
            .pictures(&[PictureCard { picture, texts: vec![text] }])
    }

    #[test]
    fn no_text_can_become_markup() {
        let html = attacked().html();
        assert!(!html.contains("<script") && !html.contains("onload='") && !html.contains('\u{202e}'));
        assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot; onload=&#39;x&#39; \u{fffd}&amp;amp;"));
    }

    #[test]
    fn a_page_asks_the_network_for_nothing() {
        let html = attacked().html();
        assert!(!html.contains("http://") && !html.contains("https://") && !html.contains("<link"));
        assert!(html.contains("default-src 'none'"));
    }

    #[test]
    fn a_page_is_read_again_only_where_asked() {
        assert!(!Page::new("run").html().contains("http-equiv=\"refresh\""));
        let live = Page::new("run").refresh_seconds(Some(5)).html();
        assert!(live.contains("<meta http-equiv=\"refresh\" content=\"5\">"));
    }

    #[test]
    fn kept_and_dropped_are_said_in_words() {
        let text = |verdict, score| JudgedText { source: "raw".to_owned(), text: String::new(), score, verdict };
        let texts = vec![text(Verdict::Kept, Some(0.987)), text(Verdict::Dropped, None)];
        let picture = Rgb8::new(400, 100, vec![9; 120_000]).unwrap();
        let html = Page::new("sheet").pictures(&[PictureCard { picture, texts }]).html();
        assert!(html.contains("(no text)</span> <small>kept, raw, 0.99</small>"), "{html}");
        assert!(html.contains("<small>dropped, raw</small>"));
        assert!(html.contains("width=\"160\" height=\"40\""));
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        let vectors =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE=")];
        for (bytes, text) in vectors {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn a_page_replaces_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.html");
        Page::new("one").write(&path).unwrap();
        Page::new("two").write(&path).unwrap();
        assert!(std::fs::read_to_string(&path).unwrap().contains("<title>two</title>"));
        assert_eq!(folder.path().read_dir().unwrap().count(), 1);
        let message = Page::new("x").write(&folder.path().join("no/such.html")).unwrap_err().to_string();
        assert!(message.contains("such.html cannot be written"), "{message}");
    }
}
