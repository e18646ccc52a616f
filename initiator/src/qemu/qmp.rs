//! QEMU's machine protocol, as far as taking an image of a disk needs it: one command, one answer, and events between them.
//!
//! JSON, a message a line (docs/interop/qmp-spec.rst of QEMU). Invariants: nothing waits longer than [`SILENCE_MAX`]; a
//! connection is held for a few commands only, because a monitor serves one client at a time and there may be others.

use rustix::net::sockopt::socket_peercred;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;
use thiserror::Error;

/// How long QEMU may take to answer or to greet.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Bytes of a message; that of a machine with many disks has some ten thousand.
const MESSAGE_MAX: u64 = 64 << 20;
/// Events that are kept while nobody has asked for them.
const EVENTS_MAX: usize = 1024;

/// Why a command failed.
#[derive(Debug, Error)]
pub enum QmpError {
    /// QEMU refused it.
    #[error("QEMU refused {command}: {text}")]
    Refused {
        /// The command.
        command: String,
        /// What QEMU said.
        text: String,
    },
    /// It did not answer in time.
    #[error("the monitor does not answer: a monitor serves one client at a time, and another one may hold it")]
    Silent,
    /// The connection failed.
    #[error("the monitor: {0}")]
    Io(io::Error),
    /// It answered something that is no message of this protocol.
    #[error("the monitor sent what is no QMP: {0}")]
    Format(String),
}

impl From<io::Error> for QmpError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::Silent,
            _ => Self::Io(error),
        }
    }
}

/// What a call gives.
pub type Result<T> = std::result::Result<T, QmpError>;

/// Who runs QEMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// A connection to a monitor; see the module documentation.
#[derive(Debug)]
pub struct Qmp {
    from: BufReader<UnixStream>,
    to: UnixStream,
    events: VecDeque<Value>,
}

impl Qmp {
    /// Connects to the monitor that listens on a socket.
    pub fn connect(socket: &Path) -> Result<Self> {
        let to = UnixStream::connect(socket)?;
        to.set_read_timeout(Some(SILENCE_MAX))?;
        to.set_write_timeout(Some(SILENCE_MAX))?;
        let mut qmp = Self { from: BufReader::new(to.try_clone()?), to, events: VecDeque::new() };
        let greeting = qmp.receive()?;
        if greeting.get("QMP").is_none() {
            return Err(QmpError::Format(format!("a greeting was expected, not {greeting}")));
        }
        qmp.run("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Who runs QEMU, and must be able to open what is made for it.
    pub fn owner(&self) -> Result<Owner> {
        let peer = socket_peercred(&self.to).map_err(io::Error::from)?;
        Ok(Owner { uid: peer.uid.as_raw(), gid: peer.gid.as_raw() })
    }

    /// Runs a command; what it returns.
    pub fn run(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let message = json!({"execute": command, "arguments": arguments});
        self.to.write_all(format!("{message}\n").as_bytes())?;
        loop {
            let mut answer = self.receive()?;
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
            if let Some(error) = answer.get("error") {
                let text = error["desc"].as_str().unwrap_or("no reason given").to_owned();
                return Err(QmpError::Refused { command: command.into(), text });
            }
            self.keep(answer);
        }
    }

    /// Waits for an event, or takes one that came already and was not asked for.
    pub fn wait(&mut self, name: &str, wanted: impl Fn(&Value) -> bool) -> Result<()> {
        let is_it = |event: &Value| event["event"] == name && wanted(&event["data"]);
        if let Some(at) = self.events.iter().position(is_it) {
            self.events.remove(at);
            return Ok(());
        }
        // Other events keep the connection busy: they are no sign that this one will come.
        for _ in 0..EVENTS_MAX {
            let event = self.receive()?;
            if is_it(&event) {
                return Ok(());
            }
            self.keep(event);
        }
        Err(QmpError::Format(format!("the event {name} did not come")))
    }

    fn keep(&mut self, event: Value) {
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    fn receive(&mut self) -> Result<Value> {
        let mut line = Vec::new();
        (&mut self.from).take(MESSAGE_MAX).read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            let why =
                if line.len() as u64 == MESSAGE_MAX { "a message without end" } else { "QEMU closed the connection" };
            return Err(QmpError::Io(io::Error::new(io::ErrorKind::UnexpectedEof, why)));
        }
        serde_json::from_slice(&line).map_err(|error| QmpError::Format(error.to_string()))
    }
}
