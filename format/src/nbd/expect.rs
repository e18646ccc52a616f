//! What a client waits for: one request's reply, while its parts arrive.
//!
//! [`ExpectRead`] says where in the request's buffer each part belongs, so that a driver receives content where it is
//! wanted; [`ExpectStatus`] keeps the extents. Invariants: content that was not asked for, or comes twice, or is missing at
//! the end, is an error of the connection and never passes for content; memory is bounded by what was asked.

use std::ops::Range;

use super::{ContextExtents, Failure, Span, WireError};

/// Most separate parts that a read may be in at any moment: more are a server that means no good.
const PARTS_MAX: usize = 1024;

/// The reply to a read.
#[derive(Debug)]
pub struct ExpectRead {
    span: Span,
    /// What came, relative to the span: ascending, apart, never empty.
    filled: Vec<Range<u64>>,
    failure: Option<Failure>,
}

impl ExpectRead {
    /// Nothing of `span` came yet.
    pub fn new(span: Span) -> Self {
        Self { span, filled: Vec::new(), failure: None }
    }

    /// Where `length` bytes at `offset` of the export belong in the request's buffer.
    ///
    /// # Errors
    /// They were not asked for, or came before.
    pub fn place(&mut self, offset: u64, length: u64) -> Result<Range<usize>, WireError> {
        let misplaced = WireError::Misplaced { offset, length };
        let start = offset.checked_sub(self.span.offset).ok_or(misplaced.clone())?;
        let end =
            start.checked_add(length).filter(|end| *end <= self.span.length && length > 0).ok_or(misplaced.clone())?;
        let next = self.filled.partition_point(|range| range.end <= start);
        if self.filled.get(next).is_some_and(|range| range.start < end) {
            return Err(misplaced);
        }
        match next.checked_sub(1).filter(|before| self.filled[*before].end == start) {
            Some(before) => self.filled[before].end = end,
            None => self.filled.insert(next, start..end),
        }
        if self.filled.len() > PARTS_MAX {
            let (length, limit) = (self.filled.len() as u64, PARTS_MAX as u64);
            return Err(WireError::TooLong { what: "parts of a read", length, limit });
        }
        Ok(start as usize..end as usize)
    }

    /// A part of it failed.
    pub fn fail(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
    }

    /// The reply is over.
    ///
    /// # Errors
    /// Something is missing.
    pub fn finish(self) -> Result<Result<(), Failure>, WireError> {
        let came: u64 = self.filled.iter().map(|range| range.end - range.start).sum();
        match self.failure {
            Some(failure) => Ok(Err(failure)),
            None if came == self.span.length => Ok(Ok(())),
            None => Err(WireError::Missing { offset: self.span.offset, length: self.span.length, came }),
        }
    }
}

/// The reply to a block status.
#[derive(Debug)]
pub struct ExpectStatus {
    span: Span,
    /// The numbers of the contexts that were asked for, with what came of each.
    contexts: Vec<(u32, Option<ContextExtents>)>,
    failure: Option<Failure>,
}

impl ExpectStatus {
    /// Nothing about `span` came yet; it was asked for in these contexts, by number.
    pub fn new(span: Span, contexts: impl IntoIterator<Item = u32>) -> Self {
        Self { span, contexts: contexts.into_iter().map(|id| (id, None)).collect(), failure: None }
    }

    /// The extents in one context.
    ///
    /// # Errors
    /// The context was not asked for, or told before.
    pub fn extents(&mut self, extents: ContextExtents) -> Result<(), WireError> {
        let wrong = |what| WireError::UnknownType { what, found: extents.context };
        let asked = self.contexts.iter_mut().find(|(id, _)| *id == extents.context);
        match asked {
            None => Err(wrong("context that was not asked for")),
            Some((_, Some(_))) => Err(wrong("context told twice")),
            Some((_, told)) => {
                *told = Some(extents);
                Ok(())
            }
        }
    }

    /// The request failed.
    pub fn fail(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
    }

    /// The reply is over: the extents from the span's offset on, in each of the contexts, in their order.
    ///
    /// # Errors
    /// A context is missing.
    pub fn finish(self) -> Result<Result<Vec<ContextExtents>, Failure>, WireError> {
        if let Some(failure) = self.failure {
            return Ok(Err(failure));
        }
        let Span { offset, length } = self.span;
        let told = self.contexts.into_iter().map(|(_, told)| told);
        told.map(|told| told.ok_or(WireError::Missing { offset, length, came: 0 })).collect::<Result<_, _>>().map(Ok)
    }
}
