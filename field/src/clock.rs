//! What time it is, and how far that can be trusted.
//!
//! A board's wall clock may be wrong by decades until a network sets it. Order is (boot, time since boot); wall time is
//! data, with its quality beside it.

mod kernel;
mod jumps;
mod simulated;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use kernel::Steering;

pub use jumps::{Jump, Jumps};
pub use simulated::SimulatedClock;

/// How long a time from GPS holds without another, by the crystal alone: at 50 ppm it is off by 0.2 s then.
const GPS_HOLDS: Duration = Duration::from_secs(3600);
/// How far the real-time clock may be from the system's and still be what set it. They drift apart by seconds a day.
const RTC_APART_S: u64 = 600;
/// No picture is taken before: 2024-01-01, in milliseconds since 1970. A clock that says otherwise was never set.
const EARLIEST_MS: i64 = 1_704_067_200_000;
/// How old an answer about the wall clock's quality may be.
const QUALITY_HOLDS: Duration = Duration::from_secs(10);

/// One start of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BootId(u128);

/// What is no boot id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a boot id is 32 hexadecimal digits, as in /proc/sys/kernel/random/boot_id")]
pub struct BootIdError;

impl std::str::FromStr for BootId {
    type Err = BootIdError;

    fn from_str(text: &str) -> Result<BootId, BootIdError> {
        let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
        let is_id = digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        let number = if is_id { u128::from_str_radix(&digits, 16).ok() } else { None };
        number.map(BootId).ok_or(BootIdError)
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A wall time as people read it, in UTC by RFC 3339; nothing for one that no calendar has.
pub fn written(wall_ms: i64) -> Option<String> {
    jiff::Timestamp::from_millisecond(wall_ms).ok().map(|time| time.to_string())
}

/// What the wall time is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockQuality {
    /// A time server: right within a second.
    Ntp,
    /// A real-time clock with a battery: right within minutes.
    Rtc,
    /// A GPS receiver: right within a second.
    Gps,
    /// Nothing: the board guesses, by what it last knew.
    Guessed,
}

impl ClockQuality {
    /// Its name in the store and in logs.
    pub fn name(self) -> &'static str {
        match self {
            ClockQuality::Ntp => "ntp",
            ClockQuality::Rtc => "rtc",
            ClockQuality::Gps => "gps",
            ClockQuality::Guessed => "guessed",
        }
    }
}

/// A point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The kernel's start that it is counted from.
    pub boot: BootId,
    /// Time since then, asleep or awake. It never goes back.
    pub since_boot: Duration,
    /// Milliseconds since 1970 in UTC; `None` where the clock shows a time before this program was written.
    pub wall_ms: Option<i64>,
    /// What the wall time is from.
    pub quality: ClockQuality,
}

impl Moment {
    /// The wall time, if it is more than a guess: for hours of the day, which a guess may be off by any number of.
    pub fn known_ms(&self) -> Option<i64> {
        self.wall_ms.filter(|_| self.quality != ClockQuality::Guessed)
    }
}

/// Who knows the time.
pub trait Clock: Send + Sync {
    /// What time it is.
    fn now(&self) -> Moment;
}

/// A clock that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ClockError {
    /// The kernel's id of this boot cannot be read.
    #[error("{}: {reason}; is /proc there?", path.display())]
    Boot {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// The board's clock.
pub struct SystemClock {
    boot: BootId,
    root: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// When the quality of the system's clock was asked for, and the answer.
    quality: Option<(Duration, ClockQuality)>,
    /// A time from GPS, and when it was.
    gps: Option<(Duration, i64)>,
}

impl SystemClock {
    /// The clock of this machine.
    ///
    /// # Errors
    /// A kernel that does not tell its boot id.
    pub fn new() -> Result<SystemClock, ClockError> {
        SystemClock::in_root(Path::new("/"))
    }

    fn in_root(root: &Path) -> Result<SystemClock, ClockError> {
        let path = root.join("proc/sys/kernel/random/boot_id");
        let text = std::fs::read_to_string(&path).map_err(|error| error.to_string());
        let boot = text.and_then(|text| text.parse().map_err(|error: BootIdError| error.to_string()));
        let boot = boot.map_err(|reason| ClockError::Boot { path, reason })?;
        Ok(SystemClock { boot, root: root.to_owned(), state: Mutex::default() })
    }

    /// Takes over a time that a GPS receiver told at `since_boot`.
    pub fn set_gps(&self, since_boot: Duration, wall_ms: i64) {
        if wall_ms >= EARLIEST_MS {
            self.state.lock().unwrap_or_else(PoisonError::into_inner).gps = Some((since_boot, wall_ms));
        }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        let since_boot = since_boot();
        let wall_ms = wall_ms();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let held = state.quality.filter(|(asked, _)| since_boot.saturating_sub(*asked) < QUALITY_HOLDS);
        let quality = held.map_or_else(|| quality_in(&self.root, wall_ms, kernel::steering()), |(_, held)| held);
        if held.is_none() {
            state.quality = Some((since_boot, quality));
        }
        let (wall_ms, quality) = trusted(since_boot, wall_ms, quality, state.gps);
        Moment { boot: self.boot, since_boot, wall_ms, quality }
    }
}

/// The better of the system's time and that of GPS.
fn trusted(
    since_boot: Duration,
    wall_ms: i64,
    quality: ClockQuality,
    gps: Option<(Duration, i64)>,
) -> (Option<i64>, ClockQuality) {
    if quality != ClockQuality::Ntp
        && let Some((told, gps_ms)) = gps
        && let Some(age) = since_boot.checked_sub(told)
        && age <= GPS_HOLDS
    {
        let age_ms = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        return (Some(gps_ms.saturating_add(age_ms)), ClockQuality::Gps);
    }
    if wall_ms < EARLIEST_MS { (None, ClockQuality::Guessed) } else { (Some(wall_ms), quality) }
}

/// What the system's wall clock is from.
///
/// Sources: `systemd-timesyncd.service(8)` for the file, which outlasts the loss of the network as the kernel's flag does
/// not; Linux `Documentation/ABI/testing/sysfs-class-rtc` for `hctosys` (this clock set the system's) and `since_epoch`.
fn quality_in(root: &Path, wall_ms: i64, steering: Steering) -> ClockQuality {
    if wall_ms < EARLIEST_MS {
        return ClockQuality::Guessed;
    }
    if steering == Steering::Synchronized || root.join("run/systemd/timesync/synchronized").exists() {
        return ClockQuality::Ntp;
    }
    let number = |path: PathBuf| std::fs::read_to_string(path).ok()?.trim().parse::<i64>().ok();
    let clocks = std::fs::read_dir(root.join("sys/class/rtc")).into_iter().flatten().flatten();
    // systemd moves a clock that is far behind to its last known time: then the two are apart.
    let set_the_system = clocks.map(|clock| clock.path()).any(|clock| {
        let agrees = |rtc_s: i64| (wall_ms.div_euclid(1000)).abs_diff(rtc_s) <= RTC_APART_S;
        number(clock.join("hctosys")) == Some(1) && number(clock.join("since_epoch")).is_some_and(agrees)
    });
    if set_the_system { ClockQuality::Rtc } else { ClockQuality::Guessed }
}

/// Time since the kernel started, asleep or awake.
fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// What the wall clock shows, in milliseconds since 1970.
fn wall_ms() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |before| -before),
    }
}

/// Numbers of what is kept, in the order of this boot.
#[derive(Debug)]
pub struct Sequence(AtomicU64);

impl Sequence {
    /// Numbers after `last`, the highest that the store has of this boot.
    pub fn after(last: Option<u64>) -> Sequence {
        Sequence(AtomicU64::new(last.map_or(0, |last| last.saturating_add(1))))
    }

    /// The next number. No number comes twice.
    pub fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests;
