//! What goes over a connection: a header of 24 bytes, and the bytes that it announces.

use std::fmt;

/// Bytes of a header.
pub const HEADER_BYTES: usize = 24;
/// Most bytes that follow one header.
pub const MAX_PART_BYTES: usize = 1 << 20;
/// Most bytes of a reason.
pub const MAX_REASON_BYTES: usize = 4096;

/// What a header announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A sign of life, to be passed over.
    Beat,
    /// A rank has come to an operation.
    Call,
    /// All ranks have come to it.
    Go,
    /// Bytes of the operation.
    Part,
    /// The end, with a reason.
    Stop,
}

/// What the ranks do together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    AllReduce,
    AllGather,
    ReduceScatter,
    Broadcast,
    Barrier,
}

const KINDS: [Kind; 5] = [Kind::Beat, Kind::Call, Kind::Go, Kind::Part, Kind::Stop];
const OPERATIONS: [Operation; 5] =
    [Operation::AllReduce, Operation::AllGather, Operation::ReduceScatter, Operation::Broadcast, Operation::Barrier];

/// One operation of a run: all ranks count them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    pub operation: Operation,
    /// How many came before it.
    pub number: u64,
    /// Bytes that each rank brings; of a broadcast zero, since only rank 0 knows.
    pub bytes: u64,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.operation {
            Operation::AllReduce => "all-reduce",
            Operation::AllGather => "all-gather",
            Operation::ReduceScatter => "reduce-scatter",
            Operation::Broadcast => "broadcast",
            Operation::Barrier => "barrier",
        };
        write!(f, "operation {} ({name} of {} bytes)", self.number, self.bytes)
    }
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub kind: Kind,
    pub call: Call,
}

impl Header {
    /// A header that belongs to no operation.
    pub fn outside(kind: Kind, bytes: u64) -> Header {
        Header { kind, call: Call { operation: Operation::Barrier, number: 0, bytes } }
    }

    pub fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&(self.kind as u32).to_le_bytes());
        bytes[4..8].copy_from_slice(&(self.call.operation as u32).to_le_bytes());
        bytes[8..16].copy_from_slice(&self.call.number.to_le_bytes());
        bytes[16..].copy_from_slice(&self.call.bytes.to_le_bytes());
        bytes
    }

    /// Nothing where the bytes are no header.
    pub fn from_bytes(bytes: &[u8; HEADER_BYTES]) -> Option<Header> {
        let (words, _) = bytes.as_chunks::<4>();
        let long = |at: usize| u64::from(word(words[at])) | u64::from(word(words[at + 1])) << 32;
        let kind = KINDS.into_iter().find(|kind| *kind as u32 == word(words[0]))?;
        let operation = OPERATIONS.into_iter().find(|operation| *operation as u32 == word(words[1]))?;
        Some(Header { kind, call: Call { operation, number: long(2), bytes: long(4) } })
    }
}

fn word(bytes: [u8; 4]) -> u32 {
    u32::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back_and_noise_is_none() {
        for kind in KINDS {
            for operation in OPERATIONS {
                let header = Header { kind, call: Call { operation, number: u64::MAX - 1, bytes: 1 << 40 } };
                assert_eq!(Header::from_bytes(&header.to_bytes()), Some(header));
            }
        }
        assert_eq!(Header::from_bytes(&[0xff; HEADER_BYTES]), None);
    }
}
