//! A stream on its way into the pool: verify, store, map, commit.
//!
//! Offline and online streams go through the same [`Ingest`]; online ones ask it first what they need
//! to send. Invariants: every block is decoded and its digest computed before it is stored; nothing of a
//! stream can be seen before its commit; a stream commits only when the root computed here is the
//! one that was sent; one that was read while its source was written to becomes a point with the journal of that laid over it ([`Over`]). How a stream that was cut goes on is told in [`park`].

mod park;

pub use park::Resumed;

use crate::error::{Error, Result};
use crate::fold::{Folder, Laid};
use crate::journals::Journals;
use crate::pool::live::Lease;
use crate::pool::{NewPoint, Pool, StreamGuard, VolumeEntry};
use crate::scrub::resend::damaged_blocks;
use std::sync::Arc;
use understudy_format::chunk::{Chunk, ChunkHead, Entry};
use understudy_format::codec::{Codec, decode_into};
use understudy_format::journal::Position;
use understudy_format::map::{Builder, Map};
use understudy_format::point::{Label, Point, Volume, VolumeName};
use understudy_format::session::Receiver;
use understudy_format::stream::{Begin, Commit};
use understudy_format::wire::BlockRange;
use understudy_format::{BlockId, Digest, FormatError};
use uuid::Uuid;

/// A stream that is announced: into which volume, and with which label.
#[derive(Debug, Clone)]
pub struct Announced {
    /// The volume, created by the first commit.
    pub name: VolumeName,
    /// For the new point.
    pub label: Option<Label>,
    /// Of the volume if it is new and the stream names none.
    pub new_uuid: Uuid,
    /// When the volume is new.
    pub now_ns: i64,
    /// Whether the sender may learn which blocks the pool has; if not, it brings each, and may refer to none.
    pub learns: bool,
    /// The journal that a tap writes while the stream is read.
    pub over: Option<Over>,
}

/// What is laid over a stream that is read while its source is written to.
#[derive(Debug, Clone)]
pub struct Over {
    /// All journals.
    pub journals: Arc<Journals>,
    /// The last entry before reading began.
    pub position: Position,
}

/// A stream that began.
#[derive(Debug)]
pub struct Ingest {
    pool: Arc<Pool>,
    guard: StreamGuard,
    receiver: Receiver,
    builder: Builder,
    volume: Volume,
    number: u64,
    base: Option<u64>,
    /// The base stays while the stream may refer to it.
    lease: Option<Lease>,
    label: Option<Label>,
    scratch: Vec<u8>,
    stored_bytes: u64,
    new_bytes: u64,
    mark: park::Mark,
    began_ns: i64,
    learns: bool,
    over: Option<Over>,
}

/// A stream of which everything came, and whose root is right: its point can be committed.
#[derive(Debug)]
pub struct Ready {
    pool: Arc<Pool>,
    guard: StreamGuard,
    _lease: Option<Lease>,
    volume: Volume,
    point: Point,
}

impl Ready {
    /// Commits the points of these streams into one pool, all of them or none: durable and visible when this returns.
    pub fn commit(all: &[Self]) -> Result<()> {
        all.first().map_or(Ok(()), |first| first.pool.commit(all.iter().map(Self::new_point).collect()))
    }

    fn new_point(&self) -> NewPoint<'_> {
        NewPoint { guard: &self.guard, volume: &self.volume, point: self.point.clone() }
    }

    /// The point that is there once it is committed.
    pub fn point(&self) -> &Point {
        &self.point
    }

    /// Its volume.
    pub fn volume(&self) -> &Volume {
        &self.volume
    }
}

/// What a stream goes into.
#[derive(Debug)]
struct Target {
    volume: Volume,
    number: u64,
    base: Option<Point>,
    lease: Option<Lease>,
}

impl Target {
    /// The volume, which is `fresh` or made when there is none yet; refuses a stream that does not fit it.
    fn find(pool: &Pool, announced: &Announced, begin: &Begin, fresh: Option<&Volume>) -> Result<Self> {
        let known = pool.volume(&announced.name);
        let base = find_base(&announced.name, known.as_deref(), begin)?;
        let volume = match (known, fresh) {
            (Some(entry), _) => same_volume(entry.volume.clone(), begin)?,
            (None, Some(fresh)) => fresh.clone(),
            (None, None) => new_volume(pool, announced, begin)?,
        };
        let number = pool.next_number(&volume.uuid);
        let lease = base.as_ref().map(|base| lease(pool, &volume, base)).transpose()?;
        Ok(Self { volume, number, base, lease })
    }
}

impl Ingest {
    /// Begins a stream from its start, whatever came of it before; refuses one that does not fit the volume.
    pub fn begin(pool: Arc<Pool>, announced: Announced, begin: Begin) -> Result<Self> {
        let guard = pool.begin_stream(&announced.name, begin.volume)?;
        Self::fresh(pool, guard, announced, begin)
    }

    fn fresh(pool: Arc<Pool>, guard: StreamGuard, announced: Announced, begin: Begin) -> Result<Self> {
        let target = Target::find(&pool, &announced, &begin, None)?;
        park::drop_parked(&pool, &guard, &announced.name, announced.now_ns);
        let builder = Builder::new(begin.geometry, target.base.as_ref().map(|point| point.map));
        Ok(Self::make(pool, guard, target, Receiver::new(begin), builder, announced))
    }

    fn make(
        pool: Arc<Pool>,
        guard: StreamGuard,
        target: Target,
        receiver: Receiver,
        builder: Builder,
        announced: Announced,
    ) -> Self {
        let scratch = vec![0; receiver.begin().geometry.block_size().bytes() as usize];
        let Target { volume, number, base, lease } = target;
        Self {
            pool,
            guard,
            receiver,
            builder,
            volume,
            number,
            base: base.map(|point| point.number),
            lease,
            label: announced.label,
            scratch,
            stored_bytes: 0,
            new_bytes: 0,
            mark: park::Mark::default(),
            began_ns: announced.now_ns,
            learns: announced.learns,
            over: announced.over,
        }
    }

    /// Blocks of the base that were lost: the stream must bring them, changed or not.
    pub fn again(&self) -> Result<Vec<BlockRange>> {
        let Some(number) = self.base else { return Ok(Vec::new()) };
        let (_, base) = self.pool.point(&self.volume.uuid, number).ok_or(Error::Closing)?;
        damaged_blocks(&self.pool, &base)
    }

    /// Which data entries of an offer are lacking here; all, if the sender may not learn that.
    pub fn offer(&mut self, head: &ChunkHead) -> Result<Vec<bool>> {
        let has =
            |digest: &Digest| known_length(&self.pool, &self.guard, self.learns, digest).map(|known| known.is_some());
        let mut wanted = self.receiver.offer(head, has)?;
        wanted.iter_mut().for_each(|wanted| *wanted |= !self.learns);
        Ok(wanted)
    }

    /// Takes the next chunk.
    pub fn chunk(&mut self, chunk: &Chunk) -> Result<()> {
        self.receiver.chunk(chunk)?;
        for (block, entry) in chunk.head.blocks() {
            match entry {
                Entry::Data { digest, codec, block_length, .. } => {
                    let (_, encoded) = chunk.encoded(entry).expect("a data entry has bytes");
                    self.store(block, *digest, *codec, *block_length, &encoded)?;
                    self.push(*digest)?;
                }
                Entry::Reference { digest, block_length } => {
                    self.check_reference(block, digest, *block_length)?;
                    self.push(*digest)?;
                }
                Entry::Zero { count } => self.with_pages(|builder, pages| builder.zero(*count, pages))?,
                Entry::Unchanged { count } => self.with_pages(|builder, pages| builder.unchanged(*count, pages))?,
            }
        }
        Ok(())
    }

    /// Commits: durable and visible when this returns.
    pub fn commit(self, commit: &Commit) -> Result<Point> {
        let ready = self.ready(commit)?;
        Ready::commit(std::slice::from_ref(&ready)).map(|()| ready.point)
    }

    /// Takes the commit record, and holds the commit.
    pub fn ready(mut self, commit: &Commit) -> Result<Ready> {
        let point = self.point(commit).inspect_err(|error| self.give_up(error))?;
        let Self { pool, guard, lease, volume, .. } = self;
        Ok(Ready { pool, guard, _lease: lease, volume, point })
    }

    /// The point, which is what the sender says it is.
    fn point(&mut self, commit: &Commit) -> Result<Point> {
        let uncovered = self.receiver.next_block().0 != self.receiver.begin().geometry.block_count();
        if uncovered {
            self.receiver.commit(commit, Digest::ZERO)?;
        }
        let blank = Builder::new(self.receiver.begin().geometry, None);
        let builder = std::mem::replace(&mut self.builder, blank);
        let mut pages = self.pool.pages(Some(&self.guard));
        let map = builder.finish(&mut pages)?;
        self.stored_bytes += pages.stored_bytes;
        self.receiver.commit(commit, map.root())?;
        let Laid { folded, time_ns, position } =
            self.over.as_ref().map_or_else(|| Ok(Laid::nothing(map)), |over| self.lay_over(over, map))?;
        let totals = self.receiver.totals();
        Ok(Point {
            volume: self.volume.uuid,
            number: self.number,
            base: self.base,
            // A client whose clock is ahead must not hide that it falls behind.
            created_ns: time_ns.unwrap_or_else(|| self.receiver.begin().created_ns.min(self.began_ns)),
            map: folded.map,
            stream: commit.stream,
            changed_blocks: folded.changed_blocks
                + totals.data
                + totals.reference
                + if self.base.is_some() { totals.zero } else { 0 },
            stored_bytes: self.stored_bytes + folded.stored_bytes,
            new_bytes: self.new_bytes + folded.new_bytes,
            label: self.label.clone(),
            position,
        })
    }

    /// Lays over the map what was written while the source was read: so it becomes what the source was at one moment.
    fn lay_over(&self, over: &Over, map: Map) -> Result<Laid> {
        let (name, Over { journals, position }) = (&self.volume.name, over);
        journals.admit(name, Some(position))?;
        let through = journals.durable(name, &position.journal);
        if through < position.sequence {
            let (journal, sequence) = (position.journal, position.sequence);
            return Err(Error::Refused(format!(
                "the stream was read after entry {sequence} of journal {journal}, which is here up to {through} only"
            )));
        }
        // The blocks that the stream brought are read now.
        self.pool.settle(&self.guard)?;
        Folder { pool: &self.pool, journals, name }.lay_over(&self.guard, map, *position, through)
    }

    fn push(&mut self, digest: Digest) -> Result<()> {
        self.with_pages(|builder, pages| builder.block(digest, pages))
    }

    fn with_pages(&mut self, step: impl FnOnce(&mut Builder, &mut crate::pool::Pages<'_>) -> Result<()>) -> Result<()> {
        let mut pages = self.pool.pages(Some(&self.guard));
        step(&mut self.builder, &mut pages)?;
        self.stored_bytes += pages.stored_bytes;
        Ok(())
    }

    fn store(&mut self, block: BlockId, digest: Digest, codec: Codec, length: u32, encoded: &[u8]) -> Result<()> {
        self.verify(digest, codec, length, encoded).map_err(|e| self.in_block(block, &e))?;
        let added = self.pool.store_block(&self.guard, digest, codec, length, encoded)?;
        self.stored_bytes += added;
        self.new_bytes += if added > 0 { length.into() } else { 0 };
        Ok(())
    }

    fn verify(&mut self, expected: Digest, codec: Codec, length: u32, encoded: &[u8]) -> Result<(), FormatError> {
        let computed = match codec {
            Codec::Stored if encoded.len() == length as usize => Digest::of_block(encoded),
            _ => {
                let content = &mut self.scratch[..length as usize];
                decode_into(codec, encoded, content)?;
                Digest::of_block(content)
            }
        };
        match computed == expected {
            true => Ok(()),
            false => Err(FormatError::Digest { what: "block", expected, computed }),
        }
    }

    fn check_reference(&self, block: BlockId, digest: &Digest, length: u32) -> Result<()> {
        let reason = match known_length(&self.pool, &self.guard, self.learns, digest)? {
            Some(known) if known == length => return Ok(()),
            Some(known) => format!("block {digest} has {known} bytes, {length} expected"),
            None => {
                self.pool.check_stream(&self.guard)?;
                format!("block {digest} is not in the pool")
            }
        };
        Err(self.in_block(block, &FormatError::invalid("reference", reason)))
    }

    fn in_block(&self, block: BlockId, error: &FormatError) -> Error {
        let offset = self.receiver.begin().geometry.offset(block);
        let name = &self.volume.name;
        FormatError::invalid("stream", format!("volume {name}, block {block} (byte offset {offset}): {error}")).into()
    }
}

/// The length of a block that the pool has, as far as the sender may learn that.
fn known_length(pool: &Pool, guard: &StreamGuard, learns: bool, digest: &Digest) -> Result<Option<u32>> {
    if learns { pool.block_length(guard, digest) } else { Ok(None) }
}

/// The point that an incremental stream is based on.
fn find_base(name: &VolumeName, known: Option<&VolumeEntry>, begin: &Begin) -> Result<Option<Point>> {
    let Some(base) = begin.base else { return Ok(None) };
    let points = known.map_or(&[][..], |entry| &entry.points);
    let same = |point: &&Point| point.map.root() == base.root && point.map.geometry.volume_size() == base.size;
    let found = points.iter().rev().find(same);
    let newest = points.last().map_or("it has no points".into(), |point| {
        format!("its newest point is {name}@{} with root {}", point.number, point.map.root().short())
    });
    found.cloned().map(Some).ok_or_else(|| {
        Error::Refused(format!(
            "no common base: the stream is based on root {}, which no point of volume {name} has ({newest}); send a full stream",
            base.root.short()
        ))
    })
}

fn lease(pool: &Pool, volume: &Volume, base: &Point) -> Result<Lease> {
    let (name, number) = (&volume.name, base.number);
    let gone =
        || Error::Refused(format!("no common base: {name}@{number} was removed just now; send the stream again"));
    pool.lease(&volume.uuid, number, "a stream that is based on it").ok_or_else(gone)
}

fn same_volume(volume: Volume, begin: &Begin) -> Result<Volume> {
    if !begin.volume.is_nil() && begin.volume != volume.uuid {
        let (name, own, other) = (&volume.name, volume.uuid, begin.volume);
        return Err(Error::Refused(format!(
            "the stream belongs to volume {other}, {name} is volume {own}; name another volume"
        )));
    }
    let (own, other) = (volume.block_size, begin.geometry.block_size());
    match own == other {
        true => Ok(volume),
        false => {
            let name = &volume.name;
            Err(Error::Refused(format!("the stream has blocks of {other}, volume {name} has blocks of {own} for ever")))
        }
    }
}

fn new_volume(pool: &Pool, announced: &Announced, begin: &Begin) -> Result<Volume> {
    let uuid = if begin.volume.is_nil() { announced.new_uuid } else { begin.volume };
    if let Some(other) = pool.volumes().into_iter().find(|entry| entry.volume.uuid == uuid) {
        let (name, other) = (&announced.name, &other.volume.name);
        return Err(Error::Refused(format!("the stream belongs to volume {other}, not to a new volume {name}")));
    }
    let block_size = begin.geometry.block_size();
    Ok(Volume { uuid, name: announced.name.clone(), block_size, created_ns: announced.now_ns })
}
