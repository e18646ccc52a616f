//! Big-endian fields: a reading cursor that names the message it reads, and text with its length.
//!
//! Invariant: the cursor never allocates more than the bytes it was given. It must not skip
//! anything: what is left over is an error of [`Cursor::finish`].

use bytes::BufMut;

use super::{TEXT_LEN_MAX, WireError};

/// Reads the fields of one complete message.
pub(super) struct Cursor<'a> {
    what: &'static str,
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(what: &'static str, rest: &'a [u8]) -> Self {
        Self { what, rest }
    }

    pub(super) fn bytes(&mut self, need: usize) -> Result<&'a [u8], WireError> {
        let have = self.rest.len();
        let truncated = WireError::Truncated { what: self.what, need, have };
        let (head, rest) = self.rest.split_at_checked(need).ok_or(truncated)?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(array)
    }

    pub(super) fn u16(&mut self) -> Result<u16, WireError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, WireError> {
        self.array().map(u64::from_be_bytes)
    }

    /// A string preceded by its length in 32 bits.
    pub(super) fn text32(&mut self) -> Result<String, WireError> {
        let len = self.u32()? as usize;
        self.text(len)
    }

    /// All that is left, as a string.
    pub(super) fn rest_as_text(&mut self) -> Result<String, WireError> {
        self.text(self.rest.len())
    }

    pub(super) fn text(&mut self, len: usize) -> Result<String, WireError> {
        let what = self.what;
        if len > TEXT_LEN_MAX {
            let (length, limit) = (len as u64, TEXT_LEN_MAX as u64);
            return Err(WireError::TooLong { what, length, limit });
        }
        let bytes = self.bytes(len)?.to_vec();
        String::from_utf8(bytes).map_err(|_| WireError::NotText { what })
    }

    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn finish(self) -> Result<(), WireError> {
        match self.rest.len() {
            0 => Ok(()),
            extra => Err(WireError::Trailing { what: self.what, extra }),
        }
    }
}

/// Compares a magic number that may be narrower than 64 bits.
pub(super) fn expect_magic(what: &'static str, found: impl Into<u64>, magic: impl Into<u64>) -> Result<(), WireError> {
    let found = found.into();
    if found == magic.into() { Ok(()) } else { Err(WireError::BadMagic { what, found }) }
}

/// The longest start of `text` that may be sent: at most [`TEXT_LEN_MAX`] bytes of whole characters.
pub(super) fn clipped(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_LEN_MAX)]
}

/// Writes a string preceded by its length in 32 bits.
pub(super) fn put_text32(out: &mut impl BufMut, text: &str) {
    let text = clipped(text);
    out.put_u32(text.len() as u32);
    out.put_slice(text.as_bytes());
}
