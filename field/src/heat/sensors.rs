//! Temperature, voltage and throttling as Linux shows them.

use std::fs;
use std::path::{Path, PathBuf};

/// Temperatures that a board may have, in degrees Celsius; what lies outside is a sensor without a value.
const POSSIBLE: std::ops::RangeInclusive<f64> = -60.0..=150.0;
/// Most sensors that are asked.
const MAX_SENSORS: usize = 64;

/// What the firmware of a Raspberry Pi says of its clocks, in bits.
///
/// Source: `vcgencmd(1)`, `get_throttled`. Bits from 16 on say what has been; Linux's driver of the voltage sensor clears them
/// every two seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throttled(pub u32);

impl Throttled {
    /// The supply's voltage is low.
    pub fn is_under_voltage(self) -> bool {
        self.0 & 1 != 0
    }

    /// The processor is slowed down, by heat.
    pub fn is_throttled(self) -> bool {
        self.0 & 4 != 0
    }
}

/// What a board measures of itself; `None` is what it has no sensor for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reading {
    /// The hottest of the processor's sensors, in degrees Celsius.
    pub celsius: Option<f64>,
    /// Whether the supply's voltage is low.
    pub under_voltage: Option<bool>,
    /// What the firmware says of its clocks.
    pub throttled: Option<Throttled>,
}

/// The board's sensors, found once.
#[derive(Clone, Debug)]
pub struct Sensors {
    temperatures: Vec<PathBuf>,
    under_voltage: Option<PathBuf>,
    throttled: Option<PathBuf>,
}

impl Sensors {
    /// Finds the sensors of this machine.
    pub fn find() -> Sensors {
        Sensors::find_in(Path::new("/"))
    }

    /// Sources: Linux `Documentation/ABI/testing/sysfs-class-thermal`; `drivers/hwmon/raspberrypi-hwmon.c` (chip "rpi_volt");
    /// Raspberry Pi's `drivers/firmware/raspberrypi.c` (`get_throttled`, which its kernels have and others do not; the first
    /// to read it leaves a warning in the kernel's log, that it is deprecated).
    fn find_in(root: &Path) -> Sensors {
        let zones = entries(&root.join("sys/class/thermal"), "thermal_zone");
        let is_processor = |zone: &&PathBuf| {
            let kind = text(&zone.join("type")).unwrap_or_default().to_lowercase();
            ["cpu", "soc", "pkg"].iter().any(|word| kind.contains(word))
        };
        let of_processor: Vec<PathBuf> = zones.iter().filter(is_processor).cloned().collect();
        let zones = if of_processor.is_empty() { zones } else { of_processor };
        let is_supply = |chip: &PathBuf| text(&chip.join("name")).as_deref() == Some("rpi_volt");
        let supply = entries(&root.join("sys/class/hwmon"), "hwmon").into_iter().find(is_supply);
        let firmware = entries(&root.join("sys/bus/platform/drivers/raspberrypi-firmware"), "");
        Sensors {
            temperatures: zones.iter().map(|zone| zone.join("temp")).collect(),
            under_voltage: supply.map(|chip| chip.join("in0_lcrit_alarm")),
            throttled: firmware.iter().map(|device| device.join("get_throttled")).find(|file| file.exists()),
        }
    }

    /// Asks them all.
    pub fn read(&self) -> Reading {
        let celsius = |file: &PathBuf| Some(text(file)?.parse::<i32>().ok().map(f64::from)? / 1000.0);
        let temperatures = self.temperatures.iter().filter_map(celsius).filter(|celsius| POSSIBLE.contains(celsius));
        let bits = |file: &PathBuf| u32::from_str_radix(text(file)?.trim_start_matches("0x"), 16).ok();
        Reading {
            celsius: temperatures.reduce(f64::max),
            under_voltage: self.under_voltage.as_ref().and_then(|file| Some(text(file)? == "1")),
            throttled: self.throttled.as_ref().and_then(bits).map(Throttled),
        }
    }
}

fn text(file: &Path) -> Option<String> {
    Some(fs::read_to_string(file).ok()?.trim().to_owned())
}

/// Folders and links of a folder whose names start so, in order.
fn entries(folder: &Path, start: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let named =
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(start)).map(|entry| entry.path());
    let mut found: Vec<PathBuf> = named.filter(|path| path.is_dir()).take(MAX_SENSORS).collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn a_raspberry_pi_is_read() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        write(root, "sys/class/thermal/thermal_zone0/type", "cpu-thermal\n");
        write(root, "sys/class/thermal/thermal_zone0/temp", "48312\n");
        write(root, "sys/class/hwmon/hwmon0/name", "cpu_thermal\n");
        write(root, "sys/class/hwmon/hwmon1/name", "rpi_volt\n");
        write(root, "sys/class/hwmon/hwmon1/in0_lcrit_alarm", "1\n");
        write(root, "sys/devices/platform/soc/soc:firmware/get_throttled", "50005\n");
        let driver = root.join("sys/bus/platform/drivers/raspberrypi-firmware");
        fs::create_dir_all(&driver).unwrap();
        write(root, "sys/bus/platform/drivers/raspberrypi-firmware/bind", "");
        let device = root.join("sys/devices/platform/soc/soc:firmware");
        std::os::unix::fs::symlink(device, driver.join("soc:firmware")).unwrap();
        let sensors = Sensors::find_in(root);
        let throttled = Some(Throttled(0x5_0005));
        assert_eq!(sensors.read(), Reading { celsius: Some(48.312), under_voltage: Some(true), throttled });
        write(root, "sys/class/hwmon/hwmon1/in0_lcrit_alarm", "0\n");
        write(root, "sys/class/thermal/thermal_zone0/temp", "garbage\n");
        assert_eq!(sensors.read(), Reading { celsius: None, under_voltage: Some(false), throttled });
    }

    #[test]
    fn the_processor_counts_and_of_its_sensors_the_hottest() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        for (zone, kind, temperature) in [
            (0, "acpitz", "90000"),
            (1, "x86_pkg_temp", "51000"),
            (2, "soc-thermal", "53500"),
            (3, "cpu-big", "-274000"),
        ] {
            write(root, &format!("sys/class/thermal/thermal_zone{zone}/type"), kind);
            write(root, &format!("sys/class/thermal/thermal_zone{zone}/temp"), temperature);
        }
        assert_eq!(Sensors::find_in(root).read().celsius, Some(53.5));
    }

    #[test]
    fn a_machine_without_sensors_has_no_readings() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(Sensors::find_in(root.path()).read(), Reading::default());
        // This machine answers, whatever it has.
        Sensors::find().read();
    }
}
