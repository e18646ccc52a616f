//! NBD exports as sources: content by read requests, holes and dirty bitmaps by block status ([`status`]).
//!
//! Invariants: what the server does not tell is read; a context that it does not grant, or fails to tell, makes
//! nothing a hole and nothing clean; every error names the server's words. An export that is not read-only
//! may be written by others at any time: that is the user's to prevent (a snapshot, a fleecing node).

mod status;

use super::uri::NbdUri;
use super::{Changes, Extent, Mistrust, Source};
use anyhow::{Context, Result};
use status::Status;
use std::io;
use std::sync::{Mutex, MutexGuard};
use understudy_format::bitmap::Bitmap;
use understudy_format::nbd::{BASE_ALLOCATION, ContextExtents, Session};
use understudy_net::nbd_client::{Client, ClientError};

/// Where qemu has its dirty bitmaps.
const DIRTY_BITMAP: &str = "qemu:dirty-bitmap:";
/// What a fast server fills; more are only more to hold.
const CONNECTIONS: usize = 4;

/// See the module documentation.
#[derive(Debug)]
pub struct NbdSource {
    name: String,
    client: Client,
    asked: Option<Bitmap>,
    status: Mutex<Told>,
}

/// What the server told of its extents.
#[derive(Debug)]
enum Told {
    /// This range, last.
    Known(Status),
    /// It cannot tell.
    Nothing,
}

impl NbdSource {
    /// A whole piece: the requests of all threads together hide the way to the server; bytes.
    pub const READ_SIZE: usize = 1 << 20;

    /// Opens an export, with the dirty bitmap of this name.
    pub fn open(name: &str, uri: &NbdUri, bitmap: Option<&str>) -> Result<Self> {
        let asked = bitmap.map(|bitmap| Bitmap { export: name.to_owned(), name: bitmap.to_owned() });
        let contexts = bitmap.map(|bitmap| format!("{DIRTY_BITMAP}{bitmap}"));
        let contexts: Vec<String> = [BASE_ALLOCATION.to_owned()].into_iter().chain(contexts).collect();
        let client = Client::connect(&uri.server, &uri.export, &contexts, CONNECTIONS);
        let client = client.with_context(|| format!("source {name}"))?;
        let told = if client.session().contexts.is_empty() { Told::Nothing } else { Told::Known(Status::default()) };
        Ok(Self { name: name.to_owned(), client, asked, status: Mutex::new(told) })
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.status.lock().expect("no panic while locked")
    }

    /// Whether the server has the bitmap.
    fn is_granted(&self, bitmap: &Bitmap) -> bool {
        let context = format!("{DIRTY_BITMAP}{}", bitmap.name);
        self.client.session().contexts.iter().any(|granted| granted.name == context)
    }

    fn ask(&self, offset: u64) -> Result<Status, ClientError> {
        let session = self.client.session();
        let start = offset - offset % u64::from(session.alignment);
        let told = self.client.block_status(start, session.size - start)?;
        let (allocation, dirty) = split(session, &told);
        Ok(Status::new(start, session.size, allocation, dirty))
    }

    /// The server failed to tell: everything is data from here on.
    fn blind(&self, told: &mut Told, error: ClientError) -> Result<Extent> {
        *told = Told::Nothing;
        match (&self.asked, error) {
            (None, ClientError::Failed(_)) => Ok(Extent::data(self.size())),
            (Some(bitmap), error @ ClientError::Failed(_)) => {
                Err(Mistrust::Unreadable(format!("bitmap {} cannot be read: {error}", bitmap.name)).into())
            }
            (_, error) => Err(anyhow::Error::new(error).context("asking for extents")),
        }
    }
}

/// The extents of the two contexts that have a meaning here.
fn split<'a>(
    session: &Session,
    told: &'a [ContextExtents],
) -> (Option<&'a ContextExtents>, Option<&'a ContextExtents>) {
    let of = |wanted: fn(&str) -> bool| session.contexts.iter().position(|context| wanted(&context.name));
    let (allocation, dirty) = (of(|name| name == BASE_ALLOCATION), of(|name| name.starts_with(DIRTY_BITMAP)));
    (allocation.map(|at| &told[at]), dirty.map(|at| &told[at]))
}

impl Source for NbdSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn size(&self) -> u64 {
        self.client.session().size
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        let mut told = self.told();
        let known = match &*told {
            Told::Nothing => return Ok(Extent::data(self.size())),
            Told::Known(status) => status.at(offset),
        };
        if let Some(extent) = known {
            return Ok(extent);
        }
        match self.ask(offset) {
            Ok(status) => {
                let extent =
                    status.at(offset).context("asking for extents: the server told nothing of what was asked")?;
                *told = Told::Known(status);
                Ok(extent)
            }
            Err(error) => self.blind(&mut told, error),
        }
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.client.read_at(offset, into).map_err(io::Error::other)
    }

    fn read_size(&self) -> usize {
        Self::READ_SIZE
    }

    fn bitmap(&self) -> Option<Result<Changes, String>> {
        let bitmap = self.asked.as_ref()?;
        Some(match self.is_granted(bitmap) {
            true => Ok(Changes { bitmap: bitmap.clone(), since_base: false }),
            false => Err(format!("the server does not offer bitmap {} of this export", bitmap.name)),
        })
    }

    fn doubt(&self) -> Result<Option<String>> {
        Ok(None)
    }

    fn may_have_moved(&self) -> Result<bool> {
        Ok(self.client.session().is_writable())
    }
}
