//! Packing: blocks that lie in a buffer become the payload of a chunk.
//!
//! Invariants: payloads are those of `session::pack`, byte for byte; nothing is allocated. Stored blocks are not
//! copied when they already follow each other in the buffer; the buffer itself becomes the payload and
//! goes back to its pool when the chunk was sent.

use crate::buffers::Buffer;
use crate::clock::Stopwatch;
use bytes::{Bytes, BytesMut};
use std::str::FromStr;
use std::time::Duration;
use understudy_format::chunk::{Chunk, ChunkHead, Entry};
use understudy_format::codec::{Codec, encode_to};

/// `--compress`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compress {
    /// Decided for each chunk, see [`Compress::now`].
    #[default]
    Auto,
    /// Every block that gets smaller.
    Lz4,
    /// None.
    Never,
}

/// Packed chunks that wait for the connection when compression always pays: half a window. With fewer the queue also
/// fills now and then where both ends share two cores, and compressing there takes from the receiver what it waits for.
const WAITING_ENOUGH: usize = 8;
/// What a byte costs that travels, of both ends' processors together, when nothing is waited for: sending, receiving,
/// two checksums, a copy and a write. Measured over loopback, nanoseconds.
const TRAVEL_NS: u64 = 1;

/// What is done with the blocks of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Stored as they are.
    Store,
    /// Compressed where that makes them smaller.
    Compress,
    /// Compressed if that pays for the first of them (see [`pays`]).
    Sample,
}

impl Compress {
    /// What is done with the next chunk while `waiting` packed chunks wait for the connection.
    ///
    /// When they pile up, the connection or the appliance behind it is what is waited for, so a smaller
    /// chunk arrives sooner; when they do not, compressing pays only where it is cheaper than sending.
    pub fn now(self, waiting: usize) -> Packing {
        match self {
            Self::Auto if waiting < WAITING_ENOUGH => Packing::Sample,
            Self::Auto | Self::Lz4 => Packing::Compress,
            Self::Never => Packing::Store,
        }
    }
}

/// Whether making `length` bytes into `encoded` in this time costs less than sending the difference.
fn pays(time: Duration, length: usize, encoded: usize) -> bool {
    let saved = length.saturating_sub(encoded) as u64;
    time < Duration::from_nanos(saved * TRAVEL_NS)
}

impl FromStr for Compress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "lz4" => Ok(Self::Lz4),
            "none" => Ok(Self::Never),
            _ => Err("expected auto, lz4 or none".into()),
        }
    }
}

/// The bytes of a chunk's data blocks: a buffer, and where in it each of them starts, in order.
#[derive(Debug)]
pub struct Cargo {
    /// The buffer.
    pub buffer: Buffer,
    /// Bytes from the start of the buffer.
    pub starts: Vec<u32>,
}

/// A chunk that is to be packed: blocks that need not travel are references already.
#[derive(Debug)]
pub struct PackJob {
    /// The mapping.
    pub head: ChunkHead,
    /// One start for each data entry.
    pub cargo: Cargo,
    /// What is done with them.
    pub packing: Packing,
}

impl PackJob {
    /// Packs; `spare` is a buffer of the caller's own, exchanged when the blocks were compressed into it.
    pub fn run(self, spare: &mut BytesMut) -> Chunk {
        let Self { mut head, mut cargo, packing } = self;
        let compress = match packing {
            Packing::Store => false,
            Packing::Compress => true,
            Packing::Sample => sample_pays(&head, &cargo, spare),
        };
        let payload = match compress {
            true => compressed(&mut head, &mut cargo, spare),
            false => stored(&mut head, &mut cargo),
        };
        let payload = Bytes::from_owner(cargo.buffer).slice(payload);
        head.payload_length = payload.len() as u32;
        head.payload_crc = crc32fast::hash(&payload);
        Chunk { head, payload }
    }
}

fn sample_pays(head: &ChunkHead, cargo: &Cargo, spare: &mut BytesMut) -> bool {
    let length = head.entries.iter().find_map(|entry| match entry {
        Entry::Data { block_length, .. } => Some(*block_length as usize),
        _ => None,
    });
    let (Some(length), Some(start)) = (length, cargo.starts.first()) else { return false };
    let content = &cargo.buffer.as_ref()[*start as usize..][..length];
    let watch = Stopwatch::start();
    let (_, encoded) = encode_to(content, spare);
    pays(watch.elapsed(), length, encoded)
}

fn compressed(head: &mut ChunkHead, cargo: &mut Cargo, spare: &mut BytesMut) -> std::ops::Range<usize> {
    let content = cargo.buffer.as_ref();
    let mut end = 0;
    for_data(head, &cargo.starts, |start, length| {
        let (codec, encoded) = encode_to(&content[start..start + length], &mut spare[end..]);
        end += encoded;
        (codec, end - encoded, encoded)
    });
    cargo.buffer.swap(spare);
    0..end
}

/// Moves blocks together where others between them need not travel.
fn stored(head: &mut ChunkHead, cargo: &mut Cargo) -> std::ops::Range<usize> {
    let content = cargo.buffer.bytes();
    let first = cargo.starts.first().map_or(0, |start| *start as usize);
    let mut end = first;
    for_data(head, &cargo.starts, |start, length| {
        if start != end {
            content.copy_within(start..start + length, end);
        }
        end += length;
        (Codec::Stored, end - length - first, length)
    });
    first..end
}

/// Fills in each data entry what `put` says of the block at (start, length): codec, offset, encoded length.
fn for_data(head: &mut ChunkHead, starts: &[u32], mut put: impl FnMut(usize, usize) -> (Codec, usize, usize)) {
    let data = head.entries.iter_mut().filter_map(|entry| match entry {
        Entry::Data { codec, payload_offset, payload_length, block_length, .. } => {
            Some((codec, payload_offset, payload_length, *block_length))
        }
        _ => None,
    });
    for ((codec, payload_offset, payload_length, block_length), start) in data.zip(starts) {
        let (used, offset, length) = put(*start as usize, block_length as usize);
        (*codec, *payload_offset, *payload_length) = (used, offset as u32, length as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffers::{Pool, blank};
    use understudy_format::session::pack;
    use understudy_format::{BlockId, Digest, Geometry};

    #[test]
    fn auto_compresses_while_the_connection_is_waited_for_or_where_it_pays() {
        use Packing::{Compress as Yes, Sample, Store};
        let table = [(Compress::Auto, 0, Sample), (Compress::Auto, 7, Sample), (Compress::Auto, 8, Yes)];
        let fixed = [(Compress::Lz4, 0, Yes), (Compress::Never, 9, Store)];
        for (policy, waiting, expected) in table.into_iter().chain(fixed) {
            assert_eq!(policy.now(waiting), expected, "{policy:?} {waiting}");
        }
        let us = Duration::from_micros;
        assert!(pays(us(20), 65536, 33000), "32 KiB less in 20 us");
        assert!(!pays(us(100), 65536, 40000), "25 KiB less in 100 us");
        assert!(!pays(us(5), 65536, 65536) && !pays(us(5), 65536, 70000), "nothing less");
    }

    /// Blocks of 4096 bytes: random, compressible, not wanted, random and short.
    fn job(pool: &std::sync::Arc<Pool>, packing: Packing) -> PackJob {
        let mut buffer = pool.take().unwrap();
        let content = buffer.bytes();
        blake3::Hasher::new().finalize_xof().fill(&mut content[..16384]);
        content[4096..8192].fill(5);
        let geometry = Geometry::from_wire(4096 * 3 + 512, 4096).unwrap();
        let digest = Digest([1; 32]);
        let data = |block_length| Entry::Data {
            digest,
            codec: Codec::Stored,
            payload_offset: 0,
            payload_length: 0,
            block_length,
        };
        let entries = vec![data(4096), data(4096), Entry::Reference { digest, block_length: 4096 }, data(512)];
        let head = ChunkHead {
            volume: uuid::Uuid::nil(),
            stream: uuid::Uuid::nil(),
            sequence: 0,
            geometry,
            first_block: BlockId(0),
            entries,
            payload_length: 0,
            payload_crc: 0,
        };
        PackJob { head, cargo: Cargo { buffer, starts: vec![0, 4096, 12288] }, packing }
    }

    #[test]
    fn chunks_are_those_of_the_format() {
        let pool = Pool::new(1, || ());
        for (packing, compress) in [(Packing::Store, false), (Packing::Compress, true)] {
            let job = job(&pool, packing);
            let content = job.cargo.buffer.as_ref()[..16384].to_vec();
            let at = |block: BlockId| {
                let start = block.0 as usize * 4096;
                &content[start..(start + 4096).min(4096 * 3 + 512)]
            };
            let expected = pack(job.head.clone(), compress, at).unwrap();
            assert_eq!(job.run(&mut blank()), expected);
            assert!(pool.take().is_some(), "the buffer came back");
        }
    }
}
