//! The state file: what a tap knows when it is started again.
//!
//! Invariant: it is replaced as a whole, durably. That it cannot be read is no error here: then nothing is known.

use super::disk::{Directory, read_all, replace};
use super::reason::Reason;
use std::io;
use understudy_format::tap::TapState;

const NAME: &str = "state";

/// What is in the directory; `None` when nothing is.
pub(super) fn load(directory: &dyn Directory) -> Result<Option<TapState>, Reason> {
    let damaged = |error: &dyn ToString| Reason::StateDamaged(error.to_string());
    let is_there = directory.list().map_err(|error| damaged(&error))?.iter().any(|name| name == NAME);
    if !is_there {
        return Ok(None);
    }
    let bytes = directory.open(NAME).and_then(|file| read_all(&*file)).map_err(|error| damaged(&error))?;
    TapState::decode(&bytes).map(Some).map_err(|error| damaged(&error))
}

/// Replaces what is in the directory.
pub(super) fn store(directory: &dyn Directory, state: &TapState) -> io::Result<()> {
    replace(directory, NAME, &state.encode())
}

/// Nothing is known any more.
pub(super) fn remove(directory: &dyn Directory) -> io::Result<()> {
    directory.remove(NAME)?;
    directory.sync()
}
