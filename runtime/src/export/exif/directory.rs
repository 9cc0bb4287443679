//! A directory of a TIFF: tags and their values.
//!
//! Source: TIFF 6.0, section 2.

use std::collections::BTreeMap;

/// Bytes of an entry.
const ENTRY: usize = 12;

/// Which byte of a number comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Little,
    Big,
}

impl Order {
    /// That of a TIFF; nothing where it is none.
    pub(super) fn of(tiff: &[u8]) -> Option<Order> {
        match tiff.first_chunk()? {
            b"II*\0" => Some(Order::Little),
            b"MM\0*" => Some(Order::Big),
            _ => None,
        }
    }

    pub(super) fn number(self, bytes: [u8; 4]) -> u32 {
        if self == Order::Little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) }
    }

    pub(super) fn bytes(self, number: u32) -> [u8; 4] {
        if self == Order::Little { number.to_le_bytes() } else { number.to_be_bytes() }
    }

    fn short(self, bytes: [u8; 2]) -> u16 {
        if self == Order::Little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) }
    }

    fn short_bytes(self, number: u16) -> [u8; 2] {
        if self == Order::Little { number.to_le_bytes() } else { number.to_be_bytes() }
    }
}

/// What a tag says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Ascii(Vec<u8>),
    Byte(Vec<u8>),
    Undefined(Vec<u8>),
    Short(u16),
    Rational(Vec<[u32; 2]>),
    /// The place of another directory.
    Directory(u32),
    /// As a camera wrote it: type and number of values, and the four bytes that are a value or its place.
    Kept {
        kind: u16,
        count: u32,
        field: [u8; 4],
    },
}

impl Value {
    pub(super) fn text(text: &str) -> Value {
        Value::Ascii([text.as_bytes(), b"\0"].concat())
    }

    /// Its type, how many there are, and their bytes.
    fn coded(&self, order: Order) -> (u16, u32, Vec<u8>) {
        let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        match self {
            Value::Byte(bytes) => (1, count(bytes.len()), bytes.clone()),
            Value::Ascii(bytes) => (2, count(bytes.len()), bytes.clone()),
            Value::Short(number) => (3, 1, order.short_bytes(*number).to_vec()),
            Value::Directory(place) => (4, 1, order.bytes(*place).to_vec()),
            Value::Rational(parts) => {
                (5, count(parts.len()), parts.iter().flatten().flat_map(|part| order.bytes(*part)).collect())
            }
            Value::Undefined(bytes) => (7, count(bytes.len()), bytes.clone()),
            Value::Kept { kind, count, field } => (*kind, *count, field.to_vec()),
        }
    }
}

/// Tags with their values, in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Directory {
    entries: BTreeMap<u16, Value>,
    /// The place of the next directory, which of a picture's first one is the thumbnail's.
    pub(super) next: [u8; 4],
}

impl Directory {
    /// The directory at a place; nothing where it does not lie in the TIFF. Values may still point out of it.
    pub(super) fn read(tiff: &[u8], order: Order, place: u32) -> Option<Directory> {
        let bytes = tiff.get(usize::try_from(place).ok()?..)?;
        let (count, rest) = bytes.split_first_chunk()?;
        let (coded, rest) = rest.split_at_checked(usize::from(order.short(*count)) * ENTRY)?;
        let mut entries = BTreeMap::new();
        for entry in coded.as_chunks::<ENTRY>().0 {
            let [tag_0, tag_1, kind_0, kind_1, count @ .., a, b, c, d] = *entry;
            let kind = order.short([kind_0, kind_1]);
            let value = Value::Kept { kind, count: order.number(count), field: [a, b, c, d] };
            entries.entry(order.short([tag_0, tag_1])).or_insert(value);
        }
        Some(Directory { entries, next: rest.first_chunk().copied().unwrap_or_default() })
    }

    pub(super) fn has(&self, tag: u16) -> bool {
        self.entries.contains_key(&tag)
    }

    pub(super) fn set(&mut self, tag: u16, value: Value) {
        self.entries.insert(tag, value);
    }

    /// Sets what is not there.
    pub(super) fn add(&mut self, tag: u16, value: Value) {
        self.entries.entry(tag).or_insert(value);
    }

    /// Where the directory is that a tag names.
    pub(super) fn place(&self, tag: u16, order: Order) -> Option<u32> {
        match self.entries.get(&tag)? {
            Value::Kept { field, .. } => Some(order.number(*field)),
            Value::Directory(place) => Some(*place),
            _ => None,
        }
    }

    /// As it stands at a place: the entries, and behind them what does not fit into four bytes.
    pub(super) fn coded(&self, order: Order, place: u32) -> Vec<u8> {
        let count = u16::try_from(self.entries.len()).unwrap_or(u16::MAX);
        let mut entries = order.short_bytes(count).to_vec();
        let mut rest = Vec::new();
        let rest_at = place.saturating_add(2 + 4 + u32::from(count) * 12);
        for (tag, value) in self.entries.iter().take(usize::from(count)) {
            let (kind, count, mut bytes) = value.coded(order);
            entries.extend(order.short_bytes(*tag));
            entries.extend(order.short_bytes(kind));
            entries.extend(order.bytes(count));
            if bytes.len() <= 4 {
                bytes.resize(4, 0);
                entries.extend(bytes);
            } else {
                entries.extend(order.bytes(rest_at.saturating_add(u32::try_from(rest.len()).unwrap_or(u32::MAX))));
                // Values begin at even places.
                bytes.resize(bytes.len().next_multiple_of(2), 0);
                rest.extend(bytes);
            }
        }
        entries.extend(self.next);
        entries.extend(rest);
        entries
    }

    #[cfg(test)]
    pub(super) fn short(&self, tag: u16, order: Order) -> Option<u16> {
        let Value::Kept { field, .. } = self.entries.get(&tag)? else { return None };
        Some(order.short([field[0], field[1]]))
    }

    /// Bytes of texts and of what is undefined; of rationals the first ones.
    #[cfg(test)]
    pub(super) fn content(&self, tag: u16, tiff: &[u8], order: Order) -> Option<Vec<u8>> {
        let Value::Kept { count, field, .. } = self.entries.get(&tag)? else { return None };
        let count = usize::try_from(*count).ok()?;
        let place = usize::try_from(order.number(*field)).ok()?;
        if count <= 4 { Some(field[..count].to_vec()) } else { Some(tiff.get(place..place + count)?.to_vec()) }
    }
}
