//! Bytes of gpsd's stream become fixes.

use jiff::Timestamp;
use serde::Deserialize;

use crate::position::Coordinates;

/// Longest line. Source: gpsd `include/gps_json.h`, GPS_JSON_RESPONSE_MAX, which is 10,240 bytes.
const MAX_LINE: usize = 16_384;

/// What a receiver knows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fix {
    /// The place, if it sees enough satellites.
    pub coordinates: Option<Coordinates>,
    /// Milliseconds since 1970 in UTC.
    pub wall_ms: Option<i64>,
}

/// Cuts a stream into lines, and takes the fixes out of it.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    bytes: Vec<u8>,
    /// Where the next line begins.
    start: usize,
    /// The line is too long; the rest of it is dropped.
    is_dropping: bool,
    garbage: u64,
}

#[derive(Deserialize)]
struct Report {
    class: String,
    mode: Option<u8>,
    time: Option<String>,
    lat: Option<f64>,
    lon: Option<f64>,
}

/// `TPV`'s mode from which place and time are those of a fix in two dimensions. Source: `gpsd_json(5)`.
const TWO_DIMENSIONS: u8 = 2;

impl Lines {
    /// An empty stream.
    pub fn new() -> Lines {
        Lines::default()
    }

    /// Lines that were no reports.
    pub fn garbage(&self) -> u64 {
        self.garbage
    }

    /// The stream goes on.
    pub fn add(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let ends = part.ends_with(b"\n");
            if self.is_dropping {
                self.is_dropping = !ends;
                continue;
            }
            self.bytes.extend_from_slice(part);
            let line = self.line_start();
            if self.bytes.len() - line > MAX_LINE {
                self.bytes.truncate(line);
                self.garbage += 1;
                self.is_dropping = !ends;
            }
        }
    }

    /// The next fix of the lines that are whole.
    pub fn next_fix(&mut self) -> Option<Fix> {
        loop {
            let rest = self.bytes.get(self.start..).unwrap_or_default();
            let Some(length) = rest.iter().position(|byte| *byte == b'\n') else {
                self.bytes.drain(..self.start);
                self.start = 0;
                return None;
            };
            let fix = rest.get(..length).map(read).unwrap_or(Line::Garbage);
            self.start += length + 1;
            match fix {
                Line::Fix(fix) => return Some(fix),
                Line::Garbage => self.garbage += 1,
                Line::Other => {}
            }
        }
    }

    /// Where the last line begins, whole or not.
    fn line_start(&self) -> usize {
        let before = self.bytes.strip_suffix(b"\n").unwrap_or(&self.bytes);
        before.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1)
    }
}

enum Line {
    Fix(Fix),
    Garbage,
    /// A report of something else, or of no fix.
    Other,
}

fn read(line: &[u8]) -> Line {
    if line.trim_ascii().is_empty() {
        return Line::Other;
    }
    let Ok(report) = serde_json::from_slice::<Report>(line) else { return Line::Garbage };
    if report.class != "TPV" || report.mode.unwrap_or_default() < TWO_DIMENSIONS {
        return Line::Other;
    }
    let coordinates =
        report.lat.zip(report.lon).and_then(|(latitude, longitude)| Coordinates::new(latitude, longitude));
    let wall_ms = report.time.and_then(|time| Some(time.parse::<Timestamp>().ok()?.as_millisecond()));
    if coordinates.is_none() && wall_ms.is_none() { Line::Other } else { Line::Fix(Fix { coordinates, wall_ms }) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What gpsd 3.22 sent: see the goldens' README.
    const RECORDED: &[u8] = include_bytes!("../../tests/goldens/gpsd.json");

    type Seen = (Option<(f64, f64)>, Option<i64>);
    const PLACE: Option<(f64, f64)> = Some((52.520008333, -13.404953333));
    /// `date -u -d '2026-11-26 04:30:02' +%s000`, and the second after it.
    const EXPECTED: [Seen; 5] = [
        (PLACE, None),
        (PLACE, Some(1_795_667_402_000)),
        (PLACE, Some(1_795_667_402_000)),
        (PLACE, Some(1_795_667_403_000)),
        (PLACE, Some(1_795_667_403_000)),
    ];

    fn fixes(chunks: &[&[u8]]) -> (Vec<Fix>, u64) {
        let mut lines = Lines::new();
        let mut fixes = Vec::new();
        for chunk in chunks {
            lines.add(chunk);
            fixes.extend(std::iter::from_fn(|| lines.next_fix()));
        }
        (fixes, lines.garbage())
    }

    #[test]
    fn reports_with_a_fix_are_fixes() {
        let (fixes, garbage) = fixes(&[RECORDED]);
        let seen: Vec<_> = fixes
            .iter()
            .map(|fix| (fix.coordinates.map(|place| (place.latitude(), place.longitude())), fix.wall_ms))
            .collect();
        assert_eq!(seen, EXPECTED);
        assert_eq!(garbage, 0);
    }

    #[test]
    fn garbage_is_counted_and_skipped() {
        let long = [vec![b'x'; 3 * MAX_LINE], b"\n".to_vec()].concat();
        let good = b"{\"class\":\"TPV\",\"mode\":2,\"lat\":1.0,\"lon\":2.0}\n";
        let (found, garbage) = fixes(&[b"\xff\xfe\n{}\n[1]\n", good, &long, b"{\"class\":3}\n", good, b"\n\r\n{\"cl"]);
        assert_eq!(found.len(), 2);
        assert_eq!(garbage, 5);
        for report in [
            "{\"class\":\"TPV\",\"mode\":1,\"lat\":1.0,\"lon\":2.0}",
            "{\"class\":\"TPV\",\"mode\":3,\"lat\":91.0,\"lon\":2.0}",
            "{\"class\":\"TPV\",\"mode\":3,\"lat\":1.0,\"time\":\"yesterday\"}",
            "{\"class\":\"SKY\",\"mode\":3,\"lat\":1.0,\"lon\":2.0}",
        ] {
            assert_eq!(fixes(&[report.as_bytes(), b"\n"]), (Vec::new(), 0), "{report}");
        }
    }

    #[test]
    fn a_stream_without_lines_takes_no_memory() {
        let mut lines = Lines::new();
        for _ in 0..1000 {
            lines.add(&[b'x'; 4096]);
            assert_eq!(lines.next_fix(), None);
            assert!(lines.bytes.len() <= MAX_LINE);
        }
        assert_eq!(lines.garbage(), 1);
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_the_stream_is_cut(cuts in prop::collection::vec(0..RECORDED.len(), 0..10)) {
            let mut cuts = cuts;
            cuts.extend([0, RECORDED.len()]);
            cuts.sort();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|cut| &RECORDED[cut[0]..cut[1]]).collect();
            prop_assert_eq!(fixes(&chunks), fixes(&[RECORDED]));
        }

        #[test]
        fn any_bytes_are_read(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20)) {
            let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
            fixes(&chunks);
        }
    }
}
