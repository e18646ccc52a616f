//! How structures become bytes: little-endian, at fixed offsets, written down once.
//!
//! [`layout!`] declares a fixed-size structure with the offset of each field; the offsets are
//! checked at compile time, and a test holds them against the tables in `SPEC.md`. Variable parts
//! go through [`Reader`] and [`put_text`]. Invariants: every read is checked against what is left,
//! no allocation is made for a length before that length is known to be there, and bytes left over
//! are an error. Nothing here knows what the bytes mean.

use crate::error::{FormatError, Result};
use uuid::Uuid;

/// A value with a fixed little-endian encoding.
pub trait Field: Sized {
    /// Encoded length, bytes.
    const SIZE: usize;
    /// Appends the encoding.
    fn put(&self, out: &mut Vec<u8>);
    /// Reads the value from exactly [`Field::SIZE`] bytes.
    fn get(bytes: &[u8]) -> Self;
}

macro_rules! integer_field {
    ($($t:ty),*) => {$(
        impl Field for $t {
            const SIZE: usize = size_of::<$t>();
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn get(bytes: &[u8]) -> Self {
                Self::from_le_bytes(bytes.try_into().expect("caller passes SIZE bytes"))
            }
        }
    )*};
}
integer_field!(u8, u16, u32, u64, i64);

impl<const N: usize> Field for [u8; N] {
    const SIZE: usize = N;
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
    fn get(bytes: &[u8]) -> Self {
        bytes.try_into().expect("caller passes SIZE bytes")
    }
}

impl Field for Uuid {
    const SIZE: usize = 16;
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }
    fn get(bytes: &[u8]) -> Self {
        Self::from_bytes(bytes.try_into().expect("caller passes SIZE bytes"))
    }
}

/// One row of a layout table: a field's name, offset and size in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The field's name, as in SPEC.md.
    pub name: &'static str,
    /// Bytes from the start of the structure.
    pub offset: usize,
    /// Bytes.
    pub size: usize,
}

/// A structure declared with [`layout!`].
pub trait Layout: Sized {
    /// The name of the table in SPEC.md.
    const NAME: &'static str;
    /// Encoded length, bytes.
    const SIZE: usize;
    /// The table.
    const ROWS: &'static [Row];
    /// Appends the encoding.
    fn put(&self, out: &mut Vec<u8>);
    /// Reads the structure from the first [`Layout::SIZE`] bytes; the rest is the caller's.
    fn get(bytes: &[u8]) -> Result<Self>;
}

/// Declares a structure, its offsets and its table; see the module documentation.
#[macro_export]
macro_rules! layout {
    ($(#[$meta:meta])* pub struct $name:ident, $size:literal {
        $($(#[$fmeta:meta])* $offset:literal $field:ident: $t:ty,)*
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name { $($(#[$fmeta])* pub $field: $t,)* }

        const _: () = {
            let mut at = 0;
            $(assert!(at == $offset); at += <$t as $crate::layout::Field>::SIZE;)*
            assert!(at == $size);
        };

        impl $crate::layout::Layout for $name {
            const NAME: &'static str = stringify!($name);
            const SIZE: usize = $size;
            const ROWS: &'static [$crate::layout::Row] = &[$($crate::layout::Row {
                name: stringify!($field), offset: $offset, size: <$t as $crate::layout::Field>::SIZE,
            },)*];
            fn put(&self, out: &mut Vec<u8>) {
                $($crate::layout::Field::put(&self.$field, out);)*
            }
            fn get(bytes: &[u8]) -> $crate::error::Result<Self> {
                $crate::layout::need(stringify!($name), bytes, $size)?;
                Ok(Self { $($field: <$t as $crate::layout::Field>::get(
                    &bytes[$offset..$offset + <$t as $crate::layout::Field>::SIZE]),)* })
            }
        }
    };
}

/// Fails unless `bytes` holds at least `needed`.
pub fn need(what: &'static str, bytes: &[u8], needed: usize) -> Result<()> {
    match bytes.len() >= needed {
        true => Ok(()),
        false => Err(FormatError::Truncated { what, needed: needed as u64, found: bytes.len() as u64 }),
    }
}

/// Fails unless the magic is the expected one.
pub fn check_magic(what: &'static str, found: [u8; 4], expected: [u8; 4]) -> Result<()> {
    let show = |magic: [u8; 4]| magic.escape_ascii().to_string();
    match found == expected {
        true => Ok(()),
        false => Err(FormatError::Magic { what, expected: show(expected), found: show(found) }),
    }
}

/// Fails unless the version is the one that this program reads.
pub fn check_version(what: &'static str, found: u16, supported: u16) -> Result<()> {
    match found == supported {
        true => Ok(()),
        false => Err(FormatError::Version { what, supported, found }),
    }
}

/// Fails unless `min <= found <= max`.
pub fn check_range(what: &'static str, field: &'static str, found: u64, min: u64, max: u64) -> Result<()> {
    match (min..=max).contains(&found) {
        true => Ok(()),
        false => Err(FormatError::Range { what, field, found, min, max }),
    }
}

/// Fails unless a stored checksum equals the computed one.
pub fn check_crc(what: &'static str, stored: u32, computed: u32) -> Result<()> {
    match stored == computed {
        true => Ok(()),
        false => Err(FormatError::Crc { what, stored, computed }),
    }
}

/// Encodes a structure whose last four bytes are the CRC-32 of all bytes before them.
pub fn encode_sealed<L: Layout>(value: &L) -> Vec<u8> {
    let mut out = Vec::with_capacity(L::SIZE);
    value.put(&mut out);
    seal(&mut out);
    out
}

/// Replaces the last four bytes with the CRC-32 of the bytes before them.
pub fn seal(bytes: &mut [u8]) {
    let body = bytes.len() - 4;
    let crc = crc32fast::hash(&bytes[..body]);
    bytes[body..].copy_from_slice(&crc.to_le_bytes());
}

/// Checks the CRC-32 in the last four bytes, and returns the bytes before them.
pub fn unseal<'a>(what: &'static str, bytes: &'a [u8]) -> Result<&'a [u8]> {
    need(what, bytes, 4)?;
    let (body, crc) = bytes.split_at(bytes.len() - 4);
    check_crc(what, u32::get(crc), crc32fast::hash(body))?;
    Ok(body)
}

/// Appends a text: length in bytes as `u16`, then UTF-8.
pub fn put_text(out: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).expect("texts are limited when they enter the program");
    length.put(out);
    out.extend_from_slice(text.as_bytes());
}

/// Appends a record in a list: length in bytes as `u16`, then its bytes.
pub fn put_record(out: &mut Vec<u8>, record: &[u8]) {
    u16::try_from(record.len()).expect("records are some hundred bytes").put(out);
    out.extend_from_slice(record);
}

/// Reads fields one after another, never past the end.
#[derive(Debug)]
pub struct Reader<'a> {
    what: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader of `bytes`; `what` names them in errors.
    pub fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, rest: bytes }
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        need(self.what, self.rest, count)?;
        let (head, rest) = self.rest.split_at(count);
        self.rest = rest;
        Ok(head)
    }

    /// The next field.
    pub fn field<F: Field>(&mut self) -> Result<F> {
        Ok(F::get(self.take(F::SIZE)?))
    }

    /// The next fixed structure.
    pub fn layout<L: Layout>(&mut self) -> Result<L> {
        L::get(self.take(L::SIZE)?)
    }

    /// The next text (see [`put_text`]), of at most `max` bytes.
    pub fn text(&mut self, field: &'static str, max: usize) -> Result<String> {
        let length = self.field::<u16>()?;
        check_range(self.what, field, length.into(), 0, max as u64)?;
        let bytes = self.take(length.into())?;
        let text = std::str::from_utf8(bytes);
        text.map(str::to_owned).map_err(|_| FormatError::invalid(self.what, format!("{field} is not UTF-8")))
    }

    /// The next record in a list (see [`put_record`]).
    pub fn record(&mut self) -> Result<&'a [u8]> {
        let length = self.field::<u16>()?;
        self.take(length.into())
    }

    /// A list: its length as `u32`, at most `max`, then that many items.
    pub fn list<T>(&mut self, field: &'static str, max: u32, item: impl Fn(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let count = self.field::<u32>()?;
        check_range(self.what, field, count.into(), 0, max.into())?;
        (0..count).map(|_| item(self)).collect()
    }

    /// Fails when bytes are left over.
    pub fn finish(self) -> Result<()> {
        match self.rest.len() {
            0 => Ok(()),
            count => Err(FormatError::LeftOver { what: self.what, count: count as u64 }),
        }
    }
}
