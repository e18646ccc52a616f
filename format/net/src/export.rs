//! What an NBD server serves: [`Export`]s, found in a [`Catalog`].
//!
//! A server is a stack of layers over [`Export`] (cow, cache, rate limit), each of which implements
//! it again. All calls block and are made on plain threads, several at once for one export, but for the two whose names end with
//! `now`: waking a thread costs more than what memory alone does. Ranges
//! were already judged by the protocol's receiver: they lie within [`Export::geometry`], and a
//! method that writes is only reached on an export that said it may be written.
//!
//! Must not: know connections, clients, or the form of a reply.

use std::pin::Pin;
use std::sync::Arc;

use understudy_format::nbd::{
    BASE_ALLOCATION, Errno, ExportName, Extent, Failure, Geometry, OptionError, Refusal, Span,
};

/// What a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// The whole buffer was filled.
    Data,
    /// The whole range reads as zeroes; the buffer was not touched and is not looked at.
    Zeroes,
}

/// A buffer that is filled part by part, and touched only from the first part on that is not zero.
#[derive(Debug)]
pub struct Parts<'a> {
    buffer: &'a mut [u8],
    done: usize,
    content: Content,
}

impl<'a> Parts<'a> {
    /// Nothing of `buffer` is filled.
    pub fn of(buffer: &'a mut [u8]) -> Self {
        Self { buffer, done: 0, content: Content::Zeroes }
    }

    /// The next `length` bytes are what `fill` finds.
    pub fn put<E>(&mut self, length: usize, fill: impl FnOnce(&mut [u8]) -> Result<Content, E>) -> Result<(), E> {
        let (before, rest) = self.buffer.split_at_mut(self.done);
        let part = &mut rest[..length];
        match (fill(part)?, self.content) {
            (Content::Data, Content::Zeroes) => {
                before.fill(0);
                self.content = Content::Data;
            }
            (Content::Zeroes, Content::Data) => part.fill(0),
            (Content::Data, Content::Data) | (Content::Zeroes, Content::Zeroes) => {}
        }
        self.done += length;
        Ok(())
    }

    /// What all parts found together.
    pub fn content(self) -> Content {
        self.content
    }
}

/// How zeroes are to be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Zeroing {
    /// Durable before returning.
    pub fua: bool,
    /// Keep storage allocated.
    pub no_hole: bool,
    /// Fail with [`Errno::NotSupported`], at once, rather than be as slow as a write.
    pub fast: bool,
}

/// One opened export.
///
/// A [`Failure`]'s text reaches the human at the client: it must name what is wrong (volume, point,
/// block, offset) and no secrets. A panic fails the request alone, with [`Errno::Io`].
pub trait Export: Send + Sync + 'static {
    /// Canonical name.
    fn name(&self) -> String;

    /// Text for a human; may be empty.
    fn describe(&self) -> String {
        String::new()
    }

    /// Size and abilities; the same for as long as the export lives.
    fn geometry(&self) -> Geometry;

    /// Names of metadata contexts that [`Export::extents`] knows, for people: not more than they want to see.
    fn contexts(&self) -> Vec<String> {
        vec![BASE_ALLOCATION.to_owned()]
    }

    /// Whether [`Export::extents`] knows this context, be it shown or not.
    fn knows(&self, context: &str) -> bool {
        self.contexts().iter().any(|name| name == context)
    }

    /// A client is going to use this context: whether there is it, and from now on there is for as long as the export lives.
    fn hold(&self, context: &str) -> bool {
        self.knows(context)
    }

    /// Fills all of `buf` with the bytes at `offset`, or says that they are all zero. `buf` may hold
    /// bytes of another export: what is left unfilled on success would be sent.
    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<Content, Failure>;

    /// [`Export::read`], when memory alone can do it: asked for on a task, so it must not wait for a disk. `None` when it would have to,
    /// or that cannot be told beforehand; what is in `buf` then is not looked at.
    fn read_now(&self, offset: u64, buf: &mut [u8]) -> Option<Content> {
        let _ = (offset, buf);
        None
    }

    /// The extents of `context` from `span.offset` on, in order and without gaps. They may end before
    /// the span does, but not be empty; with `one`, the first is enough. At most
    /// [`understudy_format::nbd::EXTENTS_MAX`] are sent.
    fn extents(&self, context: &str, span: Span, one: bool) -> Result<Vec<Extent>, Failure> {
        let _ = (context, one);
        Ok(vec![Extent::data(span.length)])
    }

    /// Writes `data` at `offset`; durable before returning with `fua`.
    fn write(&self, offset: u64, data: &[u8], fua: bool) -> Result<(), Failure> {
        let _ = (offset, data, fua);
        Err(read_only())
    }

    /// [`Export::write`] without `fua`, when memory alone takes it, as [`Export::read_now`].
    fn write_now(&self, offset: u64, data: &[u8]) -> Option<Result<(), Failure>> {
        let _ = (offset, data);
        None
    }

    /// Makes every write that returned durable.
    fn flush(&self) -> Result<(), Failure> {
        Ok(())
    }

    /// Forgets the content of `span`; durable before returning with `fua`.
    fn trim(&self, span: Span, fua: bool) -> Result<(), Failure> {
        let _ = (span, fua);
        Err(read_only())
    }

    /// Makes `span` read as zeroes.
    fn write_zeroes(&self, span: Span, how: Zeroing) -> Result<(), Failure> {
        let _ = (span, how);
        Err(read_only())
    }

    /// Prepares for reads of `span`.
    fn cache(&self, span: Span) -> Result<(), Failure> {
        let _ = span;
        Ok(())
    }
}

fn read_only() -> Failure {
    Failure::new(Errno::Perm, "the export is read-only")
}

/// Why an export was not opened. The text reaches the human at the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// There is none of that name.
    #[error("{0}")]
    Unknown(String),
    /// There is one, but not for this client or not now.
    #[error("{0}")]
    Refused(String),
    /// The server is shutting down.
    #[error("{0}")]
    Shutdown(String),
}

impl From<OpenError> for Refusal {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Unknown(text) => Self::new(OptionError::UnknownExport, text),
            OpenError::Refused(text) => Self::new(OptionError::Policy, text),
            OpenError::Shutdown(text) => Self::new(OptionError::Shutdown, text),
        }
    }
}

/// Who has connected, as far as the connection tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Visitor {
    /// Nothing vouches for who it is.
    Unknown,
    /// Who has the key of this certificate (DER), which was verified.
    Certified(Arc<[u8]>),
}

/// The exports of a server. Calls block and are made on plain threads.
pub trait Catalog: Send + Sync + 'static {
    /// What a client is shown when it asks for a list.
    fn list(&self, visitor: &Visitor) -> Vec<ExportName>;

    /// Opens an export by name; the empty name is the default export. One connection opens the same
    /// name once, however often its handshake mentions it.
    fn open(&self, name: &str, visitor: &Visitor) -> Result<Arc<dyn Export>, OpenError>;

    /// Completes when a client may not use any more what it opened under this canonical name: then its connection ends.
    fn ended(self: Arc<Self>, export: String, visitor: Visitor) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let _ = (export, visitor);
        Box::pin(std::future::pending())
    }
}
