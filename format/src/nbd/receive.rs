//! The server's receiving side of the transmission phase: bytes to requests that are already valid.
//!
//! Requests are judged once, here, against the session: layers above may rely on every range lying
//! within the export, on writes reaching writable exports only, and on flags that were offered. A
//! request that fails the judgement comes out as [`Incoming::Refused`] and only needs sending; the
//! payload of a refused write is skipped without being kept.
//!
//! Must not: allocate (the driver owns the buffer, a write's payload is a slice of it), answer, or
//! know the export.

use bytes::{Buf, Bytes, BytesMut};

use super::request::{BLOCK_STATUS, CACHE, DISC, FLUSH, READ, REQUEST_HEAD_LEN, TRIM, WRITE, WRITE_ZEROES};
use super::{
    Command, CommandFlags, DRAIN_LEN_MAX, Errno, Failure, Request, RequestHead, Session, Span, TransmissionFlags,
    WireError,
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
        /// Its number.
        cookie: u64,
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
    Drain { left: usize, cookie: u64, failure: Failure },
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
                        let data = input.split_to(head.length as usize).freeze();
                        let request = Request { cookie: head.cookie, command: write(head, data) };
                        self.phase = Phase::Head;
                        Some(Incoming::Request(request))
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
        let Some(bytes) = input.first_chunk::<REQUEST_HEAD_LEN>() else {
            return Ok(Some(Incoming::Receive(REQUEST_HEAD_LEN - input.len())));
        };
        let head = RequestHead::decode(bytes)?;
        input.advance(REQUEST_HEAD_LEN);
        if head.kind == DISC {
            return Ok(Some(Incoming::Disconnect));
        }
        let judged = judge(session, &head);
        if head.kind == WRITE {
            self.phase = expect_payload(head, judged)?;
            return Ok(None);
        }
        let cookie = head.cookie;
        Ok(Some(match judged {
            Ok(()) => Incoming::Request(Request { cookie, command: command(&head) }),
            Err(failure) => Incoming::Refused { cookie, failure },
        }))
    }

    fn drain(&mut self, input: &mut BytesMut) -> Option<Incoming> {
        let Phase::Drain { left, .. } = &mut self.phase else {
            return None;
        };
        let skipped = input.len().min(*left);
        input.advance(skipped);
        *left -= skipped;
        if *left > 0 {
            // One byte, not all: nothing has to be held at once.
            return Some(Incoming::Receive(1));
        }
        match std::mem::replace(&mut self.phase, Phase::Head) {
            Phase::Drain { cookie, failure, .. } => Some(Incoming::Refused { cookie, failure }),
            _ => None,
        }
    }
}

fn expect_payload(head: RequestHead, judged: Result<(), Failure>) -> Result<Phase, WireError> {
    let (length, limit) = (head.length.into(), DRAIN_LEN_MAX.into());
    match judged {
        Ok(()) => Ok(Phase::Payload(head)),
        Err(_) if length > limit => Err(WireError::TooLong { what: "payload of a write", length, limit }),
        Err(failure) => Ok(Phase::Drain { left: head.length as usize, cookie: head.cookie, failure }),
    }
}

/// Whether `session` allows the request (proto.md, "Error values" for the numbers).
fn judge(session: &Session, head: &RequestHead) -> Result<(), Failure> {
    let rule =
        Rule::of(head.kind).ok_or_else(|| Failure::new(Errno::Invalid, format!("unknown command {}", head.kind)))?;
    check_access(session, &rule)?;
    check_flags(session, &rule, head.flags)?;
    if head.kind == FLUSH {
        return Ok(());
    }
    check_length(session, head)?;
    check_range(session, head)?;
    check_alignment(session, head)
}

/// What a command needs.
struct Rule {
    name: &'static str,
    /// Changes the export.
    writes: bool,
    /// The flag that offers it; empty when it is always served.
    offered_by: TransmissionFlags,
    /// Command flags besides `FUA`.
    flags: CommandFlags,
}

impl Rule {
    fn of(kind: u16) -> Option<Self> {
        let (none, always) = (CommandFlags::default(), TransmissionFlags::default());
        let zeroing = CommandFlags::NO_HOLE | CommandFlags::FAST_ZERO;
        let (name, writes, offered_by, flags) = match kind {
            READ => ("read", false, always, CommandFlags::DF),
            WRITE => ("write", true, always, none),
            FLUSH => ("flush", false, TransmissionFlags::SEND_FLUSH, none),
            TRIM => ("trim", true, TransmissionFlags::SEND_TRIM, none),
            CACHE => ("cache", false, TransmissionFlags::SEND_CACHE, none),
            WRITE_ZEROES => ("write of zeroes", true, TransmissionFlags::SEND_WRITE_ZEROES, zeroing),
            BLOCK_STATUS => ("block status", false, always, CommandFlags::REQ_ONE),
            _ => return None,
        };
        Some(Self { name, writes, offered_by, flags })
    }
}

fn check_access(session: &Session, rule: &Rule) -> Result<(), Failure> {
    if rule.writes && !session.is_writable() {
        return Err(Failure::new(Errno::Perm, format!("{} on a read-only export", rule.name)));
    }
    if !session.flags.contains(rule.offered_by) {
        return Err(Failure::new(Errno::Invalid, format!("{} was not offered", rule.name)));
    }
    Ok(())
}

fn check_flags(session: &Session, rule: &Rule, flags: CommandFlags) -> Result<(), Failure> {
    let offers = |flag| session.flags.contains(flag);
    let mut allowed = rule.flags | session.common_command_flags();
    if !offers(TransmissionFlags::SEND_DF) {
        allowed = allowed.without(CommandFlags::DF);
    }
    if !offers(TransmissionFlags::SEND_FAST_ZERO) {
        allowed = allowed.without(CommandFlags::FAST_ZERO);
    }
    match flags.without(allowed) {
        CommandFlags(0) => Ok(()),
        CommandFlags(wrong) => {
            let text = format!("flags {wrong:#x} are not allowed with a {}", rule.name);
            Err(Failure::new(Errno::Invalid, text))
        }
    }
}

fn check_length(session: &Session, head: &RequestHead) -> Result<(), Failure> {
    if head.kind == BLOCK_STATUS {
        return check_status(session, head);
    }
    let limit = session.length_max;
    if !matches!(head.kind, READ | WRITE) || head.length <= limit {
        return Ok(());
    }
    let unfragmented = head.flags.contains(CommandFlags::DF);
    let errno = if unfragmented { Errno::Overflow } else { Errno::Invalid };
    Err(Failure::new(errno, format!("length {} is above the limit of {limit}", head.length)))
}

fn check_status(session: &Session, head: &RequestHead) -> Result<(), Failure> {
    let problem = match head.length {
        _ if session.contexts.is_empty() => "block status without a selected metadata context",
        0 => "block status of an empty range",
        _ => return Ok(()),
    };
    Err(Failure::new(Errno::Invalid, problem))
}

fn check_range(session: &Session, head: &RequestHead) -> Result<(), Failure> {
    let RequestHead { offset, length, .. } = *head;
    match offset.checked_add(length.into()) {
        Some(end) if end <= session.size => return Ok(()),
        _ => {}
    }
    let grows = matches!(head.kind, WRITE | WRITE_ZEROES);
    let errno = if grows { Errno::NoSpace } else { Errno::Invalid };
    let size = session.size;
    let text = format!("offset {offset} length {length} is outside the export of {size} bytes");
    Err(Failure::new(errno, text))
}

fn check_alignment(session: &Session, head: &RequestHead) -> Result<(), Failure> {
    let alignment = session.alignment;
    let RequestHead { offset, length, .. } = *head;
    if offset.is_multiple_of(alignment.into()) && length.is_multiple_of(alignment) {
        return Ok(());
    }
    let text = format!("offset {offset} length {length} is not aligned to the block size of {alignment}");
    Err(Failure::new(Errno::Invalid, text))
}

fn write(head: &RequestHead, data: Bytes) -> Command {
    Command::Write { offset: head.offset, data, fua: head.flags.contains(CommandFlags::FUA) }
}

/// The meaning of a judged head other than a write's.
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
        BLOCK_STATUS => Command::BlockStatus { span, one: has(CommandFlags::REQ_ONE) },
        _ => Command::Flush,
    }
}
