//! Which board this is.

use std::fs;
use std::path::Path;

use firmware_config::BoardProfile;

/// The profile of the machine that this runs on.
pub fn recognize() -> &'static BoardProfile {
    recognize_in(Path::new("/"), std::env::consts::ARCH)
}

/// What the board calls itself, for people: the device tree's model, or the vendor's name of a PC.
pub fn model() -> Option<String> {
    model_in(Path::new("/"))
}

/// Source: Linux `Documentation/ABI/testing/sysfs-firmware-ofw`: `/proc/device-tree` is the tree that firmware handed over,
/// and its texts end with a zero byte.
fn recognize_in(root: &Path, architecture: &str) -> &'static BoardProfile {
    let own = device_tree_model(root).and_then(|model| BoardProfile::of_model(&model));
    let any = if architecture == "x86_64" { "x86-host" } else { "arm64" };
    own.or_else(|| BoardProfile::named(any)).expect("both profiles are there, as a test shows")
}

fn model_in(root: &Path) -> Option<String> {
    device_tree_model(root).or_else(|| {
        let name = fs::read_to_string(root.join("sys/class/dmi/id/product_name")).ok()?;
        Some(name.trim().to_owned()).filter(|name| !name.is_empty())
    })
}

fn device_tree_model(root: &Path) -> Option<String> {
    let model = fs::read_to_string(root.join("proc/device-tree/model")).ok()?;
    Some(model.trim_end_matches('\0').to_owned()).filter(|model| !model.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(model: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("proc/device-tree")).unwrap();
        fs::write(root.path().join("proc/device-tree/model"), model).unwrap();
        root
    }

    #[test]
    fn a_board_is_known_by_its_device_tree() {
        let board = machine("Raspberry Pi Compute Module 5 Rev 1.0\0");
        assert_eq!(recognize_in(board.path(), "aarch64").name, "cm5");
        assert_eq!(model_in(board.path()).unwrap(), "Raspberry Pi Compute Module 5 Rev 1.0");
    }

    #[test]
    fn any_other_machine_has_the_profile_of_its_architecture() {
        let rock = machine("Radxa ROCK 5B\0");
        assert_eq!(recognize_in(rock.path(), "aarch64").name, "arm64");
        let nothing = tempfile::tempdir().unwrap();
        assert_eq!(recognize_in(nothing.path(), "x86_64").name, "x86-host");
        assert_eq!(recognize_in(nothing.path(), "aarch64").name, "arm64");
        assert_eq!(model_in(nothing.path()), None);
        fs::create_dir_all(nothing.path().join("sys/class/dmi/id")).unwrap();
        fs::write(nothing.path().join("sys/class/dmi/id/product_name"), "NUC\n").unwrap();
        assert_eq!(model_in(nothing.path()).unwrap(), "NUC");
    }
}
