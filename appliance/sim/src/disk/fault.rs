//! What is to go wrong, and at which operation.
//!
//! Operations are counted from 1, in the order in which they reach the disk: every one that changes something, and
//! every sync. Reading is not counted.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// What an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file comes to be.
    Create,
    /// Directories come to be.
    MakeDir,
    /// A file gets another name.
    Rename,
    /// A file's name goes.
    Remove,
    /// Bytes are written.
    Write,
    /// A range becomes zero.
    Zero,
    /// A file gets another length.
    Resize,
    /// A file becomes durable.
    Sync,
    /// A directory's names become durable.
    SyncDir,
    /// The index takes a batch.
    IndexApply,
    /// The index becomes durable.
    IndexSync,
}

/// One operation that the disk was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// What.
    pub kind: Kind,
    /// Of which file or directory.
    pub path: PathBuf,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.kind, self.path.display())
    }
}

/// An error that disks give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Errno {
    /// The device failed.
    Io,
    /// No space is left.
    NoSpace,
}

impl Errno {
    /// As the kernel would report it.
    pub fn error(self) -> io::Error {
        io::Error::from_raw_os_error(match self {
            Self::Io => 5,
            Self::NoSpace => 28,
        })
    }
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The power goes off: the operation is not done, or torn, and nothing works from then on.
    Cut(u64),
    /// The operation fails, once.
    Fail(u64, Errno),
    /// The operation and all after it fail, until told otherwise.
    Stuck(u64, Errno),
}

/// Which syncs report success without doing anything.
pub type Lie = Box<dyn FnMut(&Path) -> bool + Send>;

/// The error of everything that is asked of a disk without power.
pub fn power_is_off(operation: u64) -> io::Error {
    io::Error::other(format!("the power is off since operation {operation}"))
}
