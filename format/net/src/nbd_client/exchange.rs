//! One request of a call and what came of its reply: where content belongs, and when the reply is whole.

use super::ClientError;
use bytes::Bytes;
use understudy_format::nbd::{
    Chunk, Command, ContextExtents, Errno, ExpectRead, ExpectStatus, Failure, Form, Span, WireError,
};

/// A part of a reply.
#[derive(Debug)]
pub(super) struct Part {
    /// Whether it is the last.
    pub done: bool,
    pub body: Body,
}

/// What a part says.
#[derive(Debug)]
pub(super) enum Body {
    /// The whole content of a read.
    Content(Bytes),
    Failed(Errno),
    /// Type and payload.
    Chunk(u16, Bytes),
}

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Exchange<'a> {
    /// What was asked about.
    pub span: Span,
    /// Whether the reply is whole.
    pub done: bool,
    expects: Expects<'a>,
}

#[derive(Debug)]
enum Expects<'a> {
    Read(ExpectRead, &'a mut [u8]),
    Status(ExpectStatus),
}

impl<'a> Exchange<'a> {
    /// A read into a buffer as long as the span.
    pub fn read(span: Span, into: &'a mut [u8]) -> Self {
        Self { span, expects: Expects::Read(ExpectRead::new(span), into), done: false }
    }

    /// A block status in these contexts, by number.
    pub fn status(span: Span, contexts: impl Iterator<Item = u32>) -> Self {
        Self { span, expects: Expects::Status(ExpectStatus::new(span, contexts)), done: false }
    }

    /// The buffer of a read that was answered is filled.
    pub fn content(self) -> Result<(), ClientError> {
        match self.expects {
            Expects::Read(expect, _) => expect.finish()?.map_err(ClientError::Failed),
            Expects::Status(_) => unreachable!("only reads have content"),
        }
    }

    /// The extents of a block status that was answered.
    pub fn extents(self) -> Result<Vec<ContextExtents>, ClientError> {
        match self.expects {
            Expects::Status(expect) => expect.finish()?.map_err(ClientError::Failed),
            Expects::Read(..) => unreachable!("only a block status has extents"),
        }
    }

    /// Whether a simple reply has content behind it.
    pub fn is_read(&self) -> bool {
        matches!(self.expects, Expects::Read(..))
    }

    /// What is sent.
    pub fn command(&self) -> Command {
        let span = self.span;
        match self.expects {
            Expects::Read(..) => Command::Read { span, whole: false },
            Expects::Status(_) => Command::BlockStatus { span, one: false, only: None },
        }
    }

    /// Where content belongs.
    pub fn place(&mut self, offset: u64, length: u64) -> Result<&mut [u8], WireError> {
        match &mut self.expects {
            Expects::Read(expect, into) => Ok(&mut into[expect.place(offset, length)?]),
            Expects::Status(_) => Err(WireError::Misplaced { offset, length }),
        }
    }

    /// Takes a part that was received.
    pub fn take(&mut self, form: Form, part: Part) -> Result<(), WireError> {
        self.done = part.done;
        match part.body {
            Body::Content(content) => self.data(self.span.offset, &content)?,
            Body::Failed(errno) => self.fail(Failure::new(errno, "the request failed")),
            Body::Chunk(kind, payload) => match Chunk::decode(form, kind, payload)? {
                Chunk::None => {}
                Chunk::Data { offset, data } => self.data(offset, &data)?,
                Chunk::Hole { offset, length } => self.place(offset, length.into())?.fill(0),
                Chunk::Status(extents) => self.told(extents)?,
                Chunk::Failed(failure) => self.fail(failure),
            },
        }
        Ok(())
    }

    fn data(&mut self, offset: u64, data: &[u8]) -> Result<(), WireError> {
        self.place(offset, data.len() as u64)?.copy_from_slice(data);
        Ok(())
    }

    fn told(&mut self, extents: ContextExtents) -> Result<(), WireError> {
        match &mut self.expects {
            Expects::Status(expect) => expect.extents(extents),
            Expects::Read(..) => {
                Err(WireError::UnknownType { what: "reply to a read: context", found: extents.context })
            }
        }
    }

    fn fail(&mut self, failure: Failure) {
        match &mut self.expects {
            Expects::Read(expect, _) => expect.fail(failure),
            Expects::Status(expect) => expect.fail(failure),
        }
    }
}
