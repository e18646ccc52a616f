//! One request to its reply: calls the export and frames what it says.
//!
//! Runs on a worker thread, but for what an export does at once. A read goes straight into the reply, behind room for the head, so that a
//! reply is one buffer and one write. Every request gets exactly one reply, whatever the export does:
//! a panic in it is caught and answered with an I/O error.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tracing::error;
use understudy_format::nbd::{
    Command, ContextExtents, Errno, Failure, MetaContext, Replies, Request, Session, Span, Tag, fit,
};

use super::shelf::{Buffer, Shelf};
use crate::export::{Content, Export, Zeroing};

/// What is needed to answer the requests of one session.
pub(super) struct Answerer {
    pub(super) session: Session,
    pub(super) export: Arc<dyn Export>,
    pub(super) shelf: Arc<Shelf>,
}

impl Answerer {
    /// The whole reply to `request`.
    pub(super) fn answer(&self, request: &Request) -> Buffer {
        self.caught(request, || Some(self.call(request))).expect("it was called")
    }

    /// The whole reply, if the export can do without waiting what is asked for.
    pub(super) fn answer_now(&self, request: &Request) -> Option<Buffer> {
        self.caught(request, || self.call_now(request))
    }

    fn caught(&self, request: &Request, call: impl FnOnce() -> Option<Result<Buffer, Failure>>) -> Option<Buffer> {
        let called = catch_unwind(AssertUnwindSafe(call));
        let answered = called.unwrap_or_else(|_| {
            error!(export = self.session.export, ?request.cookie, "an export panicked");
            Some(Err(Failure::new(Errno::Io, "internal error of the server")))
        });
        let refused = |failure: Failure| self.refuse(request.tag(), &failure.in_reply_to(&request.command));
        answered.map(|answered| answered.unwrap_or_else(refused))
    }

    fn call_now(&self, request: &Request) -> Option<Result<Buffer, Failure>> {
        let (export, tag) = (&self.export, request.tag());
        match &request.command {
            Command::Read { span, .. } if span.length > 0 => {
                let read = |offset, content: &mut [u8]| export.read_now(offset, content).ok_or(());
                self.read(tag, *span, read).ok().map(Ok)
            }
            Command::Write { offset, data, fua: false } if !data.is_empty() => {
                export.write_now(*offset, data).map(|written| written.map(|()| self.done(tag)))
            }
            _ => None,
        }
    }

    /// The reply to a request that failed.
    pub(super) fn refuse(&self, tag: Tag, failure: &Failure) -> Buffer {
        let mut reply = Vec::new();
        self.replies().failed(&mut reply, tag, failure);
        reply.into()
    }

    fn replies(&self) -> Replies {
        Replies { form: self.session.form }
    }

    fn call(&self, request: &Request) -> Result<Buffer, Failure> {
        let (export, tag) = (&self.export, request.tag());
        match &request.command {
            // A range of no bytes is no question to an export.
            Command::Read { span, .. }
            | Command::Trim { span, .. }
            | Command::Cache { span }
            | Command::WriteZeroes { span, .. }
                if span.length == 0 => {}
            Command::Write { data, .. } if data.is_empty() => {}
            Command::Read { span, .. } => {
                return self.read(tag, *span, |offset, content| export.read(offset, content));
            }
            Command::BlockStatus { span, one, only } => return self.status(tag, *span, *one, only.as_deref()),
            Command::Write { offset, data, fua } => export.write(*offset, data, *fua)?,
            Command::Flush => export.flush()?,
            Command::Trim { span, fua } => export.trim(*span, *fua)?,
            Command::Cache { span } => export.cache(*span)?,
            Command::WriteZeroes { span, fua, no_hole, fast } => {
                let how = Zeroing { fua: *fua, no_hole: *no_hole, fast: *fast };
                export.write_zeroes(*span, how)?;
            }
        }
        Ok(self.done(tag))
    }

    fn done(&self, tag: Tag) -> Buffer {
        let mut reply = Vec::new();
        self.replies().done(&mut reply, tag);
        reply.into()
    }

    fn read<E>(
        &self,
        tag: Tag,
        Span { offset, length }: Span,
        read: impl FnOnce(u64, &mut [u8]) -> Result<Content, E>,
    ) -> Result<Buffer, E> {
        let (replies, room) = (self.replies(), self.replies().data_head_len());
        let mut reply = self.shelf.take(room, length as usize);
        let (head, content) = reply.split_at_mut(room);
        // The length of a read was judged against a limit of 32 bits.
        let length = length as u32;
        if read(offset, content)? == Content::Zeroes {
            let mut hole = Vec::new();
            if replies.hole(&mut hole, tag, length) {
                return Ok(hole.into());
            }
            content.fill(0);
        }
        replies.put_data_head(head, tag, length);
        Ok(reply)
    }

    fn status(&self, tag: Tag, span: Span, one: bool, only: Option<&[u32]>) -> Result<Buffer, Failure> {
        let selected = self.session.contexts.iter();
        let wanted = selected.filter(|context| only.is_none_or(|only| only.contains(&context.id)));
        let contexts = wanted.map(|context| self.extents(context, span, one)).collect::<Result<Vec<_>, _>>()?;
        let mut reply = Vec::new();
        self.replies().status(&mut reply, tag, &contexts);
        Ok(reply.into())
    }

    fn extents(&self, context: &MetaContext, span: Span, one: bool) -> Result<ContextExtents, Failure> {
        let extents = self.export.extents(&context.name, span, one)?;
        let extents = fit(extents, span.length, one);
        if extents.is_empty() {
            let text = format!("no extents in context {}", context.name);
            return Err(Failure { errno: Errno::Io, text, at: Some(span.offset) });
        }
        Ok(ContextExtents { context: context.id, extents })
    }
}
