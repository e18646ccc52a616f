//! The two halves of a connection, TCP or Unix, plain or encrypted: who receives does not hold up who sends.

use super::ClientError;
use socket2::{SockRef, TcpKeepalive};
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// Idle time after which a TCP server is probed.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// TCP.
    Tcp {
        /// A name or an address.
        host: String,
        /// The port.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

/// What is received from.
pub(super) type Incoming = Box<dyn Read + Send>;
/// What is sent to.
pub(super) type Outgoing = Box<dyn Write + Send>;

/// A connected socket.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// Connects; neither that nor anything later waits longer than `patience`.
    pub fn connect(address: &Address, patience: Duration) -> Result<Self, ClientError> {
        let socket = match address {
            Address::Tcp { host, port } => Self::Tcp(connect_tcp(host, *port, patience)?),
            Address::Unix(path) => Self::Unix(UnixStream::connect(path).map_err(ClientError::Connect)?),
        };
        socket.wait_at_most(patience)?;
        Ok(socket)
    }

    /// From now on no silence is waited for longer than this.
    pub fn wait_at_most(&self, patience: Duration) -> io::Result<()> {
        let socket = self.as_ref();
        socket.set_read_timeout(Some(patience))?;
        socket.set_write_timeout(Some(patience))
    }

    fn as_ref(&self) -> SockRef<'_> {
        match self {
            Self::Tcp(stream) => SockRef::from(stream),
            Self::Unix(stream) => SockRef::from(stream),
        }
    }

    /// The half that receives.
    pub fn incoming(&self) -> io::Result<Incoming> {
        Ok(match self {
            Self::Tcp(stream) => Box::new(stream.try_clone()?),
            Self::Unix(stream) => Box::new(stream.try_clone()?),
        })
    }

    /// The half that sends.
    pub fn outgoing(&self) -> io::Result<Outgoing> {
        Ok(match self {
            Self::Tcp(stream) => Box::new(stream.try_clone()?),
            Self::Unix(stream) => Box::new(stream.try_clone()?),
        })
    }
}

fn connect_tcp(host: &str, port: u16, patience: Duration) -> Result<TcpStream, ClientError> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (host, port).to_socket_addrs().map_err(ClientError::Connect)? {
        match TcpStream::connect_timeout(&address, patience) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(ClientError::Connect(last))
}
