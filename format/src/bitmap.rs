//! The file of a bitmap: which dirty bitmap of a source was recording when the newest point of a volume was read.
//!
//! Invariants: it is written after the point is stored, about a bitmap that was there before reading began, and whoever
//! stores a point without one removes it; so what such a bitmap calls clean is what the point with this root
//! has, for as long as the bitmap records all writes. Losing it costs a run that compares everything.

use crate::digest::Digest;
use crate::error::Result;
use crate::layout::{Layout, Reader, check_magic, check_version, put_text, seal, unseal};
use uuid::Uuid;

/// "Understudy BITmap".
pub const BITMAP_MAGIC: [u8; 4] = *b"UBIT";
/// The layout that this program writes and reads.
pub const BITMAP_VERSION: u16 = 1;
/// Most bytes of the name of an export, as people give it.
pub const EXPORT_MAX: usize = 8 << 10;
/// Most bytes of the name of a bitmap.
pub const BITMAP_NAME_MAX: usize = 1 << 10;

crate::layout! {
    /// The fixed part of the file; export and name follow as texts, then a CRC-32 of all bytes before it.
    pub struct BitmapRecord, 80 {
        /// [`BITMAP_MAGIC`].
        0 magic: [u8; 4],
        /// [`BITMAP_VERSION`].
        4 version: u16,
        /// 0.
        6 reserved: u16,
        /// The pool that has the point.
        8 pool: Uuid,
        /// The volume of the point.
        24 volume: Uuid,
        /// The number of the point.
        40 point: u64,
        /// Of the point.
        48 root: Digest,
    }
}

/// A dirty bitmap of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bitmap {
    /// The export it belongs to, wherever that is.
    pub export: String,
    /// Its name there.
    pub name: String,
}

/// See the module documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenBitmap {
    /// The pool that has the point.
    pub pool: Uuid,
    /// The volume of the point.
    pub volume: Uuid,
    /// The number of the point.
    pub point: u64,
    /// Of the point.
    pub root: Digest,
    /// What was recording when it was read.
    pub bitmap: Bitmap,
}

impl SeenBitmap {
    /// The bytes of the file.
    pub fn encode(&self) -> Vec<u8> {
        let Self { pool, volume, point, root, ref bitmap } = *self;
        let mut out = Vec::new();
        BitmapRecord { magic: BITMAP_MAGIC, version: BITMAP_VERSION, reserved: 0, pool, volume, point, root }
            .put(&mut out);
        put_text(&mut out, &bitmap.export);
        put_text(&mut out, &bitmap.name);
        out.extend_from_slice(&[0; 4]);
        seal(&mut out);
        out
    }

    /// Reads the bytes of the file.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        const WHAT: &str = "bitmap";
        let record = BitmapRecord::get(bytes)?;
        check_magic(WHAT, record.magic, BITMAP_MAGIC)?;
        check_version(WHAT, record.version, BITMAP_VERSION)?;
        let mut reader = Reader::new(WHAT, unseal(WHAT, bytes)?);
        let BitmapRecord { pool, volume, point, root, .. } = reader.layout()?;
        let (export, name) = (reader.text("export", EXPORT_MAX)?, reader.text("name", BITMAP_NAME_MAX)?);
        reader.finish()?;
        Ok(Self { pool, volume, point, root, bitmap: Bitmap { export, name } })
    }
}
