//! TLS around a connection whose two halves are used by different threads.
//!
//! Only the bytes of one record's worth of work are made under the lock that both halves share; nobody waits for the socket
//! with it. Invariant: what is encrypted first is sent first, because only the sending half sends.

use super::ClientError;
use super::socket::{Address, Incoming, Outgoing, Socket};
use crate::tls;
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use std::io::{self, ErrorKind, Read, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

/// Bytes that are received at once: several records of the largest size.
const ROOM: usize = 64 << 10;

/// How to encrypt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Where the certificates are; see [`crate::tls`].
    pub directory: PathBuf,
    /// The name in the server's certificate, unless it is that of the host; `localhost` behind a Unix socket.
    pub hostname: Option<String>,
}

type Session = Arc<Mutex<ClientConnection>>;

/// Shakes hands over `socket`, of which nothing was read that belongs to TLS.
pub(super) fn begin(files: &TlsFiles, address: &Address, socket: &Socket) -> Result<(Incoming, Outgoing), ClientError> {
    let host = match (&files.hostname, address) {
        (Some(name), _) => name,
        (None, Address::Tcp { host, .. }) => host,
        (None, Address::Unix(_)) => "localhost",
    };
    let fail = |error: &dyn std::fmt::Display| ClientError::Tls(error.to_string());
    let name = ServerName::try_from(host.to_owned()).map_err(|e| fail(&e))?;
    let config = tls::client(&files.directory).map_err(|e| fail(&e))?;
    let mut session = ClientConnection::new(config, name).map_err(|e| fail(&e))?;
    let mut both = Both(socket.incoming()?, socket.outgoing()?);
    while session.is_handshaking() || session.wants_write() {
        session.complete_io(&mut both).map_err(|e| fail(&e))?;
    }
    let session = Arc::new(Mutex::new(session));
    let (buffer, start, end) = (vec![0; ROOM].into(), 0, 0);
    let incoming = Decrypted { session: session.clone(), from: both.0, buffer, start, end };
    Ok((Box::new(incoming), Box::new(Encrypted { session, to: both.1 })))
}

fn lock(session: &Session) -> MutexGuard<'_, ClientConnection> {
    session.lock().expect("no panic while locked")
}

struct Both(Incoming, Outgoing);

impl Read for Both {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for Both {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.1.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.1.flush()
    }
}

/// The receiving half.
struct Decrypted {
    session: Session,
    from: Incoming,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Read for Decrypted {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match lock(&self.session).reader().read(into) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => return read,
            }
            if self.start == self.end {
                (self.start, self.end) = (0, self.from.read(&mut self.buffer)?);
            }
            let mut session = lock(&self.session);
            self.start += session.read_tls(&mut &self.buffer[self.start..self.end])?;
            session.process_new_packets().map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        }
    }
}

/// The sending half.
struct Encrypted {
    session: Session,
    to: Outgoing,
}

impl Write for Encrypted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut records = Vec::new();
        let written = {
            let mut session = lock(&self.session);
            let written = session.writer().write(bytes)?;
            while session.wants_write() {
                session.write_tls(&mut records)?;
            }
            written
        };
        self.to.write_all(&records)?;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
