//! What differs between boards, and nothing that is the same on all of them.
//!
//! A [`BoardProfile`] is a file in `boards/`: facts, and those defaults of the configuration that fit the board better
//! than everybody's. `edgeblip.toml` has every setting with its default.

#![forbid(unsafe_code)]

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

/// The example of a configuration: every setting, explained, with its default.
pub const EXAMPLE: &str = include_str!("../edgeblip.toml");

/// Vector instructions that every core of a board has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstructionSet {
    /// ARMv8.0: NEON without 8-bit dot products.
    Neon,
    /// ARMv8.2 with SDOT and UDOT.
    NeonDotProduct,
    /// x86-64; what it has beyond SSE2 is found at run time.
    X86,
}

/// A kind of machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoardProfile {
    /// Name in configuration files and logs.
    pub name: String,
    /// How the board's `/proc/device-tree/model` starts: as the board's firmware writes it, or as Linux's own device
    /// tree does. None for a profile that no model names.
    #[serde(default)]
    pub models: Vec<String>,
    /// Processor cores; `None` where it is not the same for all.
    pub cores: Option<u8>,
    /// Memory of the smallest variant that is sold, in MiB; `None` where it is not known.
    pub memory_mib: Option<u32>,
    /// Vector instructions that may be relied on.
    pub instruction_set: InstructionSet,
    /// Label of the GPIO chip whose lines are on the header, as its Linux driver gives it; `None` where it is not known.
    pub gpio: Option<String>,
    /// Settings whose default is another on this board, by section and key.
    #[serde(default)]
    pub defaults: toml::Table,
}

/// Every profile; the first with a fitting one among its `models` is a board's own.
static PROFILES: LazyLock<[BoardProfile; 7]> = LazyLock::new(|| {
    let files = [
        include_str!("../boards/zero-2w.toml"),
        include_str!("../boards/3b-plus.toml"),
        include_str!("../boards/4.toml"),
        include_str!("../boards/5.toml"),
        include_str!("../boards/cm5.toml"),
        include_str!("../boards/arm64.toml"),
        include_str!("../boards/x86-host.toml"),
    ];
    files.map(|file| toml::from_str(file).expect("the profiles are read by a test"))
});

impl BoardProfile {
    /// Every profile.
    pub fn all() -> &'static [BoardProfile] {
        &*PROFILES
    }

    /// The profile with this name.
    pub fn named(name: &str) -> Option<&'static BoardProfile> {
        Self::all().iter().find(|profile| profile.name == name)
    }

    /// The profile of the board that calls itself `model`, as the kernel's device tree has it.
    pub fn of_model(model: &str) -> Option<&'static BoardProfile> {
        Self::all().iter().find(|profile| profile.models.iter().any(|start| model.starts_with(start)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boards_are_known_by_what_their_device_tree_says() {
        let cases = [
            ("Raspberry Pi Zero 2 W Rev 1.0\0", "zero-2w"),
            ("Raspberry Pi 3 Model B Plus Rev 1.3\0", "3b-plus"),
            ("Raspberry Pi 3 Model B+\0", "3b-plus"),
            ("Raspberry Pi 4 Model B Rev 1.4\0", "4"),
            ("Raspberry Pi 5 Model B Rev 1.0\0", "5"),
            ("Raspberry Pi Compute Module 5 Rev 1.0\0", "cm5"),
        ];
        for (model, name) in cases {
            assert_eq!(BoardProfile::of_model(model).map(|profile| profile.name.as_str()), Some(name));
        }
        assert_eq!(BoardProfile::of_model("Radxa ROCK 5B"), None);
    }

    #[test]
    fn a_profile_is_named_as_its_file_and_no_two_are_named_alike() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("boards");
        let mut files: Vec<String> = folder
            .read_dir()
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        let mut names: Vec<String> = BoardProfile::all().iter().map(|profile| profile.name.clone()).collect();
        files.sort();
        names.sort();
        assert_eq!(files, names);
        for profile in BoardProfile::all() {
            assert_eq!(BoardProfile::named(&profile.name), Some(profile));
        }
    }
}
