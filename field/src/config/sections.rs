//! Every setting once: what it is for, its default, what is allowed, and when a change of it takes effect.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::config::value::{Broker, Or, Source, Text, Value, choice};
use crate::config::{Config, Effect, Knob};
use crate::hours::{Hours, Zone};
use crate::region::Region;

/// A day, in seconds.
const DAY_S: f64 = 86_400.0;

choice! {
    /// What a text must reach for the filter to keep it.
    Rule {
        /// A probability that it matches.
        Threshold = "threshold",
        /// A place among the best of late.
        Top = "top",
    }
}

choice! {
    /// Where coordinates come from.
    PositionSource {
        /// Nowhere.
        None = "none",
        /// The configuration.
        Fixed = "fixed",
        /// A GPS receiver, through gpsd.
        Gpsd = "gpsd",
    }
}

choice! {
    /// What drives the pins.
    PinDriver {
        /// `rppal` on a Raspberry Pi, Linux's GPIO character device elsewhere.
        Auto = "auto",
        /// A Raspberry Pi's registers.
        Rppal = "rppal",
        /// Linux's GPIO character device.
        Gpiocdev = "gpiocdev",
    }
}

choice! {
    /// What an input is when nothing drives it.
    Pull {
        /// High, by a resistor inside the chip.
        Up = "up",
        /// Low, by a resistor inside the chip.
        Down = "down",
        /// What a resistor outside makes it.
        None = "none",
    }
}

choice! {
    /// The least that is logged.
    LogLevel {
        /// What stops something.
        Error = "error",
        /// What should not be, and goes on.
        Warn = "warn",
        /// What happens.
        Info = "info",
        /// How it happens.
        Debug = "debug",
    }
}

macro_rules! sections {
    ($( $(#[doc = $about:literal])* $section:ident: $Section:ident {
        $( $(#[doc = $doc:literal])* $key:ident: $type:ty = $default:expr, $allowed:expr, $effect:ident; )*
    } )*) => {
        $(
            $(#[doc = $about])*
            #[derive(Clone, Debug, PartialEq)]
            pub struct $Section { $( $(#[doc = $doc])* pub $key: $type, )* }

            impl Default for $Section {
                fn default() -> Self {
                    $Section { $( $key: $default, )* }
                }
            }
        )*

        /// All settings.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct Settings { $( $(#[doc = $about])* pub $section: $Section, )* }

        /// Sections in the order in which they are written, each with what it is about.
        pub(super) const SECTIONS: &[(&str, &[&str])] = &[ $( (stringify!($section), &[$($about),*]), )* ];

        /// Every setting, by section.
        pub(super) const KNOBS: &[Knob] = &[ $( $( Knob {
            section: stringify!($section),
            key: stringify!($key),
            about: &[$($doc),*],
            effect: Effect::$effect,
            allowed: || <$type as Value>::allowed(&$allowed),
            read: |settings, value| match <$type as Value>::read(value, &$allowed) {
                Some(value) => {
                    settings.$section.$key = value;
                    true
                }
                None => false,
            },
            write: |settings| settings.$section.$key.write(&$allowed),
            resolve: |settings, folder| settings.$section.$key.resolve(folder),
        }, )* )* ];
    };
}

sections! {
    /// Which board this is.
    board: Board {
        /// The profile whose defaults apply; "auto" asks the board.
        profile: Option<String> = None, Or("auto", Text::Name(32)), Restart;
    }

    /// What looks and speaks.
    model: Model {
        /// Folder of the bundle.
        bundle: Option<PathBuf> = None, Or("built-in", ()), Restart;
        /// Threads to compute on; "auto" is as many as there are big cores.
        threads: Option<u16> = None, Or("auto", 1..=256), Restart;
        /// Folder for what makes the next start short; "auto" is the service's or the user's own.
        cache: Option<PathBuf> = None, Or("auto", ()), Restart;
    }

    /// Where frames come from.
    camera: Camera {
        /// v4l:/dev/video0, rpicam:0, rtsp://..., http://....mjpeg, folder:PATH (each new picture), video:PATH,
        /// picture:PATH, or - for MJPEG on standard input.
        source: Source = Source("v4l:/dev/video0".to_owned()), (), AtOnce;
        /// Columns that are asked for where the source names none; a camera may have others.
        width: u32 = 1280, 16..=8192, AtOnce;
        /// Rows that are asked for, in the same way.
        height: u32 = 720, 16..=8192, AtOnce;
        /// Frames a second: asked for where the source names none, and of all sources not more are looked at.
        rate: f64 = 5.0, 0.1..=120.0, AtOnce;
    }

    /// When a frame is taken.
    triggers: Triggers {
        /// Seconds from one frame to the next.
        every_s: Option<f64> = Some(10.0), Or("never", 0.1..=7.0 * DAY_S), AtOnce;
        /// Whether motion takes a frame.
        motion: bool = false, (), AtOnce;
        /// How much brighter or darker than the background a point must be to have moved, of 255.
        motion_threshold: u8 = 20, 1..=255, AtOnce;
        /// Share of the points that must have moved.
        motion_area: f64 = 0.005, 0.0001..=1.0, AtOnce;
        /// Share of the points beyond which it is the light or the camera that has changed.
        motion_most: f64 = 0.7, 0.01..=1.0, AtOnce;
        /// Seconds in which what stands still becomes background.
        motion_background_s: f64 = 10.0, 0.1..=DAY_S, AtOnce;
        /// Where motion does not count: trees, a road.
        motion_masks: Vec<Region> = Vec::new(), (), AtOnce;
        /// Seconds of no motion after which motion counts anew.
        motion_quiet_s: f64 = 5.0, 0.0..=DAY_S, AtOnce;
        /// Milliseconds of no edge after which the trigger pin counts anew.
        pin_quiet_ms: u32 = 50, 0..=60_000, AtOnce;
        /// Frames for each event.
        burst: u16 = 1, 1..=64, AtOnce;
        /// Milliseconds between them.
        burst_gap_ms: u32 = 250, 0..=60_000, AtOnce;
        /// Frames from before an event that are taken too. They wait in memory.
        before: u16 = 0, 0..=64, Restart;
        /// Least seconds between two events that take frames. One that comes sooner is put off, further ones are counted
        /// and take none.
        least_gap_s: f64 = 1.0, 0.0..=DAY_S, AtOnce;
        /// Hours in which frames are taken; a command takes one at any time.
        hours: Hours = Hours::ALWAYS, (), AtOnce;
        /// Cosine of the ITC vectors from which a frame is a near duplicate and is dropped; a command's is not.
        duplicate_cosine: Option<f64> = Some(0.97), Or("never", 0.0..=1.0), AtOnce;
        /// Frames kept last that a frame is compared with.
        duplicate_memory: u16 = 8, 1..=1024, AtOnce;
    }

    /// What is written for a frame.
    captions: Captions {
        /// Hours in which captions are written; frames of other hours wait in the store. For boards that the sun feeds.
        hours: Hours = Hours::ALWAYS, (), AtOnce;
        /// Beams of the caption that is shown.
        beams: u16 = 3, 1..=64, AtOnce;
        /// Further captions, by nucleus sampling: candidates for the filter.
        candidates: u16 = 2, 0..=64, AtOnce;
        /// Share of the probability that sampled tokens come from.
        top_p: f64 = 0.9, 0.01..=1.0, AtOnce;
        /// What divides the logits of sampled tokens: above 1, likelihoods come closer to each other.
        temperature: f64 = 1.0, 0.01..=10.0, AtOnce;
        /// Where sampling starts: equal seeds give equal candidates.
        seed: u64 = 0, 0..=9_223_372_036_854_775_807, AtOnce;
    }

    /// Which texts and pictures are worth keeping.
    filter: Filter {
        /// "threshold" keeps texts that match well enough, "top" the best of what a day brings.
        rule: Rule = Rule::Threshold, (), AtOnce;
        /// ITM probability from which a text is kept, by rule "threshold".
        threshold: f64 = 0.5, 0.0..=1.0, AtOnce;
        /// Share of the texts that is kept, by rule "top".
        top: f64 = 0.5, 0.001..=1.0, AtOnce;
        /// Most pictures kept in a day; further ones are rejected.
        per_day: Option<u32> = None, Or("any", 1..=1_000_000), AtOnce;
        /// Share of the rejected pictures that is kept all the same, for auditing the filter.
        audit: f64 = 0.05, 0.0..=1.0, AtOnce;
        /// Decisions over which the share of rejected ones is shown.
        health_over: u16 = 500, 1..=65_535, AtOnce;
    }

    /// Where the board stands; goes with every pair.
    place: Place {
        /// Name of the deployment, for keys and folders at home.
        deployment: String = String::new(), Text::Name(64), AtOnce;
        /// The place, for people; also a text that the filter may choose.
        name: String = String::new(), Text::Line(256), AtOnce;
        /// Time zone of all hours and days.
        zone: Zone = Zone::utc(), (), AtOnce;
        /// Where coordinates come from; "fixed" is from below.
        position: PositionSource = PositionSource::None, (), AtOnce;
        /// Degrees north.
        latitude: f64 = 0.0, -90.0..=90.0, AtOnce;
        /// Degrees east.
        longitude: f64 = 0.0, -180.0..=180.0, AtOnce;
        /// Decimals of a degree that are kept: 3 is within 60 m, 2 within 600 m.
        decimals: u8 = 3, 0..=7, AtOnce;
        /// Address of gpsd.
        gpsd: String = "localhost:2947".to_owned(), Text::Line(256), AtOnce;
    }

    /// What is never kept, and how long the rest is.
    privacy: Privacy {
        /// Parts of the picture that are made grey before anything else sees it.
        masks: Vec<Region> = Vec::new(), (), AtOnce;
        /// Days after which a pair is forgotten.
        retention_days: Option<u32> = None, Or("never", 1..=36_500), AtOnce;
    }

    /// Where pairs are kept.
    store: Store {
        /// Its folder.
        folder: PathBuf = PathBuf::from("pairs"), (), Restart;
        /// Most that it takes on the disk, in MiB; then pairs are evicted in a stated order.
        budget_mib: u32 = 4096, 16..=16_777_216, AtOnce;
        /// Free space that it leaves others on the disk, in MiB.
        leave_mib: u32 = 256, 0..=16_777_216, AtOnce;
        /// Quality of pictures that no camera has compressed, of 100.
        jpeg_quality: u8 = 90, 30..=100, AtOnce;
    }

    /// Wires. Numbers are the chip's: of the Raspberry Pi's header they are the GPIO numbers, not the places.
    pins: Pins {
        /// What drives them; "auto" is rppal on a Raspberry Pi and gpiocdev elsewhere.
        driver: PinDriver = PinDriver::Auto, (), Restart;
        /// GPIO chip, by label or device; "auto" is that of the board's profile, else /dev/gpiochip0.
        chip: Option<String> = None, Or("auto", Text::Line(256)), Restart;
        /// Input that takes a frame: a PIR sensor or a button.
        trigger: Option<u8> = None, Or("none", 0..=255), Restart;
        /// What it is when nothing drives it.
        trigger_pull: Pull = Pull::Down, (), Restart;
        /// Whether low is what triggers.
        trigger_active_low: bool = false, (), Restart;
        /// Output of the status LED.
        led: Option<u8> = None, Or("none", 0..=255), Restart;
        /// Whether low lights it.
        led_active_low: bool = false, (), Restart;
        /// Output of a lamp that is on while a frame is taken.
        lamp: Option<u8> = None, Or("none", 0..=255), Restart;
        /// Whether low lights it.
        lamp_active_low: bool = false, (), Restart;
        /// Milliseconds that it is on before the frame.
        lamp_lead_ms: u32 = 200, 0..=10_000, AtOnce;
        /// Milliseconds that it is on at most.
        lamp_longest_ms: u32 = 3000, 1..=60_000, AtOnce;
    }

    /// The board's page: what it sees and keeps, for people and programs.
    page: Page {
        /// Where it listens. Who is not on the board itself needs a link or a token: "edgeblip page" makes them.
        address: Option<SocketAddr> = Some(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 8020)), Or("none", ()), Restart;
        /// A name by which browsers may call it, beside the host's own, with ".local" too, and numbers.
        name: Option<String> = None, Or("none", Text::Line(253)), AtOnce;
    }

    /// What a broker is told, and what it may ask for.
    mqtt: Mqtt {
        /// The broker: mqtt://HOST, mqtts://HOST, with USER:PASSWORD@ and :PORT if need be.
        broker: Option<Broker> = None, Or("none", ()), Restart;
        /// Who vouches for the broker of mqtts://, as a file of certificates in PEM; "system" is who the system trusts.
        authority: Option<PathBuf> = None, Or("system", ()), Restart;
        /// What topics begin with.
        topic: String = "edgeblip".to_owned(), Text::Name(64), Restart;
        /// The board's name in topics; "auto" is the host's.
        name: Option<String> = None, Or("auto", Text::Name(64)), Restart;
        /// Where Home Assistant looks for devices.
        discovery: Option<String> = Some("homeassistant".to_owned()), Or("none", Text::Name(64)), Restart;
        /// Whether pictures are told too.
        pictures: bool = true, (), AtOnce;
        /// Whether a message may take a frame.
        commands: bool = true, (), AtOnce;
    }

    /// The way home: "edgeblip sync" sends pairs and fetches receipts.
    sync: Sync {
        /// Where shards go: s3://BUCKET/FOLDER?endpoint=URL, https://HOST/FOLDER (WebDAV) or file:///FOLDER; "granted" is
        /// where the host said.
        url: Option<String> = None, Or("granted", Text::Line(1024)), AtOnce;
        /// Who vouches for a host of https, as a file of certificates in PEM; "system" is who the system trusts.
        authority: Option<PathBuf> = None, Or("system", ()), AtOnce;
        /// Most MiB that go out in a day, UTC.
        day_mib: Option<u32> = None, Or("any", 1..=16_777_216), AtOnce;
        /// Most KiB a second that go out.
        rate_kib: Option<u32> = None, Or("any", 1..=16_777_216), AtOnce;
        /// Whether pairs go out over a network that is paid by the byte, as NetworkManager knows it.
        metered: bool = false, (), AtOnce;
        /// Seconds for which failures are waited out, in one run of "edgeblip sync".
        patience_s: f64 = 600.0, 0.0..=DAY_S, AtOnce;
        /// Whether models that the host releases are taken; they run in the stead of model.bundle.
        updates: bool = true, (), Restart;
        /// What board this is, for releases that are for some boards only, as "raspberry-pi-4-model-b"; "found" is what
        /// the board says of itself.
        class: Option<String> = None, Or("found", Text::Line(63)), AtOnce;
    }

    /// What the board is spared.
    limits: Limits {
        /// Degrees Celsius from which frames are taken more seldom.
        warm_celsius: f64 = 70.0, 0.0..=120.0, AtOnce;
        /// Degrees Celsius at which they are as seldom as can be.
        hot_celsius: f64 = 78.0, 0.0..=120.0, AtOnce;
        /// How many times as long intervals are then.
        slowest: f64 = 10.0, 1.0..=1000.0, AtOnce;
        /// How many times as long they are at least while the supply's voltage is low.
        under_voltage: f64 = 4.0, 1.0..=1000.0, AtOnce;
        /// Seconds after which a stage that has work and gets nothing done is stuck; the watchdog then gets no sign.
        stuck_s: f64 = 300.0, 10.0..=DAY_S, AtOnce;
    }

    /// What is told.
    log: Log {
        /// The least that is logged.
        level: LogLevel = LogLevel::Info, (), AtOnce;
    }
}

impl Config {
    /// Makes every path absolute that is relative to `folder`.
    pub(super) fn resolve(&mut self, folder: &Path) {
        for knob in KNOBS {
            (knob.resolve)(&mut self.settings, folder);
        }
    }
}
