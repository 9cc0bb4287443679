//! The stack machine that a pickle is a program for.

use super::value::{Global, Pickle, StorageDescription, TensorDescription, Value, ValueId};
use super::{MAX_DEPTH, MAX_MEMO, MAX_STRING_BYTES, MAX_TENSORS, MAX_VALUES, PickleError, opcode};
use crate::tensor::MAX_RANK;
use std::collections::HashMap;

type Result<T> = std::result::Result<T, PickleError>;

/// Longest module or name of a global, in bytes.
const MAX_GLOBAL_BYTES: usize = 256;

pub struct Machine<'a> {
    bytes: &'a [u8],
    next: usize,
    /// Where the current opcode starts.
    at: usize,
    values: Vec<Value<'a>>,
    storages: Vec<StorageDescription<'a>>,
    tensors: Vec<TensorDescription<'a>>,
    stack: Vec<ValueId>,
    marks: Vec<usize>,
    memo: HashMap<u32, ValueId>,
    pushes: usize,
}

impl<'a> Machine<'a> {
    pub fn new(bytes: &'a [u8]) -> Machine<'a> {
        Machine {
            bytes,
            next: 0,
            at: 0,
            values: Vec::new(),
            storages: Vec::new(),
            tensors: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            pushes: 0,
        }
    }

    pub fn run(mut self) -> Result<Pickle<'a>> {
        loop {
            self.at = self.next;
            let code = self.array::<1>()?[0];
            if code == b'.' {
                let root = self.pop()?;
                let Machine { values, storages, tensors, next: length, .. } = self;
                return Ok(Pickle { values, storages, tensors, root, length });
            }
            self.step(code)?;
        }
    }

    fn step(&mut self, code: u8) -> Result<()> {
        match code {
            0x80 => self.array::<1>().map(drop),
            0x95 => self.array::<8>().map(drop),
            b'(' => self.mark(),
            b'0' => self.pop().map(drop),
            b'1' => self.pop_to_mark().map(drop),
            b'2' => self.top().and_then(|id| self.push(id)),
            b'N' => self.make(Value::None),
            0x88 => self.make(Value::Bool(true)),
            0x89 => self.make(Value::Bool(false)),
            b'K' | b'M' | b'J' | 0x8a | 0x8b => self.integer(code),
            b'G' => self.array().and_then(|b| self.make(Value::Float(f64::from_be_bytes(b)))),
            b'X' | b'T' | b'U' | 0x8c | 0x8d => self.string(code),
            b'}' => self.make(Value::Dict(Vec::new())),
            b']' => self.make(Value::List(Vec::new())),
            b')' => self.make(Value::Tuple(Vec::new())),
            b't' => self.pop_to_mark().and_then(|items| self.make(Value::Tuple(items))),
            0x85..=0x87 => self.pop_many(usize::from(code - 0x84)).and_then(|items| self.make(Value::Tuple(items))),
            b'a' => self.pop().and_then(|item| self.append(vec![item])),
            b'e' => self.pop_to_mark().and_then(|items| self.append(items)),
            b's' => self.pop_many(2).and_then(|items| self.set(&items)),
            b'u' => self.pop_to_mark().and_then(|items| self.set(&items)),
            b'q' | b'r' | 0x94 => self.remember(code),
            b'h' | b'j' => self.recall(code),
            b'c' | 0x93 => self.global(code),
            b'Q' => self.persistent(),
            b'R' => self.reduce(),
            b'b' => self.build(),
            _ => Err(PickleError::Opcode { at: self.at, name: opcode::name(code) }),
        }
    }

    fn integer(&mut self, code: u8) -> Result<()> {
        let value = match code {
            b'K' => i64::from(self.array::<1>()?[0]),
            b'M' => i64::from(u16::from_le_bytes(self.array()?)),
            b'J' => i64::from(i32::from_le_bytes(self.array()?)),
            _ => {
                let length = match code {
                    0x8a => usize::from(self.array::<1>()?[0]),
                    _ => u32::from_le_bytes(self.array()?) as usize,
                };
                if length > MAX_GLOBAL_BYTES {
                    return Err(self.broken("an integer is longer than any number in a checkpoint"));
                }
                let bytes = self.take(length)?;
                if length > 8 {
                    return self.make(Value::LongInt(bytes));
                }
                let sign = if bytes.last().is_some_and(|byte| *byte >= 0x80) { 0xff } else { 0 };
                let mut wide = [sign; 8];
                wide[..length].copy_from_slice(bytes);
                i64::from_le_bytes(wide)
            }
        };
        self.make(Value::Int(value))
    }

    fn string(&mut self, code: u8) -> Result<()> {
        let length = match code {
            b'U' | 0x8c => u64::from(self.array::<1>()?[0]),
            0x8d => u64::from_le_bytes(self.array()?),
            _ => u64::from(u32::from_le_bytes(self.array()?)),
        };
        if length > MAX_STRING_BYTES as u64 {
            return Err(self.limit("bytes in a string", MAX_STRING_BYTES));
        }
        let bytes = self.take(length as usize)?;
        let text = std::str::from_utf8(bytes).map_err(|_| self.broken("a string is not UTF-8"))?;
        self.make(Value::Text(text))
    }

    fn remember(&mut self, code: u8) -> Result<()> {
        let key = match code {
            b'q' => u32::from(self.array::<1>()?[0]),
            b'r' => u32::from_le_bytes(self.array()?),
            _ => self.memo.len() as u32,
        };
        let id = self.top()?;
        if self.memo.len() == MAX_MEMO && !self.memo.contains_key(&key) {
            return Err(self.limit("values in its memo", MAX_MEMO));
        }
        self.memo.insert(key, id);
        Ok(())
    }

    fn recall(&mut self, code: u8) -> Result<()> {
        let key = match code {
            b'h' => u32::from(self.array::<1>()?[0]),
            _ => u32::from_le_bytes(self.array()?),
        };
        let id = *self.memo.get(&key).ok_or_else(|| self.broken("the memo has no such value"))?;
        self.push(id)
    }

    fn global(&mut self, code: u8) -> Result<()> {
        let (module, name) = if code == b'c' {
            (self.line()?, self.line()?)
        } else {
            let names = self.pop_many(2)?;
            match (self.value(names[0]), self.value(names[1])) {
                (Value::Text(module), Value::Text(name)) => (*module, *name),
                _ => return Err(self.broken("the name of a global is not a string")),
            }
        };
        match Global::named(module, name) {
            Some(global) => self.make(Value::Global(global)),
            None => {
                let name = format!("{module}.{name}").chars().take(MAX_GLOBAL_BYTES).collect();
                Err(PickleError::Global { at: self.at, name })
            }
        }
    }

    /// `('storage', class, key, location, elements)`, in legacy files with a view's metadata, which is `None`.
    fn persistent(&mut self) -> Result<()> {
        let id = self.pop()?;
        let storage = match self.value(id) {
            Value::Tuple(items) => match items.as_slice() {
                [kind, class, key, _location, count] => self.storage([*kind, *class, *key, *count]),
                [kind, class, key, _location, count, view] if *self.value(*view) == Value::None => {
                    self.storage([*kind, *class, *key, *count])
                }
                _ => None,
            },
            _ => None,
        };
        let storage = storage.ok_or_else(|| self.broken("a persistent id does not describe a storage"))?;
        if self.storages.len() == MAX_TENSORS {
            return Err(self.limit("mentions of a storage", MAX_TENSORS));
        }
        self.storages.push(storage);
        self.make(Value::Storage(self.storages.len() as u32 - 1))
    }

    fn storage(&self, [kind, class, key, count]: [ValueId; 4]) -> Option<StorageDescription<'a>> {
        match (self.value(kind), self.value(class), self.value(key), self.value(count)) {
            (Value::Text("storage"), Value::Global(Global::Storage(dtype)), Value::Text(key), Value::Int(count)) => {
                Some(StorageDescription { dtype: *dtype, key, count: u64::try_from(*count).ok()? })
            }
            _ => None,
        }
    }

    fn reduce(&mut self) -> Result<()> {
        let call = self.pop_many(2)?;
        let (Value::Global(global), Value::Tuple(arguments)) = (self.value(call[0]), self.value(call[1])) else {
            return Err(self.broken("what is not a global cannot be called"));
        };
        match (*global, arguments.as_slice()) {
            (Global::OrderedDict, []) => self.make(Value::Dict(Vec::new())),
            (Global::OrderedDict, _) => Err(self.broken("an OrderedDict with arguments is not read")),
            (Global::RebuildTensor, [storage, offset, shape, strides, ..]) => {
                let tensor = self
                    .tensor([*storage, *offset, *shape, *strides])
                    .ok_or_else(|| self.broken("_rebuild_tensor_v2 is given what is no tensor"))?;
                if self.tensors.len() == MAX_TENSORS {
                    return Err(self.limit("tensors", MAX_TENSORS));
                }
                self.tensors.push(tensor);
                self.make(Value::Tensor(self.tensors.len() as u32 - 1))
            }
            (Global::RebuildTensor, _) => Err(self.broken("_rebuild_tensor_v2 is given too few arguments")),
            (Global::RebuildParameter, [data, ..]) if matches!(self.value(*data), Value::Tensor(_)) => {
                let data = *data;
                self.push(data)
            }
            (Global::RebuildParameter, _) => Err(self.broken("_rebuild_parameter is given no tensor")),
            (Global::Size, [items]) if matches!(self.value(*items), Value::Tuple(_) | Value::List(_)) => {
                let items = *items;
                self.push(items)
            }
            (Global::Size, _) => Err(self.broken("torch.Size is given no tuple")),
            (Global::Device, _) => self.make(Value::Device),
            (Global::Storage(_), _) => Err(self.broken("a storage class cannot be called")),
        }
    }

    fn tensor(&self, [storage, offset, shape, strides]: [ValueId; 4]) -> Option<TensorDescription<'a>> {
        let (Value::Storage(storage), Value::Int(offset)) = (self.value(storage), self.value(offset)) else {
            return None;
        };
        Some(TensorDescription {
            storage: *self.storages.get(*storage as usize)?,
            offset: u64::try_from(*offset).ok()?,
            shape: self.lengths(shape)?,
            strides: self.lengths(strides)?,
        })
    }

    fn lengths(&self, id: ValueId) -> Option<Vec<usize>> {
        let Value::Tuple(items) = self.value(id) else { return None };
        if items.len() > MAX_RANK {
            return None;
        }
        let lengths = items.iter().map(|item| match self.value(*item) {
            Value::Int(length) => usize::try_from(*length).ok(),
            _ => None,
        });
        lengths.collect()
    }

    /// The state of a state dict is its `_metadata`, which says nothing about the values.
    fn build(&mut self) -> Result<()> {
        self.pop()?;
        let id = self.top()?;
        match self.value(id) {
            Value::Dict(_) => Ok(()),
            _ => Err(self.broken("only a dictionary may be given a state")),
        }
    }

    fn append(&mut self, items: Vec<ValueId>) -> Result<()> {
        let id = self.top()?;
        match &mut self.values[id.0 as usize] {
            Value::List(list) => list.extend(items),
            _ => return Err(self.broken("what is not a list is appended to")),
        }
        Ok(())
    }

    fn set(&mut self, items: &[ValueId]) -> Result<()> {
        let id = self.top()?;
        let (pairs, []) = items.as_chunks::<2>() else {
            return Err(self.broken("a dictionary is given a key without a value"));
        };
        match &mut self.values[id.0 as usize] {
            Value::Dict(entries) => entries.extend(pairs.iter().map(|[key, value]| (*key, *value))),
            _ => return Err(self.broken("what is not a dictionary is given keys")),
        }
        Ok(())
    }

    fn value(&self, id: ValueId) -> &Value<'a> {
        &self.values[id.0 as usize]
    }

    fn make(&mut self, value: Value<'a>) -> Result<()> {
        let id = ValueId(self.values.len() as u32);
        self.push(id)?;
        self.values.push(value);
        Ok(())
    }

    fn push(&mut self, id: ValueId) -> Result<()> {
        if self.pushes == MAX_VALUES {
            return Err(self.limit("values", MAX_VALUES));
        }
        self.pushes += 1;
        self.stack.push(id);
        Ok(())
    }

    fn mark(&mut self) -> Result<()> {
        if self.marks.len() == MAX_DEPTH {
            return Err(self.limit("open containers", MAX_DEPTH));
        }
        self.marks.push(self.stack.len());
        Ok(())
    }

    /// Values above the last mark.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<ValueId> {
        match self.stack.last() {
            Some(id) if self.stack.len() > self.floor() => Ok(*id),
            _ => Err(self.broken("there is no value to use")),
        }
    }

    fn pop(&mut self) -> Result<ValueId> {
        let id = self.top()?;
        self.stack.pop();
        Ok(id)
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<ValueId>> {
        match self.stack.len().checked_sub(count) {
            Some(start) if start >= self.floor() => Ok(self.stack.split_off(start)),
            _ => Err(self.broken("there are too few values to use")),
        }
    }

    fn pop_to_mark(&mut self) -> Result<Vec<ValueId>> {
        let mark = self.marks.pop().ok_or_else(|| self.broken("there is no mark"))?;
        Ok(self.stack.split_off(mark))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let rest = self.bytes.get(self.next..).unwrap_or_default();
        let bytes = rest.first_chunk::<N>().ok_or(PickleError::CutOff { at: self.at })?;
        self.next += N;
        Ok(*bytes)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let rest = self.bytes.get(self.next..).unwrap_or_default();
        let bytes = rest.get(..length).ok_or(PickleError::CutOff { at: self.at })?;
        self.next += length;
        Ok(bytes)
    }

    fn line(&mut self) -> Result<&'a str> {
        let rest = self.bytes.get(self.next..).unwrap_or_default();
        let window = &rest[..rest.len().min(MAX_GLOBAL_BYTES)];
        let Some(length) = window.iter().position(|byte| *byte == b'\n') else {
            return Err(match window.len() == MAX_GLOBAL_BYTES {
                true => self.limit("bytes in the name of a global", MAX_GLOBAL_BYTES),
                false => PickleError::CutOff { at: self.at },
            });
        };
        self.next += length + 1;
        std::str::from_utf8(&window[..length]).map_err(|_| self.broken("the name of a global is not UTF-8"))
    }

    fn broken(&self, reason: &'static str) -> PickleError {
        PickleError::Broken { at: self.at, reason }
    }

    fn limit(&self, what: &'static str, most: usize) -> PickleError {
        PickleError::Limit { at: self.at, what, most }
    }
}
