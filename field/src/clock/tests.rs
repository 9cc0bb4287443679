use std::fs;

use super::*;

const DAY_MS: i64 = 86_400_000;
const NOW_MS: i64 = 1_795_667_400_000;

fn boot(number: u128) -> BootId {
    BootId(number)
}

#[test]
fn this_machine_tells_its_boot_and_its_time() {
    let clock = SystemClock::new().unwrap();
    let (first, second) = (clock.now(), clock.now());
    assert_eq!(first.boot, second.boot);
    assert!(second.since_boot >= first.since_boot);
    let uptime = fs::read_to_string("/proc/uptime").unwrap();
    let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
    assert!((uptime - second.since_boot.as_secs_f64()).abs() < 2.0, "{uptime} {:?}", second.since_boot);
    let kernel = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert_eq!(first.boot.to_string(), kernel.trim().replace('-', ""));
}

#[test]
fn the_kernel_says_the_same_of_its_clock_as_to_timedatectl() {
    // `timedatectl` reads the same flag, where it is there and has a bus to ask on.
    let answer =
        std::process::Command::new("timedatectl").args(["show", "--property=NTPSynchronized", "--value"]).output();
    if let Ok(answer) = answer
        && answer.status.success()
    {
        let says = if answer.stdout == b"yes\n" { Steering::Synchronized } else { Steering::Free };
        assert_eq!(kernel::steering(), says);
    }
    kernel::steering();
}

#[test]
fn a_boot_id_is_read_as_the_kernel_writes_it() {
    let id: BootId = "0f91c02e-24a6-4bd4-93a3-9f7dc0a1a001\n".parse().unwrap();
    assert_eq!(id.to_string(), "0f91c02e24a64bd493a39f7dc0a1a001");
    assert_eq!(id.to_string().parse(), Ok(id));
    for text in ["", "0f91", "+f91c02e24a64bd493a39f7dc0a1a001", "zz91c02e24a64bd493a39f7dc0a1a001"] {
        assert_eq!(text.parse::<BootId>(), Err(BootIdError));
    }
}

#[test]
fn a_machine_without_proc_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    assert!(matches!(SystemClock::in_root(root.path()), Err(ClockError::Boot { .. })));
}

#[test]
fn quality_is_what_set_the_clock() {
    let root = tempfile::tempdir().unwrap();
    let at = |path: &str| root.path().join(path);
    let quality = |wall_ms, steering| quality_in(root.path(), wall_ms, steering);
    assert_eq!(quality(NOW_MS, Steering::Free), ClockQuality::Guessed);
    assert_eq!(quality(NOW_MS, Steering::Synchronized), ClockQuality::Ntp);
    assert_eq!(quality(1000, Steering::Synchronized), ClockQuality::Guessed);

    fs::create_dir_all(at("sys/class/rtc/rtc0")).unwrap();
    fs::write(at("sys/class/rtc/rtc0/hctosys"), "1\n").unwrap();
    fs::write(at("sys/class/rtc/rtc0/since_epoch"), format!("{}\n", NOW_MS / 1000 - 90)).unwrap();
    assert_eq!(quality(NOW_MS, Steering::Free), ClockQuality::Rtc);
    // A clock without a battery starts in 1970, and systemd moves the system's to where it last was.
    fs::write(at("sys/class/rtc/rtc0/since_epoch"), "120\n").unwrap();
    assert_eq!(quality(NOW_MS, Steering::Free), ClockQuality::Guessed);
    fs::write(at("sys/class/rtc/rtc0/since_epoch"), format!("{}\n", NOW_MS / 1000)).unwrap();
    fs::write(at("sys/class/rtc/rtc0/hctosys"), "0\n").unwrap();
    assert_eq!(quality(NOW_MS, Steering::Free), ClockQuality::Guessed);

    fs::create_dir_all(at("run/systemd/timesync")).unwrap();
    fs::write(at("run/systemd/timesync/synchronized"), "").unwrap();
    assert_eq!(quality(NOW_MS, Steering::Free), ClockQuality::Ntp);
}

#[test]
fn gps_stands_over_all_but_a_time_server_until_it_is_old() {
    let second = Duration::from_secs(1);
    let gps = Some((10 * second, NOW_MS));
    let at = |since_boot: Duration, quality| trusted(since_boot, NOW_MS - DAY_MS, quality, gps);
    assert_eq!(at(12 * second, ClockQuality::Guessed), (Some(NOW_MS + 2000), ClockQuality::Gps));
    assert_eq!(at(12 * second, ClockQuality::Rtc).1, ClockQuality::Gps);
    assert_eq!(at(12 * second, ClockQuality::Ntp).1, ClockQuality::Ntp);
    assert_eq!(at(3611 * second, ClockQuality::Guessed), (Some(NOW_MS - DAY_MS), ClockQuality::Guessed));
    assert_eq!(at(9 * second, ClockQuality::Guessed).1, ClockQuality::Guessed);
    assert_eq!(trusted(second, 5000, ClockQuality::Rtc, None), (None, ClockQuality::Guessed));
}

#[test]
fn jumps_are_told_and_slow_steering_is_not() {
    let clock = SimulatedClock::new(boot(1), Some(NOW_MS - 400 * DAY_MS), ClockQuality::Guessed);
    let mut jumps = Jumps::new();
    assert_eq!(jumps.look(&clock.now()), None);
    clock.advance(Duration::from_secs(60));
    assert_eq!(jumps.look(&clock.now()), None);

    clock.set(Some(NOW_MS), ClockQuality::Ntp);
    let by_ms = 400 * DAY_MS - 60_000;
    let jump = Jump { by_ms, from: ClockQuality::Guessed, to: ClockQuality::Ntp };
    assert_eq!(jumps.look(&clock.now()), Some(jump));

    // Half a second in a quarter of an hour is steering; two minutes back is a jump.
    clock.advance(Duration::from_secs(900));
    clock.set(Some(NOW_MS + 900_500), ClockQuality::Ntp);
    assert_eq!(jumps.look(&clock.now()), None);
    clock.set(Some(NOW_MS + 780_500), ClockQuality::Ntp);
    assert_eq!(jumps.look(&clock.now()).map(|jump| jump.by_ms), Some(-120_000));
    assert_eq!(jumps.count(), 2);
}

#[test]
fn a_new_boot_or_a_clock_that_was_never_set_is_no_jump() {
    let clock = SimulatedClock::new(boot(1), Some(NOW_MS), ClockQuality::Ntp);
    let mut jumps = Jumps::new();
    jumps.look(&clock.now());
    clock.reboot(boot(2));
    clock.set(Some(NOW_MS - DAY_MS), ClockQuality::Guessed);
    assert_eq!(jumps.look(&clock.now()), None);
    clock.set(None, ClockQuality::Guessed);
    assert_eq!(jumps.look(&clock.now()), None);
    clock.set(Some(i64::MIN), ClockQuality::Guessed);
    assert_eq!(jumps.look(&clock.now()), None);
    assert_eq!(jumps.count(), 0);
}

#[test]
fn a_guess_is_no_time_of_the_day() {
    let clock = SimulatedClock::new(boot(1), Some(NOW_MS), ClockQuality::Guessed);
    assert_eq!(clock.now().known_ms(), None);
    clock.set(Some(NOW_MS), ClockQuality::Rtc);
    assert_eq!(clock.now().known_ms(), Some(NOW_MS));
}

#[test]
fn numbers_go_on_where_the_store_left_them() {
    let sequence = Sequence::after(None);
    assert_eq!((sequence.next(), sequence.next()), (0, 1));
    assert_eq!(Sequence::after(Some(41)).next(), 42);
}

#[test]
fn a_wall_time_is_written_for_people() {
    // date -u -d @1790000000 +%FT%TZ
    assert_eq!(written(1_790_000_000_000).unwrap(), "2026-09-21T14:13:20Z");
    assert_eq!(written(-1).unwrap(), "1969-12-31T23:59:59.999Z");
    assert_eq!(written(i64::MAX), None);
}
