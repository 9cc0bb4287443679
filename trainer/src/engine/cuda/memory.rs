//! Buffers, indices and long vectors, and what they share: the driver and its arena.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;

use super::arena::{Arena, Pool, block_for, rounded};
use super::driver::{Address, Argument, Before, Driver, Element, Grid, Multiplied, Product, Stored};
use crate::engine::{EngineError, Result};

/// The driver, its memory, and whether launches are being recorded.
pub(super) struct Context {
    pub(super) driver: Box<dyn Driver>,
    arena: RefCell<Arena>,
    recording: Cell<bool>,
}

impl Context {
    pub(super) fn new(driver: Box<dyn Driver>) -> Rc<Context> {
        Rc::new(Context { driver, arena: RefCell::default(), recording: Cell::new(false) })
    }

    /// An error of this device.
    pub(super) fn failed(&self, what: impl Into<String>) -> EngineError {
        EngineError::Failed { device: self.driver.name(), what: what.into() }
    }

    /// Device memory that goes back to the arena when the last owner lets go.
    pub(super) fn memory(self: &Rc<Self>, bytes: usize) -> Result<Rc<Memory>> {
        let pool = if self.recording.get() { Pool::Recorded } else { Pool::Everyday };
        let taken = self.arena.borrow_mut().take(pool, bytes);
        let address = match taken {
            Some(address) => address,
            None => self.grown(pool, bytes)?,
        };
        Ok(Rc::new(Memory { context: self.clone(), address }))
    }

    fn grown(&self, pool: Pool, bytes: usize) -> Result<Address> {
        let block = block_for(bytes);
        let (address, length) = match self.driver.allocate(block) {
            Err(EngineError::Memory { .. }) => {
                self.release_unused()?;
                let needed = rounded(bytes);
                (self.driver.allocate(needed)?, needed)
            }
            other => (other?, block),
        };
        let mut arena = self.arena.borrow_mut();
        arena.add_block(pool, address, length);
        Ok(arena.take(pool, bytes).expect("the new block holds the request"))
    }

    /// Gives blocks of which nothing is in use back to the device.
    pub(super) fn release_unused(&self) -> Result<()> {
        if self.recording.get() {
            return Ok(());
        }
        self.driver.synchronize()?;
        for block in self.arena.borrow_mut().unused_blocks() {
            // SAFETY: the arena has just forgotten the block, and no range of it was in use.
            unsafe { self.driver.free(block) };
        }
        Ok(())
    }

    /// Starts a kernel. Callers pass addresses of buffers that they hold, with lengths that follow from the shapes which
    /// [`Device`](crate::engine::Device) asks its callers to keep to.
    pub(super) fn launch(&self, kernel: &'static str, grid: Grid, arguments: &[Argument]) -> Result<()> {
        if grid.blocks.contains(&0) {
            return Ok(());
        }
        // SAFETY: the test of every operation runs every launch against the kernels' signatures, and the lengths are asserted
        // where a buffer enters an operation.
        unsafe { self.driver.launch(kernel, grid, arguments) }
    }

    /// A product, and `bias` added to each row. Where the library cannot do both at once, the bias follows; where it has no
    /// algorithm at all, a kernel of ours multiplies.
    pub(super) fn multiply(&self, product: &Product, bias: Option<Address>) -> Result<()> {
        let Product { rows, columns, inner, .. } = *product;
        if rows == 0 || columns == 0 {
            return Ok(());
        }
        let started = |product: &Product| {
            if inner == 0 {
                return Ok(Multiplied::Unsupported);
            }
            // SAFETY: as in `launch`.
            unsafe { self.driver.multiply(product) }
        };
        if product.bias.is_some() && started(product)? == Multiplied::Yes {
            return Ok(());
        }
        let bare = Product { bias: None, ..*product };
        if started(&bare)? == Multiplied::Unsupported {
            self.multiply_plainly(&bare)?;
        }
        let Some(bias) = bias else { return Ok(()) };
        let kernel = match product.out_element {
            Element::Bf16 => "add_bias_bf16",
            Element::F32 => "add_bias_f32",
        };
        let arguments = [product.out.into(), bias.into(), rows.into(), columns.into()];
        self.launch(kernel, Grid::each(rows * columns), &arguments)
    }

    fn multiply_plainly(&self, product: &Product) -> Result<()> {
        let Product { rows, columns, inner, left, right, .. } = *product;
        let steps = |stored: Stored, by_row: usize, by_column: usize| match stored {
            Stored::ByRow => [by_row, 1],
            Stored::ByColumn => [1, by_column],
        };
        let (left_steps, right_steps) = (steps(left.stored, inner, rows), steps(right.stored, columns, inner));
        let kernel = match (product.element, product.out_element) {
            (Element::Bf16, Element::Bf16) => "multiply_bf16_bf16",
            (Element::Bf16, Element::F32) => "multiply_bf16_f32",
            (Element::F32, _) => "multiply_f32_f32",
        };
        let beta = if product.before == Before::Added { 1.0f32 } else { 0.0 };
        let grid = Grid { blocks: [columns.div_ceil(16), rows.div_ceil(16), 1], threads: 256, shared: 0 };
        let mut arguments: Vec<Argument> = vec![left.at.into(), left_steps[0].into(), left_steps[1].into()];
        arguments.extend([right.at.into(), right_steps[0].into(), right_steps[1].into(), product.out.into()]);
        arguments.extend([rows.into(), columns.into(), inner.into(), beta.into()]);
        self.launch(kernel, grid, &arguments)
    }

    pub(super) fn copy(&self, from: Address, to: Address, bytes: usize) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: as in `launch`.
        unsafe { self.driver.copy(from, to, bytes) }
    }

    pub(super) fn zero(&self, at: Address, bytes: usize) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: as in `launch`.
        unsafe { self.driver.zero(at, bytes) }
    }

    /// Copies from the host.
    pub(super) fn to_device(&self, to: Address, bytes: &[u8]) -> Result<()> {
        self.not_recording("a copy from the host")?;
        // SAFETY: as in `launch`.
        unsafe { self.driver.to_device(to, bytes) }
    }

    /// Copies to the host.
    pub(super) fn to_host(&self, from: Address, bytes: &mut [u8]) -> Result<()> {
        self.not_recording("a copy to the host")?;
        // SAFETY: as in `launch`.
        unsafe { self.driver.to_host(from, bytes) }
    }

    /// What happens on the host would happen once and not in every replay.
    pub(super) fn not_recording(&self, what: &str) -> Result<()> {
        if self.recording.get() {
            return Err(self.failed(format!("{what} within a program that is recorded")));
        }
        Ok(())
    }

    pub(super) fn record(&self) -> Result<()> {
        self.not_recording("a recording")?;
        self.driver.record()?;
        self.recording.set(true);
        Ok(())
    }

    pub(super) fn end_recording(&self) -> Result<u64> {
        self.recording.set(false);
        self.driver.end_recording()
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if self.driver.synchronize().is_ok() {
            for block in self.arena.get_mut().all_blocks() {
                // SAFETY: buffers hold the context, so the last of them is gone.
                unsafe { self.driver.free(block) };
            }
        }
    }
}

/// A range of the arena.
pub(super) struct Memory {
    context: Rc<Context>,
    address: Address,
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.context.arena.borrow_mut().give_back(self.address);
    }
}

/// Values on the device.
#[derive(Clone)]
pub struct Buffer {
    memory: Rc<Memory>,
    length: usize,
    element: Element,
}

impl Buffer {
    /// Room for values.
    pub(super) fn new(context: &Rc<Context>, length: usize, element: Element) -> Result<Buffer> {
        Ok(Buffer { memory: context.memory(length * element.bytes())?, length, element })
    }

    pub(super) fn at(&self) -> Address {
        self.memory.address
    }

    /// The address, after a check that the length is what the shape says.
    pub(super) fn of(&self, length: usize) -> Address {
        assert_eq!(self.length, length, "a buffer has the length that its shape says");
        self.at()
    }

    /// Number of values.
    pub fn length(&self) -> usize {
        self.length
    }

    /// How they are held.
    pub fn element(&self) -> Element {
        self.element
    }

    /// Whether nobody else holds them.
    pub(super) fn is_alone(&self) -> bool {
        Rc::strong_count(&self.memory) == 1
    }
}

/// Whole numbers on the device.
#[derive(Clone)]
pub struct Indices {
    memory: Rc<Memory>,
    length: usize,
}

impl Indices {
    pub(super) fn new(context: &Rc<Context>, length: usize) -> Result<Indices> {
        Ok(Indices { memory: context.memory(length * 4)?, length })
    }

    pub(super) fn at(&self) -> Address {
        self.memory.address
    }

    pub(super) fn of(&self, length: usize) -> Address {
        assert_eq!(self.length, length, "indices have the length that their shape says");
        self.at()
    }

    /// How many.
    pub fn length(&self) -> usize {
        self.length
    }
}

/// A long vector: 32-bit values, and once a product has read them also a copy in bf16, which whatever writes the vector
/// renews.
pub struct Flat {
    context: Rc<Context>,
    address: Address,
    length: usize,
    shadow: OnceCell<Address>,
}

impl Flat {
    pub(super) fn new(context: &Rc<Context>, length: usize) -> Result<Flat> {
        context.not_recording("a new long vector")?;
        let address = match context.driver.allocate(rounded(length * 4)) {
            Err(EngineError::Memory { .. }) => {
                context.release_unused()?;
                context.driver.allocate(rounded(length * 4))?
            }
            other => other?,
        };
        Ok(Flat { context: context.clone(), address, length, shadow: OnceCell::new() })
    }

    /// Number of values.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Where `length` values from `start` on are.
    pub(super) fn part(&self, start: usize, length: usize) -> Address {
        assert!(start + length <= self.length, "a slice lies within its vector");
        self.address + 4 * start as Address
    }

    /// The same in bf16.
    pub(super) fn shadow_part(&self, start: usize, length: usize) -> Result<Address> {
        assert!(start + length <= self.length, "a slice lies within its vector");
        let shadow = match self.shadow.get() {
            Some(shadow) => *shadow,
            None => {
                self.context.not_recording("the first product with a long vector")?;
                let shadow = self.context.driver.allocate(rounded(self.length * 2))?;
                let shadow = *self.shadow.get_or_init(|| shadow);
                self.renew()?;
                shadow
            }
        };
        Ok(shadow + 2 * start as Address)
    }

    /// The copy for a kernel that renews it: null where there is none.
    pub(super) fn shadow_or_null(&self) -> Address {
        self.shadow.get().copied().unwrap_or(0)
    }

    /// The same from `start` on.
    pub(super) fn shadow_from(&self, start: usize) -> Address {
        self.shadow.get().map_or(0, |shadow| *shadow + 2 * start as Address)
    }

    /// Renews the copy, if there is one.
    pub(super) fn renew(&self) -> Result<()> {
        let Some(shadow) = self.shadow.get() else { return Ok(()) };
        let arguments = [self.address.into(), (*shadow).into(), self.length.into()];
        self.context.launch("narrow_values", Grid::each(self.length), &arguments)
    }
}

impl Drop for Flat {
    fn drop(&mut self) {
        // SAFETY: this vector is the only owner of both.
        unsafe {
            self.context.driver.free(self.address);
            if let Some(shadow) = self.shadow.get() {
                self.context.driver.free(*shadow);
            }
        }
    }
}
