//! Between the host and the device, and between the two ways to hold a value.

use super::driver::{Address, Element, Grid};
use super::memory::{Buffer, Flat, Indices};
use super::{Cuda, Result};

impl Cuda {
    /// Room for values.
    pub(super) fn room(&self, length: usize, element: Element) -> Result<Buffer> {
        Buffer::new(&self.context, length, element)
    }

    /// Room for activations.
    pub(super) fn activations(&self, length: usize) -> Result<Buffer> {
        self.room(length, Element::Bf16)
    }

    /// Room for 32-bit values.
    pub(super) fn values(&self, length: usize) -> Result<Buffer> {
        self.room(length, Element::F32)
    }

    /// The same values in bf16.
    pub(super) fn narrowed(&self, x: &Buffer) -> Result<Buffer> {
        self.held_as(x, Element::Bf16)
    }

    /// The same values in 32 bits.
    pub(super) fn widened(&self, x: &Buffer) -> Result<Buffer> {
        self.held_as(x, Element::F32)
    }

    fn held_as(&self, x: &Buffer, element: Element) -> Result<Buffer> {
        if x.element() == element {
            return Ok(x.clone());
        }
        let out = self.room(x.length(), element)?;
        let kernel = match element {
            Element::Bf16 => "narrow_values",
            Element::F32 => "widen_values",
        };
        self.context.launch(kernel, Grid::each(x.length()), &[x.at().into(), out.at().into(), x.length().into()])?;
        Ok(out)
    }

    pub(super) fn uploaded(&self, values: &[f32]) -> Result<Buffer> {
        self.context.not_recording("an upload")?;
        let buffer = self.values(values.len())?;
        self.context.to_device(buffer.at(), bytemuck::cast_slice(values))?;
        Ok(buffer)
    }

    pub(super) fn rewritten(&self, buffer: &Buffer, values: &[f32]) -> Result<()> {
        assert_eq!(buffer.element(), Element::F32, "only an uploaded buffer is rewritten");
        self.context.to_device(buffer.of(values.len()), bytemuck::cast_slice(values))
    }

    pub(super) fn downloaded(&self, buffer: &Buffer) -> Result<Vec<f32>> {
        match buffer.element() {
            Element::F32 => self.host_values(buffer.at(), buffer.length()),
            Element::Bf16 => {
                let mut values = vec![0u16; buffer.length()];
                self.context.to_host(buffer.at(), bytemuck::cast_slice_mut(&mut values))?;
                Ok(values.into_iter().map(|bits| half::bf16::from_bits(bits).to_f32()).collect())
            }
        }
    }

    fn host_values(&self, at: Address, length: usize) -> Result<Vec<f32>> {
        let mut values = vec![0.0f32; length];
        self.context.to_host(at, bytemuck::cast_slice_mut(&mut values))?;
        Ok(values)
    }

    pub(super) fn uploaded_indices(&self, values: &[u32]) -> Result<Indices> {
        self.context.not_recording("an upload")?;
        let indices = Indices::new(&self.context, values.len())?;
        self.context.to_device(indices.at(), bytemuck::cast_slice(values))?;
        Ok(indices)
    }

    pub(super) fn rewritten_indices(&self, indices: &Indices, values: &[u32]) -> Result<()> {
        self.context.to_device(indices.of(values.len()), bytemuck::cast_slice(values))
    }

    pub(super) fn downloaded_indices(&self, indices: &Indices) -> Result<Vec<u32>> {
        let mut values = vec![0u32; indices.length()];
        self.context.to_host(indices.at(), bytemuck::cast_slice_mut(&mut values))?;
        Ok(values)
    }

    pub(super) fn new_flat(&self, values: &[f32]) -> Result<Flat> {
        let flat = Flat::new(&self.context, values.len())?;
        self.context.to_device(flat.part(0, values.len()), bytemuck::cast_slice(values))?;
        Ok(flat)
    }

    pub(super) fn slice_values(&self, flat: &Flat, start: usize, length: usize) -> Result<Vec<f32>> {
        self.host_values(flat.part(start, length), length)
    }

    pub(super) fn joined_indices(&self, parts: &[&Indices]) -> Result<Indices> {
        let out = Indices::new(&self.context, parts.iter().map(|part| part.length()).sum())?;
        let mut to = out.at();
        for part in parts {
            self.context.copy(part.at(), to, part.length() * 4)?;
            to += part.length() as Address * 4;
        }
        Ok(out)
    }

    pub(super) fn gathered_indices(&self, values: &Indices, rows: &Indices, width: usize) -> Result<Indices> {
        let count = rows.length();
        let out = Indices::new(&self.context, count * width)?;
        let arguments = [values.at().into(), rows.at().into(), out.at().into(), count.into(), width.into()];
        self.context.launch("gather_32_bit", Grid::each(count * width), &arguments)?;
        Ok(out)
    }
}
