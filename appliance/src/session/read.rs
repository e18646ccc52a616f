//! Blocks of a point on their way to an initiator: chunks of what it asked for.
//!
//! Invariants: a chunk never spans two of the ranges that were asked for; every block was checked
//! against its digest; memory is a few chunks, however much is asked for.

use super::{Session, Shared};
use crate::access::{Peer, Right};
use crate::clock;
use crate::error::{Error, Result};
use crate::view::PointView;
use bytes::Bytes;
use tokio::sync::mpsc;
use understudy_format::chunk::{ChunkHead, Entry};
use understudy_format::codec::Codec;
use understudy_format::map::Lookup;
use understudy_format::select::PointName;
use understudy_format::session::pack;
use understudy_format::wire::{BlockRange, Message};
use understudy_format::{BlockId, Digest};
use understudy_net::NetError;
use uuid::Uuid;

/// Content of one chunk, bytes.
const CHUNK_BYTES: u64 = 1 << 20;
/// Chunks that wait for the connection.
const QUEUE: usize = 4;

/// Sends the blocks of `ranges`.
pub(super) async fn send(
    session: &mut Session,
    volume: Uuid,
    point: u64,
    ranges: Vec<BlockRange>,
) -> Result<(), NetError> {
    let (outbox, mut chunks) = mpsc::channel(QUEUE);
    let (shared, peer) = (session.shared.clone(), session.peer.clone());
    let is_another = session.read.replace((volume, point)) != Some((volume, point));
    let thread =
        tokio::task::spawn_blocking(move || read(&shared, &peer, is_another, &volume, point, &ranges, &outbox));
    while let Some(chunk) = chunks.recv().await {
        session.writer.send(&chunk).await?;
    }
    let read = thread.await.map_err(|e| std::io::Error::other(e.to_string()))?;
    session.reply(read.map(|()| Message::ReadEnd)).await
}

fn read(
    shared: &Shared,
    peer: &Peer,
    is_another: bool,
    volume: &Uuid,
    point: u64,
    ranges: &[BlockRange],
    outbox: &mpsc::Sender<Message>,
) -> Result<()> {
    let (volume, point) = shared.point(peer, volume, point)?;
    shared.access.may(peer, Right::Read, Some(&volume.name))?;
    if is_another && *peer != Peer::Local {
        shared.access.audit.record("read", peer, &PointName::of(&volume.name, &point).to_string())?;
    }
    let view = PointView::open(&shared.pool, &volume, &point, "a restore")?;
    let mut chunks = Chunks { lookup: view.lookup(), view, stream: clock::random_uuid(), sequence: 0 };
    for range in ranges {
        let blocks = chunks.view.geometry().block_count();
        let end = range.first.checked_add(range.count).filter(|end| *end <= blocks && range.count > 0);
        let end = end.ok_or_else(|| {
            let BlockRange { first, count } = range;
            Error::refused(format!("{count} blocks from {first} were asked for, the point has {blocks}"))
        })?;
        let mut next = range.first;
        while next < end {
            let chunk = chunks.next(BlockId(next), end)?;
            next += chunk.head.block_count();
            outbox.blocking_send(Message::Chunk(chunk)).map_err(|_| Error::Closing)?;
        }
    }
    Ok(())
}

struct Chunks {
    view: PointView,
    lookup: Lookup,
    stream: Uuid,
    sequence: u64,
}

impl Chunks {
    /// The chunk of the blocks from `first`, up to `end` or until it is full.
    fn next(&mut self, first: BlockId, end: u64) -> Result<understudy_format::chunk::Chunk> {
        let mut contents: Vec<(BlockId, Bytes)> = Vec::new();
        let mut entries = Vec::new();
        let (mut next, mut length) = (first.0, 0);
        while next < end && length < CHUNK_BYTES && entries.len() < 4096 {
            let (zero, count) = self.view.run(&mut self.lookup, BlockId(next), end - next)?;
            if zero {
                entries.push(Entry::Zero { count });
            } else if let Some((digest, content)) = self.view.digested_block(&mut self.lookup, BlockId(next))? {
                length += content.len() as u64;
                entries.push(data_entry(digest, content.len() as u32));
                contents.push((BlockId(next), content));
            }
            next += count;
        }
        let head = ChunkHead {
            volume: self.view.volume().uuid,
            stream: self.stream,
            sequence: self.sequence,
            geometry: *self.view.geometry(),
            first_block: first,
            entries,
            payload_length: 0,
            payload_crc: 0,
        };
        self.sequence += 1;
        let content = |block: BlockId| {
            let at = contents.binary_search_by_key(&block, |(block, _)| *block);
            &contents[at.expect("every data entry was collected")].1[..]
        };
        Ok(pack(head, false, content)?)
    }
}

fn data_entry(digest: Digest, block_length: u32) -> Entry {
    Entry::Data { digest, codec: Codec::Stored, payload_offset: 0, payload_length: 0, block_length }
}
