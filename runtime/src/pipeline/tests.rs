use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;

use blip::pixels::Rgb8;
use camera::{Counts, Image};
use field::clock::{Clock, SimulatedClock};
use field::config::Pins;
use field::hours::Zone;
use field::pins::Edge;
use store::{PairId, StoreError};

use crate::filter::{Describe, DescribeError, Scored, Wanted};
use crate::matcher::Embedding;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: u64 = 3600;
/// 2026-06-01 00:00 in UTC.
const START_MS: i64 = 1_780_272_000_000;

/// A model whose answers follow from the picture's first byte.
struct FakeModel;

impl Describe for FakeModel {
    type Sight = u8;

    fn see(&self, picture: &Rgb8) -> Result<u8, DescribeError> {
        let first = picture.values()[0];
        if first == 255 {
            return Err(DescribeError::Model(crate::model::ModelError::Missing {
                role: blip::config::Role::Captioner,
            }));
        }
        Ok(first)
    }

    fn vector(&self, sight: &u8) -> Result<Option<Embedding>, DescribeError> {
        let angle = f32::from(*sight) / 40.0;
        Ok(Some(Embedding(vec![angle.cos(), angle.sin()])))
    }

    fn describe(&self, sight: &mut u8, wanted: &Wanted<'_>) -> Result<Vec<Scored>, DescribeError> {
        let words = Caption::new(format!("number {sight}")).unwrap();
        let itm = Some(f32::from(*sight % 10) / 10.0);
        let mut texts = vec![Scored { itm, ..Scored::unjudged(words, Origin::Caption, Some(-1.0)) }];
        texts.extend(
            wanted.raw.iter().map(|raw| Scored { itm, ..Scored::unjudged(raw.words.clone(), raw.origin, None) }),
        );
        Ok(texts)
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

/// A store that a test can fill up.
#[derive(Default)]
struct FakeDisk {
    trouble: Option<Trouble>,
    is_full: bool,
    group: Vec<(PairId, Pair)>,
    since: Option<Duration>,
    last: Option<Pair>,
    next: u64,
}

#[derive(Clone, Default)]
struct FakeStore(Rc<RefCell<FakeDisk>>);

impl FakeDisk {
    fn full() -> Trouble {
        Trouble::Full { folder: PathBuf::from("pairs") }
    }
}

impl Keep for FakeStore {
    fn put(&mut self, pair: Pair, now: Duration) -> Result<PairId, StoreError> {
        let mut disk = self.0.borrow_mut();
        if let Some(trouble) = &disk.trouble {
            return Err(trouble.clone().into());
        }
        assert!(disk.group.len() < 8, "a full group is committed first");
        disk.next += 1;
        let id: PairId = format!("1-{}", disk.next).parse().unwrap();
        disk.group.push((id, pair));
        disk.since.get_or_insert(now);
        Ok(id)
    }

    fn due(&self) -> Option<Duration> {
        let disk = self.0.borrow();
        disk.since.map(|since| if disk.group.len() == 8 { since } else { since + 2 * SECOND })
    }

    fn flush(&mut self) -> Result<Vec<PairId>, StoreError> {
        let mut disk = self.0.borrow_mut();
        if disk.is_full {
            disk.trouble = Some(FakeDisk::full());
            return Err(FakeDisk::full().into());
        }
        disk.since = None;
        let group = std::mem::take(&mut disk.group);
        let names = group.iter().map(|(id, _)| *id).collect();
        disk.last = group.into_iter().next_back().map(|(_, pair)| pair).or(disk.last.take());
        Ok(names)
    }

    fn try_again(&mut self) -> Result<Vec<PairId>, StoreError> {
        if !self.0.borrow().is_full {
            self.0.borrow_mut().trouble = None;
        }
        self.flush()
    }

    fn set_limits(&mut self, _limits: Limits) {}

    fn trouble(&self) -> Option<&Trouble> {
        // The trouble is always the same one.
        static FULL: std::sync::OnceLock<Trouble> = std::sync::OnceLock::new();
        self.0.borrow().trouble.as_ref().map(|_| FULL.get_or_init(FakeDisk::full))
    }

    fn mark_synced(&mut self, _receipts: &[store::Receipt]) -> Result<(), StoreError> {
        Ok(())
    }

    fn expire(&mut self, _days: u32, _now: Stamp) -> Result<u64, StoreError> {
        Ok(0)
    }

    fn list(&self, _since: Option<PairId>) -> Result<Vec<store::Entry>, StoreError> {
        Ok(Vec::new())
    }

    fn get(&self, id: PairId) -> Result<store::StoredPair, StoreError> {
        Err(StoreError::NotThere { id })
    }

    fn label(&mut self, id: PairId, _label: Label) -> Result<(), StoreError> {
        Err(StoreError::NotThere { id })
    }

    fn withdraw(&mut self, _ids: &[PairId]) -> Result<(), StoreError> {
        Ok(())
    }
}

/// A camera whose newest frame wins.
#[derive(Default)]
struct FakeCamera {
    counts: Counts,
    waiting: Option<Frame>,
}

fn frame(value: u8, taken: Duration) -> Frame {
    let mut frame = Frame::new(Image::Rgb(Rgb8::new(8, 8, vec![value; 8 * 8 * 3]).unwrap()), "test");
    frame.taken = taken;
    frame
}

impl FakeCamera {
    fn capture(&mut self, frame: Frame) {
        self.counts.captured += 1;
        self.counts.replaced += u64::from(self.waiting.replace(frame).is_some());
    }
}

struct Board {
    clock: SimulatedClock,
    pipeline: Pipeline<FakeStore>,
    disk: FakeStore,
    describer: Describer<FakeModel>,
    camera: FakeCamera,
    at_work: Option<(Job, Duration)>,
    /// Simulated time that the model takes.
    slowness: Duration,
}

impl Board {
    fn new(settings: Settings, manner: Manner) -> Board {
        let boot = "0123456789abcdef0123456789abcdef".parse().unwrap();
        let clock = SimulatedClock::new(boot, Some(START_MS), ClockQuality::Ntp);
        let (settings, disk) = (Arc::new(settings), FakeStore::default());
        let camera = Caption::new("fake").unwrap();
        let parts = Parts { settings: Arc::clone(&settings), manner, camera, store: disk.clone() };
        Board {
            pipeline: Pipeline::new(parts, &clock.now()),
            clock,
            disk,
            describer: Describer::new(FakeModel, settings),
            camera: FakeCamera::default(),
            at_work: None,
            slowness: 3 * SECOND,
        }
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
            && let Some(frame) = self.camera.waiting.take()
        {
            self.camera.counts.delivered += 1;
            self.pipeline.see(frame, &now);
        }
        assert_eq!(self.pipeline.account().in_flight(), self.pipeline.held() as u64);
        self.clock.advance(SECOND);
    }

    /// Stops, and checks that every frame is accounted for.
    fn stop(self) -> (Account, Counts) {
        let Board { pipeline, mut camera, .. } = self;
        camera.counts.captured -= u64::from(camera.waiting.take().is_some());
        let (account, ..) = pipeline.seal();
        let account = account.with(&camera.counts);
        assert_eq!(camera.counts.captured, account.kept + account.rejected + account.dropped(), "{account:?}");
        (account, camera.counts)
    }
}

fn settings() -> Settings {
    Settings::default()
}

/// A number that looks like chance and is the same every time.
fn draw(number: u64) -> u64 {
    let mixed = (number ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 33
}

#[test]
fn captions_go_on_while_the_disk_is_full_and_the_pairs_that_waited_are_kept_later() {
    let mut board = Board::new(settings(), Manner::Live);
    board.disk.0.borrow_mut().is_full = true;
    for second in 0..120 {
        board.camera.capture(frame((second * 67 % 250) as u8 / 10 * 10 + 9, board.clock.now().since_boot));
        board.turn();
    }
    assert_eq!(board.pipeline.status(), Status::Full);
    let (kept, waiting) = (board.pipeline.account().kept, board.pipeline.keeper.waiting());
    assert_eq!(kept, 0);
    assert!(waiting > 0 && board.pipeline.account().dropped[&Dropped::DiskFull] > 3);
    board.disk.0.borrow_mut().is_full = false;
    for _ in 0..11 {
        board.turn();
    }
    assert!(board.pipeline.account().kept >= waiting as u64);
    assert!(board.pipeline.trouble().is_none());
    board.stop();
}

#[test]
fn a_picture_of_a_folder_waits_until_the_disk_takes_it() {
    let mut board = Board::new(settings(), Manner::Each);
    board.disk.0.borrow_mut().trouble = Some(FakeDisk::full());
    board.disk.0.borrow_mut().is_full = true;
    board.camera.capture(frame(9, Duration::ZERO));
    for _ in 0..30 {
        board.turn();
    }
    assert_eq!(board.pipeline.account().delivered, 0);
    board.disk.0.borrow_mut().is_full = false;
    for _ in 0..30 {
        board.turn();
    }
    assert_eq!(board.pipeline.account().kept, 1);
    board.stop();
}

#[test]
fn frames_from_before_an_event_are_taken_with_it() {
    let mut settings = settings();
    settings.triggers.every_s = None;
    settings.triggers.before = 2;
    settings.triggers.duplicate_cosine = None;
    let mut board = Board::new(settings, Manner::Live);
    for value in 0..6 {
        board.camera.capture(frame(value * 10 + 9, board.clock.now().since_boot));
        board.turn();
    }
    board.pipeline.offer(Event::Pin(Edge::Begins), None, &board.clock.now()).unwrap();
    for value in 6..9 {
        board.camera.capture(frame(value * 10 + 9, board.clock.now().since_boot));
        board.turn();
    }
    for _ in 0..20 {
        board.turn();
    }
    assert_eq!(board.pipeline.account().kept, 3);
    let disk = board.disk.clone();
    let disk = disk.0.borrow();
    let pair = disk.last.as_ref().unwrap();
    assert_eq!(pair.sensor.trigger.as_str(), "pin");
    assert!(pair.texts.iter().any(|text| text.origin == Origin::Tag && text.words.as_str() == "pin"));
    drop(disk);
    board.stop();
}

#[test]
fn motion_takes_the_frame_that_shows_it() {
    let mut settings = settings();
    settings.triggers.every_s = None;
    settings.triggers.motion = true;
    let mut board = Board::new(settings, Manner::Live);
    let scene = |has_visitor: bool, taken| {
        let pixel = |index: usize| {
            let (x, y) = (index % 64, index / 64);
            if has_visitor && (10..30).contains(&x) && (10..40).contains(&y) { 240 } else { 49 }
        };
        let values = (0..64 * 64).flat_map(|index| [pixel(index); 3]).collect();
        let mut frame = Frame::new(Image::Rgb(Rgb8::new(64, 64, values).unwrap()), "test");
        frame.taken = taken;
        frame
    };
    for second in 0..30 {
        board.camera.capture(scene(second == 20, board.clock.now().since_boot));
        board.turn();
    }
    assert_eq!(board.pipeline.taken, 1);
    let (account, _) = board.stop();
    assert_eq!((account.kept, account.dropped[&Dropped::NotWanted]), (1, 29));
}

#[test]
fn what_somebody_says_with_a_command_is_kept_whatever_the_filter_says() {
    let mut settings = settings();
    settings.triggers.every_s = None;
    settings.place.name = "the pond".to_owned();
    settings.place.zone = Zone::utc();
    let mut board = Board::new(settings, Manner::Live);
    let note = Caption::new("a heron at last").unwrap();
    board.pipeline.offer(Event::Command, Some(note), &board.clock.now()).unwrap();
    // The fake model gives every text of this frame an ITM of zero.
    board.camera.capture(frame(10, board.clock.now().since_boot));
    for _ in 0..10 {
        board.turn();
    }
    assert_eq!(board.pipeline.account().kept, 1);
    let disk = board.disk.clone();
    let disk = disk.0.borrow();
    let origins: Vec<Origin> = disk.last.as_ref().unwrap().texts.iter().map(|text| text.origin).collect();
    assert_eq!(origins, [Origin::Caption, Origin::Human, Origin::Place]);
}

#[test]
fn a_lamp_is_lit_for_a_frame_and_goes_out() {
    let mut settings = settings();
    settings.pins = Pins { lamp: Some(17), ..Pins::default() };
    let mut board = Board::new(settings, Manner::Live);
    let mut lit = 0;
    for _ in 0..60 {
        board.camera.capture(frame(9, board.clock.now().since_boot));
        board.turn();
        lit += u32::from(board.pipeline.lamp(&board.clock.now()) == Light::On);
    }
    assert!((1..=12).contains(&lit), "{lit}");
}

#[test]
fn a_model_that_always_stops_ends_the_program_and_one_that_sometimes_does_goes_on() {
    let mut board = Board::new(settings(), Manner::Each);
    for _ in 0..200 {
        if board.camera.waiting.is_none() {
            board.camera.capture(frame(255, Duration::ZERO));
        }
        board.turn();
    }
    let reason = board.pipeline.given_up().unwrap().to_string();
    assert!(reason.contains("10 frames"), "{reason}");
    let mut board = Board::new(settings(), Manner::Each);
    for _ in 0..200 {
        if board.camera.waiting.is_none() {
            let value = if board.camera.counts.captured.is_multiple_of(2) { 255 } else { 9 };
            board.camera.capture(frame(value, Duration::ZERO));
        }
        board.turn();
    }
    assert!(board.pipeline.given_up().is_none());
    board.stop();
}

#[test]
fn heat_makes_frames_rarer() {
    let taken = |celsius| {
        let mut board = Board::new(settings(), Manner::Live);
        board.pipeline.feel(Reading { celsius: Some(celsius), ..Reading::default() });
        for second in 0..600_u64 {
            board.camera.capture(frame((draw(second) % 250) as u8, board.clock.now().since_boot));
            board.turn();
        }
        board.pipeline.taken
    };
    assert_eq!((taken(40.0), taken(90.0)), (60, 6));
}

#[test]
fn frames_of_the_night_wait_in_the_store_and_are_captioned_by_day() {
    let folder = tempfile::tempdir().unwrap();
    let boot = Caption::new("0123456789abcdef0123456789abcdef").unwrap();
    let (store, _) = store::Store::open(folder.path(), boot, store::Limits::default()).unwrap();
    let mut settings = settings();
    settings.captions.hours = "06:00-18:00".parse().unwrap();
    settings.place.name = "the pond".to_owned();
    settings.triggers.duplicate_cosine = None;
    let settings = Arc::new(settings);
    let id = "0123456789abcdef0123456789abcdef".parse().unwrap();
    let clock = SimulatedClock::new(id, Some(START_MS), ClockQuality::Ntp);
    let camera = Caption::new("fake").unwrap();
    let parts = Parts { settings: Arc::clone(&settings), manner: Manner::Live, camera, store };
    let mut pipeline = Pipeline::new(parts, &clock.now());
    let mut describer = Describer::new(FakeModel, settings);
    // Three frames between midnight and six, of which one is nothing that the filter keeps.
    for value in [9, 10, 19] {
        clock.advance(20 * SECOND);
        pipeline.turn(&clock.now());
        pipeline.see(frame(value, clock.now().since_boot), &clock.now());
        assert!(pipeline.next_job().is_none() && pipeline.later_job(&clock.now()).is_none());
    }
    clock.advance(3 * SECOND);
    pipeline.turn(&clock.now());
    assert_eq!((pipeline.account().kept, pipeline.account().later), (3, 0));
    clock.advance(Duration::from_secs(7 * HOUR));
    while let Some(job) = pipeline.later_job(&clock.now()) {
        assert_eq!(job.sensor.trigger.as_str(), "interval");
        let outcome = describer.describe(job);
        pipeline.done(outcome, &clock.now());
        clock.advance(3 * SECOND);
        pipeline.turn(&clock.now());
    }
    assert_eq!((pipeline.account().kept, pipeline.account().later), (3, 3));
    let (_, _, store) = pipeline.seal();
    let left = store.reader().list(store::Filter::default()).unwrap();
    let facts = left.iter().map(|entry| entry.facts.as_ref().unwrap());
    let left_of = facts.map(|facts| (facts.texts[0].words.as_str(), facts.has_picture()));
    assert_eq!(left_of.collect::<Vec<_>>(), [("number 9", true), ("number 10", false), ("number 19", true)]);
    let first = left[0].facts.as_ref().unwrap();
    assert!(first.taken.wall_ms.unwrap() < START_MS + 30_000 && first.bundle.is_some());
}

#[test]
fn a_days_budget_outlives_the_program_and_texts_of_what_is_beyond_it_are_kept_alone() {
    let folder = tempfile::tempdir().unwrap();
    let boot = "0123456789abcdef0123456789abcdef";
    let (store, _) = store::Store::open(folder.path(), Caption::new(boot).unwrap(), Limits::default()).unwrap();
    let reader = store.reader();
    let mut settings = settings();
    settings.filter.per_day = Some(2);
    settings.filter.audit = 0.0;
    settings.triggers.duplicate_cosine = None;
    let settings = Arc::new(settings);
    let clock = SimulatedClock::new(boot.parse().unwrap(), Some(START_MS + 1000), ClockQuality::Ntp);
    let camera = Caption::new("fake").unwrap();
    let parts = Parts { settings: Arc::clone(&settings), manner: Manner::Live, camera, store };
    let mut pipeline = Pipeline::new(parts, &clock.now());
    let count = |now: &Moment| {
        let list = |since| reader.list(store::Filter { since, limit: 2, ..store::Filter::default() });
        today::count(list, &settings, now).unwrap()
    };
    // The program starts anew before each frame.
    for (value, kept_before) in [(9, 0), (19, 1), (29, 2), (39, 2)] {
        let today = count(&clock.now());
        assert_eq!(today.kept, kept_before);
        let mut describer = Describer::new(FakeModel, Arc::clone(&settings));
        describer.resume(today);
        pipeline.turn(&clock.now());
        pipeline.see(frame(value, clock.now().since_boot), &clock.now());
        let outcome = describer.describe(pipeline.next_job().unwrap());
        pipeline.done(outcome, &clock.now());
        clock.advance(20 * SECOND);
        pipeline.turn(&clock.now());
    }
    assert_eq!((pipeline.account().kept, pipeline.account().rejected), (2, 2));
    clock.advance(Duration::from_secs(24 * HOUR));
    assert_eq!(count(&clock.now()).kept, 0);
    let all = reader.list(store::Filter::default()).unwrap();
    let pictures: Vec<bool> = all.iter().map(|entry| entry.facts.as_ref().unwrap().has_picture()).collect();
    assert_eq!(pictures, [true, true, false, false]);
    let alone = all[3].facts.as_ref().unwrap();
    let day = store::Decision::Rejected(Caption::new("day").unwrap());
    assert_eq!((alone.texts[0].words.as_str(), &alone.texts[0].decision), ("number 39", &day));
}
