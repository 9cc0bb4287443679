//! One operation on one device, with inputs that are the same on all of them.

use edgeblip_trainer::engine::{Device, LinearShape, Result, Slice, splitmix64};

/// What is left between two devices.
#[derive(Clone, Copy, Debug)]
pub enum Precision {
    /// Held in bf16 on the way or at the end: 8 bits.
    Bf16,
    /// 32 bits throughout.
    F32,
    /// Whole numbers, copies.
    Exact,
}

/// A result.
pub struct Outcome {
    /// What it is.
    pub name: &'static str,
    /// Its values.
    pub values: Vec<f32>,
    /// How near another device's must be.
    pub precision: Precision,
}

/// A device, numbers for it, and what came out.
pub struct Trial<'a, D: Device> {
    /// The device.
    pub device: &'a D,
    /// What came out.
    pub outcomes: Vec<Outcome>,
    counter: u64,
}

impl<'a, D: Device> Trial<'a, D> {
    /// A trial whose numbers depend on `seed`.
    pub fn new(device: &'a D, seed: u64) -> Self {
        Trial { device, outcomes: Vec::new(), counter: seed << 32 }
    }

    fn next(&mut self) -> u64 {
        self.counter += 1;
        splitmix64(self.counter)
    }

    /// Between -1 and 1, and exact in bf16.
    pub fn values(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| half::bf16::from_f32((self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0).to_f32()).collect()
    }

    /// Below `limit`.
    pub fn whole(&mut self, count: usize, limit: u64) -> Vec<u32> {
        (0..count).map(|_| (self.next() % limit) as u32).collect()
    }

    pub fn buffer(&mut self, count: usize) -> Result<D::Buffer> {
        let values = self.values(count);
        self.device.upload(&values)
    }

    /// Values that a product made, so that a device holds them as it holds activations.
    pub fn activation(&mut self, count: usize) -> Result<D::Buffer> {
        let (values, one) = (self.buffer(count)?, self.device.flat(&[1.0])?);
        self.device.linear(&values, slice(&one, 0, 1), None, LinearShape { rows: count, inputs: 1, outputs: 1 })
    }

    pub fn flat(&mut self, count: usize) -> Result<D::Flat> {
        let values = self.values(count);
        self.device.flat(&values)
    }

    pub fn indices(&mut self, count: usize, limit: u64) -> Result<D::Indices> {
        let values = self.whole(count, limit);
        self.device.upload_indices(&values)
    }

    pub fn seed(&mut self) -> Result<D::Indices> {
        self.indices(2, 1 << 32)
    }

    pub fn keep(&mut self, name: &'static str, buffer: &D::Buffer, precision: Precision) -> Result<()> {
        let values = self.device.download(buffer)?;
        self.outcomes.push(Outcome { name, values, precision });
        Ok(())
    }

    pub fn keep_flat(&mut self, name: &'static str, flat: &D::Flat, precision: Precision) -> Result<()> {
        let values = self.device.read_flat(flat)?;
        self.outcomes.push(Outcome { name, values, precision });
        Ok(())
    }

    pub fn keep_indices(&mut self, name: &'static str, indices: &D::Indices) -> Result<()> {
        let values = self.device.download_indices(indices)?.into_iter().map(|value| value as f32).collect();
        self.outcomes.push(Outcome { name, values, precision: Precision::Exact });
        Ok(())
    }
}

/// Part of a long vector.
pub fn slice<D: Device>(flat: &D::Flat, start: usize, length: usize) -> Slice<'_, D> {
    Slice { flat, start, length }
}

/// What a precision allows: of the root of the mean of squares for all values together, and for each value of itself and of
/// that root.
fn allowed(precision: Precision) -> [f64; 2] {
    match precision {
        Precision::Bf16 => [0.008, 0.05],
        Precision::F32 => [1e-5, 5e-5],
        Precision::Exact => [0.0, 0.0],
    }
}

/// How far two devices are apart, in units of what the precision allows; above one is a fault.
///
/// Sums of many terms lose more where they cancel, so a single value may be further off than all of them together.
pub fn distance(measured: &Outcome, reference: &Outcome) -> f64 {
    if measured.values.len() != reference.values.len() || measured.name != reference.name {
        return f64::INFINITY;
    }
    let root_of_mean = |squares: f64| (squares / reference.values.len().max(1) as f64).sqrt();
    let usual = root_of_mean(reference.values.iter().map(|value| f64::from(*value).powi(2)).sum()) + 1e-3;
    let [together, each] = allowed(reference.precision);
    let in_units = |apart: f64, allowed: f64| match apart {
        0.0 => 0.0,
        apart if apart.is_nan() || allowed == 0.0 => f64::INFINITY,
        apart => apart / allowed,
    };
    let pairs = || measured.values.iter().zip(&reference.values).map(|(a, b)| (f64::from(*a), f64::from(*b)));
    let all = root_of_mean(pairs().map(|(measured, reference)| (measured - reference).powi(2)).sum());
    let one_by_one =
        pairs().map(|(measured, reference)| in_units((measured - reference).abs(), each * (reference.abs() + usual)));
    one_by_one.fold(in_units(all, together * usual), f64::max)
}
