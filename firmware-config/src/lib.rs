//! What differs between boards, and nothing that is the same on all of them.
//!
//! A [`BoardProfile`] is a table entry. Nothing reads it yet but its own tests: the services, udev rules and packages
//! that are made from it come with the field runtime.

#![forbid(unsafe_code)]

use serde::Serialize;

/// Vector instructions that every core of a board has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct BoardProfile {
    /// Name in configuration files and logs.
    pub name: &'static str,
    /// How the board's `/proc/device-tree/model` starts; `None` for a profile that is only chosen by name.
    pub model: Option<&'static str>,
    /// Processor cores; `None` where it is not the same for all.
    pub cores: Option<u8>,
    /// Memory of the smallest variant that is sold, in MiB; `None` where it is not known.
    pub least_memory_mib: Option<u32>,
    /// Vector instructions that may be relied on.
    pub instruction_set: InstructionSet,
}

/// Every profile; the first whose `model` fits is a board's own.
///
/// Source: the boards' product briefs at raspberrypi.com; cores are Cortex-A53, A53, A72, A76 and A76.
pub const PROFILES: &[BoardProfile] = &[
    raspberry("zero-2w", "Raspberry Pi Zero 2 W", 512, InstructionSet::Neon),
    raspberry("3b-plus", "Raspberry Pi 3 Model B Plus", 1024, InstructionSet::Neon),
    raspberry("4", "Raspberry Pi 4 Model B", 1024, InstructionSet::Neon),
    raspberry("5", "Raspberry Pi 5", 1024, InstructionSet::NeonDotProduct),
    raspberry("cm5", "Raspberry Pi Compute Module 5", 2048, InstructionSet::NeonDotProduct),
    any("arm64", InstructionSet::Neon),
    any("x86-host", InstructionSet::X86),
];

const fn raspberry(
    name: &'static str,
    model: &'static str,
    memory_mib: u32,
    instruction_set: InstructionSet,
) -> BoardProfile {
    BoardProfile { name, model: Some(model), cores: Some(4), least_memory_mib: Some(memory_mib), instruction_set }
}

const fn any(name: &'static str, instruction_set: InstructionSet) -> BoardProfile {
    BoardProfile { name, model: None, cores: None, least_memory_mib: None, instruction_set }
}

impl BoardProfile {
    /// The profile with this name.
    pub fn named(name: &str) -> Option<&'static BoardProfile> {
        PROFILES.iter().find(|profile| profile.name == name)
    }

    /// The profile of the board that calls itself `model`, as the kernel's device tree has it.
    pub fn of_model(model: &str) -> Option<&'static BoardProfile> {
        PROFILES.iter().find(|profile| profile.model.is_some_and(|start| model.starts_with(start)))
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
            ("Raspberry Pi 4 Model B Rev 1.4\0", "4"),
            ("Raspberry Pi 5 Model B Rev 1.0\0", "5"),
            ("Raspberry Pi Compute Module 5 Rev 1.0\0", "cm5"),
        ];
        for (model, name) in cases {
            assert_eq!(BoardProfile::of_model(model).map(|profile| profile.name), Some(name));
        }
        assert_eq!(BoardProfile::of_model("Radxa ROCK 5B"), None);
    }

    #[test]
    fn no_two_profiles_have_one_name() {
        for profile in PROFILES {
            assert_eq!(BoardProfile::named(profile.name), Some(profile));
        }
    }
}
