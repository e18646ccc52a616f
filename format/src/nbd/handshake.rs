//! The server's side of the handshake, as a state machine (proto.md, "Fixed newstyle negotiation").
//!
//! The driver owns both buffers: [`Handshake::advance`] takes whole options from the input and
//! appends replies to the output. When it needs the catalog it says so with a [`Step`], and goes on
//! once [`Handshake::answer_list`] or [`Handshake::answer_open`] was called. What is left in the
//! input when a [`Session`] comes out are the first bytes of the transmission phase.
//!
//! After [`Step::StartTls`] the driver encrypts the connection, and the handshake goes on in there as if
//! nothing had been said before. Bytes that came before the encryption are never taken for bytes that came
//! through it: a client that sends more before it was answered is cut off.
//!
//! Invariants: an option that cannot be served is refused with text and the handshake goes on; only
//! a lost position in the stream, flags that were not offered, or a refused `EXPORT_NAME` end it.
//! Metadata contexts selected for one name never apply to an export entered under another, and a selection
//! replaces what was selected before, also when it is refused.

use bytes::{Buf, BufMut, BytesMut};

use super::meta_context::{listed, selected};
use super::option;
use super::option_reply::{INFO_BLOCK_SIZE, INFO_DESCRIPTION, INFO_NAME};
use super::session::flags_as_sent;
use super::{
    Advert, CONTEXTS_MAX, ClientFlags, Form, Greeting, HandshakeFlags, Info, InfoRequest, MetaContext, MetaQuery,
    OPTION_HEAD_LEN, OptionError, OptionHead, OptionReply, OptionRequest, Refusal, Session, WireError,
};

/// Zero bytes after `NBD_OPT_EXPORT_NAME` unless both ends agreed to leave them out.
pub(super) const EXPORT_NAME_ZEROES: usize = 124;

/// An export in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportName {
    /// The name to open it by.
    pub name: String,
    /// Text for a human; may be empty.
    pub description: String,
}

/// Whether a server encrypts (proto.md, "TLS support"): NOTLS, SELECTIVETLS for no export in particular, FORCEDTLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsPolicy {
    /// It does not.
    #[default]
    Off,
    /// When it is asked to.
    On,
    /// Always: nothing else is served before.
    Require,
}

/// What the driver has to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send the output, then receive more input.
    Receive,
    /// List the catalog and call [`Handshake::answer_list`].
    List,
    /// Open this export (an empty name is the default one) and call [`Handshake::answer_open`].
    Open(String, Purpose),
    /// Send the output, encrypt the connection, then receive more input through that.
    StartTls,
    /// Send the output and close: the client aborted.
    Close,
}

/// What an export is opened for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To tell about it.
    Describe,
    /// To tell which contexts it has: those that it shows, and those of these queries that it knows.
    List(Vec<String>),
    /// To use contexts: those of these names that it has.
    Select(Vec<String>),
    /// To enter the transmission phase with it.
    Enter,
}

/// What is being waited for.
#[derive(Debug)]
enum Phase {
    ClientFlags,
    Option,
    Catalog(OptionRequest),
    Over,
}

/// The server's side of one handshake.
#[derive(Debug)]
pub struct Handshake {
    phase: Phase,
    client: ClientFlags,
    tls: TlsPolicy,
    encrypted: bool,
    form: Form,
    /// Name that contexts were selected for, and those.
    selected: Option<(String, Vec<MetaContext>)>,
}

impl Handshake {
    /// Starts a handshake: writes the greeting to `out`.
    pub fn greeting(tls: TlsPolicy, out: &mut BytesMut) -> Self {
        Greeting { flags: HandshakeFlags::KNOWN }.encode(out);
        let (phase, client) = (Phase::ClientFlags, ClientFlags::default());
        Self { phase, client, tls, encrypted: false, form: Form::default(), selected: None }
    }

    /// Consumes whole messages of `input` and appends replies to `out`, until the driver is needed.
    /// Asked again before its answer, a step that needs the catalog is repeated.
    ///
    /// # Errors
    /// The connection must be closed, after sending `out`.
    pub fn advance(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<Step, WireError> {
        loop {
            let step = match &self.phase {
                Phase::ClientFlags => self.take_client_flags(input)?,
                Phase::Option => self.take_option(input, out)?,
                Phase::Catalog(pending) => Some(question(pending)),
                Phase::Over => Some(Step::Close),
            };
            if let Some(step) = step {
                return Ok(step);
            }
        }
    }

    /// Answers [`Step::List`].
    pub fn answer_list(&mut self, exports: &[ExportName], out: &mut BytesMut) {
        let Some(pending) = self.take_pending() else {
            return;
        };
        for ExportName { name, description } in exports {
            let (name, description) = (name.clone(), description.clone());
            OptionReply::Server { name, description }.encode(pending.number(), out);
        }
        OptionReply::Ack.encode(pending.number(), out);
    }

    /// Answers [`Step::Open`]; a session means that transmission begins once `out` is sent.
    ///
    /// # Errors
    /// [`WireError::ExportRefused`] when the option was `EXPORT_NAME`: close without a reply.
    pub fn answer_open(
        &mut self,
        opened: Result<Advert, Refusal>,
        out: &mut BytesMut,
    ) -> Result<Option<Session>, WireError> {
        let Some(pending) = self.take_pending() else {
            return Ok(None);
        };
        let number = pending.number();
        match (pending, opened) {
            (OptionRequest::ExportName { name }, Err(refusal)) => {
                Err(WireError::ExportRefused { name, reason: refusal.text })
            }
            (OptionRequest::ExportName { name }, _) if self.form == Form::Extended => {
                let reason = "EXPORT_NAME has no place after extended headers; use GO".to_owned();
                Err(WireError::ExportRefused { name, reason })
            }
            (_, Err(refusal)) => {
                OptionReply::Error(refusal).encode(number, out);
                Ok(None)
            }
            (pending, Ok(advert)) => Ok(self.serve_opened(pending, &advert, out)),
        }
    }

    fn take_pending(&mut self) -> Option<OptionRequest> {
        match std::mem::replace(&mut self.phase, Phase::Option) {
            Phase::Catalog(pending) => Some(pending),
            other => {
                self.phase = other;
                None
            }
        }
    }

    fn take_client_flags(&mut self, input: &mut BytesMut) -> Result<Option<Step>, WireError> {
        let Some(flags) = input.first_chunk::<4>() else {
            return Ok(Some(Step::Receive));
        };
        self.client = ClientFlags(u32::from_be_bytes(*flags));
        input.advance(4);
        if !self.client.without(ClientFlags::KNOWN).is_empty() {
            return Err(WireError::UnknownClientFlags { found: self.client.0 });
        }
        self.phase = Phase::Option;
        Ok(None)
    }

    fn take_option(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<Option<Step>, WireError> {
        let Some(head) = input.first_chunk::<OPTION_HEAD_LEN>() else {
            return Ok(Some(Step::Receive));
        };
        let head = OptionHead::decode(head)?;
        head.check_length().inspect_err(|error| refuse_as_too_big(head.option, error, out))?;
        let whole = OPTION_HEAD_LEN + head.length as usize;
        if input.len() < whole {
            return Ok(Some(Step::Receive));
        }
        let data = input.split_to(whole).split_off(OPTION_HEAD_LEN).freeze();
        if head.option == option::SET_META_CONTEXT {
            self.selected = None;
        }
        if self.tls == TlsPolicy::Require && !self.encrypted && !option::may_come_before_tls(head.option) {
            return self.demand_tls(head.option, out);
        }
        match OptionRequest::decode(head.option, &data) {
            Ok(OptionRequest::StartTls) => self.start_tls(input, out),
            Ok(request) => Ok(self.begin(request, out)),
            Err(error) if head.option == option::EXPORT_NAME => Err(error),
            Err(error) => {
                refuse(head.option, error_of(&error), &error.to_string(), out);
                Ok(None)
            }
        }
    }

    /// Serves an option that needs no catalog, or waits for it.
    fn begin(&mut self, request: OptionRequest, out: &mut BytesMut) -> Option<Step> {
        let number = request.number();
        match request {
            OptionRequest::Abort => {
                OptionReply::Ack.encode(number, out);
                self.phase = Phase::Over;
            }
            OptionRequest::StructuredReply if self.form == Form::Extended => {
                let text = "extended headers were agreed on: there is no way back to structured replies";
                refuse(number, OptionError::ExtendedRequired, text, out);
            }
            OptionRequest::StructuredReply => self.agree(Form::Structured, number, out),
            OptionRequest::ExtendedHeaders => self.agree(Form::Extended, number, out),
            OptionRequest::ListMetaContext(_) | OptionRequest::SetMetaContext(_) if !self.form.has_chunks() => {
                let text = "metadata contexts need structured replies or extended headers to be negotiated first";
                refuse(number, OptionError::Invalid, text, out);
            }
            OptionRequest::SetMetaContext(query) if query.queries.len() > CONTEXTS_MAX => {
                let text = format!(
                    "{} contexts are more than the {CONTEXTS_MAX} that one client may use",
                    query.queries.len()
                );
                refuse(number, OptionError::TooBig, &text, out);
            }
            OptionRequest::Unknown { .. } => refuse_unserved(number, out),
            pending => self.phase = Phase::Catalog(pending),
        }
        None
    }

    /// Refuses what is served through TLS only.
    fn demand_tls(&self, option: u32, out: &mut BytesMut) -> Result<Option<Step>, WireError> {
        let text = "this server requires TLS: send STARTTLS first";
        if option == option::EXPORT_NAME {
            return Err(WireError::ExportRefused { name: String::new(), reason: text.to_owned() });
        }
        refuse(option, OptionError::TlsRequired, text, out);
        Ok(None)
    }

    fn start_tls(&mut self, input: &BytesMut, out: &mut BytesMut) -> Result<Option<Step>, WireError> {
        if self.tls == TlsPolicy::Off {
            refuse_unserved(option::STARTTLS, out);
            return Ok(None);
        }
        if self.encrypted {
            refuse(option::STARTTLS, OptionError::Invalid, "the connection is encrypted already", out);
            return Ok(None);
        }
        if !input.is_empty() {
            return Err(WireError::BeforeTls { extra: input.len() });
        }
        (self.encrypted, self.form, self.selected) = (true, Form::default(), None);
        OptionReply::Ack.encode(option::STARTTLS, out);
        Ok(Some(Step::StartTls))
    }

    fn agree(&mut self, form: Form, number: u32, out: &mut BytesMut) {
        self.form = form;
        OptionReply::Ack.encode(number, out);
    }

    fn serve_opened(&mut self, pending: OptionRequest, advert: &Advert, out: &mut BytesMut) -> Option<Session> {
        let number = pending.number();
        match pending {
            OptionRequest::Info(info) => {
                self.describe(number, &info, advert, out);
                None
            }
            OptionRequest::Go(info) => {
                self.describe(number, &info, advert, out);
                let constrained = info.wants.contains(&INFO_BLOCK_SIZE);
                Some(self.enter(info.name, constrained, advert))
            }
            OptionRequest::ExportName { name } => {
                self.describe_bare(advert, out);
                Some(self.enter(name, false, advert))
            }
            OptionRequest::ListMetaContext(query) => {
                put_contexts(number, &listed(&advert.contexts, &query.queries), out);
                None
            }
            OptionRequest::SetMetaContext(query) => {
                self.select(number, query, advert, out);
                None
            }
            _ => None,
        }
    }

    fn describe(&self, number: u32, asked: &InfoRequest, advert: &Advert, out: &mut BytesMut) {
        let (geometry, wants) = (&advert.geometry, |kind| asked.wants.contains(&kind));
        let flags = flags_as_sent(geometry, self.form, self.contexts_of(&asked.name));
        put_info(number, Info::Export { size: geometry.advertised_size(), flags }, out);
        if wants(INFO_NAME) {
            put_info(number, Info::Name(advert.name.clone()), out);
        }
        if wants(INFO_DESCRIPTION) && !advert.description.is_empty() {
            put_info(number, Info::Description(advert.description.clone()), out);
        }
        // Only those who ask are held to the block sizes; see `Session::alignment`.
        if wants(INFO_BLOCK_SIZE) {
            put_info(number, Info::BlockSize(geometry.advertised_blocks()), out);
        }
        OptionReply::Ack.encode(number, out);
    }

    fn describe_bare(&self, advert: &Advert, out: &mut BytesMut) {
        out.put_u64(advert.geometry.advertised_size());
        out.put_u16(flags_as_sent(&advert.geometry, self.form, &[]).0);
        if !self.client.contains(ClientFlags::NO_ZEROES) {
            out.put_bytes(0, EXPORT_NAME_ZEROES);
        }
    }

    fn enter(&mut self, name: String, constrained: bool, advert: &Advert) -> Session {
        self.phase = Phase::Over;
        let contexts = self.contexts_of(&name).to_vec();
        Session::new(name, advert, self.form, constrained, contexts)
    }

    /// What was selected for an export of this name.
    fn contexts_of(&self, name: &str) -> &[MetaContext] {
        let selected = self.selected.as_ref().filter(|(export, _)| export == name);
        selected.map_or(&[], |(_, contexts)| contexts)
    }

    fn select(&mut self, number: u32, query: MetaQuery, advert: &Advert, out: &mut BytesMut) {
        let contexts = selected(&advert.contexts, &query.queries);
        put_contexts(number, &contexts, out);
        self.selected = Some((query.export, contexts));
    }
}

fn question(pending: &OptionRequest) -> Step {
    let (name, purpose) = match pending {
        OptionRequest::ExportName { name } => (name, Purpose::Enter),
        OptionRequest::Go(info) => (&info.name, Purpose::Enter),
        OptionRequest::Info(info) => (&info.name, Purpose::Describe),
        OptionRequest::ListMetaContext(query) => (&query.export, Purpose::List(query.queries.clone())),
        OptionRequest::SetMetaContext(query) => (&query.export, Purpose::Select(query.queries.clone())),
        _ => return Step::List,
    };
    Step::Open(name.clone(), purpose)
}

fn error_of(error: &WireError) -> OptionError {
    match error {
        WireError::TooLong { .. } => OptionError::TooBig,
        _ => OptionError::Invalid,
    }
}

fn refuse(option: u32, error: OptionError, text: &str, out: &mut BytesMut) {
    OptionReply::Error(Refusal::new(error, text)).encode(option, out);
}

fn refuse_unserved(option: u32, out: &mut BytesMut) {
    let text = format!("option {option} ({}) is not served", option::name(option));
    refuse(option, OptionError::Unsupported, &text, out);
}

fn refuse_as_too_big(option: u32, error: &WireError, out: &mut BytesMut) {
    refuse(option, OptionError::TooBig, &error.to_string(), out);
}

fn put_info(option: u32, info: Info, out: &mut BytesMut) {
    OptionReply::Info(info).encode(option, out);
}

fn put_contexts(option: u32, contexts: &[MetaContext], out: &mut BytesMut) {
    for context in contexts {
        OptionReply::MetaContext(context.clone()).encode(option, out);
    }
    OptionReply::Ack.encode(option, out);
}
