//! What the engine asks of a GPU: memory, launches, products, recordings.
//!
//! [`Nvidia`](super::nvidia::Nvidia) is the real one. The tests have a second, which runs the same kernels as compiled C++
//! on the host, so that their arithmetic is checked where there is no GPU.

use crate::engine::Result;

/// A place in device memory.
pub type Address = u64;

/// How a value is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    /// 32-bit float.
    F32,
    /// The upper half of one.
    Bf16,
}

impl Element {
    /// Size of a value.
    pub fn bytes(self) -> usize {
        match self {
            Element::F32 => 4,
            Element::Bf16 => 2,
        }
    }
}

/// One argument of a kernel, as its signature has it.
#[derive(Clone, Debug, PartialEq)]
pub enum Argument {
    /// A pointer.
    Address(Address),
    /// `i64`.
    Whole(i64),
    /// `u32`.
    Word(u32),
    /// `float`.
    Real(f32),
    /// A structure by value, in words of 64 bits.
    Structure(Vec<u64>),
}

impl From<Address> for Argument {
    fn from(address: Address) -> Self {
        Argument::Address(address)
    }
}

impl From<usize> for Argument {
    fn from(count: usize) -> Self {
        Argument::Whole(count as i64)
    }
}

impl From<u32> for Argument {
    fn from(word: u32) -> Self {
        Argument::Word(word)
    }
}

impl From<f32> for Argument {
    fn from(real: f32) -> Self {
        Argument::Real(real)
    }
}

/// How many threads run a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Blocks in each direction.
    pub blocks: [usize; 3],
    /// Threads of a block.
    pub threads: usize,
    /// Bytes of shared memory that a block asks for at launch.
    pub shared: usize,
}

impl Grid {
    /// Threads of a block where nothing speaks for another number.
    pub const THREADS: usize = 256;
    /// Most blocks of a kernel whose threads walk over their values.
    const WALKING_BLOCKS: usize = 8192;

    /// Enough threads for `count` values that the kernel walks over.
    pub fn each(count: usize) -> Grid {
        let blocks = count.div_ceil(Grid::THREADS).clamp(1, Grid::WALKING_BLOCKS);
        Grid::blocks(blocks)
    }

    /// A warp for each row.
    pub fn warps(rows: usize) -> Grid {
        Grid::blocks(rows.div_ceil(Grid::THREADS / 32).max(1))
    }

    /// So many blocks of [`Grid::THREADS`].
    pub fn blocks(blocks: usize) -> Grid {
        Grid { blocks: [blocks, 1, 1], threads: Grid::THREADS, shared: 0 }
    }
}

/// A factor of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Factor {
    /// First value.
    pub at: Address,
    /// Whether it is stored as it is used, or with rows and columns exchanged.
    pub stored: Stored,
}

/// How a factor lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stored {
    /// Row by row.
    ByRow,
    /// Column by column.
    ByColumn,
}

/// `out = left right + bias`, or `out += left right`: `[rows, inner]` and `[inner, columns]` -> `[rows, columns]`.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    /// First factor.
    pub left: Factor,
    /// Second factor.
    pub right: Factor,
    /// How both factors are held.
    pub element: Element,
    /// The result, by row.
    pub out: Address,
    /// How it is held.
    pub out_element: Element,
    /// A value for each column, held as the result is.
    pub bias: Option<Address>,
    /// What was in `out` before.
    pub before: Before,
    /// Rows of the result.
    pub rows: usize,
    /// Columns of the result.
    pub columns: usize,
    /// Length of the sums.
    pub inner: usize,
}

/// What a product does with the memory that it writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Before {
    /// Overwrites it.
    Overwritten,
    /// Adds to it.
    Added,
}

/// Whether a product was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Multiplied {
    /// It was.
    Yes,
    /// The library has no algorithm for this shape.
    Unsupported,
}

/// An exchange between the ranks.
#[derive(Clone, Copy, Debug)]
pub enum Collective {
    /// Sum of `count` 32-bit values, in place.
    AllReduce {
        /// First value.
        at: Address,
        /// Number of values.
        count: usize,
    },
    /// Every rank's bytes, in the order of the ranks.
    AllGather {
        /// This rank's.
        from: Address,
        /// All.
        to: Address,
        /// Of one rank.
        bytes: usize,
    },
    /// Sum, of which each rank receives its part.
    ReduceScatter {
        /// All parts.
        from: Address,
        /// This rank's part.
        to: Address,
        /// Values in a part.
        count: usize,
        /// How a value is held.
        element: Element,
    },
}

/// A GPU with one queue of work: whatever is asked for happens after what was asked for before.
///
/// Addresses are those that [`Driver::allocate`] gave.
pub trait Driver {
    /// What a person calls this device.
    fn name(&self) -> String;

    /// Memory, aligned to 256 bytes. With [`Driver::record`] under way it is not part of the recording.
    ///
    /// # Errors
    /// [`EngineError::Memory`](crate::engine::EngineError::Memory) where there is not enough.
    fn allocate(&self, bytes: usize) -> Result<Address>;

    /// Gives memory back once the work that was asked for is done.
    ///
    /// # Safety
    /// The address is from [`Driver::allocate`], and nothing uses it from now on.
    unsafe fn free(&self, at: Address);

    /// Copies from the host; `bytes` may be dropped at once.
    ///
    /// # Safety
    /// At `to` there is room for them.
    unsafe fn to_device(&self, to: Address, bytes: &[u8]) -> Result<()>;

    /// Copies to the host, and waits.
    ///
    /// # Safety
    /// At `from` there are so many bytes.
    unsafe fn to_host(&self, from: Address, bytes: &mut [u8]) -> Result<()>;

    /// Copies within the device.
    ///
    /// # Safety
    /// Both ranges are within allocations and do not overlap.
    unsafe fn copy(&self, from: Address, to: Address, bytes: usize) -> Result<()>;

    /// Sets bytes to zero.
    ///
    /// # Safety
    /// At `at` there is room for them.
    unsafe fn zero(&self, at: Address, bytes: usize) -> Result<()>;

    /// Starts a kernel of `kernels/*.cu`.
    ///
    /// # Safety
    /// The arguments are those of the kernel's signature, and what it reads and writes for them lies within allocations.
    unsafe fn launch(&self, kernel: &'static str, grid: Grid, arguments: &[Argument]) -> Result<()>;

    /// Starts a product.
    ///
    /// # Safety
    /// Factors, bias and result lie within allocations.
    unsafe fn multiply(&self, product: &Product) -> Result<Multiplied>;

    /// Waits for everything asked for.
    fn synchronize(&self) -> Result<()>;

    /// From now on launches, copies within the device and products are noted down instead of done.
    fn record(&self) -> Result<()>;

    /// Ends [`Driver::record`] and gives the recording a number.
    fn end_recording(&self) -> Result<u64>;

    /// Does what was recorded.
    ///
    /// # Safety
    /// The memory that the recording names is still allocated.
    unsafe fn play(&self, recording: u64) -> Result<()>;

    /// Something that names a group of ranks: made by one, given to all.
    fn new_group(&self) -> Result<Vec<u8>>;

    /// Joins a group of ranks; returns when all have.
    fn join(&self, group: &[u8], rank: usize, world: usize) -> Result<()>;

    /// Exchanges with the other ranks of the group.
    ///
    /// # Safety
    /// The ranges lie within allocations; all ranks ask for the same exchange.
    unsafe fn exchange(&self, collective: Collective) -> Result<()>;
}
