//! A driver that runs the kernels on the host: see `emulation.h`. It has no library for products, so that they too are the
//! engine's own kernels.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::ffi::{CStr, CString, c_char, c_void};
use std::path::Path;
use std::process::Command;
use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use edgeblip_trainer::engine::cuda::compiler::UNITS;
use edgeblip_trainer::engine::cuda::driver::{Address, Argument, Collective, Driver, Grid, Multiplied, Product};
use edgeblip_trainer::engine::{EngineError, Result as EngineResult};

type KindsOf = unsafe extern "C" fn(*const c_char) -> *const c_char;
type Emulate = unsafe extern "C" fn(*const c_char, *const u32, u32, u32, *mut *mut c_void);

/// One thing done on the device.
#[derive(Clone)]
enum Step {
    Launch(&'static str, Grid, Vec<Argument>),
    Copy(Address, Address, usize),
    Zero(Address, usize),
}

/// A GPU that is not there.
pub struct Emulated {
    library: libloading::Library,
    memory: RefCell<HashMap<Address, Vec<[u8; 256]>>>,
    recordings: RefCell<Vec<Vec<Step>>>,
    recording: RefCell<Option<Vec<Step>>>,
    launched: Rc<RefCell<BTreeSet<&'static str>>>,
}

/// The files of all units, each once and in order.
fn kernel_files() -> Vec<(&'static str, &'static str)> {
    let mut files: Vec<(&str, &str)> = Vec::new();
    for file in UNITS.iter().flat_map(|unit| unit.files) {
        if !files.contains(file) {
            files.push(*file);
        }
    }
    files
}

/// Names of all kernels.
pub fn kernels() -> Vec<String> {
    let mut names = Vec::new();
    for (_, text) in kernel_files() {
        for rest in text.split("__global__ void ").skip(1) {
            let rest = rest.strip_prefix("__launch_bounds__(128) ").unwrap_or(rest);
            names.extend(rest.split('(').next().map(str::to_owned));
        }
    }
    names
}

fn compiler() -> String {
    std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned())
}

/// Whether there is a C++ compiler, or why not.
pub fn has_compiler() -> std::result::Result<(), String> {
    let compiler = compiler();
    let started = Command::new(&compiler).arg("--version").output();
    started
        .map(|_| ())
        .map_err(|error| format!("{compiler} cannot be started ({error}): install g++, or name one in CXX"))
}

/// Compiles the kernels for the host into `folder`.
fn compiled(folder: &Path) -> Result<libloading::Library> {
    let numbers = UNITS[0].source();
    let numbers = numbers.split("#line 1 \"attention.cu\"").next().context("the first unit begins with numbers.cu")?;
    let mut text = format!("#define EMULATED\n{}\n{numbers}\n", include_str!("emulation.h"));
    for (name, file) in kernel_files() {
        text += &format!("#line 1 \"{name}\"\n{file}\n");
    }
    let entries: Vec<String> = kernels().iter().map(|name| format!("KNOWN({name})")).collect();
    text += &format!(
        "static const std::vector<Known> &known_kernels() {{ static const std::vector<Known> all = {{{}}}; return all; }}\n",
        entries.join(", ")
    );
    let (source, library) = (folder.join("kernels.cpp"), folder.join("kernels.so"));
    std::fs::write(&source, text).context("writing the kernels as C++")?;
    let compiler = compiler();
    // A hardened libc takes a jump to another fiber's stack for an overwritten one; and kernels' shared memory, where they are
    // templates, would be one for all devices of the process.
    let output = Command::new(&compiler)
        .args(["-U_FORTIFY_SOURCE", "-fno-gnu-unique", "-std=c++17", "-O1", "-w"])
        .args(["-shared", "-fPIC", "-ffp-contract=off", "-o"])
        .args([&library, &source])
        .output()
        .with_context(|| format!("running {compiler}"))?;
    ensure!(output.status.success(), "{compiler}: {}", String::from_utf8_lossy(&output.stderr));
    // SAFETY: the library has just been made of our own kernels, and has no initialisers of note.
    unsafe { libloading::Library::new(&library) }.context("opening the compiled kernels")
}

impl Emulated {
    /// Compiles the kernels; the files made may go afterwards.
    pub fn new() -> Result<Emulated> {
        let folder = tempfile::tempdir().context("making a folder for the compiled kernels")?;
        Ok(Emulated {
            library: compiled(folder.path())?,
            memory: RefCell::default(),
            recordings: RefCell::default(),
            recording: RefCell::new(None),
            launched: Rc::default(),
        })
    }

    /// Names of the kernels that have run, then and later.
    pub fn launched(&self) -> Rc<RefCell<BTreeSet<&'static str>>> {
        self.launched.clone()
    }

    fn failed(&self, what: String) -> EngineError {
        EngineError::Failed { device: self.name(), what }
    }

    /// Does a step, or notes it down.
    unsafe fn step(&self, step: Step) -> EngineResult<()> {
        if let Some(recording) = self.recording.borrow_mut().as_mut() {
            recording.push(step);
            return Ok(());
        }
        // SAFETY: the caller's promise.
        unsafe { self.done(&step) }
    }

    unsafe fn done(&self, step: &Step) -> EngineResult<()> {
        match step {
            // SAFETY: the caller's promise, for each.
            Step::Launch(kernel, grid, arguments) => unsafe { self.run(kernel, *grid, arguments) },
            Step::Copy(from, to, bytes) => {
                // SAFETY: as above.
                unsafe { std::ptr::copy_nonoverlapping(*from as *const u8, *to as *mut u8, *bytes) };
                Ok(())
            }
            Step::Zero(at, bytes) => {
                // SAFETY: as above.
                unsafe { std::ptr::write_bytes(*at as *mut u8, 0, *bytes) };
                Ok(())
            }
        }
    }

    unsafe fn run(&self, kernel: &'static str, grid: Grid, arguments: &[Argument]) -> EngineResult<()> {
        let name = CString::new(kernel).expect("no kernel's name has a zero in it");
        // SAFETY: the signatures are those of `emulation.h`; the kinds live as long as the library.
        let (kinds, emulate) = unsafe {
            let kinds_of: libloading::Symbol<KindsOf> =
                self.library.get(b"kinds_of").map_err(|e| self.failed(e.to_string()))?;
            let emulate: libloading::Symbol<Emulate> =
                self.library.get(b"emulate").map_err(|e| self.failed(e.to_string()))?;
            let kinds = kinds_of(name.as_ptr());
            if kinds.is_null() {
                return Err(self.failed(format!("no kernel is called {kernel}")));
            }
            (CStr::from_ptr(kinds).to_string_lossy().into_owned(), emulate)
        };
        let given: String = arguments.iter().map(kind).collect();
        if kinds != given {
            return Err(self.failed(format!("{kernel} takes {kinds} and is given {given}")));
        }
        self.launched.borrow_mut().insert(kernel);
        let mut places: Vec<*mut c_void> = arguments.iter().map(place).collect();
        let blocks = grid.blocks.map(|blocks| blocks as u32);
        // SAFETY: arguments are of the kinds that the kernel takes; that they are right is the caller's promise.
        unsafe {
            emulate(name.as_ptr(), blocks.as_ptr(), grid.threads as u32, grid.shared as u32, places.as_mut_ptr());
        }
        Ok(())
    }
}

fn kind(argument: &Argument) -> char {
    match argument {
        Argument::Address(_) => 'p',
        Argument::Whole(_) => 'i',
        Argument::Word(_) => 'u',
        Argument::Real(_) => 'f',
        Argument::Structure(words) => (b'0' + words.len() as u8) as char,
    }
}

fn place(argument: &Argument) -> *mut c_void {
    let place: *const c_void = match argument {
        Argument::Address(address) => (&raw const *address).cast(),
        Argument::Whole(count) => (&raw const *count).cast(),
        Argument::Word(word) => (&raw const *word).cast(),
        Argument::Real(real) => (&raw const *real).cast(),
        Argument::Structure(words) => words.as_ptr().cast(),
    };
    place.cast_mut()
}

impl Driver for Emulated {
    fn name(&self) -> String {
        "an emulated GPU".to_owned()
    }

    /// What is new is NaN, so that a kernel which reads what nobody wrote is found out.
    fn allocate(&self, bytes: usize) -> EngineResult<Address> {
        let room = vec![[0xffu8; 256]; bytes.div_ceil(256) + 1];
        let address = (room.as_ptr() as Address).next_multiple_of(256);
        self.memory.borrow_mut().insert(address, room);
        Ok(address)
    }

    unsafe fn free(&self, at: Address) {
        self.memory.borrow_mut().remove(&at);
    }

    unsafe fn to_device(&self, to: Address, bytes: &[u8]) -> EngineResult<()> {
        // SAFETY: the caller's promise.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to as *mut u8, bytes.len()) };
        Ok(())
    }

    unsafe fn to_host(&self, from: Address, bytes: &mut [u8]) -> EngineResult<()> {
        // SAFETY: the caller's promise.
        unsafe { std::ptr::copy_nonoverlapping(from as *const u8, bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }

    unsafe fn copy(&self, from: Address, to: Address, bytes: usize) -> EngineResult<()> {
        // SAFETY: the caller's promise.
        unsafe { self.step(Step::Copy(from, to, bytes)) }
    }

    unsafe fn zero(&self, at: Address, bytes: usize) -> EngineResult<()> {
        // SAFETY: the caller's promise.
        unsafe { self.step(Step::Zero(at, bytes)) }
    }

    unsafe fn launch(&self, kernel: &'static str, grid: Grid, arguments: &[Argument]) -> EngineResult<()> {
        // SAFETY: the caller's promise.
        unsafe { self.step(Step::Launch(kernel, grid, arguments.to_vec())) }
    }

    unsafe fn multiply(&self, _product: &Product) -> EngineResult<Multiplied> {
        Ok(Multiplied::Unsupported)
    }

    fn synchronize(&self) -> EngineResult<()> {
        Ok(())
    }

    fn record(&self) -> EngineResult<()> {
        self.recording.replace(Some(Vec::new()));
        Ok(())
    }

    fn end_recording(&self) -> EngineResult<u64> {
        let recording = self.recording.take().unwrap_or_default();
        self.recordings.borrow_mut().push(recording);
        Ok(self.recordings.borrow().len() as u64 - 1)
    }

    unsafe fn play(&self, recording: u64) -> EngineResult<()> {
        let steps = self.recordings.borrow()[recording as usize].clone();
        // SAFETY: the caller's promise.
        steps.iter().try_for_each(|step| unsafe { self.done(step) })
    }

    fn new_group(&self) -> EngineResult<Vec<u8>> {
        Err(self.failed("there are no other ranks".to_owned()))
    }

    fn join(&self, _group: &[u8], _rank: usize, _world: usize) -> EngineResult<()> {
        self.new_group().map(|_| ())
    }

    unsafe fn exchange(&self, _collective: Collective) -> EngineResult<()> {
        self.new_group().map(|_| ())
    }
}
