//! The receiving side of the transmission phase: bytes to requests that are already valid.
//!
//! Requests are judged once, here, against the session: layers above may rely on every range lying
//! within the export, on writes reaching writable exports only, and on flags that were offered. A
//! request that fails the judgement comes out as [`Incoming::Refused`] and only needs sending; the
//! payload of a refused request is skipped without being kept.
//!
//! Must not: copy content (the driver owns the buffer, a write's payload is a slice of it), answer, or
//! know the export.

use bytes::{Buf, Bytes, BytesMut};

use super::judge::{judge, judge_status};
use super::request::{BLOCK_STATUS, CACHE, DISC, READ, TRIM, WRITE_ZEROES, read_filter};
use super::{
    Command, CommandFlags, DRAIN_LEN_MAX, Errno, Failure, Request, RequestHead, Session, Span, Tag, WireError,
};

/// What came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// Nothing whole: at least this many more bytes are needed, never more than a request takes.
    Receive(usize),
    /// A valid request.
    Request(Request),
    /// A request to be answered with this failure.
    Refused {
        /// What the answer repeats.
        tag: Tag,
        /// Why.
        failure: Failure,
    },
    /// The client is done; what follows is not looked at.
    Disconnect,
}

#[derive(Debug)]
enum Phase {
    Head,
    Payload(RequestHead),
    Drain { left: u64, tag: Tag, failure: Failure },
}

/// The receiving side of one session.
#[derive(Debug)]
pub struct Receiver {
    phase: Phase,
}

impl Default for Receiver {
    fn default() -> Self {
        Self { phase: Phase::Head }
    }
}

impl Receiver {
    /// Takes the next message from the front of `input`, judged against `session`.
    ///
    /// # Errors
    /// A wrong magic, or a payload above [`DRAIN_LEN_MAX`]: the connection must be closed.
    pub fn next(&mut self, session: &Session, input: &mut BytesMut) -> Result<Incoming, WireError> {
        loop {
            let incoming = match &mut self.phase {
                Phase::Head => self.take_head(session, input)?,
                Phase::Payload(head) => match (head.length as usize).checked_sub(input.len()) {
                    Some(lacking @ 1..) => Some(Incoming::Receive(lacking)),
                    _ => {
                        let payload = input.split_to(head.length as usize).freeze();
                        let incoming = with_payload(session, head, payload);
                        self.phase = Phase::Head;
                        Some(incoming)
                    }
                },
                Phase::Drain { .. } => self.drain(input),
            };
            if let Some(incoming) = incoming {
                return Ok(incoming);
            }
        }
    }

    fn take_head(&mut self, session: &Session, input: &mut BytesMut) -> Result<Option<Incoming>, WireError> {
        let form = session.form;
        let Some(head) = RequestHead::take(form, input)? else {
            return Ok(Some(Incoming::Receive(form.request_head_len() - input.len())));
        };
        if head.kind == DISC {
            return Ok(Some(Incoming::Disconnect));
        }
        let judged = judge(session, &head);
        if head.has_payload(form) {
            self.phase = expect_payload(head, judged)?;
            return Ok(None);
        }
        Ok(Some(match judged {
            Ok(()) => Incoming::Request(Request { cookie: head.cookie, command: command(&head) }),
            Err(failure) => Incoming::Refused { tag: head.tag(), failure },
        }))
    }

    fn drain(&mut self, input: &mut BytesMut) -> Option<Incoming> {
        let Phase::Drain { left, .. } = &mut self.phase else {
            return None;
        };
        let skipped = (input.len() as u64).min(*left);
        input.advance(skipped as usize);
        *left -= skipped;
        if *left > 0 {
            // One byte, not all: nothing has to be held at once.
            return Some(Incoming::Receive(1));
        }
        match std::mem::replace(&mut self.phase, Phase::Head) {
            Phase::Drain { tag, failure, .. } => Some(Incoming::Refused { tag, failure }),
            _ => None,
        }
    }
}

fn expect_payload(head: RequestHead, judged: Result<(), Failure>) -> Result<Phase, WireError> {
    let (length, limit) = (head.length, DRAIN_LEN_MAX.into());
    match judged {
        Ok(()) => Ok(Phase::Payload(head)),
        Err(_) if length > limit => Err(WireError::TooLong { what: "payload of a request", length, limit }),
        Err(failure) => Ok(Phase::Drain { left: length, tag: head.tag(), failure }),
    }
}

/// What a judged head means together with its payload.
fn with_payload(session: &Session, head: &RequestHead, payload: Bytes) -> Incoming {
    let judged = match head.kind {
        BLOCK_STATUS => filtered(session, head, &payload),
        _ => Ok(Command::Write { offset: head.offset, data: payload, fua: head.flags.contains(CommandFlags::FUA) }),
    };
    match judged {
        Ok(command) => Incoming::Request(Request { cookie: head.cookie, command }),
        Err(failure) => Incoming::Refused { tag: head.tag(), failure },
    }
}

/// A block status whose payload has the length of the range and the contexts.
fn filtered(session: &Session, head: &RequestHead, payload: &[u8]) -> Result<Command, Failure> {
    let (length, only) = read_filter(payload).map_err(|error| Failure::new(Errno::Invalid, error.to_string()))?;
    let head = RequestHead { length, ..*head };
    judge_status(session, &head, &only)?;
    let span = Span { offset: head.offset, length };
    Ok(Command::BlockStatus { span, one: head.flags.contains(CommandFlags::REQ_ONE), only: Some(only) })
}

/// The meaning of a judged head without a payload.
fn command(head: &RequestHead) -> Command {
    let span = Span { offset: head.offset, length: head.length };
    let has = |flag| head.flags.contains(flag);
    let fua = has(CommandFlags::FUA);
    match head.kind {
        READ => Command::Read { span, whole: has(CommandFlags::DF) },
        TRIM => Command::Trim { span, fua },
        CACHE => Command::Cache { span },
        WRITE_ZEROES => {
            Command::WriteZeroes { span, fua, no_hole: has(CommandFlags::NO_HOLE), fast: has(CommandFlags::FAST_ZERO) }
        }
        BLOCK_STATUS => Command::BlockStatus { span, one: has(CommandFlags::REQ_ONE), only: None },
        _ => Command::Flush,
    }
}
