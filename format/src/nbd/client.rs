//! The client's side of the handshake, as a state machine (proto.md, "Fixed newstyle negotiation").
//!
//! The driver owns both buffers: [`ClientHandshake::advance`] takes whole messages from the input and appends
//! options to the output. The client asks for the most first and takes what it gets: TLS where it was told to,
//! then, unless it wants to be plain, extended headers, else structured replies, else simple ones; metadata contexts; `GO`, and
//! `EXPORT_NAME` at servers that know no better. What is left in the input when a [`Session`] comes out are the
//! first bytes of the transmission phase.
//!
//! Invariants: a refusal ends the handshake only where nothing else would do, and then carries what the server
//! said; a context that the server does not grant is absent from the session, never assumed; nothing that was
//! received before TLS began is believed after; what the server says of block sizes is checked before it is used.

use bytes::{Buf, BytesMut};

use super::handshake::EXPORT_NAME_ZEROES;
use super::option::name;
use super::option_reply::INFO_BLOCK_SIZE;
use super::wire::Cursor;
use super::{
    BlockSizes, ClientFlags, EXPORT_SIZE_MAX, Form, Greeting, HandshakeFlags, Info, InfoRequest, MetaContext,
    MetaQuery, OPTION_REPLY_HEAD_LEN, OptionError, OptionReply, OptionReplyHead, OptionRequest, REQUEST_LEN_MAX,
    Refusal, Session, TransmissionFlags, WireError,
};

/// The second magic of servers that know no options.
const OLD_STYLE_MAGIC: u64 = 0x0000_4202_8186_1253;
/// Most replies to one option: more are an endless list.
const REPLIES_MAX: u32 = 1024;
/// Largest minimum block size that makes sense, in bytes (proto.md, "Block size constraints").
const MINIMUM_MAX: u32 = 64 << 10;

/// What a client wants of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Name of the export; empty for the default one.
    pub export: String,
    /// Names of the metadata contexts that are of use.
    pub contexts: Vec<String>,
    /// Nothing but the greeting without TLS.
    pub tls: bool,
    /// Simple replies and requests of any size, for a client that knows nothing else, such as Linux's.
    pub plain: bool,
}

/// What the driver has to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientStep {
    /// Send the output, then receive more input.
    Receive,
    /// Begin TLS on the connection, then go on: what is sent and received from here on is encrypted.
    Encrypt,
    /// The transmission phase begins.
    Enter(Session),
}

/// Why there is no session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The bytes are not NBD.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The server knows no options.
    #[error("the server speaks old-style NBD, which cannot tell what an export is; let it serve newstyle")]
    OldStyle,
    /// TLS was asked for, and the server does not have it.
    #[error("the server does not offer TLS{0}; nothing is sent without it")]
    NoTls(String),
    /// The server wants TLS, which was not asked for.
    #[error("the server wants TLS{0}; name it with nbds:// or nbds+unix://")]
    TlsRequired(String),
    /// The export is not to be had.
    #[error("{option} was refused ({why:?}){text}")]
    Refused {
        /// The option.
        option: &'static str,
        /// Why.
        why: OptionError,
        /// What the server said about it, as the end of a sentence.
        text: String,
    },
    /// The server answers something else than was asked.
    #[error("the server's answer to {option} makes no sense: {what}")]
    Nonsense {
        /// The option.
        option: &'static str,
        /// What is wrong with it.
        what: String,
    },
}

/// What is being waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Greeting,
    /// The answer to the option that was sent last.
    Reply,
    /// TLS begins: the driver is doing that.
    Encrypting,
    /// The answer to `EXPORT_NAME`, which has a form of its own.
    Bare,
    Over,
}

/// The client's side of one handshake.
#[derive(Debug)]
pub struct ClientHandshake {
    wish: Wish,
    phase: Phase,
    asked: OptionRequest,
    replies: u32,
    offered: HandshakeFlags,
    form: Form,
    contexts: Vec<MetaContext>,
    export: Option<(u64, TransmissionFlags)>,
    blocks: Option<BlockSizes>,
}

impl ClientHandshake {
    /// A handshake that waits for the server's greeting.
    pub fn new(wish: Wish) -> Self {
        let (phase, asked, offered) = (Phase::Greeting, OptionRequest::Abort, HandshakeFlags::default());
        let (form, contexts) = (Form::Simple, Vec::new());
        Self { wish, phase, asked, replies: 0, offered, form, contexts, export: None, blocks: None }
    }

    /// Consumes whole messages of `input` and appends options to `out`, until the driver is needed.
    ///
    /// # Errors
    /// There will be no session: close the connection.
    pub fn advance(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<ClientStep, HandshakeError> {
        loop {
            let step = match self.phase {
                Phase::Greeting => self.take_greeting(input, out)?,
                Phase::Reply => self.take_reply(input, out)?,
                Phase::Encrypting => {
                    self.ask_form(out);
                    None
                }
                Phase::Bare => self.take_bare(input)?,
                Phase::Over => Some(ClientStep::Receive),
            };
            if let Some(step) = step {
                return Ok(step);
            }
        }
    }

    fn take_greeting(
        &mut self,
        input: &mut BytesMut,
        out: &mut BytesMut,
    ) -> Result<Option<ClientStep>, HandshakeError> {
        let Some(greeting) = input.first_chunk() else { return Ok(Some(ClientStep::Receive)) };
        self.offered = Greeting::decode(greeting)
            .map_err(|error| match error {
                WireError::BadMagic { found: OLD_STYLE_MAGIC, .. } => HandshakeError::OldStyle,
                error => error.into(),
            })?
            .flags;
        input.advance(Greeting::LEN);
        let fixed = self.offered.contains(HandshakeFlags::FIXED_NEWSTYLE);
        out.extend_from_slice(&self.flags().0.to_be_bytes());
        match (fixed, self.wish.tls) {
            (true, true) => self.ask(OptionRequest::StartTls, out),
            (true, false) => self.ask_form(out),
            (false, true) => return Err(HandshakeError::NoTls(String::new())),
            // Whoever does not promise to answer an unknown option may close on it.
            (false, false) => self.ask_bare(out),
        }
        Ok(None)
    }

    /// The flags of the server that are known here.
    fn flags(&self) -> ClientFlags {
        let when = |flag, own| if self.offered.contains(flag) { own } else { ClientFlags::default() };
        when(HandshakeFlags::FIXED_NEWSTYLE, ClientFlags::FIXED_NEWSTYLE)
            | when(HandshakeFlags::NO_ZEROES, ClientFlags::NO_ZEROES)
    }

    fn ask(&mut self, option: OptionRequest, out: &mut BytesMut) {
        option.encode(out);
        (self.asked, self.phase, self.replies) = (option, Phase::Reply, 0);
    }

    fn ask_bare(&mut self, out: &mut BytesMut) {
        self.ask(OptionRequest::ExportName { name: self.wish.export.clone() }, out);
        self.phase = Phase::Bare;
    }

    fn ask_form(&mut self, out: &mut BytesMut) {
        match self.wish.plain {
            true => self.ask_go(out),
            false => self.ask(OptionRequest::ExtendedHeaders, out),
        }
    }

    fn ask_contexts(&mut self, out: &mut BytesMut) {
        if self.wish.contexts.is_empty() {
            return self.ask_go(out);
        }
        let query = MetaQuery { export: self.wish.export.clone(), queries: self.wish.contexts.clone() };
        self.ask(OptionRequest::SetMetaContext(query), out);
    }

    fn ask_go(&mut self, out: &mut BytesMut) {
        // Who is told block sizes is held to them.
        let wants = if self.wish.plain { Vec::new() } else { vec![INFO_BLOCK_SIZE] };
        let request = InfoRequest { name: self.wish.export.clone(), wants };
        self.ask(OptionRequest::Go(request), out);
    }

    fn take_reply(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<Option<ClientStep>, HandshakeError> {
        let Some(head) = input.first_chunk() else { return Ok(Some(ClientStep::Receive)) };
        let head = OptionReplyHead::decode(head)?;
        let whole = OPTION_REPLY_HEAD_LEN + head.length as usize;
        if input.len() < whole {
            return Ok(Some(ClientStep::Receive));
        }
        let data = input.split_to(whole).split_off(OPTION_REPLY_HEAD_LEN);
        self.replies += 1;
        if head.option != self.asked.number() {
            return Err(self.nonsense(format!("it answers {}", name(head.option))));
        }
        if self.replies > REPLIES_MAX {
            return Err(self.nonsense(format!("it has more than {REPLIES_MAX} parts")));
        }
        match OptionReply::decode(head.kind, &data)? {
            OptionReply::Ack => self.acknowledged(input, out),
            OptionReply::Error(refusal) => self.refused(refusal, out).map(|()| None),
            OptionReply::Info(info) => self.informed(info).map(|()| None),
            OptionReply::MetaContext(context) => self.granted(context).map(|()| None),
            OptionReply::Server { .. } => Err(self.nonsense("it lists exports".into())),
        }
    }

    fn acknowledged(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<Option<ClientStep>, HandshakeError> {
        match self.asked {
            OptionRequest::StartTls if !input.is_empty() => {
                return Err(self.nonsense(format!("{} bytes follow it without TLS", input.len())));
            }
            OptionRequest::StartTls => {
                self.phase = Phase::Encrypting;
                return Ok(Some(ClientStep::Encrypt));
            }
            OptionRequest::ExtendedHeaders => self.agreed(Form::Extended, out),
            OptionRequest::StructuredReply => self.agreed(Form::Structured, out),
            OptionRequest::SetMetaContext(_) => self.ask_go(out),
            _ => return self.enter().map(|session| Some(ClientStep::Enter(session))),
        }
        Ok(None)
    }

    fn agreed(&mut self, form: Form, out: &mut BytesMut) {
        self.form = form;
        self.ask_contexts(out);
    }

    /// What is done without: the next best thing.
    fn refused(&mut self, refusal: Refusal, out: &mut BytesMut) -> Result<(), HandshakeError> {
        let unsupported = refusal.error == OptionError::Unsupported;
        let text = said(&refusal.text);
        match self.asked {
            OptionRequest::StartTls => return Err(HandshakeError::NoTls(text)),
            _ if refusal.error == OptionError::TlsRequired => return Err(HandshakeError::TlsRequired(text)),
            OptionRequest::ExtendedHeaders => self.ask(OptionRequest::StructuredReply, out),
            // Without replies in chunks there are no contexts.
            OptionRequest::StructuredReply => self.ask_go(out),
            OptionRequest::SetMetaContext(_) => {
                self.contexts.clear();
                self.ask_go(out);
            }
            OptionRequest::Go(_) if unsupported && self.form != Form::Extended => self.ask_bare(out),
            _ => {
                return Err(HandshakeError::Refused { option: name(self.asked.number()), why: refusal.error, text });
            }
        }
        Ok(())
    }

    fn informed(&mut self, info: Info) -> Result<(), HandshakeError> {
        if !matches!(self.asked, OptionRequest::Go(_)) {
            return Err(self.nonsense("it describes an export".into()));
        }
        match info {
            Info::Export { size, flags } => self.export = Some((size, flags)),
            Info::BlockSize(sizes) => self.blocks = Some(sizes),
            Info::Name(_) | Info::Description(_) | Info::Other { .. } => {}
        }
        Ok(())
    }

    /// Only what was asked for counts, once each.
    fn granted(&mut self, context: MetaContext) -> Result<(), HandshakeError> {
        if !matches!(self.asked, OptionRequest::SetMetaContext(_)) {
            return Err(self.nonsense(format!("it selects the context {}", context.name)));
        }
        if self.contexts.iter().any(|known| known.id == context.id || known.name == context.name) {
            return Err(self.nonsense(format!("it selects the context {} twice", context.name)));
        }
        if self.wish.contexts.contains(&context.name) {
            self.contexts.push(context);
        }
        Ok(())
    }

    fn take_bare(&mut self, input: &mut BytesMut) -> Result<Option<ClientStep>, HandshakeError> {
        let zeroes = if self.offered.contains(HandshakeFlags::NO_ZEROES) { 0 } else { EXPORT_NAME_ZEROES };
        let whole = 10 + zeroes;
        if input.len() < whole {
            return Ok(Some(ClientStep::Receive));
        }
        let answer = input.split_to(whole);
        let mut cursor = Cursor::new("answer to EXPORT_NAME", &answer);
        self.export = Some((cursor.u64()?, TransmissionFlags(cursor.u16()?)));
        self.enter().map(|session| Some(ClientStep::Enter(session)))
    }

    fn enter(&mut self) -> Result<Session, HandshakeError> {
        let (size, flags) = self.export.ok_or_else(|| self.nonsense("it does not tell the size".into()))?;
        if size > EXPORT_SIZE_MAX {
            return Err(self.nonsense(format!("a size of {size} bytes")));
        }
        let blocks = self.blocks.unwrap_or_default();
        let BlockSizes { min, max, .. } = blocks;
        if !min.is_power_of_two() || min > MINIMUM_MAX || max < min || !size.is_multiple_of(min.into()) {
            return Err(self.nonsense(format!("blocks of {min} to {max} bytes in an export of {size}")));
        }
        self.phase = Phase::Over;
        self.contexts.sort_by_key(|context| context.id);
        let (export, contexts) = (self.wish.export.clone(), std::mem::take(&mut self.contexts));
        let length_max = max.min(REQUEST_LEN_MAX) / min * min;
        Ok(Session { export, form: self.form, size, flags, alignment: min, length_max, contexts })
    }

    fn nonsense(&self, what: String) -> HandshakeError {
        HandshakeError::Nonsense { option: name(self.asked.number()), what }
    }
}

/// What a server said, as the end of a sentence; nothing when it said nothing.
fn said(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text}") }
}
