//! The driver of a real GPU.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::path::PathBuf;

use cudarc::driver::{result, sys};

use super::compiler::{self, UNITS};
use super::cublaslt::{CublasLt, WORKSPACE};
use super::driver::{Address, Argument, Collective, Driver, Grid, Multiplied, Product};
use super::libraries::{self, Library};
use super::nccl::{self, Group};
use super::staging::Staging;
use crate::engine::{EngineError, Result};

/// Oldest compute capability with bf16 on tensor cores.
const OLDEST: u32 = 80;
/// Shared memory that a kernel may ask for without saying so first.
const UNASKED_SHARED: usize = 48 << 10;

/// A GPU with its stream, kernels and libraries. It belongs to the thread that opened it.
pub(super) struct Nvidia {
    name: String,
    device: sys::CUdevice,
    stream: sys::CUstream,
    modules: Vec<sys::CUmodule>,
    functions: RefCell<HashMap<&'static str, sys::CUfunction>>,
    products: RefCell<Option<CublasLt>>,
    staging: RefCell<Staging>,
    recordings: RefCell<Vec<sys::CUgraphExec>>,
    group: RefCell<Option<Group>>,
}

impl Nvidia {
    /// Opens a GPU: checks for libraries, then compiles the kernels for it.
    pub(super) fn open(ordinal: usize, folders: &[PathBuf]) -> Result<Nvidia> {
        let asked = format!("cuda:{ordinal}");
        let unavailable = |missing: String| EngineError::Unavailable { device: asked.clone(), missing };
        libraries::open(folders);
        libraries::require(&asked, &[Library::Driver, Library::Nvrtc, Library::CublasLt], folders)?;
        let said = |call: &str, error: result::DriverError| unavailable(format!("{call}: {error}"));
        result::init().map_err(|error| said("cuInit", error))?;
        let count = result::device::get_count().map_err(|error| said("cuDeviceGetCount", error))?;
        if ordinal >= count.max(0) as usize {
            return Err(unavailable(format!("the driver knows {count} GPUs")));
        }
        let device = result::device::get(ordinal as i32).map_err(|error| said("cuDeviceGet", error))?;
        let model = result::device::get_name(device).map_err(|error| said("cuDeviceGetName", error))?;
        let capability = capability(device).map_err(|error| said("cuDeviceGetAttribute", error))?;
        if capability < OLDEST {
            let has = format!("{}.{}", capability / 10, capability % 10);
            return Err(unavailable(format!("{model} has compute capability {has}, and bf16 products need 8.0")));
        }
        let mut gpu = Nvidia {
            name: format!("{asked} ({model})"),
            device,
            stream: own_stream(device).map_err(|error| said("a context and a stream", error))?,
            modules: Vec::new(),
            functions: RefCell::default(),
            products: RefCell::new(None),
            staging: RefCell::default(),
            recordings: RefCell::default(),
            group: RefCell::new(None),
        };
        gpu.load_kernels(capability)?;
        let workspace = gpu.allocate(WORKSPACE)?;
        let products = CublasLt::new(workspace).map_err(|error| gpu.failed("cublasLtCreate", error))?;
        gpu.products.replace(Some(products));
        Ok(gpu)
    }

    fn failed(&self, call: &str, error: impl std::fmt::Display) -> EngineError {
        EngineError::Failed { device: self.name.clone(), what: format!("{call}: {error}") }
    }

    fn checked(&self, call: &str, returned: sys::CUresult) -> Result<()> {
        returned.result().map_err(|error| self.failed(call, error))
    }

    fn load_kernels(&mut self, capability: u32) -> Result<()> {
        let target = compiler::target_for(capability);
        let compiled: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                UNITS.iter().map(|unit| scope.spawn(move || compiler::compile(unit, target, &[]))).collect();
            threads.into_iter().map(|thread| thread.join().expect("compiling does not panic")).collect()
        });
        for unit in compiled {
            let unit = unit.map_err(|error| self.failed("nvrtcCompileProgram", error))?;
            let mut module = std::ptr::null_mut();
            // SAFETY: the code is what NVRTC made, and the driver copies it.
            let returned = unsafe { sys::cuModuleLoadData(&mut module, unit.code.as_ptr().cast()) };
            self.checked("cuModuleLoadData", returned)?;
            self.modules.push(module);
        }
        Ok(())
    }

    fn function(&self, kernel: &'static str) -> Result<sys::CUfunction> {
        if let Some(function) = self.functions.borrow().get(kernel) {
            return Ok(*function);
        }
        let name = CString::new(kernel).expect("no kernel's name has a zero in it");
        for module in &self.modules {
            let mut function = std::ptr::null_mut();
            // SAFETY: the module is loaded; the driver writes the function.
            let returned = unsafe { sys::cuModuleGetFunction(&mut function, *module, name.as_ptr()) };
            if returned == sys::CUresult::CUDA_SUCCESS {
                self.functions.borrow_mut().insert(kernel, function);
                return Ok(function);
            }
        }
        Err(self.failed("cuModuleGetFunction", format!("no kernel is called {kernel}")))
    }

    fn allow_shared(&self, function: sys::CUfunction, bytes: usize) -> Result<()> {
        if bytes <= UNASKED_SHARED {
            return Ok(());
        }
        let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        // SAFETY: the function is of a loaded module.
        self.checked("cuFuncSetAttribute", unsafe { sys::cuFuncSetAttribute(function, attribute, bytes as i32) })
    }

    /// Runs `work` in a way that a recording under way does not refuse. Source: PyTorch's
    /// `c10/cuda/CUDACachingAllocator.cpp`, which does the same around cudaMalloc.
    fn aside<T>(&self, work: impl FnOnce() -> T) -> T {
        let mut mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        // SAFETY: the driver exchanges the mode with this thread's.
        let changed = unsafe { sys::cuThreadExchangeStreamCaptureMode(&mut mode) };
        let result = work();
        if changed == sys::CUresult::CUDA_SUCCESS {
            // SAFETY: as above; this puts the thread's own mode back.
            unsafe { sys::cuThreadExchangeStreamCaptureMode(&mut mode) };
        }
        result
    }
}

fn capability(device: sys::CUdevice) -> std::result::Result<u32, result::DriverError> {
    use sys::CUdevice_attribute as Attribute;
    // SAFETY: the device is one that the driver gave.
    let (major, minor) = unsafe {
        (
            result::device::get_attribute(device, Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            result::device::get_attribute(device, Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        )
    };
    Ok((major * 10 + minor).max(0) as u32)
}

/// Makes the device's context this thread's and a stream in it.
fn own_stream(device: sys::CUdevice) -> std::result::Result<sys::CUstream, result::DriverError> {
    let mut context = std::ptr::null_mut();
    let mut stream = std::ptr::null_mut();
    // SAFETY: the driver writes a context and a stream; both are let go when the GPU is dropped.
    unsafe {
        sys::cuDevicePrimaryCtxRetain(&mut context, device).result()?;
        sys::cuCtxSetCurrent(context).result()?;
        sys::cuStreamCreate(&mut stream, sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32).result()?;
    }
    Ok(stream)
}

impl Drop for Nvidia {
    fn drop(&mut self) {
        // SAFETY: everything was made by this GPU and is destroyed here only; what fails at the end of a program is of no
        // use to anybody.
        unsafe {
            sys::cuStreamSynchronize(self.stream);
            self.group.replace(None);
            for recording in self.recordings.borrow_mut().drain(..) {
                sys::cuGraphExecDestroy(recording);
            }
            self.products.replace(None);
            self.staging.borrow_mut().free();
            for module in self.modules.drain(..) {
                sys::cuModuleUnload(module);
            }
            sys::cuStreamDestroy_v2(self.stream);
            sys::cuDevicePrimaryCtxRelease_v2(self.device);
        }
    }
}

impl Driver for Nvidia {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn allocate(&self, bytes: usize) -> Result<Address> {
        let mut address = 0;
        // SAFETY: the driver writes the address.
        let returned = self.aside(|| unsafe { sys::cuMemAlloc_v2(&mut address, bytes.max(1)) });
        if returned == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY {
            return Err(EngineError::Memory { device: self.name.clone(), bytes });
        }
        self.checked("cuMemAlloc", returned)?;
        Ok(address)
    }

    unsafe fn free(&self, at: Address) {
        // SAFETY: the caller's promise; the driver waits for work in progress.
        self.aside(|| unsafe { sys::cuMemFree_v2(at) });
    }

    unsafe fn to_device(&self, to: Address, bytes: &[u8]) -> Result<()> {
        // SAFETY: the caller's promise.
        let returned = unsafe { self.staging.borrow_mut().send(to, bytes, self.stream) };
        returned.map_err(|error| self.failed("a copy from the host", error))
    }

    unsafe fn to_host(&self, from: Address, bytes: &mut [u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        // SAFETY: the caller's promise; the slice outlives the wait.
        let returned = unsafe { sys::cuMemcpyDtoHAsync_v2(bytes.as_mut_ptr().cast(), from, bytes.len(), self.stream) };
        self.checked("cuMemcpyDtoHAsync", returned)?;
        self.synchronize()
    }

    unsafe fn copy(&self, from: Address, to: Address, bytes: usize) -> Result<()> {
        // SAFETY: the caller's promise.
        self.checked("cuMemcpyDtoDAsync", unsafe { sys::cuMemcpyDtoDAsync_v2(to, from, bytes, self.stream) })
    }

    unsafe fn zero(&self, at: Address, bytes: usize) -> Result<()> {
        // SAFETY: the caller's promise.
        self.checked("cuMemsetD8Async", unsafe { sys::cuMemsetD8Async(at, 0, bytes, self.stream) })
    }

    unsafe fn launch(&self, kernel: &'static str, grid: Grid, arguments: &[Argument]) -> Result<()> {
        let function = self.function(kernel)?;
        self.allow_shared(function, grid.shared)?;
        let mut places: Vec<*mut c_void> = arguments.iter().map(place).collect();
        let [x, y, z] = grid.blocks.map(|blocks| blocks as u32);
        // SAFETY: the caller's promise; the driver copies the arguments before it returns.
        let returned = unsafe {
            sys::cuLaunchKernel(
                function,
                x,
                y,
                z,
                grid.threads as u32,
                1,
                1,
                grid.shared as u32,
                self.stream,
                places.as_mut_ptr(),
                std::ptr::null_mut(),
            )
        };
        self.checked(kernel, returned)
    }

    unsafe fn multiply(&self, product: &Product) -> Result<Multiplied> {
        let mut products = self.products.borrow_mut();
        let products = products.as_mut().expect("an opened GPU has cuBLASLt");
        // SAFETY: the caller's promise; the workspace is freed with the context.
        let returned = unsafe { products.multiply(product, self.stream) };
        returned.map_err(|error| self.failed(&format!("cublasLtMatmul for {product:?}"), error))
    }

    fn synchronize(&self) -> Result<()> {
        // SAFETY: the stream is alive.
        self.checked("cuStreamSynchronize", unsafe { sys::cuStreamSynchronize(self.stream) })
    }

    fn record(&self) -> Result<()> {
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is alive and not recording.
        self.checked("cuStreamBeginCapture", unsafe { sys::cuStreamBeginCapture_v2(self.stream, mode) })
    }

    fn end_recording(&self) -> Result<u64> {
        let (mut graph, mut recording) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: the driver writes the graph.
        self.checked("cuStreamEndCapture", unsafe { sys::cuStreamEndCapture(self.stream, &mut graph) })?;
        // SAFETY: the graph is destroyed once what can be launched has been made of it.
        unsafe {
            let returned = sys::cuGraphInstantiateWithFlags(&mut recording, graph, 0);
            sys::cuGraphDestroy(graph);
            self.checked("cuGraphInstantiate", returned)?;
        }
        let mut recordings = self.recordings.borrow_mut();
        recordings.push(recording);
        Ok(recordings.len() as u64 - 1)
    }

    unsafe fn play(&self, recording: u64) -> Result<()> {
        let recordings = self.recordings.borrow();
        let recording = recordings.get(recording as usize);
        let recording = recording.ok_or_else(|| self.failed("cuGraphLaunch", "there is no such recording"))?;
        // SAFETY: the caller's promise; the recording is alive.
        self.checked("cuGraphLaunch", unsafe { sys::cuGraphLaunch(*recording, self.stream) })
    }

    fn new_group(&self) -> Result<Vec<u8>> {
        libraries::require(&self.name, &[Library::Nccl], &[])?;
        nccl::new_name().map_err(|error| self.failed("NCCL", error))
    }

    fn join(&self, group: &[u8], rank: usize, world: usize) -> Result<()> {
        libraries::require(&self.name, &[Library::Nccl], &[])?;
        let group = Group::join(group, rank, world).map_err(|error| self.failed("NCCL", error))?;
        self.group.replace(Some(group));
        Ok(())
    }

    unsafe fn exchange(&self, collective: Collective) -> Result<()> {
        let group = self.group.borrow();
        let group = group.as_ref().ok_or_else(|| self.failed("NCCL", "this rank has joined no group"))?;
        // SAFETY: the caller's promise.
        unsafe { group.exchange(collective, self.stream) }.map_err(|error| self.failed("NCCL", error))
    }
}

/// Where the driver reads an argument from.
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
