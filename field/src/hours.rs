//! Hours of the day in the place's own time, for what happens only then.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};

/// Minutes of a day.
const DAY: u16 = 24 * 60;

/// From one time of the day to another, which may lie on the next day; the end is outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours {
    start: u16,
    end: u16,
}

/// A text that names no hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("hours are written as \"06:30-19:00\"; \"00:00-24:00\" is the whole day")]
pub struct HoursError;

impl Hours {
    /// The whole day.
    pub const ALWAYS: Hours = Hours { start: 0, end: DAY };

    /// Whether these hours are on at a time in a place; without a time nobody knows.
    pub fn include(&self, wall_ms: Option<i64>, zone: &Zone) -> Answer {
        if *self == Hours::ALWAYS {
            return Answer::On;
        }
        match wall_ms.and_then(|wall_ms| zone.minute_of_day(wall_ms)) {
            None => Answer::Unknown,
            Some(minute) if self.include_minute(minute) => Answer::On,
            Some(_) => Answer::Off,
        }
    }

    fn include_minute(&self, minute: u16) -> bool {
        if self.start < self.end {
            (self.start..self.end).contains(&minute)
        } else {
            minute >= self.start || minute < self.end
        }
    }
}

/// Whether hours are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// They are.
    On,
    /// They are not.
    Off,
    /// The board does not know the time.
    Unknown,
}

impl FromStr for Hours {
    type Err = HoursError;

    fn from_str(text: &str) -> Result<Hours, HoursError> {
        let minute = |text: &str| {
            let (hour, minute) = text.split_once(':')?;
            let two_digits = |digits: &str| -> Option<u16> {
                let is_number = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_digit());
                is_number.then(|| digits.parse().ok())?
            };
            let (hour, minute) = (two_digits(hour)?, two_digits(minute)?);
            let sum = hour * 60 + minute;
            (minute < 60 && sum <= DAY).then_some(sum)
        };
        let (start, end) = text.split_once('-').ok_or(HoursError)?;
        let (start, end) = (minute(start).ok_or(HoursError)?, minute(end).ok_or(HoursError)?);
        if start == end || start == DAY { Err(HoursError) } else { Ok(Hours { start, end }) }
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Hours { start, end } = self;
        write!(f, "{:02}:{:02}-{:02}:{:02}", start / 60, start % 60, end / 60, end % 60)
    }
}

/// A time zone: "UTC", an offset as "+02:00", or a name of the system's database as "Europe/Berlin".
#[derive(Clone, Debug, PartialEq)]
pub struct Zone {
    name: String,
    zone: TimeZone,
}

/// A text that names no time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a time zone is \"UTC\", an offset as \"+02:00\", or a name in /usr/share/zoneinfo as \"Europe/Berlin\" \
     (package tzdata)"
)]
pub struct ZoneError;

impl Zone {
    /// UTC.
    pub fn utc() -> Zone {
        Zone { name: "UTC".to_owned(), zone: TimeZone::UTC }
    }

    /// Days since 1970 in this zone: what a budget of a day counts.
    pub fn day(&self, wall_ms: i64) -> Option<i64> {
        let local = wall_ms.checked_add(self.offset_ms(wall_ms)?)?;
        Some(local.div_euclid(i64::from(DAY) * 60_000))
    }

    /// A time in this zone to the second, with its offset, as `2026-11-27T09:30:00+01:00`; `None` for one that no calendar
    /// has.
    pub fn written(&self, wall_ms: i64) -> Option<String> {
        let time = Timestamp::from_millisecond(wall_ms.div_euclid(1000).checked_mul(1000)?).ok()?;
        let local = self.zone.to_datetime(time);
        let minutes = self.zone.to_offset(time).seconds() / 60;
        let (sign, minutes) = (if minutes < 0 { '-' } else { '+' }, minutes.abs());
        Some(format!("{local}{sign}{:02}:{:02}", minutes / 60, minutes % 60))
    }

    fn minute_of_day(&self, wall_ms: i64) -> Option<u16> {
        let local = wall_ms.checked_add(self.offset_ms(wall_ms)?)?;
        u16::try_from(local.div_euclid(60_000).rem_euclid(i64::from(DAY))).ok()
    }

    fn offset_ms(&self, wall_ms: i64) -> Option<i64> {
        let time = Timestamp::from_millisecond(wall_ms).ok()?;
        Some(i64::from(self.zone.to_offset(time).seconds()) * 1000)
    }
}

impl FromStr for Zone {
    type Err = ZoneError;

    fn from_str(name: &str) -> Result<Zone, ZoneError> {
        let zone = match name {
            "UTC" => Some(TimeZone::UTC),
            _ => match offset(name) {
                Some(offset) => Some(TimeZone::fixed(offset)),
                // Names have a region: this leaves out files of the database that are no zones.
                None if name.contains('/') => TimeZone::get(name).ok(),
                None => None,
            },
        };
        zone.map(|zone| Zone { name: name.to_owned(), zone }).ok_or(ZoneError)
    }
}

fn offset(text: &str) -> Option<Offset> {
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    if !rest.is_ascii() || hours.len() != 2 || minutes.len() != 2 || rest.contains(['+', '-']) {
        return None;
    }
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    (hours <= 14 && minutes < 60).then(|| Offset::from_seconds(sign * (hours * 60 + minutes) * 60).ok())?
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    fn is_on(hours: &str, zone: &str, wall_ms: i64) -> Answer {
        hours.parse::<Hours>().unwrap().include(Some(wall_ms), &zone.parse().unwrap())
    }

    #[test]
    fn hours_end_before_their_last_minute_and_may_pass_midnight() {
        for (hours, minute, answer) in [
            ("06:00-18:00", 6 * 60 - 1, Answer::Off),
            ("06:00-18:00", 6 * 60, Answer::On),
            ("06:00-18:00", 18 * 60 - 1, Answer::On),
            ("06:00-18:00", 18 * 60, Answer::Off),
            ("22:30-04:00", 22 * 60 + 29, Answer::Off),
            ("22:30-04:00", 23 * 60, Answer::On),
            ("22:30-04:00", 0, Answer::On),
            ("22:30-04:00", 4 * 60, Answer::Off),
            ("12:00-24:00", 24 * 60 - 1, Answer::On),
        ] {
            assert_eq!(is_on(hours, "UTC", minute * MINUTE), answer, "{hours} at {minute}");
        }
    }

    #[test]
    fn without_a_time_only_the_whole_day_is_known() {
        let day: Hours = "08:00-20:00".parse().unwrap();
        assert_eq!(day.include(None, &Zone::utc()), Answer::Unknown);
        assert_eq!(day.include(Some(i64::MAX), &Zone::utc()), Answer::Unknown);
        assert_eq!(Hours::ALWAYS.include(None, &Zone::utc()), Answer::On);
    }

    #[test]
    fn hours_are_those_of_the_place() {
        // 2026-11-26 04:30 UTC.
        let wall_ms = 1_795_667_400_000;
        assert_eq!(is_on("10:00-10:01", "+05:30", wall_ms), Answer::On);
        assert_eq!(is_on("01:30-01:31", "-03:00", wall_ms), Answer::On);
        assert_eq!("+05:30".parse::<Zone>().unwrap().day(0), Some(0));
        assert_eq!("-03:00".parse::<Zone>().unwrap().day(0), Some(-1));
    }

    #[test]
    fn a_zone_of_the_database_knows_summer() {
        let Ok(berlin) = "Europe/Berlin".parse::<Zone>() else { return };
        // `date -d @1782302400` and `date -d @1795667400`, TZ=Europe/Berlin: CEST and CET.
        assert_eq!(berlin.offset_ms(1_782_302_400_000), Some(7_200_000));
        assert_eq!(berlin.offset_ms(1_795_667_400_000), Some(3_600_000));
    }

    #[test]
    fn other_texts_are_no_hours_and_no_zones() {
        for text in
            ["", "6:00-18:00", "06:00", "06:00-24:01", "06:60-07:00", "24:00-01:00", "05:00-05:00", "+6:00-+7:00"]
        {
            assert_eq!(text.parse::<Hours>(), Err(HoursError), "{text}");
        }
        for text in ["", "utc", "+2", "+15:00", "+02:60", "+0é:00", "Mars/Phobos", "../etc/passwd", "posixrules"] {
            assert_eq!(text.parse::<Zone>(), Err(ZoneError), "{text}");
        }
        for text in ["06:30-19:00", "22:00-04:00", "00:00-24:00"] {
            assert_eq!(text.parse::<Hours>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_time_is_written_in_its_zone() {
        let zone: Zone = "+05:30".parse().unwrap();
        assert_eq!(zone.written(1_795_000_000_999).as_deref(), Some("2026-11-18T16:36:40+05:30"));
        assert_eq!(Zone::utc().written(0).as_deref(), Some("1970-01-01T00:00:00+00:00"));
        assert_eq!(zone.written(i64::MAX), None);
    }
}
