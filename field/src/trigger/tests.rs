use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// 2026-11-26 04:30 UTC.
const NIGHT_MS: i64 = 1_795_667_400_000;

fn settings() -> config::Triggers {
    config::Triggers { every_s: None, least_gap_s: 0.0, motion: true, ..config::Triggers::default() }
}

fn triggers(settings: &config::Triggers) -> Triggers {
    Triggers::new(settings, &Zone::utc(), Duration::ZERO)
}

fn shots(triggers: &mut Triggers, now: Duration) -> Vec<Shot> {
    std::iter::from_fn(|| triggers.due(now, None)).collect()
}

#[test]
fn intervals_do_not_drift_however_late_one_looks() {
    let mut triggers = triggers(&config::Triggers { every_s: Some(10.0), ..settings() });
    let mut taken = Vec::new();
    // Whoever looks comes later and later, and is told when the next one is.
    for late in [0, 3, 900, 2000, 9999, 1] {
        let now = triggers.next_due().unwrap() + late * MS;
        taken.extend(shots(&mut triggers, now).iter().map(|_| now.as_millis()));
    }
    assert_eq!(taken, [0, 10_003, 20_900, 32_000, 49_999, 50_001]);
    assert_eq!(triggers.counts().missed, 0);
    assert_eq!(triggers.next_due(), Some(60 * SECOND));
}

#[test]
fn intervals_that_nobody_looked_at_are_counted_and_not_made_up_for() {
    let mut triggers = triggers(&config::Triggers { every_s: Some(10.0), ..settings() });
    assert_eq!(shots(&mut triggers, Duration::ZERO).len(), 1);
    assert_eq!(shots(&mut triggers, 47 * SECOND).len(), 1);
    assert_eq!(triggers.counts().missed, 3);
    assert_eq!(shots(&mut triggers, 49 * SECOND).len(), 0);
    assert_eq!(shots(&mut triggers, 50 * SECOND).len(), 1);
}

#[test]
fn heat_makes_intervals_longer_from_the_last_one_on() {
    let mut triggers = triggers(&config::Triggers { every_s: Some(10.0), ..settings() });
    shots(&mut triggers, Duration::ZERO);
    triggers.set_stretch(3.0);
    assert_eq!(triggers.next_due(), Some(30 * SECOND));
    assert_eq!(shots(&mut triggers, 29 * SECOND).len(), 0);
    assert_eq!(shots(&mut triggers, 31 * SECOND).len(), 1);
    triggers.set_stretch(0.0);
    assert_eq!(triggers.next_due(), Some(40 * SECOND));
}

#[test]
fn an_interval_that_is_set_later_begins_then() {
    let mut triggers = triggers(&settings());
    assert_eq!(triggers.next_due(), None);
    assert_eq!(shots(&mut triggers, 1000 * SECOND).len(), 0);
    triggers.set(&config::Triggers { every_s: Some(10.0), ..settings() }, &Zone::utc());
    assert_eq!(shots(&mut triggers, 1000 * SECOND).len(), 1);
    assert_eq!(triggers.next_due(), Some(1010 * SECOND));
    assert_eq!(triggers.counts().missed, 0);
}

#[test]
fn a_button_that_bounces_is_pressed_once() {
    let mut triggers = triggers(&settings());
    // Pressed at 100 ms and let go at 400, each with bounces.
    let edges =
        [(100, true), (103, false), (105, true), (140, false), (141, true), (400, false), (402, true), (404, false)];
    let taken: Vec<u64> = edges
        .into_iter()
        .filter(|(at, begins)| {
            let edge = if *begins { Edge::Begins } else { Edge::Ends };
            triggers.offer(Event::Pin(edge), *at * MS, None).is_ok()
        })
        .map(|(at, _)| u64::from(at))
        .collect();
    assert_eq!(taken, [100]);
    assert_eq!(triggers.offer(Event::Pin(Edge::Begins), 454 * MS, None), Ok(1));
    assert_eq!(triggers.counts().refused(Refusal::Same), 7);
}

#[test]
fn motion_that_goes_on_is_one_event() {
    let mut triggers = triggers(&config::Triggers { motion_quiet_s: 5.0, ..settings() });
    let taken: Vec<u32> = (0..20)
        .chain([24, 26, 40])
        .filter(|second| triggers.offer(Event::Motion, *second * SECOND, None).is_ok())
        .collect();
    assert_eq!(taken, [0, 24, 40]);
    triggers.set(&config::Triggers { motion: false, ..settings() }, &Zone::utc());
    assert_eq!(triggers.offer(Event::Motion, 100 * SECOND, None), Err(Refusal::Off));
}

#[test]
fn a_burst_is_spread_over_time() {
    let mut triggers = triggers(&config::Triggers { burst: 3, burst_gap_ms: 250, ..settings() });
    assert_eq!(triggers.offer(Event::Command, SECOND, None), Ok(0));
    let mut taken = Vec::new();
    while let Some(now) = triggers.next_due() {
        taken.extend(shots(&mut triggers, now).into_iter().map(|shot| (now.as_millis(), shot.place)));
    }
    assert_eq!(taken, [(1000, 0), (1250, 1), (1500, 2)]);
}

#[test]
fn outside_of_the_hours_only_a_command_takes_a_frame() {
    let settings = config::Triggers { hours: "06:00-20:00".parse().unwrap(), every_s: Some(10.0), ..settings() };
    let mut triggers = triggers(&settings);
    assert_eq!(triggers.due(Duration::ZERO, Some(NIGHT_MS)), None);
    assert_eq!(triggers.offer(Event::Motion, SECOND, Some(NIGHT_MS)), Err(Refusal::Hours));
    assert_eq!(triggers.offer(Event::Command, SECOND, Some(NIGHT_MS)), Ok(0));
    assert_eq!(triggers.counts().refused(Refusal::Hours), 2);
    // A board that does not know the time takes frames.
    assert_eq!(triggers.offer(Event::Motion, 10 * SECOND, None), Ok(1));
}

#[test]
fn what_comes_too_soon_is_put_off_once() {
    let mut triggers = triggers(&config::Triggers { least_gap_s: 2.0, every_s: Some(60.0), ..settings() });
    let press = Event::Pin(Edge::Begins);
    assert_eq!(shots(&mut triggers, Duration::ZERO).len(), 1);
    assert_eq!(triggers.offer(press, 500 * MS, None), Ok(1));
    assert_eq!(triggers.offer(press, 900 * MS, None), Err(Refusal::Gap));
    assert_eq!(triggers.offer(Event::Motion, 950 * MS, None), Err(Refusal::Gap));
    assert_eq!(triggers.offer(Event::Command, SECOND, None), Ok(2));
    let taken: Vec<_> = shots(&mut triggers, SECOND).iter().map(|shot| shot.cause).collect();
    assert_eq!(taken, [Cause::Command]);
    assert_eq!(triggers.next_due(), Some(2 * SECOND));
    assert_eq!(shots(&mut triggers, 2 * SECOND).len(), 1);
    // The next press waits for the gap after that.
    assert_eq!(triggers.offer(press, 3 * SECOND, None), Ok(3));
    assert_eq!(triggers.next_due(), Some(4 * SECOND));
}

#[test]
fn an_interval_in_the_gap_is_left_out() {
    let mut triggers = triggers(&config::Triggers { least_gap_s: 2.0, every_s: Some(10.0), ..settings() });
    shots(&mut triggers, Duration::ZERO);
    triggers.offer(Event::Command, 9 * SECOND, None).unwrap();
    assert_eq!(shots(&mut triggers, 10 * SECOND).len(), 1);
    assert_eq!(triggers.counts().refused(Refusal::Gap), 1);
    assert_eq!(triggers.next_due(), Some(20 * SECOND));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Offer(Event),
    Look,
}

fn steps() -> impl Strategy<Value = Vec<(u32, Step)>> {
    let step = prop_oneof![
        Just(Step::Offer(Event::Motion)),
        Just(Step::Offer(Event::Pin(Edge::Begins))),
        Just(Step::Offer(Event::Pin(Edge::Ends))),
        Just(Step::Offer(Event::Command)),
        Just(Step::Look),
    ];
    prop::collection::vec((0_u32..3000, step), 0..300)
}

fn any_settings() -> impl Strategy<Value = config::Triggers> {
    let every = prop_oneof![Just(None), (0.1..20.0_f64).prop_map(Some)];
    (every, 0.0..5.0_f64, 1_u16..6, 0_u32..1000, 0.0..5.0_f64).prop_map(|(every_s, gap, burst, burst_gap_ms, quiet)| {
        config::Triggers { every_s, least_gap_s: gap, burst, burst_gap_ms, motion_quiet_s: quiet, ..settings() }
    })
}

proptest! {
    #[test]
    fn no_event_is_lost_or_doubled(settings in any_settings(), steps in steps()) {
        let mut triggers = triggers(&settings);
        let (mut now, mut offered, mut accepted, mut taken) = (Duration::ZERO, 0_u64, Vec::new(), Vec::new());
        for (wait, step) in steps {
            now += wait * MS;
            match step {
                Step::Offer(event) => {
                    offered += 1;
                    accepted.extend(triggers.offer(event, now, None));
                }
                Step::Look => taken.extend(shots(&mut triggers, now)),
            }
            prop_assert!(triggers.waiting.len() <= MAX_WAITING);
        }
        // No more intervals; what waits is taken.
        triggers.set(&config::Triggers { every_s: None, ..settings.clone() }, &Zone::utc());
        while let Some(due) = triggers.next_due() {
            now = now.max(due);
            taken.extend(shots(&mut triggers, now));
        }
        let counts = triggers.counts();
        let refused: u64 = Refusal::ALL.into_iter().map(|refusal| counts.refused(refusal)).sum();
        let by_cause = Cause::ALL.map(|cause| counts.accepted(cause));
        // Intervals are the only events that nobody offers.
        let intervals = by_cause[0];
        prop_assert_eq!(by_cause.iter().sum::<u64>() - intervals, accepted.len() as u64);
        prop_assert!(offered >= accepted.len() as u64 && offered <= accepted.len() as u64 + refused);
        prop_assert_eq!(counts.shots, taken.len() as u64);
        prop_assert_eq!(taken.len() as u64, by_cause.iter().sum::<u64>() * u64::from(settings.burst));
        // Of each event, every frame of its burst once and in order.
        for event in 0..by_cause.iter().sum::<u64>() {
            let of_event: Vec<u16> = taken.iter().filter(|shot| shot.event == event).map(|shot| shot.place).collect();
            prop_assert_eq!(of_event, (0..settings.burst).collect::<Vec<u16>>());
        }
    }

    #[test]
    fn rates_are_bounded(settings in any_settings(), steps in steps()) {
        let mut triggers = triggers(&settings);
        let (mut now, mut taken, mut intervals) = (Duration::ZERO, Vec::new(), 0);
        for (wait, step) in steps {
            now += wait * MS;
            if let Step::Offer(event) = step {
                let _ = triggers.offer(event, now, None);
            }
            taken.extend(shots(&mut triggers, now));
            intervals = triggers.counts().accepted(Cause::Interval);
        }
        let by_themselves = taken.iter().filter(|shot| shot.place == 0 && !shot.cause.is_asked_for());
        let due: Vec<Duration> = by_themselves.map(|shot| shot.due).collect();
        let least = Duration::from_secs_f64(settings.least_gap_s);
        prop_assert!(due.windows(2).all(|pair| pair[1] - pair[0] >= least), "{:?}", due);
        // Never more than one interval for each that fits into the time, and the first.
        let most = settings.every_s.map_or(0.0, |every| now.as_secs_f64() / every + 1.0 + 1e-6);
        prop_assert!(intervals as f64 <= most, "{intervals} > {most}");
    }

    #[test]
    fn intervals_are_all_there_when_one_looks_often(every_ms in 100_u32..5000) {
        let mut triggers = triggers(&config::Triggers { every_s: Some(f64::from(every_ms) / 1000.0), ..settings() });
        let taken: usize = (0..=6000).map(|ms| shots(&mut triggers, ms * MS).len()).sum();
        prop_assert_eq!(taken as u32, 6000 / every_ms + 1);
        prop_assert_eq!(triggers.counts().missed, 0);
    }
}
