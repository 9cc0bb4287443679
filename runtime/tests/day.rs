//! A day of a board in a minute, on a real store: frames are accounted for, memory stays flat, no file stays open. Alone
//! in its process, so that all that is held is its own.

#![allow(clippy::unwrap_used, reason = "what helps a test may fail as the test does")]

use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use blip::caption::Caption;
use blip::pixels::Rgb8;
use camera::{Counts, Frame, Image};
use edgeblip::filter::{Describe, DescribeError, Scored, Wanted};
use edgeblip::matcher::Embedding;
use edgeblip::pipeline::{Describer, Dropped, Job, Keep, Manner, Parts, Pipeline};
use field::clock::{Clock, ClockQuality, SimulatedClock};
use field::config::Settings;
use field::pins::Edge;
use field::trigger::Event;
use store::{Entry, Label, Limits, Origin, Pair, PairId, Stamp, Store, StoreError, StoredPair, Trouble};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: u64 = 3600;
const HOURS: u64 = 24;
const FRAMES_A_SECOND: u64 = 5;
const SIDE: usize = 64;
const BOOT: &str = "0123456789abcdef0123456789abcdef";
/// 2026-06-01 00:00 in UTC.
const START_MS: i64 = 1_780_272_000_000;
const BUDGET: u64 = 6 << 20;
/// What an allocator may keep to itself: memory is flat within this.
const SLACK_BYTES: u64 = 4 << 20;

/// A model whose answers follow from the picture's first byte.
struct FakeModel;

impl Describe for FakeModel {
    type Sight = u8;

    fn see(&self, picture: &Rgb8) -> Result<u8, DescribeError> {
        Ok(picture.values()[0])
    }

    fn vector(&self, sight: &u8) -> Result<Option<Embedding>, DescribeError> {
        let angle = f32::from(*sight) / 40.0;
        Ok(Some(Embedding(vec![angle.cos(), angle.sin()])))
    }

    fn describe(&self, sight: &mut u8, wanted: &Wanted<'_>) -> Result<Vec<Scored>, DescribeError> {
        let words = Caption::new(format!("number {sight}")).unwrap();
        let itm = Some(f32::from(*sight % 10) / 10.0);
        let caption = Scored { itm, ..Scored::unjudged(words, Origin::Caption, Some(-1.0)) };
        let raw = wanted.raw.iter().map(|raw| Scored { itm, ..Scored::unjudged(raw.words.clone(), raw.origin, None) });
        Ok([caption].into_iter().chain(raw).collect())
    }

    fn embed(&self, _text: &str) -> Result<Option<Embedding>, DescribeError> {
        Ok(None)
    }

    fn bundle(&self) -> &str {
        "fake"
    }

    fn has_matcher(&self) -> bool {
        true
    }
}

/// A real store on a disk that a test can fill up.
struct Disk {
    store: Store,
    is_full: Rc<Cell<bool>>,
    trouble: Option<Trouble>,
}

impl Disk {
    fn check(&mut self) -> Result<(), StoreError> {
        self.trouble = self.is_full.get().then(|| Trouble::Full { folder: PathBuf::from("pairs") });
        self.trouble.clone().map_or(Ok(()), |trouble| Err(trouble.into()))
    }
}

impl Keep for Disk {
    fn put(&mut self, pair: Pair, now: Duration) -> Result<PairId, StoreError> {
        match &self.trouble {
            Some(trouble) => Err(trouble.clone().into()),
            None => self.store.put(pair, now),
        }
    }

    fn due(&self) -> Option<Duration> {
        self.store.due()
    }

    fn flush(&mut self) -> Result<Vec<PairId>, StoreError> {
        self.check()?;
        self.store.flush()
    }

    fn try_again(&mut self) -> Result<Vec<PairId>, StoreError> {
        self.check()?;
        self.store.try_again()
    }

    fn set_limits(&mut self, limits: Limits) {
        self.store.set_limits(limits);
    }

    fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref().or(self.store.trouble())
    }

    fn mark_synced(&mut self, _receipts: &[store::Receipt]) -> Result<(), StoreError> {
        Ok(())
    }

    fn expire(&mut self, days: u32, now: Stamp) -> Result<u64, StoreError> {
        self.store.expire(days, now)
    }

    fn list(&self, since: Option<PairId>) -> Result<Vec<Entry>, StoreError> {
        Keep::list(&self.store, since)
    }

    fn get(&self, id: PairId) -> Result<StoredPair, StoreError> {
        Keep::get(&self.store, id)
    }

    fn withdraw(&mut self, ids: &[PairId]) -> Result<(), StoreError> {
        self.store.withdraw(ids)
    }

    fn label(&mut self, id: PairId, label: Label) -> Result<(), StoreError> {
        self.store.label(id, label)
    }
}

/// A number that looks like chance and is the same every time.
fn draw(number: u64) -> u64 {
    let mixed = (number ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 33
}

/// A picture of noise, which compresses badly: the store's budget is used up within the day.
fn frame(number: u64, taken: Duration) -> Frame {
    let mut values: Vec<u8> =
        (0..SIDE * SIDE * 3).map(|place| (draw(number ^ (place as u64 * 7919)) >> 3) as u8).collect();
    values[0] = (draw(number) % 250) as u8;
    let mut frame = Frame::new(Image::Rgb(Rgb8::new(SIDE, SIDE, values).unwrap()), "test");
    frame.taken = taken;
    frame
}

/// Bytes of memory, open files, threads.
fn held() -> (u64, usize, usize) {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    let entries = |folder: &str| std::fs::read_dir(folder).unwrap().count();
    (pages * 4096, entries("/proc/self/fd"), entries("/proc/self/task"))
}

struct Board {
    clock: SimulatedClock,
    pipeline: Pipeline<Disk>,
    describer: Describer<FakeModel>,
    /// What a camera holds and counts: its newest frame wins.
    newest: Option<Frame>,
    counts: Counts,
    at_work: Option<(Job, Duration)>,
    /// Simulated time that the model takes.
    slowness: Duration,
}

impl Board {
    fn capture(&mut self, frame: Frame) {
        self.counts.captured += 1;
        self.counts.replaced += u64::from(self.newest.replace(frame).is_some());
    }

    /// What the runner does in one turn, in one simulated second.
    fn turn(&mut self) {
        let now = self.clock.now();
        self.pipeline.turn(&now);
        if let Some((job, _)) = self.at_work.take_if(|(_, ready)| *ready <= now.since_boot) {
            let outcome = self.describer.describe(job);
            self.pipeline.done(outcome, &now);
        }
        if self.at_work.is_none() {
            self.at_work = self.pipeline.next_job().map(|job| (job, now.since_boot + self.slowness));
        }
        if self.pipeline.wants_frame(&now)
            && let Some(frame) = self.newest.take()
        {
            self.counts.delivered += 1;
            self.pipeline.see(frame, &now);
        }
        assert_eq!(self.pipeline.account().in_flight(), self.pipeline.held() as u64);
        self.clock.advance(SECOND);
    }
}

#[test]
fn in_a_day_of_losses_full_disks_and_jumps_every_frame_is_accounted_for_and_nothing_grows() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { budget: BUDGET, file_bytes: 2 << 20, log_bytes: 1 << 20 };
    let (store, _) = Store::open(folder.path(), Caption::new(BOOT).unwrap(), limits).unwrap();
    let is_full = Rc::new(Cell::new(false));
    let disk = Disk { store, is_full: Rc::clone(&is_full), trouble: None };
    let clock = SimulatedClock::new(BOOT.parse().unwrap(), Some(START_MS), ClockQuality::Ntp);
    let settings = Arc::new(Settings::default());
    let camera = Caption::new("fake").unwrap();
    let parts = Parts { settings: Arc::clone(&settings), manner: Manner::Live, camera, store: disk };
    let mut board = Board {
        pipeline: Pipeline::new(parts, &clock.now()),
        clock,
        describer: Describer::new(FakeModel, settings),
        newest: None,
        counts: Counts::default(),
        at_work: None,
        slowness: 3 * SECOND,
    };
    let mut hours = Vec::new();
    let mut most_frames_held = [0; HOURS as usize];
    for second in 0..HOURS * HOUR {
        let hour = second / HOUR;
        // The camera is lost for seven minutes of every third hour.
        let is_lost = hour % 3 == 1 && second % HOUR < 420;
        board.pipeline.camera_is_lost(is_lost);
        for part in 0..if is_lost { 0 } else { FRAMES_A_SECOND } {
            board.capture(frame(second * FRAMES_A_SECOND + part, board.clock.now().since_boot));
        }
        // The disk is full from the sixth to the ninth hour, and in the twentieth for a while.
        is_full.set((6..9).contains(&hour) || hour == 20 && second % HOUR < 100);
        // The clock is unknown, then set, then set back by a year.
        match second {
            36_000 => board.clock.set(None, ClockQuality::Guessed),
            40_000 => board.clock.set(Some(START_MS + 40_000_000), ClockQuality::Ntp),
            60_000 => board.clock.set(Some(START_MS - 31_536_000_000), ClockQuality::Rtc),
            _ => {}
        }
        // The model is much slower than the interval in two hours.
        board.slowness = if (12..14).contains(&hour) { 25 * SECOND } else { 3 * SECOND };
        if draw(second).is_multiple_of(977) {
            let _ = board.pipeline.offer(Event::Pin(Edge::Begins), None, &board.clock.now());
        }
        board.turn();
        let most = &mut most_frames_held[hour as usize];
        *most = board.pipeline.held().max(*most);
        if second % HOUR == HOUR - 1 {
            hours.push(held());
        }
    }
    let Board { pipeline, mut counts, newest, .. } = board;
    counts.captured -= u64::from(newest.is_some());
    let (account, _, disk) = pipeline.seal();
    let safe = account.kept + account.rejected - account.texts_lost;
    let account = account.with(&counts);
    println!("{hours:?}\n{most_frames_held:?}\n{account:?}\n{:?}", disk.store.tally());

    assert!(counts.captured > 400_000 && account.kept > 500 && account.rejected > 500, "{account:?}");
    assert_eq!(counts.captured, account.kept + account.rejected + account.dropped(), "{account:?}");
    for reason in [Dropped::Replaced, Dropped::Busy, Dropped::Duplicate, Dropped::DiskFull] {
        assert!(account.dropped.contains_key(&reason), "{reason:?}: {account:?}");
    }
    // What was acknowledged is there, or was evicted for room, which is counted.
    let stats = disk.store.reader().stats().unwrap();
    let evicted: u64 = disk.store.tally().evicted.values().sum();
    assert!(evicted > 0 && stats.disk_bytes <= BUDGET, "{evicted} evicted, {} bytes", stats.disk_bytes);
    assert_eq!((disk.store.tally().acknowledged, stats.pairs() + evicted), (safe, safe));
    assert!(disk.store.reader().verify().unwrap().faults.is_empty());
    // A group, a few frames in the queue and one at work, whatever happens.
    assert!(most_frames_held[0] <= 12 && most_frames_held.iter().all(|most| *most <= 16), "{most_frames_held:?}");
    let (first, last) = (hours[0], hours[hours.len() - 1]);
    assert!(last.0 <= first.0 + SLACK_BYTES, "memory grew from {} to {} bytes", first.0, last.0);
    assert_eq!((first.1, first.2), (last.1, last.2), "open files and threads");
}
