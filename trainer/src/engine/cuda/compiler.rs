//! The kernels, and NVRTC, which compiles them for the device at hand.

use std::ffi::{CStr, CString};

use cudarc::nvrtc::{result, sys};

/// What every file begins with.
const NUMBERS: &str = include_str!("kernels/numbers.cu");
const ATTENTION: &str = include_str!("kernels/attention.cu");
const ATTENTION_GRADIENT: &str = include_str!("kernels/attention_gradient.cu");
const ATTENTION_PLAIN: &str = include_str!("kernels/attention_plain.cu");
const ELEMENTWISE: &str = include_str!("kernels/elementwise.cu");
const FLATS: &str = include_str!("kernels/flats.cu");
const LAYER_NORM: &str = include_str!("kernels/layer_norm.cu");
const LOSSES: &str = include_str!("kernels/losses.cu");
const SEQUENCES: &str = include_str!("kernels/sequences.cu");

/// What is compiled at once: a name for messages, and files that stand one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Unit {
    /// For messages.
    pub name: &'static str,
    /// Names and texts of its files.
    pub files: &'static [(&'static str, &'static str)],
}

/// All kernels. Units are compiled at the same time, so the long one is in parts that do not need each other.
pub const UNITS: [Unit; 7] = [
    Unit { name: "attention", files: &[("attention.cu", ATTENTION)] },
    Unit {
        name: "attention_gradient",
        files: &[
            ("attention.cu", ATTENTION),
            ("attention_gradient.cu", ATTENTION_GRADIENT),
            ("attention_plain.cu", ATTENTION_PLAIN),
        ],
    },
    Unit { name: "elementwise", files: &[("elementwise.cu", ELEMENTWISE)] },
    Unit { name: "flats", files: &[("flats.cu", FLATS)] },
    Unit { name: "layer_norm", files: &[("layer_norm.cu", LAYER_NORM)] },
    Unit { name: "losses", files: &[("losses.cu", LOSSES)] },
    Unit { name: "sequences", files: &[("sequences.cu", SEQUENCES)] },
];

impl Unit {
    /// Its text, with lines numbered as in the files.
    pub fn source(&self) -> String {
        let numbered = |(name, text): &(&str, &str)| format!("#line 1 \"{name}\"\n{text}\n");
        std::iter::once(&("numbers.cu", NUMBERS)).chain(self.files).map(numbered).collect()
    }
}

/// For which instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A device's own, as in `sm_90`.
    Machine(u32),
    /// Those from which the driver makes the device's own, as in `compute_90`.
    Virtual(u32),
}

/// Compiled kernels.
pub struct Compiled {
    /// What the driver loads: machine code, or text that ends with a zero.
    pub code: Vec<u8>,
    /// What the compiler said.
    pub log: String,
}

/// NVRTC refused.
#[derive(Debug, thiserror::Error)]
#[error("NVRTC could not compile {unit} for {target:?} ({status}): {log}")]
pub struct CompileError {
    /// Which unit.
    pub unit: &'static str,
    /// For what.
    pub target: Target,
    /// NVRTC's status.
    pub status: String,
    /// What it said.
    pub log: String,
}

/// The best target for a device of this compute capability (90 for 9.0): its own, or the newest older one that this NVRTC
/// knows.
pub fn target_for(capability: u32) -> Target {
    let known = supported();
    if known.is_empty() || known.contains(&capability) {
        return Target::Machine(capability);
    }
    Target::Virtual(known.into_iter().filter(|known| *known <= capability).max().unwrap_or(capability))
}

/// Compute capabilities that this NVRTC compiles for; none where it does not say.
pub fn supported() -> Vec<u32> {
    let mut count = 0;
    // SAFETY: NVRTC writes one number.
    if unsafe { sys::nvrtcGetNumSupportedArchs(&mut count) } != sys::nvrtcResult::NVRTC_SUCCESS || count <= 0 {
        return Vec::new();
    }
    let mut known = vec![0i32; count as usize];
    // SAFETY: NVRTC writes as many numbers as it has just said.
    if unsafe { sys::nvrtcGetSupportedArchs(known.as_mut_ptr()) } != sys::nvrtcResult::NVRTC_SUCCESS {
        return Vec::new();
    }
    known.into_iter().filter_map(|capability| u32::try_from(capability).ok()).collect()
}

/// NVRTC's version.
pub fn version() -> (i32, i32) {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: NVRTC writes two numbers.
    unsafe { sys::nvrtcVersion(&mut major, &mut minor) };
    (major, minor)
}

/// Compiles a unit. NVRTC must be [present](super::libraries::Library::is_present).
///
/// # Errors
/// The compiler's words.
pub fn compile(unit: &Unit, target: Target, options: &[&str]) -> Result<Compiled, CompileError> {
    let failed = |error: result::NvrtcError, log: String| CompileError {
        unit: unit.name,
        target,
        status: format!("{:?}", error.0),
        log,
    };
    let source = CString::new(unit.source()).expect("no kernel has a zero in it");
    let name = CString::new(unit.name).expect("no unit's name has a zero in it");
    let architecture = match target {
        Target::Machine(capability) => format!("--gpu-architecture=sm_{capability}"),
        Target::Virtual(capability) => format!("--gpu-architecture=compute_{capability}"),
    };
    let mut all = vec![architecture.as_str(), "--std=c++17"];
    all.extend(options);
    let program = result::create_program(&source, Some(&name)).map_err(|error| failed(error, String::new()))?;
    // SAFETY: the program has just been made, is destroyed at the end and nowhere else, and `source` outlives it.
    unsafe {
        let compiled = result::compile_program(program, &all);
        let log = result::get_program_log(program).map(|log| text(&log)).unwrap_or_default();
        let code = compiled.and_then(|()| code_of(program, target));
        let destroyed = result::destroy_program(program);
        let code = code.and_then(|code| destroyed.map(|()| code)).map_err(|error| failed(error, log.clone()))?;
        Ok(Compiled { code, log })
    }
}

/// # Safety
/// The program is compiled for the target and not destroyed.
unsafe fn code_of(program: sys::nvrtcProgram, target: Target) -> Result<Vec<u8>, result::NvrtcError> {
    // SAFETY: as the caller says; the second call writes as many bytes as the first one named.
    unsafe {
        if let Target::Virtual(_) = target {
            return Ok(result::get_ptx(program)?.into_iter().map(|byte| byte as u8).collect());
        }
        let mut size = 0;
        sys::nvrtcGetCUBINSize(program, &mut size).result()?;
        let mut code = vec![0u8; size];
        sys::nvrtcGetCUBIN(program, code.as_mut_ptr().cast()).result()?;
        Ok(code)
    }
}

/// A C string from NVRTC.
fn text(bytes: &[std::ffi::c_char]) -> String {
    let bytes: Vec<u8> = bytes.iter().map(|byte| *byte as u8).collect();
    CStr::from_bytes_until_nul(&bytes).map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
}
