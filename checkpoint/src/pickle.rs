//! A pickle, read as data: plain containers and descriptions of tensors, and nothing else.
//!
//! Nothing is imported and nothing is called. A global is a word of a fixed list ([`Global`]); any other global and
//! any other opcode is an error that names it. Values live in one arena and refer to each other by number, so a value
//! that is repeated through the memo is never copied, a list that contains itself does no harm, and dropping a deep
//! nest needs no stack.
//!
//! Source: the opcodes' descriptions in CPython's `pickletools.py`; PyTorch's `torch/serialization.py` for what it
//! writes with them.

mod machine;
mod opcode;
mod value;

pub use value::{Global, Pickle, StorageDescription, TensorDescription, Value, ValueId};

/// Longest pickle, in bytes.
pub const MAX_BYTES: usize = 32 << 20;
/// Most values in one pickle, counting each use of the memo.
pub const MAX_VALUES: usize = 1 << 20;
/// Longest string, in bytes.
pub const MAX_STRING_BYTES: usize = 1 << 20;
/// Most containers that are open at once.
pub const MAX_DEPTH: usize = 256;
/// Most values that the memo keeps.
pub const MAX_MEMO: usize = 1 << 20;
/// Most tensors, and most mentions of a storage, in one pickle.
pub const MAX_TENSORS: usize = 1 << 16;

/// Why a pickle is not read; `at` is the byte at which the opcode starts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PickleError {
    /// The bytes end inside it.
    #[error("the pickle is cut off at byte {at}")]
    CutOff {
        /// Where.
        at: usize,
    },
    /// An opcode that plain data does not need.
    #[error("opcode {name} at byte {at} is not allowed: only tensors and plain containers are read")]
    Opcode {
        /// Where.
        at: usize,
        /// Its name, or its number.
        name: String,
    },
    /// A class or function outside the list.
    #[error("global {name:?} at byte {at} is not allowed: only tensors and plain containers are read")]
    Global {
        /// Where.
        at: usize,
        /// Module and name.
        name: String,
    },
    /// More of something than one pickle may have.
    #[error("the pickle has more than {most} {what} (byte {at})")]
    Limit {
        /// Where.
        at: usize,
        /// Of what.
        what: &'static str,
        /// The limit.
        most: usize,
    },
    /// Opcodes that do not fit together.
    #[error("the pickle is broken at byte {at}: {reason}")]
    Broken {
        /// Where.
        at: usize,
        /// How.
        reason: &'static str,
    },
}

/// Reads the pickle at the start of `bytes`; what follows its end is left alone.
///
/// # Errors
/// A pickle that is cut off, broken or over a limit of this module, or that asks for anything but data.
pub fn parse(bytes: &[u8]) -> Result<Pickle<'_>, PickleError> {
    machine::Machine::new(&bytes[..bytes.len().min(MAX_BYTES)]).run().map_err(|error| match error {
        PickleError::CutOff { at } if bytes.len() > MAX_BYTES => {
            PickleError::Limit { at, what: "bytes", most: MAX_BYTES }
        }
        error => error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(bytes: &[u8]) -> String {
        parse(bytes).map(|_| ()).unwrap_err().to_string()
    }

    /// `MARK`, then `item` as many times, then `tail`.
    fn repeated(item: &[u8], times: usize, tail: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x80\x02".to_vec();
        for _ in 0..times {
            bytes.extend(item);
        }
        bytes.extend(tail);
        bytes
    }

    #[test]
    fn plain_containers_are_read() {
        // {'a': [1, -2, 1.5, None, True], 'b': ('x',)} with memo, in protocol 2
        let bytes = b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01]q\x02(K\x01J\xfe\xff\xff\xffG\x3f\xf8\0\0\0\0\0\0N\x88e\
            X\x01\x00\x00\x00bq\x03X\x01\x00\x00\x00xq\x04\x85q\x05u.rest";
        let pickle = parse(bytes).unwrap();
        assert_eq!(pickle.length(), bytes.len() - 4);
        let a = pickle.get(pickle.root(), "a").unwrap();
        let items: Vec<_> = pickle.items(a).unwrap().iter().map(|id| pickle.value(*id).clone()).collect();
        assert_eq!(items, [Value::Int(1), Value::Int(-2), Value::Float(1.5), Value::None, Value::Bool(true)]);
        let b = pickle.items(pickle.get(pickle.root(), "b").unwrap()).unwrap();
        assert_eq!(pickle.text(b[0]), Some("x"));
        assert_eq!(pickle.get(pickle.root(), "c"), None);
    }

    #[test]
    fn reduce_of_os_system_is_refused_by_name() {
        let message = refused(b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.");
        assert_eq!(
            message,
            "global \"os.system\" at byte 2 is not allowed: only tensors and plain containers are read"
        );
        assert!(refused(b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x02ls\x85R.").contains("\"posix.system\""));
        assert!(refused(b"\x80\x02c__builtin__\neval\n.").contains("\"__builtin__.eval\""));
    }

    #[test]
    fn unknown_globals_are_refused_even_if_unused() {
        assert!(refused(b"\x80\x02comegaconf.dictconfig\nDictConfig\n0N.").contains("omegaconf.dictconfig.DictConfig"));
        assert!(refused(b"\x80\x02cargparse\nNamespace\n)\x81.").contains("argparse.Namespace"));
    }

    #[test]
    fn opcodes_beyond_plain_data_are_refused_by_name() {
        assert!(refused(b"(S'ls'\nios\nsystem\n.").contains("opcode STRING"));
        assert!(refused(b"(ios\nsystem\n.").contains("opcode INST"));
        assert!(refused(b"\x80\x02\x82\x01.").contains("opcode EXT1"));
        assert!(refused(b"\x80\x02\xff.").contains("opcode 0xff"));
        assert!(refused(b"\x80\x02ccollections\nOrderedDict\n)\x81.").contains("opcode NEWOBJ"));
    }

    #[test]
    fn globals_are_not_called_with_what_they_cannot_take() {
        assert!(refused(b"\x80\x02ctorch\nFloatStorage\n)R.").contains("cannot be called"));
        assert!(refused(b"\x80\x02ccollections\nOrderedDict\nK\x01\x85R.").contains("OrderedDict with arguments"));
        assert!(refused(b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.").contains("_rebuild_tensor_v2"));
        assert!(refused(b"\x80\x02K\x01)R.").contains("cannot be called"));
        assert!(refused(b"\x80\x02K\x01}b.").contains("state"));
        assert!(refused(b"\x80\x02K\x01Q.").contains("persistent id"));
    }

    #[test]
    fn stack_never_goes_below_its_mark_or_its_bottom() {
        for bytes in
            [&b"."[..], b"0.", b"(0.", b"1.", b"2.", b"t.", b"\x85.", b"K\x01(\x85.", b"(K\x01u.", b"]K\x01(e."]
        {
            assert!(parse(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn list_that_contains_itself_and_deep_nests_are_harmless() {
        let pickle = parse(b"\x80\x02]q\x00h\x00a.").unwrap();
        assert_eq!(pickle.items(pickle.root()).unwrap(), [pickle.root()]);
        let deep = repeated(b"\x85", 500_000, b".");
        let deep = [b"N".as_slice(), &deep[2..]].concat();
        drop(parse(&deep).unwrap());
    }

    #[test]
    fn doubling_through_the_memo_and_dup_stays_small() {
        // each round makes a pair of the last pair: 2^200000 leaves if copied
        let mut bytes = b"\x80\x02N".to_vec();
        for _ in 0..200_000 {
            bytes.extend(b"q\x00h\x00\x86");
        }
        bytes.push(b'.');
        assert!(parse(&bytes).is_ok());
        let dup = repeated(b"2", MAX_VALUES, b".");
        assert!(refused(&[b"N", &dup[2..]].concat()).contains("more than 1048576 values"));
    }

    #[test]
    fn limits_hold() {
        assert!(refused(&repeated(b"(", MAX_DEPTH + 1, b".")).contains("more than 256 open containers"));
        assert!(refused(&repeated(b"N0", MAX_VALUES + 1, b".")).contains("more than 1048576 values"));
        let long = ((MAX_STRING_BYTES + 1) as u32).to_le_bytes();
        let text = [b"X".as_slice(), &long, &vec![b'a'; MAX_STRING_BYTES + 1], b"."].concat();
        assert!(refused(&text).contains("bytes in a string"));
        assert!(refused(b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff").contains("bytes in a string"));
        assert!(refused(b"\x8b\xff\xff\xff\xff.").contains("broken"));
        let frames = repeated(b"0N", MAX_BYTES / 2, b"");
        assert!(refused(&[b"N", &frames[2..]].concat()).contains("values"));
        let silent = repeated(b"\x80\x02", MAX_BYTES / 2 + 1, b"");
        assert!(refused(&silent).contains("more than 33554432 bytes"));
    }

    #[test]
    fn tensor_descriptions_are_checked() {
        let tensor = |middle: &[u8]| {
            [
                b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000",
                b"X\x03\0\0\0cpuK\x06tQ".as_slice(),
                middle,
                b"\x89ccollections\nOrderedDict\n)RtR.",
            ]
            .concat()
        };
        let bytes = tensor(b"K\x01K\x02K\x03\x86K\x03K\x01\x86");
        let pickle = parse(&bytes).unwrap();
        let found = pickle.tensor(pickle.root()).unwrap();
        assert_eq!((found.offset, &found.shape, &found.strides), (1, &vec![2, 3], &vec![3, 1]));
        assert_eq!((found.storage.key, found.storage.count), ("0", 6));
        for cut in 0..bytes.len() {
            assert!(parse(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        assert!(refused(&tensor(b"J\xff\xff\xff\xffK\x02\x85K\x01\x85")).contains("broken"));
        assert!(refused(&tensor(b"K\x00J\xff\xff\xff\xff\x85K\x01\x85")).contains("broken"));
        assert!(refused(&tensor(b"K\x00NK\x01\x85")).contains("broken"));
    }
}
