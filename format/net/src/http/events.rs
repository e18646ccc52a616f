//! Server-sent events, as the HTML standard has them: lines in, events out, sans I/O.
//!
//! Invariants: an event takes at most [`EVENT_MAX`] bytes; one that was cut is none; fields that are not known (`id`, `retry`) and
//! comments, by which a server says that it is still there, are passed over.

use super::{HttpError, Result};

/// Most bytes of an event.
pub const EVENT_MAX: usize = 4 << 20;

/// Something that a server told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerEvent {
    /// What kind of thing; `message` where nothing is said.
    pub name: String,
    /// The thing.
    pub data: String,
}

/// Bytes that make no event yet.
#[derive(Debug, Default)]
pub(super) struct Lines {
    rest: Vec<u8>,
    name: String,
    data: Option<String>,
}

impl Lines {
    /// Takes what came, and gives the events that are complete.
    pub(super) fn take(&mut self, piece: &[u8]) -> Result<Vec<ServerEvent>> {
        let mut events = Vec::new();
        for byte in piece {
            match byte {
                b'\n' => {
                    let line = std::mem::take(&mut self.rest);
                    events.extend(self.line(&String::from_utf8_lossy(&line)));
                }
                byte => self.rest.push(*byte),
            }
            if self.rest.len() + self.data.as_ref().map_or(0, String::len) > EVENT_MAX {
                return Err(HttpError::TooLong { max: EVENT_MAX });
            }
        }
        Ok(events)
    }

    fn line(&mut self, line: &str) -> Option<ServerEvent> {
        let line = line.trim_end_matches('\r');
        if line.is_empty() {
            let name = std::mem::take(&mut self.name);
            let name = if name.is_empty() { "message".to_owned() } else { name };
            return self.data.take().map(|data| ServerEvent { name, data });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => self.data = Some(self.data.take().map_or(value.to_owned(), |data| data + "\n" + value)),
            _ => {}
        }
        None
    }
}
