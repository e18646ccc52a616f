//! An appliance in memory, behind a real socket: it checks everything a real one would.

use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::net::{TcpListener, TcpStream};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard};
use understudy_format::chunk::{Chunk, ChunkHead, Entry};
use understudy_format::codec::{Codec, decode_into};
use understudy_format::layout::Layout;
use understudy_format::map::{Builder, Lookup, Map, PAGE_SIZE, Page, PageStore};
use understudy_format::point::{Label, MOMENT, Point, Volume, VolumeName};
use understudy_format::session::{Cursor, Receiver, pack};
use understudy_format::wire::{BlockRange, Message, Moment, Tap, VolumeInfo, VolumeStatus};
use understudy_format::{BlockId, Digest, ErrorKind};
use understudy_net::blocking::{FrameFile, write_message};
use uuid::Uuid;

/// What is done before a stream is accepted: the moment between opening a source and reading it.
pub type Hook = Box<dyn FnOnce() + Send>;

#[derive(Default)]
pub struct Store {
    pub blocks: HashMap<Digest, Vec<u8>>,
    pub volumes: BTreeMap<String, (Volume, Vec<Point>)>,
    pub pages_served: u64,
    pub before_accept: Option<Hook>,
    /// Refuse streams after so many chunks.
    pub fail_after: Option<u64>,
    /// What is said to be lost when the next stream is accepted.
    pub again: Vec<BlockRange>,
    /// What can be opened of a volume between its points.
    pub moments: BTreeMap<String, Vec<Point>>,
    /// Of which everything is zero when it is opened once more.
    pub fickle: bool,
    /// Damage the blocks that are read.
    pub lie: bool,
    pages: Pages,
}

#[derive(Default)]
struct Pages(HashMap<Digest, Arc<Page>>);

impl PageStore for Pages {
    type Error = Infallible;
    fn load(&mut self, digest: Digest) -> Result<Arc<Page>, Infallible> {
        Ok(self.0[&digest].clone())
    }
    fn store(&mut self, digest: Digest, page: &Page) -> Result<(), Infallible> {
        self.0.insert(digest, Arc::new(page.clone()));
        Ok(())
    }
}

pub struct Fake {
    pub address: String,
    store: Arc<Mutex<Store>>,
}

impl Fake {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let store = Arc::new(Mutex::new(Store::default()));
        let served = store.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let store = served.clone();
                // Whatever goes wrong on a connection ends it; the test sees what the initiator says.
                std::thread::spawn(move || Session { store, stream: stream.unwrap(), opened: Vec::new() }.run());
            }
        });
        Self { address, store }
    }

    pub fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The bytes of a point.
    pub fn content(&self, name: &str, number: u64) -> Vec<u8> {
        let store = &mut *self.store();
        let point = store.volumes[name].1.iter().find(|point| point.number == number).unwrap();
        let geometry = point.map.geometry;
        let mut lookup = Lookup::new(point.map);
        let mut content = Vec::new();
        for block in 0..geometry.block_count() {
            let digest = lookup.block(BlockId(block), &mut store.pages).unwrap();
            let length = geometry.block_len(BlockId(block)) as usize;
            match digest.is_zero() {
                true => content.resize(content.len() + length, 0),
                false => content.extend_from_slice(&store.blocks[&digest]),
            }
            assert_eq!(content.len() as u64, geometry.byte_range(BlockId(block), 1).end);
        }
        content
    }

    pub fn points(&self, name: &str) -> Vec<Point> {
        self.store().volumes.get(name).map(|(_, points)| points.clone()).unwrap_or_default()
    }
}

struct Session {
    store: Arc<Mutex<Store>>,
    stream: TcpStream,
    /// The moments that are there for this session.
    opened: Vec<u64>,
}

type Answer = Result<Option<Message>, String>;

impl Session {
    fn run(mut self) {
        let mut incoming = FrameFile::new(self.stream.try_clone().unwrap());
        while let Ok(Some(message)) = incoming.next_message() {
            let answer = match message {
                Message::Push { name, label, .. } => self.push(&mut incoming, &name, label),
                Message::GetPages { point, .. } | Message::Read { point, .. } if self.is_closed(point) => {
                    Err(format!("moment {point} was not opened in this session"))
                }
                Message::Read { volume, point, ranges } => self.read(volume, point, &ranges),
                Message::Tap(Tap::OpenMoment { name, at_ns }) => Ok(Some(self.open(&name, at_ns))),
                other => Ok(Some(self.lock().answer(other))),
            };
            match answer {
                Ok(answer) => answer.into_iter().for_each(|answer| self.say(&answer)),
                Err(text) => {
                    self.say(&Message::Fail { kind: ErrorKind::Refused, text });
                    // Closing with bytes unread would reset the connection, and the failure could be lost.
                    while let Ok(Some(_)) = incoming.next_frame() {}
                    return;
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn say(&self, message: &Message) {
        // The initiator may be gone.
        let _ = write_message(&mut &self.stream, message);
    }

    fn is_closed(&self, number: u64) -> bool {
        number >= MOMENT && !self.opened.contains(&number)
    }

    fn open(&mut self, name: &VolumeName, at_ns: i64) -> Message {
        let found = self.lock().open(name, at_ns);
        if let Message::Points { points, .. } = &found {
            self.opened.extend(points.iter().map(|point| point.number));
        }
        found
    }

    fn read(&self, volume: Uuid, number: u64, ranges: &[BlockRange]) -> Answer {
        let chunks = self.lock().read(volume, number, ranges);
        chunks.into_iter().for_each(|chunk| self.say(&Message::Chunk(chunk)));
        Ok(Some(Message::ReadEnd))
    }

    fn push(&self, incoming: &mut FrameFile<TcpStream>, name: &VolumeName, label: Option<Label>) -> Answer {
        let Ok(Some(Message::Begin(begin))) = incoming.next_message() else { return Err("expected Begin".into()) };
        let hook = self.lock().before_accept.take();
        hook.into_iter().for_each(|hook| hook());
        let base = self.lock().base(name, &begin)?;
        let again = std::mem::take(&mut self.lock().again);
        self.say(&Message::Accept { window: 16, cursor: Cursor::START, again });
        let mut receiver = Receiver::new(begin);
        let mut builder = Builder::new(begin.geometry, base.as_ref().map(|base| base.map));
        loop {
            let message = incoming.next_message().map_err(|e| e.to_string())?.ok_or("cut")?;
            let store = &mut *self.lock();
            match message {
                Message::Offer(head) => {
                    let has =
                        |digest: &Digest| Ok::<_, understudy_format::FormatError>(store.blocks.contains_key(digest));
                    let wanted = receiver.offer(&head, has).map_err(|e| e.to_string())?;
                    self.say(&Message::Need { sequence: head.sequence, wanted });
                }
                Message::Chunk(chunk) => {
                    if store.fail_after == Some(chunk.head.sequence) {
                        return Err("the disk is on fire".into());
                    }
                    receiver.chunk(&chunk).map_err(|e| e.to_string())?;
                    store.take(&chunk, &mut builder)?;
                }
                Message::Commit(commit) => {
                    let map = builder.finish(&mut store.pages).unwrap();
                    receiver.commit(&commit, map.root()).map_err(|e| e.to_string())?;
                    return Ok(Some(Message::Stored(store.commit(name, label, &receiver, map, base.as_ref()))));
                }
                other => return Err(format!("unexpected {}", other.name())),
            }
        }
    }
}

impl Store {
    fn answer(&mut self, message: Message) -> Message {
        match message {
            Message::Hello { version, .. } => Message::Welcome {
                version,
                pool: Uuid::from_u128(77),
                software: "fake".into(),
                nbd: "0.0.0.0:1".into(),
            },
            Message::ListVolumes => Message::Volumes(self.volumes.values().map(info).collect()),
            Message::ListPoints { name, newest } => match self.volumes.get(name.as_str()) {
                Some(found) => {
                    let skip = found.1.len().saturating_sub(newest as usize);
                    Message::Points {
                        volume: Some(info(found)),
                        points: found.1[skip..].to_vec(),
                        protected: Vec::new(),
                    }
                }
                None => Message::Points { volume: None, points: Vec::new(), protected: Vec::new() },
            },
            Message::GetPages { volume, point, level, indexes } => {
                self.pages_served += indexes.len() as u64;
                Message::Pages(self.pages(volume, point, level, &indexes))
            }
            Message::Tap(Tap::ListMoments { name, from_ns, to_ns, newest }) => {
                self.list_moments(&name, from_ns..=to_ns, newest as usize)
            }
            other => Message::Fail { kind: ErrorKind::Refused, text: format!("unexpected {}", other.name()) },
        }
    }

    fn list_moments(&self, name: &VolumeName, span: RangeInclusive<i64>, newest: usize) -> Message {
        let all = self.moments.get(name.as_str()).into_iter().flatten();
        let within: Vec<_> = all.filter(|point| span.contains(&point.created_ns)).collect();
        let to_moment = |point: &&Point| Moment {
            time_ns: point.created_ns,
            sequence: point.number - MOMENT,
            point: point.base.expect("a moment comes after a point"),
        };
        let skip = within.len().saturating_sub(newest);
        Tap::Moments(within[skip..].iter().map(to_moment).collect()).into()
    }

    /// The newest of points and moments at or before a time.
    fn open(&mut self, name: &VolumeName, at_ns: i64) -> Message {
        let Some(found) = self.volumes.get(name.as_str()) else {
            return Message::Points { volume: None, points: Vec::new(), protected: Vec::new() };
        };
        let moments = self.moments.get_mut(name.as_str()).into_iter().flatten();
        let until = |point: &&mut Point| point.created_ns <= at_ns;
        let newest = match moments.filter(until).max_by_key(|point| point.created_ns) {
            Some(moment) => {
                let opened = moment.clone();
                moment.map = if self.fickle { Map::zero(moment.map.geometry) } else { moment.map };
                Some(opened)
            }
            None => found.1.iter().rfind(|point| point.created_ns <= at_ns).cloned(),
        };
        Message::Points { volume: Some(info(found)), points: newest.into_iter().collect(), protected: Vec::new() }
    }

    fn point(&self, volume: Uuid, number: u64) -> &Point {
        let recorded = self.volumes.values().flat_map(|(_, points)| points);
        let mut all = recorded.chain(self.moments.values().flatten());
        all.find(|point| (point.volume, point.number) == (volume, number)).unwrap()
    }

    fn pages(&mut self, volume: Uuid, number: u64, level: u8, indexes: &[u64]) -> Bytes {
        let mut lookup = Lookup::new(self.point(volume, number).map);
        let mut out = Vec::with_capacity(indexes.len() * PAGE_SIZE);
        for index in indexes {
            let digest = lookup.node(level + 1, *index, &mut self.pages).unwrap();
            match digest.is_zero() {
                true => out.extend_from_slice(Page::zero().bytes()),
                false => out.extend_from_slice(self.pages.0[&digest].bytes()),
            }
        }
        out.into()
    }

    fn read(&mut self, volume: Uuid, number: u64, ranges: &[BlockRange]) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        for range in ranges {
            for first in (range.first..range.first + range.count).step_by(16) {
                let count = (range.first + range.count - first).min(16);
                chunks.push(self.read_chunk(volume, number, first, count, chunks.len() as u64));
            }
        }
        chunks
    }

    fn read_chunk(&mut self, volume: Uuid, number: u64, first: u64, count: u64, sequence: u64) -> Chunk {
        let map = self.point(volume, number).map;
        let mut lookup = Lookup::new(map);
        let mut entries = Vec::new();
        for block in first..first + count {
            let digest = lookup.block(BlockId(block), &mut self.pages).unwrap();
            let block_length = map.geometry.block_len(BlockId(block));
            entries.push(match digest.is_zero() {
                true => Entry::Zero { count: 1 },
                false => {
                    Entry::Data { digest, codec: Codec::Stored, payload_offset: 0, payload_length: 0, block_length }
                }
            });
        }
        let head = ChunkHead {
            volume,
            stream: Uuid::from_u128(5),
            sequence,
            geometry: map.geometry,
            first_block: BlockId(first),
            entries,
            payload_length: 0,
            payload_crc: 0,
        };
        let mut contents: HashMap<u64, Vec<u8>> = HashMap::new();
        for (block, entry) in head.blocks() {
            if let Entry::Data { digest, .. } = entry {
                let mut content = self.blocks[digest].clone();
                content[0] ^= u8::from(self.lie);
                contents.insert(block.0, content);
            }
        }
        pack(head, true, |block| &contents[&block.0]).unwrap()
    }

    fn base(&self, name: &VolumeName, begin: &understudy_format::stream::Begin) -> Result<Option<Point>, String> {
        let known = self.volumes.get(name.as_str());
        if known.is_some_and(|(volume, _)| volume.uuid != begin.volume) {
            return Err("another volume of this name".into());
        }
        let Some(base) = begin.base else { return Ok(None) };
        let newest = known.and_then(|(_, points)| points.last()).filter(|newest| newest.map.root() == base.root);
        newest.cloned().map(Some).ok_or("the base is not the newest point".into())
    }

    fn take(&mut self, chunk: &Chunk, builder: &mut Builder) -> Result<(), String> {
        for entry in &chunk.head.entries {
            match *entry {
                Entry::Data { digest, block_length, .. } => {
                    let (codec, encoded) = chunk.encoded(entry).unwrap();
                    let mut content = vec![0; block_length as usize];
                    decode_into(codec, &encoded, &mut content).map_err(|e| e.to_string())?;
                    if Digest::of_block(&content) != digest {
                        return Err("a block has another digest".into());
                    }
                    self.blocks.insert(digest, content);
                    builder.block(digest, &mut self.pages).unwrap();
                }
                Entry::Reference { digest, .. } => {
                    if !self.blocks.contains_key(&digest) {
                        return Err("a reference to nothing".into());
                    }
                    builder.block(digest, &mut self.pages).unwrap();
                }
                Entry::Zero { count } => builder.zero(count, &mut self.pages).unwrap(),
                Entry::Unchanged { count } => builder.unchanged(count, &mut self.pages).unwrap(),
            }
        }
        Ok(())
    }

    fn commit(
        &mut self,
        name: &VolumeName,
        label: Option<Label>,
        receiver: &Receiver,
        map: Map,
        base: Option<&Point>,
    ) -> Point {
        let begin = receiver.begin();
        let volume = Volume {
            uuid: begin.volume,
            name: name.clone(),
            block_size: begin.geometry.block_size(),
            created_ns: begin.created_ns,
        };
        let (_, points) = self.volumes.entry(name.to_string()).or_insert((volume, Vec::new()));
        let totals = receiver.totals();
        let point = Point {
            volume: begin.volume,
            number: points.last().map_or(1, |newest| newest.number + 1),
            base: base.map(|base| base.number),
            created_ns: begin.created_ns,
            map,
            stream: begin.stream,
            changed_blocks: totals.data + totals.reference,
            stored_bytes: 0,
            new_bytes: 0,
            label,
            position: None,
        };
        points.push(point.clone());
        point
    }
}

fn info((volume, points): &(Volume, Vec<Point>)) -> VolumeInfo {
    let mut status = VolumeStatus::get(&[0; 112]).unwrap();
    status.points = points.len() as u64;
    if let Some(newest) = points.last() {
        (status.newest, status.size) = (newest.number, newest.map.geometry.volume_size());
        (status.newest_root, status.settled_root) = (newest.map.root(), newest.map.root());
    }
    VolumeInfo { volume: volume.clone(), status }
}
