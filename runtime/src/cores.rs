//! The processor's cores, and which of them are for heavy work.

use std::fs;
use std::path::Path;

/// Least share of the fastest core's speed that makes a core a big one, in eighths.
const BIG_EIGHTHS: u64 = 7;

/// Cores that heavy work is for: the fast ones of a processor that has two kinds, all of another.
///
/// Never more than the system lets this process use at once.
pub fn big_cores() -> usize {
    let allowed = std::thread::available_parallelism().map_or(1, usize::from);
    big_cores_in(Path::new("/sys/devices/system/cpu")).map_or(allowed, |big| big.min(allowed))
}

/// Source: Linux `Documentation/ABI/testing/sysfs-devices-system-cpu`: `cpu_capacity` is relative to the fastest core, the
/// largest frequency is in kHz.
fn big_cores_in(folder: &Path) -> Option<usize> {
    let is_core = |name: &str| {
        let number = name.strip_prefix("cpu").unwrap_or_default();
        !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())
    };
    let cores = fs::read_dir(folder).ok()?.filter_map(|entry| entry.ok());
    let cores = cores.filter(|core| core.file_name().to_str().is_some_and(is_core));
    let speeds = |file: &str, cores: &[std::path::PathBuf]| -> Option<Vec<u64>> {
        let speed = |core: &std::path::PathBuf| fs::read_to_string(core.join(file)).ok()?.trim().parse().ok();
        let speeds: Vec<u64> = cores.iter().filter_map(speed).collect();
        (!speeds.is_empty()).then_some(speeds)
    };
    let cores: Vec<_> = cores.map(|core| core.path()).collect();
    let speeds = speeds("cpu_capacity", &cores).or_else(|| speeds("cpufreq/cpuinfo_max_freq", &cores))?;
    let fastest = speeds.iter().max()?;
    Some(speeds.iter().filter(|&speed| speed.saturating_mul(8) >= fastest.saturating_mul(BIG_EIGHTHS)).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn processor(file: &str, speeds: &[u64]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (number, speed) in speeds.iter().enumerate() {
            let path = folder.path().join(format!("cpu{number}")).join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{speed}\n")).unwrap();
        }
        fs::create_dir_all(folder.path().join("cpufreq")).unwrap();
        folder
    }

    #[test]
    fn small_cores_are_left_alone() {
        // As a Rockchip RK3588 says it, and as an RK3399 would where the kernel knows no capacities.
        let rk3588 = processor("cpu_capacity", &[530, 530, 530, 530, 1024, 1024, 1008, 1008]);
        assert_eq!(big_cores_in(rk3588.path()), Some(4));
        let frequencies = [1_416_000, 1_416_000, 1_416_000, 1_416_000, 1_800_000, 1_800_000];
        assert_eq!(big_cores_in(processor("cpufreq/cpuinfo_max_freq", &frequencies).path()), Some(2));
    }

    #[test]
    fn equal_cores_are_all_big() {
        assert_eq!(big_cores_in(processor("cpufreq/cpuinfo_max_freq", &[2_400_000; 4]).path()), Some(4));
        assert_eq!(big_cores_in(processor("topology/core_id", &[0, 1]).path()), None);
        assert_eq!(big_cores_in(Path::new("/nowhere")), None);
        assert!(big_cores() >= 1);
    }
}
