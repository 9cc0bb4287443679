//! One operation on one device, with inputs that are the same on all of them.

use edgeblip_trainer::engine::{Device, Result, Slice, splitmix64};

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

/// How far two devices are apart where they are furthest, in units of what the precision allows; above one is a fault.
pub fn distance(measured: &Outcome, reference: &Outcome) -> f32 {
    if measured.values.len() != reference.values.len() || measured.name != reference.name {
        return f32::INFINITY;
    }
    let squares: f64 = reference.values.iter().map(|value| f64::from(*value).powi(2)).sum();
    let usual = (squares / reference.values.len().max(1) as f64).sqrt() as f32;
    let allowed = |value: f32| match reference.precision {
        Precision::Bf16 => 0.016 * (value.abs() + usual),
        Precision::F32 => 2e-5 * (value.abs() + usual) + 1e-7,
        Precision::Exact => 0.0,
    };
    let pairs = measured.values.iter().zip(&reference.values);
    let apart = pairs.map(|(measured, reference)| match (measured - reference).abs() {
        apart if apart <= allowed(*reference) => apart / allowed(*reference).max(f32::MIN_POSITIVE),
        apart if apart.is_nan() => f32::INFINITY,
        apart => (apart / allowed(*reference).max(f32::MIN_POSITIVE)).max(1.1),
    });
    apart.fold(0.0, f32::max)
}
