//! Every decoder of the crate behind one door: bytes in, the value as text and its encoding out.
//!
//! The golden vectors and the fuzz targets go through here, so what holds for the one is tried by
//! the other. Invariant: nothing here panics for any bytes; what [`round_trip`] asserts is the
//! promise of the crate: a value that was decoded encodes to bytes that decode to the same value.

use bytes::Bytes;
use std::fmt::Debug;
use understudy_format::access::register::Register;
use understudy_format::bitmap::SeenBitmap;
use understudy_format::catalogue::{ProtectionRecord, RemovalRecord, Settings};
use understudy_format::chunk::Chunk;
use understudy_format::codec::{Codec, decode_into, encode_into};
use understudy_format::error::Result;
use understudy_format::follow;
use understudy_format::frame::FrameHeader;
use understudy_format::history;
use understudy_format::journal::{self, Entry, EntryHeader, FileHeader, JournalHeader, Order};
use understudy_format::layout::{Field, Layout, Reader, need, seal};
use understudy_format::map::{self, Page};
use understudy_format::mapfile::MapFileId;
use understudy_format::overlay::{Header, OwnedPage};
use understudy_format::point::{Label, Point, Volume, VolumeName, decode_points, encode_points};
use understudy_format::pool::PoolRecord;
use understudy_format::secondary::State;
use understudy_format::segment::{Kind, NewRecord, RecordHeader, SegmentHeader, Trailer, decode_footer, encode_footer};
use understudy_format::select::PointName;
use understudy_format::session::{Progress, Unfinished};
use understudy_format::stream::{Begin, Commit};
use understudy_format::tap::TapState;
use understudy_format::wire::Message;
use understudy_format::{BlockSize, Digest, FormatError, Geometry};

/// What a decoder made of some bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// The value, as `{:?}` shows it.
    pub value: String,
    /// The value's encoding.
    pub bytes: Vec<u8>,
}

fn decoded(value: &impl Debug, bytes: impl Into<Vec<u8>>) -> Result<Decoded> {
    Ok(Decoded { value: format!("{value:?}"), bytes: bytes.into() })
}

/// Decoders that want to know an offset, a length or a number beside the bytes.
pub const WITH: [&str; 6] = ["record", "trailer", "mapfile", "lz4", "owned", "entries"];

/// Decodes `bytes` as `kind`; `with` is what those in [`WITH`] want to know.
pub fn decode(kind: &str, with: u64, bytes: &[u8]) -> Result<Decoded> {
    match kind {
        "frame" => frame(bytes),
        "message" => message(bytes),
        "chunk" => Chunk::decode(&Bytes::copy_from_slice(bytes))
            .and_then(|chunk| decoded(&chunk, [chunk.head.encode(), chunk.payload.to_vec()].concat())),
        "begin" => Begin::decode(bytes).and_then(|begin| decoded(&begin, begin.encode())),
        "commit" => Commit::decode(bytes).and_then(|commit| decoded(&commit, commit.encode())),
        "segment" => SegmentHeader::decode(bytes).and_then(|header| decoded(&header, header.encode())),
        "record" => record(bytes, with),
        "footer" => decode_footer(bytes).and_then(|entries| decoded(&entries, encode_footer(&entries))),
        "trailer" => Trailer::decode(bytes, with).and_then(|trailer| decoded(&trailer, trailer.encode())),
        "volume" => Volume::decode(bytes).and_then(|volume| decoded(&volume, volume.encode())),
        "point" => Point::decode(bytes).and_then(|point| decoded(&point, point.encode())),
        "points" => decode_points(bytes).and_then(|points| decoded(&points, encode_points(&points))),
        "removal" => RemovalRecord::decode(bytes).and_then(|record| decoded(&record, record.encode())),
        "protection" => ProtectionRecord::decode(bytes).and_then(|record| decoded(&record, record.encode())),
        "settings" => Settings::decode(bytes).and_then(|all| decoded(&all, all.1.encode(all.0))),
        "progress" => Progress::decode(bytes).and_then(|progress| decoded(&progress, progress.encode())),
        "unfinished" => Unfinished::decode(bytes).and_then(|stream| decoded(&stream, stream.encode())),
        "bitmap" => SeenBitmap::decode(bytes).and_then(|seen| decoded(&seen, seen.encode())),
        "page" => page(bytes),
        "pool" => PoolRecord::decode(bytes).and_then(|record| decoded(&record, record.encode())),
        "secondary" => State::decode(bytes).and_then(|state| decoded(&state, state.encode())),
        "follow" => follow::State::decode(bytes).and_then(|state| decoded(&state, state.encode())),
        "overlay" => Header::decode(bytes).and_then(|header| decoded(&header, header.encode())),
        "owned" => OwnedPage::decode(bytes, with).and_then(|page| decoded(&page, page.encode(with))),
        "register" => Register::decode(bytes).and_then(|register| decoded(&register, register.encode())),
        "history" => history::decode(bytes).and_then(|jobs| decoded(&jobs, history::encode(&jobs))),
        "tap" => TapState::decode(bytes).and_then(|state| decoded(&state, state.encode())),
        "journal" => journal_file(bytes),
        "entries" => entries(bytes, Order::new(u64::MAX, with, i64::MIN)).and_then(|run| decoded(&run, joined(&run))),
        "mapfile" => MapFileId::decode(bytes, with).and_then(|id| decoded(&id, id.encode())),
        "root" => root(bytes),
        "digest-block" => decoded(&Digest::of_block(bytes), bytes),
        "digest-page" => decoded(&Digest::of_page(bytes), bytes),
        "digest-record" => decoded(&Digest::of_record(bytes), bytes),
        "lz4" => lz4(bytes, with),
        "names" => names(bytes),
        _ => panic!("no decoder is called {kind}"),
    }
}

/// Decodes `bytes`, and asserts that the value's encoding decodes to the same value.
pub fn round_trip(kind: &str, with: u64, bytes: &[u8]) -> Result<Decoded> {
    let first = decode(kind, with, bytes)?;
    let second = decode(kind, with, &first.bytes).expect("what was encoded must decode");
    assert_eq!(first, second, "{kind}");
    Ok(second)
}

/// Splits the first frame off: its header, its body, and what follows.
pub fn split_frame(bytes: &[u8]) -> Result<(FrameHeader, Bytes, &[u8])> {
    need("frame header", bytes, FrameHeader::SIZE)?;
    let (header, rest) = bytes.split_at(FrameHeader::SIZE);
    let header = FrameHeader::decode(header.try_into().expect("16 bytes"))?;
    need("frame body", rest, header.length as usize)?;
    let (body, rest) = rest.split_at(header.length as usize);
    Ok((header, Bytes::copy_from_slice(body), rest))
}

/// Makes the checksums of `bytes` right again after a change, so that what lies behind them is reached.
pub fn reseal(kind: &str, bytes: &mut [u8]) {
    match kind {
        "frame" | "record" | "segment" | "trailer" | "mapfile" | "begin" | "commit" | "pool" | "secondary"
        | "follow" | "overlay" | "owned" | "unfinished" | "bitmap" | "history" | "register" | "tap" => {
            let size = match kind {
                "frame" => FrameHeader::SIZE,
                "record" | "segment" | "trailer" => RecordHeader::SIZE,
                "mapfile" => understudy_format::mapfile::MapFileHeader::SIZE,
                _ => bytes.len(),
            };
            if bytes.len() < size.max(4) {
                return;
            }
            let (header, stored) = bytes.split_at_mut(size);
            if kind == "record" {
                header[56..60].copy_from_slice(&crc32fast::hash(stored).to_le_bytes());
            }
            seal(header);
        }
        "message" if bytes.len() >= 16 => reseal_message(bytes),
        "chunk" => reseal_chunk(bytes),
        "journal" if bytes.len() >= JournalHeader::SIZE => {
            let (header, entries) = bytes.split_at_mut(JournalHeader::SIZE);
            seal(header);
            reseal_entries(entries);
        }
        "entries" => reseal_entries(bytes),
        "page" if bytes.len() > 32 => {
            let digest = Digest::of_page(&bytes[32..]);
            bytes[..32].copy_from_slice(&digest.0);
        }
        _ => {}
    }
}

fn reseal_message(bytes: &mut [u8]) {
    let (header, body) = bytes.split_at_mut(16);
    header[8..12].copy_from_slice(&(body.len() as u32).to_le_bytes());
    seal(header);
    match &header[..4] {
        b"CHNK" | b"OFFR" => reseal_chunk(body),
        _ if body.len() >= 4 => seal(body),
        _ => {}
    }
}

fn reseal_chunk(bytes: &mut [u8]) {
    if bytes.len() < 128 {
        return;
    }
    let entries = u32::get(&bytes[76..80]) as usize;
    let mapping_end = entries.saturating_mul(64).saturating_add(128).min(bytes.len());
    if mapping_end < bytes.len() {
        let crc = crc32fast::hash(&bytes[mapping_end..]);
        bytes[84..88].copy_from_slice(&crc.to_le_bytes());
    }
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..124]);
    hasher.update(&bytes[128..mapping_end]);
    bytes[124..128].copy_from_slice(&hasher.finalize().to_le_bytes());
}

/// Ends at the first entry that is not whole.
fn reseal_entries(mut bytes: &mut [u8]) {
    while bytes.len() >= EntryHeader::SIZE {
        let (header, rest) = bytes.split_at_mut(EntryHeader::SIZE);
        let length = if header[0] == 1 { u64::get(&header[32..40]) as usize } else { 0 };
        let (payload, rest) = rest.split_at_mut(length.min(rest.len()));
        if !payload.is_empty() {
            header[4..8].copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
        }
        seal(header);
        bytes = rest;
    }
}

fn frame(bytes: &[u8]) -> Result<Decoded> {
    let mut reader = Reader::new("frame header", bytes);
    let header = FrameHeader::decode(reader.take(16)?.try_into().expect("16 bytes"))?;
    reader.finish()?;
    decoded(&header, FrameHeader::encode(header.tag, header.flags, header.length as usize)?)
}

fn message(bytes: &[u8]) -> Result<Decoded> {
    let (header, body, rest) = split_frame(bytes)?;
    Reader::new("frame", rest).finish()?;
    let Some(message) = Message::decode(&header, &body)? else {
        return decoded(&"passed over", bytes);
    };
    let encoded = message.encode()?;
    decoded(&message, [encoded.head, encoded.payload.to_vec()].concat())
}

fn record(bytes: &[u8], offset: u64) -> Result<Decoded> {
    let header = RecordHeader::decode(bytes, offset)?;
    let stored = &bytes[RecordHeader::SIZE..];
    if Kind::from_wire(header.kind) == Some(Kind::Pad) {
        return decoded(&header, [header.encode(), stored.to_vec()].concat());
    }
    let content = header.content(stored)?;
    let stored = &stored[..header.stored_length as usize];
    let codec = Codec::from_wire(header.codec)?;
    let kind = Kind::from_wire(header.kind).expect("content() refuses unknown kinds");
    let new = NewRecord { kind, codec, digest: header.digest, content_length: header.content_length, stored };
    let bytes = [new.header(offset).encode(), stored.to_vec()].concat();
    decoded(&(kind, codec, header.digest, content.len(), Digest::of_block(&content)), bytes)
}

type Run<'a> = Vec<(Entry, &'a [u8])>;

fn journal_file(bytes: &[u8]) -> Result<Decoded> {
    let header = FileHeader::decode(bytes)?;
    let order = Order::new(header.volume_size, header.first, header.created_ns);
    let run = entries(&bytes[JournalHeader::SIZE..], order)?;
    decoded(&(header, &run), [header.encode(), joined(&run)].concat())
}

fn entries(bytes: &[u8], order: Order) -> Result<Run<'_>> {
    journal::entries(bytes, order).map(|next| next.map(|(entry, payload)| (entry, &bytes[payload]))).collect()
}

fn joined(run: &Run<'_>) -> Vec<u8> {
    run.iter().flat_map(|(entry, payload)| [&entry.encode(), *payload].concat()).collect()
}

fn page(bytes: &[u8]) -> Result<Decoded> {
    let mut reader = Reader::new("page vector", bytes);
    let digest: Digest = reader.field()?;
    let page = Page::checked(&bytes[32..], digest)?;
    let mut copy = Page::zero();
    (0..256).for_each(|slot| copy.set(slot, page.get(slot)));
    assert_eq!(copy, page);
    decoded(&page, [&page.digest().0[..], page.bytes()].concat())
}

fn root(bytes: &[u8]) -> Result<Decoded> {
    let mut reader = Reader::new("root vector", bytes);
    let geometry = Geometry::from_wire(reader.field()?, reader.field()?)?;
    let top = reader.field()?;
    reader.finish()?;
    decoded(&map::root(&geometry, top), bytes)
}

fn lz4(bytes: &[u8], length: u64) -> Result<Decoded> {
    let mut content = vec![0; usize::try_from(length.min(1 << 20)).expect("below 1 MiB")];
    decode_into(Codec::Lz4, bytes, &mut content)?;
    let mut encoded = Vec::new();
    let codec = encode_into(&content, &mut encoded);
    let mut again = vec![1; content.len()];
    decode_into(codec, &encoded, &mut again).expect("what was encoded must decode");
    assert_eq!(again, content);
    decoded(&(content.len(), Digest::of_block(&content)), bytes)
}

/// Names, labels, block sizes and point names: each either refused or shown as it reads again.
fn names(bytes: &[u8]) -> Result<Decoded> {
    let text = std::str::from_utf8(bytes).map_err(|_| FormatError::invalid("names vector", "is not UTF-8"))?;
    let utc = jiff::tz::TimeZone::UTC;
    let name = text.parse::<VolumeName>().inspect(|name| assert_eq!(name.to_string(), text));
    let label = text.parse::<Label>().inspect(|label| assert_eq!(label.as_str(), text));
    let point = PointName::parse(text, &utc).inspect(|point| {
        assert_eq!(PointName::parse(&point.to_string(), &utc).as_ref(), Ok(point));
    });
    let size = text.parse::<BlockSize>().inspect(|size| assert_eq!(size.to_string().parse(), Ok(*size)));
    decoded(&(name.ok(), label.ok(), point.ok(), size.ok()), bytes)
}
