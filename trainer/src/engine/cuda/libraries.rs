//! NVIDIA's libraries, which are opened when they are needed and not before.
//!
//! The system's loader looks for them (`LD_LIBRARY_PATH`, then its own list). Folders given by hand come first: a folder with
//! the libraries in it, or one into which Python's packages were installed (`nvidia-cuda-nvrtc`, `nvidia-cublas`,
//! `nvidia-nccl`), where they lie in `nvidia/*/lib`. They come from the variable [`FOLDERS`].

use std::path::{Path, PathBuf};

use crate::engine::{EngineError, Result};

/// The environment variable that names folders with NVIDIA's libraries, separated as in `PATH`.
pub const FOLDERS: &str = "EDGEBLIP_CUDA_LIBRARIES";

/// A library that the device may need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    /// The driver's `libcuda.so.1`.
    Driver,
    /// Compiles the kernels.
    Nvrtc,
    /// Products.
    CublasLt,
    /// Exchanges between GPUs.
    Nccl,
}

impl Library {
    /// What to install, in the words of the one who packages it.
    fn described(self) -> &'static str {
        match self {
            Library::Driver => "libcuda.so.1 (NVIDIA's driver)",
            Library::Nvrtc => "libnvrtc.so.13 or .12 (NVRTC: CUDA toolkit, or Python's nvidia-cuda-nvrtc)",
            Library::CublasLt => "libcublasLt.so.13 or .12 (cuBLASLt: CUDA toolkit, or Python's nvidia-cublas)",
            Library::Nccl => "libnccl.so (NCCL's development package, or a link to libnccl.so.2 under that name)",
        }
    }

    /// Whether it can be opened.
    pub fn is_present(self) -> bool {
        // SAFETY: opening runs the library's initialisers; these are the libraries that the device is made of.
        unsafe {
            match self {
                Library::Driver => cudarc::driver::sys::is_culib_present(),
                Library::Nvrtc => cudarc::nvrtc::sys::is_culib_present(),
                Library::CublasLt => cudarc::cublaslt::sys::is_culib_present(),
                Library::Nccl => cudarc::nccl::sys::is_culib_present(),
            }
        }
    }
}

/// The folders that the environment names.
pub fn folders_of_the_environment() -> Vec<PathBuf> {
    std::env::var_os(FOLDERS).map(|value| std::env::split_paths(&value).collect()).unwrap_or_default()
}

/// Opens what lies in the folders, so that it is found before what the loader would find.
///
/// The loader goes by the name in a library (`libnvrtc.so.13`), so that a library opened here answers to it.
pub fn open(folders: &[PathBuf]) {
    let folders: Vec<PathBuf> = folders.iter().flat_map(|folder| with_packages(folder)).collect();
    for start in ["libnvrtc-builtins.so", "libnvrtc.so", "libcublasLt.so", "libnccl.so"] {
        for folder in &folders {
            for path in files_that_start(folder, start) {
                // SAFETY: opening runs the library's initialisers; the user named the folder for this.
                if let Ok(library) = unsafe { libloading::Library::new(&path) } {
                    std::mem::forget(library);
                }
            }
        }
    }
}

/// A folder, and the libraries' folders of Python's packages in it.
fn with_packages(folder: &Path) -> Vec<PathBuf> {
    let packages = std::fs::read_dir(folder.join("nvidia")).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = packages.map(|package| package.path().join("lib")).collect();
    folders.sort();
    folders.insert(0, folder.to_owned());
    folders
}

fn files_that_start(folder: &Path, start: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let matching = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(start));
    let mut files: Vec<PathBuf> = matching.map(|entry| entry.path()).collect();
    files.sort();
    files
}

/// Makes sure that libraries are there.
///
/// # Errors
/// [`EngineError::Unavailable`] names those that are not, and where they were looked for.
pub fn require(device: &str, libraries: &[Library], folders: &[PathBuf]) -> Result<()> {
    let missing: Vec<&str> =
        libraries.iter().filter(|library| !library.is_present()).map(|library| library.described()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let path = std::env::var("LD_LIBRARY_PATH").unwrap_or_default();
    let mut places: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
    places.push(if path.is_empty() {
        "LD_LIBRARY_PATH (empty)".to_owned()
    } else {
        format!("LD_LIBRARY_PATH ({path})")
    });
    places.push("the system's libraries".to_owned());
    Err(EngineError::Unavailable {
        device: device.to_owned(),
        missing: format!(
            "no {}; looked in {}; name other folders in {FOLDERS}",
            missing.join(", no "),
            places.join(", ")
        ),
    })
}
