//! A stream from standard input into a pool that no daemon has open.
//!
//! Invariant: the same [`Ingest`] as online, so the same rules; the secondary has settled when this returns.

use crate::args::IngestArgs;
use crate::clock;
use crate::control::client::print;
use crate::error::{Error, Result};
use crate::ingest::{Announced, Ingest};
use crate::pool::Pool;
use crate::secondary::Secondaries;
use crate::upkeep::Told;
use serde_json::json;
use std::io::Read;
use std::sync::Arc;
use understudy_format::FormatError;
use understudy_format::point::Point;
use understudy_format::stream::Begin;
use understudy_format::wire::Message;
use understudy_net::blocking::{FrameFile, StreamFileError};

/// Takes the stream on `input`.
pub fn run(args: &IngestArgs, input: impl Read) -> Result<()> {
    let pool = Arc::new(crate::open_pool(&args.pool, args.secondary.settings().into())?);
    let announced = Announced {
        name: args.volume.clone(),
        label: args.label.clone(),
        new_uuid: clock::random_uuid(),
        now_ns: clock::now_ns(),
        learns: true,
        over: None,
    };
    let point = receive(&pool, announced, FrameFile::new(input))?;
    print(&told(args, &point), args.json);
    let entry = pool.volume(&args.volume).ok_or(Error::Closing)?;
    Secondaries::new(pool).settle(&entry.volume).map_err(|error| {
        let (name, number) = (&args.volume, point.number);
        Error::Broken(format!(
            "{name}@{number} is committed, but its secondary could not be brought up to date: {error}"
        ))
    })
}

fn told(args: &IngestArgs, point: &Point) -> Told {
    let (volume, root) = (&args.volume, point.map.root().to_string());
    let Point { number, changed_blocks, stored_bytes, .. } = point;
    let event = json!({
        "event": "stored", "volume": volume.as_str(), "point": number, "root": root,
        "changed_blocks": changed_blocks, "stored_bytes": stored_bytes,
    });
    let text = format!("{volume}@{number} root {root} {changed_blocks} blocks changed, {stored_bytes} bytes stored");
    Told { text, event }
}

fn receive(pool: &Arc<Pool>, announced: Announced, mut frames: FrameFile<impl Read>) -> Result<Point> {
    let mut ingest = Ingest::begin(pool.clone(), announced, begin(&mut frames)?)?;
    loop {
        let offset = frames.offset();
        match next(&mut frames)? {
            Message::Chunk(chunk) => ingest.chunk(&chunk).map_err(|error| located(offset, error))?,
            Message::Commit(commit) => {
                check_end(&mut frames)?;
                return ingest.commit(&commit).map_err(|error| located(offset, error));
            }
            other => return Err(misplaced(offset, &other, "a chunk or a commit record")),
        }
    }
}

fn begin(frames: &mut FrameFile<impl Read>) -> Result<Begin> {
    match next(frames)? {
        Message::Begin(begin) => Ok(begin),
        other => Err(misplaced(0, &other, "a begin record")),
    }
}

fn next(frames: &mut FrameFile<impl Read>) -> Result<Message> {
    match frames.next_message() {
        Ok(Some(message)) => Ok(message),
        Ok(None) if frames.offset() == 0 => Err(Error::refused("the input is empty, not an understudy stream")),
        Ok(None) => {
            let offset = frames.offset();
            Err(Error::refused(format!("the stream is truncated: it ends at offset {offset} without a commit record")))
        }
        Err(StreamFileError::Format { offset: 0, source: FormatError::Crc { .. } }) => Err(Error::refused(
            "the input is not an understudy stream: wrong magic or damaged frame header at offset 0 (expected \"BEGN\")",
        )),
        Err(error) => Err(Error::Refused(error.to_string())),
    }
}

/// What follows a commit record belongs to no stream.
fn check_end(frames: &mut FrameFile<impl Read>) -> Result<()> {
    let offset = frames.offset();
    match frames.next_frame() {
        Ok(None) => Ok(()),
        _ => Err(Error::refused(format!("the stream goes on after its commit record, at offset {offset}"))),
    }
}

fn misplaced(offset: u64, found: &Message, expected: &str) -> Error {
    Error::Refused(format!("stream at offset {offset}: expected {expected}, found {}", found.name()))
}

fn located(offset: u64, error: Error) -> Error {
    match error {
        Error::Format(error) => Error::Refused(format!("stream at offset {offset}: {error}")),
        other => other,
    }
}
