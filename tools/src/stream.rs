//! `stream inspect`: a readable dump of an offline stream, and everything that can be checked without its base.
//!
//! Checked are frames, checksums, the digest of every block that travels, the rules of a stream
//! (`stream::Checker`), and for a full stream its root. Invariants: one frame is in memory at a time; what was
//! read before the damage is shown; damage is told with the offset of its frame. Nothing is written but the dump.

mod show;

use crate::args::Inspect;
use anyhow::Context;
use bytes::Bytes;
use serde_json::json;
use show::Show;
use std::convert::Infallible;
use std::fs::File;
use std::io::{Read, Write};
use std::sync::Arc;
use understudy_format::chunk::{Chunk, Entry};
use understudy_format::codec::decode_into;
use understudy_format::frame::FrameHeader;
use understudy_format::map::{Builder, Page, PageStore};
use understudy_format::stream::{BEGIN, Begin, CHUNK, COMMIT, Checker, Commit};
use understudy_format::{BlockId, Digest, FormatError};
use understudy_net::blocking::{FrameFile, StreamFileError};

/// Runs the command; whether the stream is sound.
pub fn run(args: &Inspect, out: &mut impl Write) -> anyhow::Result<bool> {
    if args.file.as_os_str() == "-" {
        return inspect(std::io::stdin().lock(), args, out);
    }
    let file = File::open(&args.file).with_context(|| format!("cannot open {}", args.file.display()))?;
    inspect(file, args, out)
}

/// Dumps and checks a stream; whether it is sound.
pub fn inspect(from: impl Read, args: &Inspect, out: &mut impl Write) -> anyhow::Result<bool> {
    let mut show = Show { out, json: args.json, summary: args.summary };
    let mut frames = FrameFile::new(from);
    let mut state = State::Start;
    let judged = loop {
        let offset = frames.offset();
        match frames.next_frame() {
            Ok(None) => break state.end(offset),
            Ok(Some((header, body))) => match state.frame(&header, &body, offset, &mut show)? {
                Ok(next) => state = next,
                Err(error) => break Err((offset, error)),
            },
            Err(StreamFileError::Format { offset, source }) => break Err((offset, source)),
            Err(error) => return Err(error.into()),
        }
    };
    match judged {
        Ok(()) => show.sound(frames.offset()),
        Err((offset, error)) => show.damage(offset, &error),
    }
}

/// What went by of a stream.
enum State {
    Start,
    Open(Box<Open>),
    Closed,
}

/// A stream that began.
struct Open {
    checker: Checker,
    /// The map of a full stream; an incremental one needs its base for that.
    builder: Option<Builder>,
    scratch: Vec<u8>,
}

type Judged<T> = Result<T, FormatError>;

impl State {
    /// Takes a frame, and shows what it is, as far as it can be read.
    fn frame<W: Write>(
        self,
        header: &FrameHeader,
        body: &Bytes,
        offset: u64,
        show: &mut Show<'_, W>,
    ) -> anyhow::Result<Judged<Self>> {
        match (self, header.tag) {
            (State::Start, BEGIN) => match Begin::decode(body) {
                Ok(begin) => show.begin(offset, &begin).map(|()| Ok(State::Open(Box::new(Open::new(begin))))),
                Err(error) => Ok(Err(error)),
            },
            (State::Open(mut open), CHUNK) => match Chunk::decode(body) {
                Ok(chunk) => {
                    show.chunk(offset, &chunk)?;
                    Ok(open.chunk(&chunk).map(|()| State::Open(open)))
                }
                Err(error) => Ok(Err(error)),
            },
            (State::Open(open), COMMIT) => match Commit::decode(body) {
                Ok(commit) => {
                    show.commit(offset, &commit)?;
                    Ok(open.commit(&commit).map(|()| State::Closed))
                }
                Err(error) => Ok(Err(error)),
            },
            (state, tag) if ![BEGIN, CHUNK, COMMIT].contains(&tag) && header.may_skip() => {
                let tag = tag.escape_ascii().to_string();
                show.line(json!({"event": "skipped", "offset": offset, "tag": tag, "length": header.length}), || {
                    format!(
                        "{offset:>12}  {tag}    {} bytes that this program does not know; may be skipped",
                        header.length
                    )
                })?;
                Ok(Ok(state))
            }
            (state, _) => Ok(Err(header.unexpected(state.expected()))),
        }
    }

    fn expected(&self) -> &'static str {
        match self {
            State::Start => "a begin record (BEGN)",
            State::Open(_) => "a chunk (CHNK) or the commit record (CMIT)",
            State::Closed => "the end of the stream",
        }
    }

    /// The input ended at `offset`.
    fn end(&self, offset: u64) -> Result<(), (u64, FormatError)> {
        match self {
            State::Closed => Ok(()),
            _ => Err((offset, FormatError::invalid("stream", format!("ends where {} should be", self.expected())))),
        }
    }
}

impl Open {
    fn new(begin: Begin) -> Self {
        let builder = begin.base.is_none().then(|| Builder::new(begin.geometry, None));
        let scratch = vec![0; begin.geometry.block_size().bytes() as usize];
        Self { checker: Checker::new(begin), builder, scratch }
    }

    fn chunk(&mut self, chunk: &Chunk) -> Judged<()> {
        self.checker.chunk(&chunk.head)?;
        for (block, entry) in chunk.head.blocks() {
            self.entry(chunk, block, entry)
                .map_err(|error| FormatError::invalid("chunk", format!("block {block}: {error}")))?;
        }
        Ok(())
    }

    fn entry(&mut self, chunk: &Chunk, block: BlockId, entry: &Entry) -> Judged<()> {
        let mut forget = Forget;
        match *entry {
            Entry::Data { digest, block_length, .. } => {
                let (codec, encoded) = chunk.encoded(entry).expect("a data entry has bytes");
                let content = &mut self.scratch[..block_length as usize];
                decode_into(codec, &encoded, content)?;
                check_digest(digest, Digest::of_block(content))?;
                self.built(|builder| builder.block(digest, &mut forget))
            }
            Entry::Reference { digest, .. } => self.built(|builder| builder.block(digest, &mut forget)),
            Entry::Zero { count } => self.built(|builder| builder.zero(count, &mut forget)),
            // The checker admits these in an incremental stream only, where there is no builder.
            Entry::Unchanged { .. } => debug_assert!(self.builder.is_none(), "block {block}"),
        }
        Ok(())
    }

    fn built(&mut self, step: impl FnOnce(&mut Builder) -> Result<(), Infallible>) {
        let Ok(()) = self.builder.as_mut().map_or(Ok(()), step);
    }

    fn commit(self, commit: &Commit) -> Judged<()> {
        self.checker.commit(commit)?;
        let Some(builder) = self.builder else { return Ok(()) };
        let Ok(map) = builder.finish(&mut Forget);
        match map.root() == commit.root {
            true => Ok(()),
            false => Err(FormatError::Digest { what: "root", expected: commit.root, computed: map.root() }),
        }
    }
}

fn check_digest(expected: Digest, computed: Digest) -> Judged<()> {
    match expected == computed {
        true => Ok(()),
        false => Err(FormatError::Digest { what: "block", expected, computed }),
    }
}

/// Only the root is wanted: pages are forgotten, and never loaded where there is no base.
pub(crate) struct Forget;

impl PageStore for Forget {
    type Error = Infallible;

    fn load(&mut self, digest: Digest) -> Result<Arc<Page>, Infallible> {
        unreachable!("page {digest} is wanted, though no base was given")
    }

    fn store(&mut self, _: Digest, _: &Page) -> Result<(), Infallible> {
        Ok(())
    }
}
