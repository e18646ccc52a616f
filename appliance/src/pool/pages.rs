//! The pool as a store of map pages.

use super::{Pool, StreamGuard};
use crate::error::{Error, Result};
use std::sync::Arc;
use understudy_format::Digest;
use understudy_format::codec::encode_into;
use understudy_format::map::{Page, PageStore};
use understudy_format::segment::{Kind, NewRecord};

/// The map pages that are in memory.
#[derive(Debug)]
pub struct PagesAtHand<'a>(pub &'a Pool);

impl PageStore for PagesAtHand<'_> {
    type Error = Error;

    fn load(&mut self, digest: Digest) -> Result<Arc<Page>> {
        self.0.pages.get(&digest).ok_or_else(|| Error::refused("a page is not in memory"))
    }

    fn store(&mut self, _: Digest, _: &Page) -> Result<()> {
        Err(Error::refused("pages are stored by streams only"))
    }
}

/// The pool as a store of map pages.
#[derive(Debug)]
pub struct Pages<'a> {
    pub(super) pool: &'a Pool,
    pub(super) guard: Option<&'a StreamGuard>,
    /// Bytes that were added to segments.
    pub stored_bytes: u64,
}

impl PageStore for Pages<'_> {
    type Error = Error;

    fn load(&mut self, digest: Digest) -> Result<Arc<Page>> {
        self.pool.page(digest)
    }

    fn store(&mut self, digest: Digest, page: &Page) -> Result<()> {
        let guard = self.guard.ok_or_else(|| Error::refused("pages are stored by streams only"))?;
        let mut stored = Vec::new();
        let codec = encode_into(page.bytes(), &mut stored);
        let content_length = page.bytes().len() as u32;
        let record = NewRecord { kind: Kind::Page, codec, digest, content_length, stored: &stored };
        self.stored_bytes += self.pool.store(guard, &record)?;
        Ok(())
    }
}
