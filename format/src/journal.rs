//! Journals: what was written to a primary, byte for byte, in order.
//!
//! A journal is one unbroken run of entries, numbered from 1: writes, zeroes, trims and marks. It is kept in files, each of which begins
//! with a [`FileHeader`]; the files of one journal follow each other without a gap. Whatever prefix of it is replayed over the volume as
//! it was when the journal began is the volume at that moment: entries are absolute, so replaying one twice changes nothing, and replaying
//! all of them over a copy that was read meanwhile gives what the volume is at their end. Invariants: an entry counts only when its
//! header and its payload have the checksums that it says, and the number that follows; times never go back.

use crate::error::{FormatError, Result};
use crate::layout::{Layout, check_crc, check_magic, check_range, check_version, encode_sealed, unseal};
use uuid::Uuid;

/// "Understudy JourNaL".
pub const JOURNAL_MAGIC: [u8; 4] = *b"UJNL";
/// The journal layout that this program writes and reads.
pub const JOURNAL_VERSION: u16 = 1;
/// Most bytes of one write; longer ones are several entries.
pub const WRITE_MAX: u64 = 4 << 20;

crate::layout! {
    /// What a file of a journal begins with.
    pub struct JournalHeader, 64 {
        /// [`JOURNAL_MAGIC`].
        0 magic: [u8; 4],
        /// [`JOURNAL_VERSION`].
        4 version: u16,
        /// 0.
        6 reserved: u16,
        /// The journal.
        8 journal: Uuid,
        /// Bytes of the volume.
        24 volume_size: u64,
        /// The number of the first entry of the file, from 1.
        32 first: u64,
        /// When the file came to be, nanoseconds since 1970-01-01T00:00:00Z; no entry of it is older.
        40 created_ns: i64,
        /// 0.
        48 reserved_tail: [u8; 12],
        /// CRC-32 of the bytes before.
        60 crc: u32,
    }
}

crate::layout! {
    /// An entry; of a write, the bytes that were written follow.
    pub struct EntryHeader, 48 {
        /// 1 write, 2 zeroes, 3 trim (reads as zeroes), 4 mark.
        0 kind: u8,
        /// 0.
        1 reserved: [u8; 3],
        /// CRC-32 of the bytes that follow; 0 when there are none.
        4 payload_crc: u32,
        /// The number of the entry in its journal.
        8 sequence: u64,
        /// When it was written, nanoseconds since 1970-01-01T00:00:00Z.
        16 time_ns: i64,
        /// Where in the volume, bytes; 0 in a mark.
        24 offset: u64,
        /// How many bytes of the volume; 0 in a mark.
        32 length: u64,
        /// 0.
        40 reserved_tail: u32,
        /// CRC-32 of the bytes before.
        44 crc: u32,
    }
}

/// A journal, and a number in it: all entries up to this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The journal.
    pub journal: Uuid,
    /// The number of the last entry; 0 before the first.
    pub sequence: u64,
}

/// Fails for the nil UUID, which means that there is no journal.
pub(crate) fn check_named(what: &'static str, journal: Uuid) -> Result<Uuid> {
    match journal.is_nil() {
        true => Err(FormatError::invalid(what, "of a journal without a name")),
        false => Ok(journal),
    }
}

/// What a file of a journal is; see [`JournalHeader`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileHeader {
    /// The journal.
    pub journal: Uuid,
    /// Bytes of the volume.
    pub volume_size: u64,
    /// The number of the first entry of the file, from 1.
    pub first: u64,
    /// When the file came to be, nanoseconds since 1970-01-01T00:00:00Z.
    pub created_ns: i64,
}

impl FileHeader {
    /// The bytes that a file begins with.
    pub fn encode(&self) -> Vec<u8> {
        encode_sealed(&JournalHeader {
            magic: JOURNAL_MAGIC,
            version: JOURNAL_VERSION,
            reserved: 0,
            journal: self.journal,
            volume_size: self.volume_size,
            first: self.first,
            created_ns: self.created_ns,
            reserved_tail: [0; 12],
            crc: 0,
        })
    }

    /// Reads the first [`JournalHeader::SIZE`] bytes of a file.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let header = JournalHeader::get(bytes)?;
        check_magic("journal", header.magic, JOURNAL_MAGIC)?;
        check_version("journal", header.version, JOURNAL_VERSION)?;
        unseal("journal header", &bytes[..JournalHeader::SIZE])?;
        check_range("journal header", "first", header.first, 1, u64::MAX)?;
        let JournalHeader { journal, volume_size, first, created_ns, .. } = header;
        check_named("journal header", journal)?;
        Ok(Self { journal, volume_size, first, created_ns })
    }
}

/// What an entry says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Bytes were written; they follow the header.
    Write {
        /// Bytes.
        offset: u64,
        /// Bytes, 1 to [`WRITE_MAX`].
        length: u64,
    },
    /// A range was made zero.
    Zero {
        /// Bytes.
        offset: u64,
        /// Bytes, at least 1.
        length: u64,
    },
    /// A range was trimmed, and reads as zeroes from then on.
    Trim {
        /// Bytes.
        offset: u64,
        /// Bytes, at least 1.
        length: u64,
    },
    /// Everything before is durable at the primary: who flushed relies on it.
    Mark,
}

impl Change {
    fn kind(self) -> u8 {
        match self {
            Self::Write { .. } => 1,
            Self::Zero { .. } => 2,
            Self::Trim { .. } => 3,
            Self::Mark => 4,
        }
    }

    /// Where and how many bytes; `None` of a mark.
    pub fn range(self) -> Option<(u64, u64)> {
        match self {
            Self::Write { offset, length } | Self::Zero { offset, length } | Self::Trim { offset, length } => {
                Some((offset, length))
            }
            Self::Mark => None,
        }
    }

    /// Bytes that follow the header.
    pub fn payload_length(self) -> u64 {
        if let Self::Write { length, .. } = self { length } else { 0 }
    }
}

/// One entry without its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its number in the journal, from 1.
    pub sequence: u64,
    /// When it was written, nanoseconds since 1970-01-01T00:00:00Z.
    pub time_ns: i64,
    /// What it says.
    pub change: Change,
    /// CRC-32 of the payload; 0 when there is none.
    pub payload_crc: u32,
}

impl Entry {
    /// An entry of what was written.
    pub fn new(sequence: u64, time_ns: i64, change: Change, payload: &[u8]) -> Self {
        debug_assert_eq!(change.payload_length(), payload.len() as u64);
        let payload_crc = if payload.is_empty() { 0 } else { crc32fast::hash(payload) };
        Self { sequence, time_ns, change, payload_crc }
    }

    /// The bytes of the header.
    pub fn encode(&self) -> Vec<u8> {
        let (offset, length) = self.change.range().unwrap_or((0, 0));
        encode_sealed(&EntryHeader {
            kind: self.change.kind(),
            reserved: [0; 3],
            payload_crc: self.payload_crc,
            sequence: self.sequence,
            time_ns: self.time_ns,
            offset,
            length,
            reserved_tail: 0,
            crc: 0,
        })
    }

    /// Reads a header from the first [`EntryHeader::SIZE`] bytes; whether it fits the volume and follows the entry before is [`Order`]'s.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        const WHAT: &str = "journal entry";
        let header = EntryHeader::get(bytes)?;
        unseal(WHAT, &bytes[..EntryHeader::SIZE])?;
        let EntryHeader { kind, sequence, time_ns, offset, length, payload_crc, .. } = header;
        let change = match kind {
            1 => Change::Write { offset, length },
            2 => Change::Zero { offset, length },
            3 => Change::Trim { offset, length },
            4 => Change::Mark,
            _ => return Err(FormatError::Range { what: WHAT, field: "kind", found: kind.into(), min: 1, max: 4 }),
        };
        let max = match change {
            Change::Write { .. } => WRITE_MAX,
            Change::Zero { .. } | Change::Trim { .. } => u64::MAX,
            Change::Mark => 0,
        };
        check_range(WHAT, "sequence", sequence, 1, u64::MAX)?;
        check_range(WHAT, "length", length, max.min(1), max)?;
        check_range(WHAT, "offset", offset, 0, if max == 0 { 0 } else { u64::MAX - length })?;
        Ok(Self { sequence, time_ns, change, payload_crc })
    }

    /// Fails unless these are the bytes that were written.
    pub fn check(&self, payload: &[u8]) -> Result<()> {
        let computed = if payload.is_empty() { 0 } else { crc32fast::hash(payload) };
        check_crc("journal entry's payload", self.payload_crc, computed)
    }

    /// Bytes of header and payload.
    pub fn stored_length(&self) -> u64 {
        EntryHeader::SIZE as u64 + self.change.payload_length()
    }
}

/// What the next entry of a journal must be like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    volume_size: u64,
    next: u64,
    time_ns: i64,
}

impl Order {
    /// After all before entry `next`, of which none is newer than `time_ns`.
    pub fn new(volume_size: u64, next: u64, time_ns: i64) -> Self {
        Self { volume_size, next, time_ns }
    }

    /// The number of the next entry.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The time of the last entry, nanoseconds since 1970-01-01T00:00:00Z.
    pub fn time_ns(&self) -> i64 {
        self.time_ns
    }

    /// The next entry, as of `now_ns` or the time of the one before, whichever is later.
    pub fn make(&mut self, now_ns: i64, change: Change, payload: &[u8]) -> Entry {
        let entry = Entry::new(self.next, now_ns.max(self.time_ns), change, payload);
        self.next += 1;
        self.time_ns = entry.time_ns;
        entry
    }

    /// Takes the next entry; fails when it is not that, or not within the volume.
    pub fn take(&mut self, entry: &Entry) -> Result<()> {
        const WHAT: &str = "journal entry";
        check_range(WHAT, "sequence", entry.sequence, self.next, self.next)?;
        if entry.time_ns < self.time_ns {
            return Err(FormatError::invalid(WHAT, format!("entry {} is older than the one before", entry.sequence)));
        }
        if let Some((offset, length)) = entry.change.range() {
            check_range(WHAT, "end", offset + length, 0, self.volume_size)?;
        }
        self.next += 1;
        self.time_ns = entry.time_ns;
        Ok(())
    }
}

/// Entries that stand one after another in memory, with where the payload of each is.
///
/// Ends at the end of `bytes`; what is not the next entry as a whole is an error.
pub fn entries(bytes: &[u8], mut order: Order) -> impl Iterator<Item = Result<(Entry, std::ops::Range<usize>)>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at == bytes.len() {
            return None;
        }
        let next = next_entry(bytes, at, &mut order);
        at = next.as_ref().map_or(bytes.len(), |(_, payload)| payload.end);
        Some(next)
    })
}

fn next_entry(bytes: &[u8], at: usize, order: &mut Order) -> Result<(Entry, std::ops::Range<usize>)> {
    let entry = Entry::decode(&bytes[at..])?;
    let start = at + EntryHeader::SIZE;
    let length = entry.change.payload_length() as usize;
    crate::layout::need("journal entry", &bytes[at..], EntryHeader::SIZE + length)?;
    let payload = start..start + length;
    entry.check(&bytes[payload.clone()])?;
    order.take(&entry)?;
    Ok((entry, payload))
}
