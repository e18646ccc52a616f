//! What a session allows (proto.md, "Error values" for the numbers).
//!
//! Judged in this order: command, access, offer, flags, length, range, alignment; the first that fails is told.
//! Invariant: every sum is checked. Nothing here knows buffers or where in a stream it is.

use super::request::{BLOCK_STATUS, CACHE, FLUSH, READ, TRIM, WRITE, WRITE_ZEROES, filter_len};
use super::{CommandFlags, Errno, Failure, Form, RequestHead, Session, TransmissionFlags};

/// Whether `session` allows the request, as far as its head tells.
pub(super) fn judge(session: &Session, head: &RequestHead) -> Result<(), Failure> {
    let rule = Rule::of(head.kind).ok_or_else(|| invalid(format!("unknown command {}", head.kind)))?;
    check_access(session, &rule)?;
    check_flags(session, &rule, head.flags)?;
    match head.kind {
        FLUSH => check_flush(head),
        BLOCK_STATUS if head.has_payload(session.form) => check_filter(session, head),
        BLOCK_STATUS => judge_status(session, head, &[]),
        _ => {
            check_length(session, head)?;
            check_span(session, head)
        }
    }
}

/// Whether `session` allows a block status with this range, in `only` these contexts; in all without.
pub(super) fn judge_status(session: &Session, head: &RequestHead, only: &[u32]) -> Result<(), Failure> {
    if session.contexts.is_empty() {
        return Err(invalid("block status without a selected metadata context"));
    }
    let unknown = only.iter().find(|id| session.contexts.iter().all(|context| context.id != **id));
    if let Some(id) = unknown {
        return Err(invalid(format!("block status in context {id}, which was not selected")));
    }
    if let Some(id) = only.iter().enumerate().find_map(|(at, id)| only[..at].contains(id).then_some(id)) {
        return Err(invalid(format!("block status in context {id} twice")));
    }
    if head.length == 0 {
        return Err(invalid("block status of an empty range"));
    }
    check_span(session, head)
}

fn invalid(text: impl Into<String>) -> Failure {
    Failure::new(Errno::Invalid, text)
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
    /// The flag that offers a payload, where one may come with extended headers.
    payload: Option<TransmissionFlags>,
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
        let payload = match kind {
            WRITE => Some(always),
            BLOCK_STATUS => Some(TransmissionFlags::BLOCK_STATUS_PAYLOAD),
            _ => None,
        };
        Some(Self { name, writes, offered_by, flags, payload })
    }
}

fn check_access(session: &Session, rule: &Rule) -> Result<(), Failure> {
    if rule.writes && !session.is_writable() {
        return Err(Failure::new(Errno::Perm, format!("{} on a read-only export", rule.name)));
    }
    if !session.flags.contains(rule.offered_by) {
        return Err(invalid(format!("{} was not offered", rule.name)));
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
    if session.form == Form::Extended && rule.payload.is_some_and(offers) {
        allowed = allowed | CommandFlags::PAYLOAD_LEN;
    }
    match flags.without(allowed) {
        CommandFlags(0) => Ok(()),
        CommandFlags(wrong) => Err(invalid(format!("flags {wrong:#x} are not allowed with a {}", rule.name))),
    }
}

fn check_flush(head: &RequestHead) -> Result<(), Failure> {
    match (head.offset, head.length) {
        (0, 0) => Ok(()),
        (offset, length) => Err(invalid(format!("a flush has no range, not offset {offset} length {length}"))),
    }
}

/// The length of a payload that names contexts; what it says is judged once it is there.
fn check_filter(session: &Session, head: &RequestHead) -> Result<(), Failure> {
    let (length, count) = (head.length, session.contexts.len());
    let fits = (1..=count).any(|count| length == filter_len(count));
    match fits {
        true => Ok(()),
        false => {
            Err(invalid(format!("a payload of {length} bytes does not name 1 to {count} of the selected contexts")))
        }
    }
}

fn check_length(session: &Session, head: &RequestHead) -> Result<(), Failure> {
    let limit = session.length_max;
    if !matches!(head.kind, READ | WRITE) || head.length <= limit.into() {
        return Ok(());
    }
    let unfragmented = head.flags.contains(CommandFlags::DF);
    let errno = if unfragmented { Errno::Overflow } else { Errno::Invalid };
    Err(Failure::new(errno, format!("length {} is above the limit of {limit}", head.length)))
}

fn check_span(session: &Session, head: &RequestHead) -> Result<(), Failure> {
    check_range(session, head)?;
    check_alignment(session, head)
}

fn check_range(session: &Session, head: &RequestHead) -> Result<(), Failure> {
    let RequestHead { offset, length, .. } = *head;
    if offset.checked_add(length).is_some_and(|end| end <= session.size) {
        return Ok(());
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
    if offset.is_multiple_of(alignment.into()) && length.is_multiple_of(alignment.into()) {
        return Ok(());
    }
    Err(invalid(format!("offset {offset} length {length} is not aligned to the block size of {alignment}")))
}
