//! Where clients come from: a TCP or a Unix listener behind one `accept`.
//!
//! Must not: know the protocol. Replies are whole writes already, so TCP never waits to coalesce;
//! keep-alive finds clients that vanished without closing.

use std::io;
use std::net::{self, SocketAddr};
use std::os::unix::{self, fs::FileTypeExt};
use std::path::Path;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tracing::debug;

/// Idle time after which a TCP client is probed.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// A bound listener.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket; its file is the caller's to remove.
    Unix(UnixListener),
}

impl Listener {
    /// Binds a TCP address; port 0 takes a free one.
    pub async fn bind_tcp(address: SocketAddr) -> io::Result<Self> {
        TcpListener::bind(address).await.map(Self::Tcp)
    }

    /// Binds a Unix socket at `path`, where there is nothing but at most a socket that nobody listens on any more: left over from a server that was
    /// killed. Call it within a runtime.
    pub fn bind_unix(path: &Path) -> io::Result<Self> {
        let is_socket = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
        if is_socket && unix::net::UnixStream::connect(path).is_err() {
            std::fs::remove_file(path)?;
        }
        UnixListener::bind(path).map(Self::Unix)
    }

    /// The bound TCP address; `None` for a Unix socket.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    pub(super) async fn accept(&mut self) -> io::Result<Socket> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                tune(&stream);
                Ok(Socket::Tcp(stream, peer.to_string()))
            }
            Self::Unix(listener) => Ok(Socket::Unix(listener.accept().await?.0)),
        }
    }
}

/// An accepted connection.
pub(super) enum Socket {
    Tcp(TcpStream, String),
    Unix(UnixStream),
}

/// An accepted connection between two reactors.
pub(super) enum Detached {
    Tcp(net::TcpStream, String),
    Unix(unix::net::UnixStream),
}

impl Detached {
    /// The connection, with the reactor of the thread that this is called on.
    pub(super) fn attach(self) -> io::Result<Socket> {
        Ok(match self {
            Self::Tcp(stream, peer) => Socket::Tcp(TcpStream::from_std(stream)?, peer),
            Self::Unix(stream) => Socket::Unix(UnixStream::from_std(stream)?),
        })
    }
}

impl Socket {
    /// Without the reactor that accepted it.
    pub(super) fn detach(self) -> io::Result<Detached> {
        Ok(match self {
            Self::Tcp(stream, peer) => Detached::Tcp(stream.into_std()?, peer),
            Self::Unix(stream) => Detached::Unix(stream.into_std()?),
        })
    }

    pub(super) fn peer(&self) -> &str {
        match self {
            Self::Tcp(_, peer) => peer,
            Self::Unix(_) => "unix",
        }
    }
}

/// A connection that cannot be tuned is slower, not wrong.
fn tune(stream: &TcpStream) {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE);
    let tuned = stream.set_nodelay(true).and_then(|()| SockRef::from(stream).set_tcp_keepalive(&keepalive));
    if let Err(error) = tuned {
        debug!(%error, "socket options refused");
    }
}
