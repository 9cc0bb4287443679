//! The CUDA device against the CPU's, operation by operation: on a GPU where there is one, and everywhere with the kernels
//! compiled for the host. And the kernels themselves through NVRTC, for three generations of GPUs.
//!
//! A machine without NVRTC, a GPU or a C++ compiler says so and goes on, unless `EDGEBLIP_NVRTC=required`,
//! `EDGEBLIP_CUDA=required` or `EDGEBLIP_RIGS=required` asks otherwise.

mod cases;
mod emulation;
mod losses;
mod steps;
mod trial;

use anyhow::{Context, Result, bail, ensure};
use edgeblip_trainer::engine::cpu::Cpu;
use edgeblip_trainer::engine::cuda::Cuda;
use edgeblip_trainer::engine::cuda::compiler::{self, Target, UNITS};
use edgeblip_trainer::engine::cuda::libraries::{self, Library};
use edgeblip_trainer::engine::{Device, EngineError, LinearShape, Result as EngineResult, scalars};

use crate::cases::Large;
use crate::trial::{Trial, distance, slice};

fn is_required(variable: &str) -> bool {
    std::env::var(variable).is_ok_and(|value| value == "required")
}

/// The device with kernels compiled for the host; none without a C++ compiler.
fn emulated() -> Result<Option<emulation::Emulated>> {
    match emulation::has_compiler() {
        Ok(()) => Ok(Some(emulation::Emulated::new()?)),
        Err(missing) if is_required("EDGEBLIP_RIGS") => bail!("{missing}"),
        Err(missing) => {
            eprintln!("NOT RUN, no kernel was run: {missing}");
            Ok(None)
        }
    }
}

/// Runs all cases on both devices. Prints the furthest outcome of each.
fn compare<A: Device>(measured: &A, large: Large) -> Result<()> {
    let reference = Cpu::<f32>::new(2)?;
    let mut faults = Vec::new();
    for (seed, (case, expected)) in cases::all::<A>(large).into_iter().zip(cases::all::<Cpu>(large)).enumerate() {
        let (mut got, mut wanted) = (Trial::new(measured, seed as u64), Trial::new(&reference, seed as u64));
        (case.run)(&mut got).with_context(|| case.name.clone())?;
        (expected.run)(&mut wanted).with_context(|| case.name.clone())?;
        ensure!(got.outcomes.len() == wanted.outcomes.len(), "{}: outcomes are missing", case.name);
        let apart: Vec<(f64, &str)> = got
            .outcomes
            .iter()
            .zip(&wanted.outcomes)
            .map(|(got, wanted)| (distance(got, wanted), wanted.name))
            .collect();
        let furthest = apart.iter().copied().fold((0.0, ""), |most, one| if one.0 > most.0 { one } else { most });
        println!("{}: {:.3} of what is allowed ({})", case.name, furthest.0, furthest.1);
        let wrong = apart.into_iter().filter(|(apart, _)| *apart > 1.0);
        faults.extend(wrong.map(|(apart, outcome)| format!("{}: {outcome} is off by {apart:.2}", case.name)));
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

/// A program whose results are the same played as they were at first, with new input each time.
fn replays<D: Device>(device: &D) -> Result<()> {
    let shape = LinearShape { rows: 3, inputs: 16, outputs: 24 };
    let mut trial = Trial::new(device, 99);
    let (parameters, mut x) = (trial.flat(16 * 24 + 24)?, trial.buffer(3 * 16)?);
    let mut seed = trial.seed()?;
    let (weight, bias) = (slice(&parameters, 0, 16 * 24), slice(&parameters, 16 * 24, 24));
    let mut earlier: Vec<(Vec<f32>, <D as Device>::Buffer)> = Vec::new();
    for turn in 0..5 {
        let (values, words) = (trial.values(3 * 16), trial.whole(2, 1 << 32));
        device.rewrite(&mut x, &values)?;
        device.rewrite_indices(&mut seed, &words)?;
        let program = || -> EngineResult<Vec<D::Buffer>> {
            let (out, before) = device.linear_gelu(&x, weight, bias, shape)?;
            let dropout = edgeblip_trainer::engine::Dropout { share: 0.5, seed: &seed, site: 1 };
            let out = device.dropout(&out, dropout, 1)?;
            Ok(vec![device.linear_gelu_input_gradient(&out, weight, &x, shape)?, before])
        };
        let results = device.replay(turn / 4, &mut || program())?;
        let eager = program()?;
        for (played, eager) in results.into_iter().zip(eager) {
            let played_values = device.download(&played)?;
            ensure!(played_values == device.download(&eager)?, "turn {turn}: played is not eager");
            earlier.push((played_values, played));
        }
    }
    for (values, buffer) in &earlier {
        ensure!(device.download(buffer)? == *values, "a later run changed what an earlier one returned");
    }
    Ok(())
}

#[test]
fn every_operation_equals_the_cpu_with_kernels_compiled_for_the_host() -> Result<()> {
    let Some(driver) = emulated()? else { return Ok(()) };
    let launched = driver.launched();
    let device = Cuda::with_driver(Box::new(driver));
    compare(&device, Large::Left)?;
    replays(&device)?;
    let missing: Vec<String> =
        emulation::kernels().into_iter().filter(|name| !launched.borrow().contains(name.as_str())).collect();
    ensure!(missing.is_empty(), "no case runs {missing:?}");
    Ok(())
}

#[test]
fn steps_with_texts_of_any_length_are_the_cpus() -> Result<()> {
    let Some(driver) = emulated()? else { return Ok(()) };
    steps::compare(Cuda::with_driver(Box::new(driver)))
}

#[test]
fn a_shorter_average_follows_the_first_values() -> Result<()> {
    let Some(driver) = emulated()? else { return Ok(()) };
    let device = Cuda::with_driver(Box::new(driver));
    let (mut average, values) = (device.flat(&[8.0, 16.0])?, device.flat(&[4.0, 4.0, 1e9])?);
    let mut step = [0.0; scalars::COUNT];
    step[scalars::MOMENTUM] = 0.75;
    device.moving_average(&mut average, &values, &device.upload(&step)?)?;
    ensure!(device.read_flat(&average)? == [7.0, 13.0], "average and values are paired from the first");
    ensure!(device.read_slice(slice(&values, 1, 2))? == [4.0, 1e9], "a slice is read from its start");
    Ok(())
}

#[test]
fn a_copy_within_a_recorded_program_is_refused() -> Result<()> {
    let Some(driver) = emulated()? else { return Ok(()) };
    let device = Cuda::with_driver(Box::new(driver));
    let mut program = || Ok(vec![device.upload(&[1.0])?]);
    device.replay(1, &mut program)?;
    let refused = device.replay(1, &mut program);
    ensure!(matches!(refused, Err(EngineError::Failed { .. })), "an upload was recorded");
    ensure!(device.download(&device.upload(&[2.0])?)? == [2.0], "the device goes on");
    Ok(())
}

#[test]
fn every_operation_equals_the_cpu_on_a_gpu() -> Result<()> {
    let device = match Cuda::open(0) {
        Ok(device) => device,
        Err(error @ EngineError::Unavailable { .. }) => {
            if is_required("EDGEBLIP_CUDA") {
                bail!("{error}");
            }
            eprintln!("NOT RUN on a GPU: {error}");
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    println!("{}", device.name());
    compare(&device, Large::Included)?;
    replays(&device)?;
    steps::compare(device)
}

/// Bytes of registers that a thread may put into memory: versions of the compiler differ by a few.
const ALLOWED_SPILL: usize = 64;

/// The most bytes that a kernel's threads put into memory for want of registers, by the compiler's own account.
fn most_spilled(log: &str) -> usize {
    let stores = log.split(" bytes spill stores").filter_map(|before| before.rsplit(' ').next());
    stores.filter_map(|bytes| bytes.parse().ok()).max().unwrap_or(0)
}

#[test]
fn every_kernel_compiles_for_sm_80_89_90() -> Result<()> {
    libraries::open(&libraries::folders_of_the_environment());
    if !Library::Nvrtc.is_present() {
        let missing = libraries::require("NVRTC", &[Library::Nvrtc], &libraries::folders_of_the_environment());
        let missing = missing.err().context("NVRTC is missing and present")?;
        if is_required("EDGEBLIP_NVRTC") {
            bail!("{missing}");
        }
        eprintln!("NOT RUN, no kernel was compiled: {missing}");
        return Ok(());
    }
    println!("NVRTC {:?}", compiler::version());
    let mut compiled = String::new();
    for unit in &UNITS {
        for capability in [80, 89, 90] {
            let unit = compiler::compile(unit, Target::Machine(capability), &["--ptxas-options=-v"])?;
            ensure!(!unit.log.to_lowercase().contains("warning"), "{}", unit.log);
            ensure!(most_spilled(&unit.log) <= ALLOWED_SPILL, "{}", unit.log);
            compiled += &String::from_utf8_lossy(&unit.code);
        }
    }
    let missing: Vec<String> = emulation::kernels().into_iter().filter(|name| !compiled.contains(name)).collect();
    ensure!(missing.is_empty(), "not in what was compiled: {missing:?}");
    Ok(())
}

#[test]
fn a_machine_without_the_libraries_says_which_and_where_it_looked() -> Result<()> {
    let nowhere = std::path::PathBuf::from("no-such-folder");
    let Err(error) = libraries::require("cuda:0", &[Library::Driver, Library::Nccl], &[nowhere]) else {
        eprintln!("NOT RUN: this machine has the driver and NCCL");
        return Ok(());
    };
    let message = error.to_string();
    for part in ["cuda:0 cannot be used", "no-such-folder", "LD_LIBRARY_PATH", libraries::FOLDERS] {
        ensure!(message.contains(part), "{message:?} does not say {part:?}");
    }
    Ok(())
}
