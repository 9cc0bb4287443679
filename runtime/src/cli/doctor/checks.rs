//! Each part that `run` needs.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use camera::{Camera, Next, Options, Source, State};
use edgeblip::golden;
use edgeblip::kernels::quantized_linear::instruction_set;
use edgeblip::pipeline::running::source;
use field::clock::{Clock, ClockQuality, SystemClock};
use field::config::Config;
use field::heat::Sensors;
use field::pins::Wires;
use firmware_config::InstructionSet;

use super::Finding;
use crate::cli::run::{bundle_name, load};

/// Free space below which a disk is nearly full, in MiB.
const LITTLE_MIB: u64 = 1024;
const MIB: u64 = 1 << 20;

pub(super) fn config(config: &Config, path: Option<&Path>) -> Finding {
    match path {
        Some(path) => {
            Finding::ok("config", format!("{} over the defaults of board {}", path.display(), config.profile().name))
        }
        None => Finding::warn(
            "config",
            format!("none: the defaults of board {}", config.profile().name),
            "write one: \"edgeblip config --example\" prints all settings",
        ),
    }
}

pub(super) fn board(config: &Config) -> Finding {
    let profile = config.profile();
    let model = field::board::model().unwrap_or_else(|| "a machine without a name".to_owned());
    let found = format!("{model}, profile {}", profile.name);
    match (profile.memory_mib, memory_mib()) {
        (Some(least), Some(memory)) if memory + u64::from(least) / 4 < u64::from(least) => Finding::warn(
            "board",
            format!("{found}, {memory} MiB of memory"),
            format!("the system has less memory than the board's {least} MiB: see gpu_mem and cma in its firmware"),
        ),
        (_, memory) => {
            let memory = memory.map_or_else(String::new, |memory| format!(", {memory} MiB of memory"));
            Finding::ok("board", format!("{found}{memory}"))
        }
    }
}

/// Source: `proc_meminfo(5)`.
fn memory_mib() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? / 1024)
}

pub(super) fn processor(config: &Config) -> Finding {
    let kernel = instruction_set().to_string();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let found = format!(
        "{kernel} kernels on {} of {cores} cores",
        config.model.threads.map_or_else(edgeblip::cores::big_cores, usize::from)
    );
    let is_slow = kernel.to_lowercase().contains("scalar");
    let lacks_dot_products =
        config.profile().instruction_set == InstructionSet::NeonDotProduct && !kernel.to_lowercase().contains("dot");
    if is_slow {
        Finding::warn("cpu", found, "no vector instructions were found: captions take many times as long")
    } else if lacks_dot_products {
        Finding::warn(
            "cpu",
            found,
            "this board has dot products and the kernel does not show them: use a 64-bit kernel of the board's vendor",
        )
    } else {
        Finding::ok("cpu", found)
    }
}

pub(super) fn heat(config: &Config) -> Finding {
    let reading = Sensors::find().read();
    let Some(celsius) = reading.celsius else {
        return Finding::warn(
            "heat",
            "no temperature sensor",
            "the program cannot slow down by itself: see to cooling",
        );
    };
    let found = format!("{celsius:.1} degrees Celsius");
    let throttled = reading.throttled.map_or(0, |throttled| throttled.0);
    if reading.under_voltage == Some(true) || throttled & 1 != 0 {
        Finding::fail(
            "heat",
            format!("{found}, and the supply's voltage is low"),
            "use the board's own power supply and a short cable",
        )
    } else if celsius >= config.limits.warm_celsius {
        Finding::warn("heat", found, "it is warm, so that frames are taken more seldom: see to cooling")
    } else if throttled & 0x5_0000 != 0 {
        Finding::warn(
            "heat",
            format!("{found}, throttling flags {throttled:#x}"),
            "voltage was low or heat was high since the start: see to supply and cooling",
        )
    } else {
        Finding::ok("heat", found)
    }
}

pub(super) fn clock() -> Finding {
    let moment = match SystemClock::new() {
        Ok(clock) => clock.now(),
        Err(error) => return Finding::fail("clock", error.to_string(), "mount /proc"),
    };
    match moment.quality {
        ClockQuality::Guessed => Finding::warn(
            "clock",
            "nobody has set it: times are guesses, and hours of the day are not heeded",
            "give it a network with NTP, a clock chip, or a GPS receiver",
        ),
        quality => Finding::ok("clock", format!("set by {}", quality.name())),
    }
}

pub(super) fn disk(config: &Config) -> Finding {
    let folder = &config.store.folder;
    // The first folder on the way up that is there.
    let there = folder.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/"));
    let stat = match rustix::fs::statvfs(there) {
        Ok(stat) => stat,
        Err(error) => return Finding::fail("disk", format!("{}: {error}", there.display()), "check the disk"),
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize) / MIB;
    let found = format!("{}: {free} MiB are free, the budget is {} MiB", folder.display(), config.store.budget_mib);
    if stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
        return Finding::fail(
            "disk",
            format!("{}: it is read-only", there.display()),
            "check it, and mount it for writing",
        );
    }
    if rustix::fs::access(there, rustix::fs::Access::WRITE_OK).is_err() {
        return Finding::fail(
            "disk",
            format!("{}: this user may not write there", there.display()),
            "set store.folder, or its owner",
        );
    }
    if free < u64::from(config.store.leave_mib) {
        let advice = format!("make room: store.leave_mib leaves {} MiB to others", config.store.leave_mib);
        Finding::fail("disk", found, advice)
    } else if free < LITTLE_MIB {
        Finding::warn("disk", found, "make room, or lower store.budget_mib")
    } else {
        Finding::ok("disk", found)
    }
}

pub(super) fn pins(config: &Config) -> Vec<Finding> {
    let (wires, faults) = Wires::open(&config.pins, config.profile(), field::board::model().as_deref());
    if faults.is_empty() {
        let found =
            wires.driver.map_or_else(|| "none are configured".to_owned(), |driver| format!("they work, by {driver}"));
        return vec![Finding::ok("pins", found)];
    }
    let advice = "see [pins] in the configuration, and whether another program has them";
    faults.into_iter().map(|fault| Finding::fail("pins", fault.to_string(), advice)).collect()
}

pub(super) fn bundle(config: &Config) -> Finding {
    let name = bundle_name(config.model.bundle.as_ref());
    let start = Instant::now();
    let model = match load(config) {
        Ok(model) => model,
        Err(error) => return Finding::fail("bundle", format!("{name}: {error:#}"), "name another with model.bundle"),
    };
    let loaded = start.elapsed();
    let checked = golden::check_captioner(&model);
    let found = format!("{name}: loaded in {:.1} s", loaded.as_secs_f64());
    match checked {
        Err(error) => Finding::fail("bundle", format!("{name}: {error}"), "copy the bundle again, or report this"),
        Ok(()) if model.matcher().is_err() => Finding::warn(
            "bundle",
            format!("{found}, its self-test is right, it has no matcher"),
            "captions are kept unjudged: export one with --matcher",
        ),
        Ok(()) => Finding::ok("bundle", format!("{found}, its self-test is right")),
    }
}

pub(super) fn camera(config: &Config, wait_s: u16) -> Finding {
    let source = match source(config) {
        Ok(source) => source,
        Err(error) => return Finding::fail("camera", format!("{error}"), "set camera.source"),
    };
    let name = source.to_string();
    match &source {
        Source::StandardInput { .. } => return Finding::ok("camera", "standard input, which is not tried"),
        Source::Folder(folder) => return watched(folder),
        _ => {}
    }
    let camera = match Camera::start(source, Options::default()) {
        Ok(camera) => camera,
        Err(error) => return Finding::fail("camera", format!("{name}: {error}"), "free some memory"),
    };
    let next = camera.next(Instant::now() + Duration::from_secs(wait_s.into()));
    match (next, camera.state()) {
        (Next::Frame(frame), _) => match frame.to_rgb() {
            Ok(picture) => {
                Finding::ok("camera", format!("{name}: a frame of {} x {} pixels", picture.width(), picture.height()))
            }
            Err(error) => Finding::fail(
                "camera",
                format!("{name}: a frame that cannot be decoded: {error}"),
                "try another format",
            ),
        },
        (_, State::Waiting { reason, .. }) => Finding::fail(
            "camera",
            format!("{name}: {reason}"),
            "check its cable, its name, and whether another program has it",
        ),
        (_, State::Finished { fault: Some(fault) }) => {
            Finding::fail("camera", format!("{name}: {fault}"), "check the file")
        }
        (_, state) => Finding::fail(
            "camera",
            format!("{name}: no frame came within {wait_s} s ({state:?})"),
            "wait longer with --camera-wait, or check it",
        ),
    }
}

fn watched(folder: &PathBuf) -> Finding {
    match std::fs::read_dir(folder) {
        Ok(_) => Finding::ok("camera", format!("the folder {} is watched", folder.display())),
        Err(error) => Finding::fail("camera", format!("{}: {error}", folder.display()), "make the folder"),
    }
}
