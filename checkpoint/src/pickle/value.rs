//! What a pickle holds.

use crate::tensor::Dtype;

/// A value of one [`Pickle`], by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueId(pub(super) u32);

/// One value; containers name their members.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An integer of at most 64 bits.
    Int(i64),
    /// A longer integer: two's complement, lowest byte first.
    LongInt(&'a [u8]),
    /// A float.
    Float(f64),
    /// A string.
    Text(&'a str),
    /// A list.
    List(Vec<ValueId>),
    /// A tuple, or a `torch.Size`.
    Tuple(Vec<ValueId>),
    /// A `dict` or an `OrderedDict`: keys and values in the order in which they were set.
    Dict(Vec<(ValueId, ValueId)>),
    /// A class or function of the list.
    Global(Global),
    /// A `torch.device`, which says nothing about the values.
    Device,
    /// A storage, by its place among [`Pickle`]'s storages.
    Storage(u32),
    /// A tensor, by its place among [`Pickle`]'s tensors.
    Tensor(u32),
}

/// The classes and functions that a pickle may name; none is ever called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Global {
    /// `collections.OrderedDict`.
    OrderedDict,
    /// `torch._utils._rebuild_tensor_v2`, or the older `_rebuild_tensor`.
    RebuildTensor,
    /// `torch._utils._rebuild_parameter`.
    RebuildParameter,
    /// `torch.Size`.
    Size,
    /// `torch.device`.
    Device,
    /// A storage class, such as `torch.FloatStorage`.
    Storage(Dtype),
}

impl Global {
    /// The global of this name, if the list has it.
    pub(super) fn named(module: &str, name: &str) -> Option<Global> {
        Some(match (module, name) {
            ("collections", "OrderedDict") => Global::OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => Global::RebuildTensor,
            ("torch._utils", "_rebuild_parameter") => Global::RebuildParameter,
            ("torch", "Size") => Global::Size,
            ("torch", "device") => Global::Device,
            ("torch.storage" | "torch", "UntypedStorage") => Global::Storage(Dtype::U8),
            ("torch", storage) => Global::Storage(match storage {
                "FloatStorage" => Dtype::F32,
                "DoubleStorage" => Dtype::F64,
                "HalfStorage" => Dtype::F16,
                "BFloat16Storage" => Dtype::Bf16,
                "LongStorage" => Dtype::I64,
                "IntStorage" => Dtype::I32,
                "ShortStorage" => Dtype::I16,
                "CharStorage" => Dtype::I8,
                "ByteStorage" => Dtype::U8,
                "BoolStorage" => Dtype::Bool,
                _ => return None,
            }),
            _ => return None,
        })
    }
}

/// A storage as a persistent id describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StorageDescription<'a> {
    /// How its elements are stored.
    pub dtype: Dtype,
    /// Its name among the file's storages.
    pub key: &'a str,
    /// Its elements.
    pub count: u64,
}

/// A tensor as a view of a storage; whether it fits is for the reader of the storages to check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorDescription<'a> {
    /// What it is a view of.
    pub storage: StorageDescription<'a>,
    /// First element.
    pub offset: u64,
    /// Length of each axis.
    pub shape: Vec<usize>,
    /// Elements between neighbours on each axis.
    pub strides: Vec<usize>,
}

/// A pickle's values.
#[derive(Debug)]
pub struct Pickle<'a> {
    pub(super) values: Vec<Value<'a>>,
    pub(super) storages: Vec<StorageDescription<'a>>,
    pub(super) tensors: Vec<TensorDescription<'a>>,
    pub(super) root: ValueId,
    pub(super) length: usize,
}

impl<'a> Pickle<'a> {
    /// The value that the pickle is of.
    pub fn root(&self) -> ValueId {
        self.root
    }

    /// Bytes that the pickle takes.
    pub fn length(&self) -> usize {
        self.length
    }

    /// A value.
    ///
    /// # Panics
    /// If `id` is of another pickle.
    pub fn value(&self, id: ValueId) -> &Value<'a> {
        &self.values[id.0 as usize]
    }

    /// A string.
    pub fn text(&self, id: ValueId) -> Option<&'a str> {
        match self.value(id) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Members of a list or a tuple.
    pub fn items(&self, id: ValueId) -> Option<&[ValueId]> {
        match self.value(id) {
            Value::List(items) | Value::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// Keys and values of a dictionary.
    pub fn entries(&self, id: ValueId) -> Option<&[(ValueId, ValueId)]> {
        match self.value(id) {
            Value::Dict(entries) => Some(entries),
            _ => None,
        }
    }

    /// What a dictionary has under `key`; the last, if it was set more than once.
    pub fn get(&self, id: ValueId, key: &str) -> Option<ValueId> {
        let mut entries = self.entries(id)?.iter().rev();
        entries.find(|(name, _)| self.text(*name) == Some(key)).map(|(_, value)| *value)
    }

    /// A tensor.
    pub fn tensor(&self, id: ValueId) -> Option<&TensorDescription<'a>> {
        match self.value(id) {
            Value::Tensor(index) => self.tensors.get(*index as usize),
            _ => None,
        }
    }

    /// Every storage that is mentioned, once for each mention.
    pub fn storages(&self) -> &[StorageDescription<'a>] {
        &self.storages
    }
}
