//! Segments: append-only files of records, from which alone a pool can be rebuilt.
//!
//! A segment is a 64-byte header, then records (a 64-byte header and the encoded bytes each), then,
//! once sealed, a footer record that lists the others and a 64-byte trailer at the very end.
//! Invariants: a record's header has a checksum of its own, so its length can be trusted before its bytes are
//! read; a record knows its own offset, so a record that was written to a wrong place is noticed;
//! gaps are filled with [`Kind::Pad`] records, never left. This file knows the bytes, not the files.

use crate::codec::{Codec, decode_into};
use crate::digest::Digest;
use crate::error::{FormatError, Result};
use crate::layout::{Layout, check_crc, check_magic, check_range, check_version, encode_sealed, need, unseal};
use bytes::Bytes;
use uuid::Uuid;

/// "Understudy SEGment".
pub const SEGMENT_MAGIC: [u8; 4] = *b"USEG";
/// "Understudy RECord".
pub const RECORD_MAGIC: [u8; 4] = *b"UREC";
/// "Understudy segment END".
pub const TRAILER_MAGIC: [u8; 4] = *b"UEND";
/// The segment layout that this program writes and reads.
pub const SEGMENT_VERSION: u16 = 1;
/// Records start at multiples of this, bytes, so that copies of their bytes are between aligned addresses.
pub const RECORD_ALIGNMENT: u64 = 64;
/// Appends are padded to this, bytes, so that direct I/O never rewrites what is durable.
pub const ALIGNMENT: u64 = 4096;
/// Most bytes of a record's content and of its encoded form.
pub const RECORD_MAX: u32 = 16 << 20;
/// Most bytes of a segment: footers hold 32-bit record counts and stay below [`RECORD_MAX`].
pub const SEGMENT_MAX: u64 = 1 << 30;

crate::layout! {
    /// The first bytes of a segment.
    pub struct SegmentHeader, 64 {
        /// [`SEGMENT_MAGIC`].
        0 magic: [u8; 4],
        /// [`SEGMENT_VERSION`].
        4 version: u16,
        /// 64: where the first record starts.
        6 header_length: u16,
        /// The pool that the segment belongs to.
        8 pool: Uuid,
        /// The number of the segment, from 1, ascending in the order of creation.
        24 segment: u64,
        /// 0.
        32 reserved: [u8; 28],
        /// CRC-32 of the bytes before.
        60 crc: u32,
    }
}

crate::layout! {
    /// The header of a record.
    pub struct RecordHeader, 64 {
        /// [`RECORD_MAGIC`].
        0 magic: [u8; 4],
        /// See [`Kind`].
        4 kind: u8,
        /// See [`Codec`].
        5 codec: u8,
        /// 0.
        6 reserved: u16,
        /// Bytes of the content.
        8 content_length: u32,
        /// Bytes that follow this header.
        12 stored_length: u32,
        /// Where this header starts, bytes from the start of the segment.
        16 offset: u64,
        /// Of the content; zeros for pads and footers.
        24 digest: Digest,
        /// CRC-32 of the bytes that follow; 0 for pads, whose bytes are not read.
        56 stored_crc: u32,
        /// CRC-32 of the 60 bytes before.
        60 header_crc: u32,
    }
}

crate::layout! {
    /// One entry of a footer: a record of the segment that is no pad.
    pub struct FooterEntry, 56 {
        /// Of the content.
        0 digest: Digest,
        /// Where the record's header starts, bytes from the start of the segment.
        32 offset: u64,
        /// Bytes of the content.
        40 content_length: u32,
        /// Bytes after the record's header.
        44 stored_length: u32,
        /// See [`Kind`].
        48 kind: u8,
        /// See [`Codec`].
        49 codec: u8,
        /// 0.
        50 reserved: [u8; 6],
    }
}

crate::layout! {
    /// The last bytes of a sealed segment.
    pub struct Trailer, 64 {
        /// [`TRAILER_MAGIC`].
        0 magic: [u8; 4],
        /// [`SEGMENT_VERSION`].
        4 version: u16,
        /// 0.
        6 reserved: u16,
        /// The number of the segment.
        8 segment: u64,
        /// Where the footer record starts, bytes from the start of the segment.
        16 footer_offset: u64,
        /// Entries of the footer.
        24 footer_entries: u64,
        /// Bytes of the whole file, this trailer included.
        32 file_length: u64,
        /// 0.
        40 reserved_tail: [u8; 20],
        /// CRC-32 of the bytes before.
        60 crc: u32,
    }
}

/// What a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A block's content.
    Block = 1,
    /// A map page.
    Page = 2,
    /// A volume record (`point::VolumeRecord`).
    Volume = 3,
    /// A point record (`point::PointRecord`): the commit of a point.
    Point = 4,
    /// Nothing: fills the gap to the next aligned offset.
    Pad = 5,
    /// The list of the segment's other records.
    Footer = 6,
    /// A removal (`catalogue::RemovalRecord`): a point is gone.
    Removal = 7,
    /// A protection (`catalogue::ProtectionRecord`): whether retention may remove a point.
    Protection = 8,
    /// The settings of a volume (`catalogue::SettingsRecord`).
    Settings = 9,
    /// How far a stream came (`session::ProgressRecord`).
    Progress = 10,
    /// The points of a group (`point::encode_points`): their commit.
    Points = 11,
}

impl Kind {
    /// The kind for its number in a header; `None` for kinds of later versions, which are passed over.
    pub fn from_wire(number: u8) -> Option<Self> {
        use Kind::*;
        let all = [Block, Page, Volume, Point, Pad, Footer, Removal, Protection, Settings, Progress, Points];
        all.into_iter().find(|kind| *kind as u8 == number)
    }

    /// The digest that content of this kind has.
    pub fn digest(self, content: &[u8]) -> Digest {
        match self {
            Self::Block => Digest::of_block(content),
            Self::Page => Digest::of_page(content),
            Self::Pad | Self::Footer => Digest::ZERO,
            _ => Digest::of_record(content),
        }
    }
}

impl SegmentHeader {
    /// The header of segment number `segment` of `pool`.
    pub fn new(pool: Uuid, segment: u64) -> Self {
        Self {
            magic: SEGMENT_MAGIC,
            version: SEGMENT_VERSION,
            header_length: Self::SIZE as u16,
            pool,
            segment,
            reserved: [0; 28],
            crc: 0,
        }
    }

    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        encode_sealed(self)
    }

    /// Reads and checks the first bytes of a segment.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let header = Self::get(bytes)?;
        check_magic("segment", header.magic, SEGMENT_MAGIC)?;
        check_version("segment", header.version, SEGMENT_VERSION)?;
        unseal("segment header", &bytes[..Self::SIZE])?;
        check_range("segment header", "length", header.header_length.into(), 64, 64)?;
        Ok(header)
    }
}

impl RecordHeader {
    /// Bytes from the start of this record to that of the next: zeros fill it up to [`RECORD_ALIGNMENT`].
    pub fn record_length(&self) -> u64 {
        (Self::SIZE as u64 + u64::from(self.stored_length)).next_multiple_of(RECORD_ALIGNMENT)
    }

    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        encode_sealed(self)
    }

    /// Reads and checks the header that should start at `offset` of a segment.
    pub fn decode(bytes: &[u8], offset: u64) -> Result<Self> {
        let header = Self::get(bytes)?;
        check_magic("record", header.magic, RECORD_MAGIC)?;
        unseal("record header", &bytes[..Self::SIZE])?;
        check_range("record", "content length", header.content_length.into(), 0, RECORD_MAX.into())?;
        check_range("record", "stored length", header.stored_length.into(), 0, RECORD_MAX.into())?;
        check_range("record", "offset", header.offset, offset, offset)?;
        Codec::from_wire(header.codec)?;
        Ok(header)
    }

    /// This record in the footer of its segment.
    pub fn footer_entry(&self) -> FooterEntry {
        FooterEntry {
            digest: self.digest,
            offset: self.offset,
            content_length: self.content_length,
            stored_length: self.stored_length,
            kind: self.kind,
            codec: self.codec,
            reserved: [0; 6],
        }
    }

    /// Checks the bytes after the header against their checksum, and returns those of the record.
    pub fn check_stored<'a>(&self, stored: &'a [u8]) -> Result<&'a [u8]> {
        need("record", stored, self.stored_length as usize)?;
        let stored = &stored[..self.stored_length as usize];
        check_crc("record", self.stored_crc, crc32fast::hash(stored))?;
        Ok(stored)
    }

    /// The content of the record, decoded and checked against its checksum and digest.
    ///
    /// `stored` may go on after the record's bytes.
    pub fn content(&self, stored: &[u8]) -> Result<Vec<u8>> {
        let stored = self.check_stored(stored)?;
        let mut content = vec![0; self.content_length as usize];
        decode_into(Codec::from_wire(self.codec)?, stored, &mut content)?;
        self.check_content(&content).map(|()| content)
    }

    /// As [`RecordHeader::content`], without a copy where the content is stored as it is.
    pub fn shared_content(&self, stored: &Bytes) -> Result<Bytes> {
        let own = self.check_stored(stored)?;
        if Codec::from_wire(self.codec)? != Codec::Stored || self.content_length != self.stored_length {
            return self.content(stored).map(Bytes::from);
        }
        self.check_content(own).map(|()| stored.slice_ref(own))
    }

    fn check_content(&self, content: &[u8]) -> Result<()> {
        let kind = Kind::from_wire(self.kind).ok_or_else(|| FormatError::invalid("record", "of an unknown kind"))?;
        match kind.digest(content) {
            computed if computed == self.digest => Ok(()),
            computed => Err(FormatError::Digest { what: "record", expected: self.digest, computed }),
        }
    }
}

/// A record about to be appended: what it holds, already encoded.
#[derive(Debug, Clone, Copy)]
pub struct NewRecord<'a> {
    /// What it holds.
    pub kind: Kind,
    /// How `stored` is encoded.
    pub codec: Codec,
    /// Of the content.
    pub digest: Digest,
    /// Bytes of the content.
    pub content_length: u32,
    /// The encoded content.
    pub stored: &'a [u8],
}

impl NewRecord<'_> {
    /// Bytes from the start of this record to that of the next.
    pub fn length(&self) -> u64 {
        (RecordHeader::SIZE as u64 + self.stored.len() as u64).next_multiple_of(RECORD_ALIGNMENT)
    }

    /// The header of this record at `offset` of its segment.
    pub fn header(&self, offset: u64) -> RecordHeader {
        RecordHeader {
            magic: RECORD_MAGIC,
            kind: self.kind as u8,
            codec: self.codec as u8,
            reserved: 0,
            content_length: self.content_length,
            stored_length: self.stored.len() as u32,
            offset,
            digest: self.digest,
            stored_crc: crc32fast::hash(self.stored),
            header_crc: 0,
        }
    }
}

/// The header of a pad that starts at `offset` and fills the segment up to a multiple of
/// [`ALIGNMENT`] after `reserve` more bytes; `None` when there is no gap.
///
/// Both are multiples of [`RECORD_ALIGNMENT`], so a gap has room for the header.
pub fn pad_header(offset: u64, reserve: u64) -> Option<RecordHeader> {
    let gap = (offset + reserve).next_multiple_of(ALIGNMENT) - (offset + reserve);
    let stored_length = gap.checked_sub(RecordHeader::SIZE as u64)? as u32;
    let pad = NewRecord { kind: Kind::Pad, codec: Codec::Stored, digest: Digest::ZERO, content_length: 0, stored: &[] };
    Some(RecordHeader { stored_length, stored_crc: 0, ..pad.header(offset) })
}

impl Trailer {
    /// The trailer of a segment of `file_length` bytes whose footer record starts at `footer_offset`.
    pub fn new(segment: u64, footer_offset: u64, footer_entries: u64, file_length: u64) -> Self {
        Self {
            magic: TRAILER_MAGIC,
            version: SEGMENT_VERSION,
            reserved: 0,
            segment,
            footer_offset,
            footer_entries,
            file_length,
            reserved_tail: [0; 20],
            crc: 0,
        }
    }

    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        encode_sealed(self)
    }

    /// Reads and checks the last bytes of a segment file of `file_length` bytes.
    pub fn decode(bytes: &[u8], file_length: u64) -> Result<Self> {
        let trailer = Self::get(bytes)?;
        check_magic("segment trailer", trailer.magic, TRAILER_MAGIC)?;
        check_version("segment trailer", trailer.version, SEGMENT_VERSION)?;
        unseal("segment trailer", &bytes[..Self::SIZE])?;
        check_range("segment trailer", "file length", trailer.file_length, file_length, file_length)?;
        check_range("segment trailer", "footer offset", trailer.footer_offset, 64, file_length)?;
        check_range("segment trailer", "footer entries", trailer.footer_entries, 0, footer_entries_max())?;
        Ok(trailer)
    }
}

/// Most entries of a footer: a segment is sealed before it would have more.
pub fn footer_entries_max() -> u64 {
    u64::from(RECORD_MAX) / FooterEntry::SIZE as u64
}

/// The content of a footer record.
pub fn encode_footer(entries: &[FooterEntry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(entries.len() * FooterEntry::SIZE);
    entries.iter().for_each(|entry| entry.put(&mut out));
    out
}

/// Reads the content of a footer record.
pub fn decode_footer(content: &[u8]) -> Result<Vec<FooterEntry>> {
    match content.len() % FooterEntry::SIZE {
        0 => content.chunks_exact(FooterEntry::SIZE).map(FooterEntry::get).collect(),
        count => Err(FormatError::LeftOver { what: "segment footer", count: count as u64 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_out_of_a_longer_buffer() {
        let (content, digest) = ([7; 512], Digest::of_block(&[7; 512]));
        let new = NewRecord { kind: Kind::Block, codec: Codec::Stored, digest, content_length: 512, stored: &content };
        let longer = [&content[..], b"the next record"].concat();
        assert_eq!(new.header(64).content(&longer), Ok(content.to_vec()));
    }
}
