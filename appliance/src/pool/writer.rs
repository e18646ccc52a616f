//! The thread that puts the log's memory on the disk, syncs it and publishes what became durable.
//!
//! Invariants: commands are carried out in the order in which the log sent them; after a failure
//! everything is refused until a reset, so a sync can never succeed over a lost write; a failed
//! sync is never tried again. It never takes the log's state lock, so appending may wait for it.

use super::disk::{AlignedBuffer, Disk, DiskFile};
use super::index::Index;
use super::pending::Pending;
use super::segments::Segments;
use crate::error::{Error, Result, at, is_full};
use crate::locks::lock;
use crossbeam_channel::{Receiver, Sender};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// What the log asks of the writer.
#[derive(Debug)]
pub(super) enum Command {
    /// Write the first `length` bytes of a buffer.
    Write { file: Arc<dyn DiskFile>, segment: u64, offset: u64, buffer: AlignedBuffer, length: usize },
    /// Make a segment durable up to `length`, and publish all records up to `generation`.
    Sync { file: Arc<dyn DiskFile>, segment: u64, length: u64, generation: u64, reply: Option<Sender<Result<()>>> },
    /// Answer when everything before is done, and whether it was.
    Barrier { reply: Sender<Result<()>> },
    /// After a full disk: cut back to what is durable, and go on.
    Reset { reply: Sender<Result<()>> },
}

/// Why nothing is written any more.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// Out of space: can be reset.
    Full(String),
    /// Anything else: stays.
    Broken(String),
}

impl Fault {
    /// The error for whoever asked for a write.
    pub(super) fn error(&self) -> Error {
        match self {
            Self::Full(detail) => Error::Full { detail: detail.clone() },
            Self::Broken(reason) => Error::Broken(reason.clone()),
        }
    }

    fn of(error: &Error) -> Self {
        match error {
            Error::Full { detail } => Self::Full(detail.clone()),
            Error::Disk { source, .. } if is_full(source) => Self::Full(error.to_string()),
            Error::Index(fjall::Error::Io(source)) if is_full(source) => Self::Full(error.to_string()),
            Error::Broken(reason) => Self::Broken(reason.clone()),
            other => Self::Broken(other.to_string()),
        }
    }
}

/// The writer's own state.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) segments: Arc<Segments>,
    pub(super) index: Arc<Index>,
    pub(super) pending: Arc<Mutex<Pending>>,
    pub(super) fault: Arc<Mutex<Option<Fault>>>,
    /// Bytes that were sent here and are not yet on the disk.
    pub(super) unwritten: Arc<AtomicU64>,
    pub(super) give_back: Sender<AlignedBuffer>,
    /// The last segment that was synced and published, and up to which byte; (0, 0) when there is none.
    pub(super) durable: (u64, u64),
}

impl Writer {
    /// Carries out commands until the log is gone.
    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        commands.iter().for_each(|command| self.carry_out(command));
    }

    /// Carries out one command.
    pub(super) fn carry_out(&mut self, command: Command) {
        let (reply, result) = match command {
            Command::Write { file, segment, offset, buffer, length } => {
                let result = self.guard(|own| own.write(&*file, segment, offset, &buffer.bytes()[..length]));
                self.unwritten.fetch_sub(length as u64, Ordering::Relaxed);
                let _ = self.give_back.send(buffer);
                (None, result)
            }
            Command::Sync { file, segment, length, generation, reply } => {
                (reply, self.guard(|own| own.sync(&*file, segment, length, generation)))
            }
            Command::Barrier { reply } => (Some(reply), self.guard(|_| Ok(()))),
            Command::Reset { reply } => (Some(reply), self.reset()),
        };
        if let Some(reply) = reply {
            let _ = reply.send(result);
        }
    }

    /// Runs a step unless one failed before, and remembers a failure.
    fn guard(&mut self, step: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        if let Some(fault) = lock(&self.fault).as_ref() {
            return Err(fault.error());
        }
        let result = step(self);
        if let Err(error) = &result {
            tracing::error!(%error, "writing to the pool failed");
            let fault = Fault::of(error);
            let told = fault.error();
            *lock(&self.fault) = Some(fault);
            return Err(told);
        }
        result
    }

    fn write(&self, file: &dyn DiskFile, segment: u64, offset: u64, bytes: &[u8]) -> Result<()> {
        let path = self.segments.path(segment);
        file.write_at(bytes, offset).map_err(at(&path))
    }

    fn sync(&mut self, file: &dyn DiskFile, segment: u64, length: u64, generation: u64) -> Result<()> {
        file.sync().map_err(at(&self.segments.path(segment)))?;
        if self.durable.0 != segment {
            self.disk.sync_dir(self.segments.dir()).map_err(at(self.segments.dir()))?;
        }
        let batch = lock(&self.pending).batch(generation, (segment, length));
        self.index.publish(&batch)?;
        lock(&self.pending).published(generation);
        // Not before: what is refused although it is durable must be cut off by a reset as well.
        self.durable = (segment, length);
        Ok(())
    }

    /// Forgets what is not durable. Segments after the last durable one become empty files, which
    /// hold nothing and are passed over when the pool is opened.
    fn reset(&mut self) -> Result<()> {
        for segment in self.segments.list()? {
            let (last, length) = self.durable;
            let keep = match segment.cmp(&last) {
                std::cmp::Ordering::Less => continue,
                std::cmp::Ordering::Equal => length,
                std::cmp::Ordering::Greater => 0,
            };
            let path = self.segments.path(segment);
            let file = self.disk.open(&path, super::disk::Access::Write).map_err(at(&path))?;
            if file.size().map_err(at(&path))? == keep {
                continue;
            }
            file.resize(keep).map_err(at(&path))?;
            // What was refused must not come back after a loss of power.
            file.sync().map_err(at(&path))?;
        }
        lock(&self.pending).clear();
        *lock(&self.fault) = None;
        Ok(())
    }
}
