//! Why an export cannot be opened or read, in words that name what the server said.

use std::io;
use thiserror::Error;
use understudy_format::nbd::{Failure, HandshakeError, WireError};

/// See the module documentation. Only after [`ClientError::Failed`] the connection can still be used.
#[derive(Debug, Error)]
pub enum ClientError {
    /// There is no connection.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// There is no session.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// TLS does not come about.
    #[error("TLS: {0}")]
    Tls(String),
    /// What the server sends makes no sense.
    #[error("the server sent what makes no sense: {0}")]
    Wire(#[from] WireError),
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Io(io::Error),
    /// The server is gone.
    #[error("the server closed the connection{0}")]
    Closed(&'static str),
    /// The server owes an answer for too long.
    #[error("the server did not answer for too long")]
    Silent,
    /// The server answered that the request failed.
    #[error("the server said: {0} ({errno})", errno = .0.errno)]
    Failed(Failure),
    /// The connection failed before.
    #[error("{0}")]
    Broken(String),
}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::Silent,
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                Self::Closed("")
            }
            _ => Self::Io(error),
        }
    }
}
