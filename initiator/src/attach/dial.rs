//! Sockets of an NBD export, ready for somebody else's requests: connected, shaken hands, nothing more said.
//!
//! Invariants: what the server refuses is told in its words; a connection ends soon after its server does, however that ended. The
//! requests are the kernel's, so nothing here asks for structured replies.

use anyhow::{Context, Result, bail};
use bytes::BytesMut;
use socket2::{SockRef, TcpKeepalive};
use std::net::TcpStream as Plain;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use understudy_format::nbd::{ClientHandshake, ClientStep, Session, TransmissionFlags, Wish};

/// How long a server may take for all of it.
const DIAL_MAX: Duration = Duration::from_secs(10);
/// How often is asked whether the other side of an idle connection is there.
const PROBE_EVERY: Duration = Duration::from_secs(5);
/// How long nothing at all may come back.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// An export that was entered.
#[derive(Debug)]
pub struct Line {
    /// The connection.
    pub stream: TcpStream,
    /// Bytes of the export.
    pub size: u64,
    /// What it can do.
    pub flags: TransmissionFlags,
}

impl Line {
    /// Enters `export` of the server at HOST:PORT.
    pub async fn dial(server: &str, export: &str) -> Result<Self> {
        let dialled = tokio::time::timeout(DIAL_MAX, enter(server, export)).await;
        let seconds = DIAL_MAX.as_secs();
        let dialled = dialled.with_context(|| format!("no answer within {seconds} s"));
        dialled.and_then(|line| line).with_context(|| format!("NBD server {server}, export {export}"))
    }

    /// The socket, as the kernel takes it.
    pub fn into_plain(self) -> Result<Plain> {
        let plain = self.stream.into_std()?;
        plain.set_nonblocking(false)?;
        Ok(plain)
    }
}

async fn enter(server: &str, export: &str) -> Result<Line> {
    let mut stream = TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    watch(&stream)?;
    let wish = Wish { export: export.to_owned(), contexts: Vec::new(), tls: false, plain: true };
    let (mut handshake, mut input, mut out) = (ClientHandshake::new(wish), BytesMut::new(), BytesMut::new());
    loop {
        let step = handshake.advance(&mut input, &mut out);
        stream.write_all_buf(&mut out).await?;
        if let ClientStep::Enter(Session { size, flags, .. }) = step? {
            return Ok(Line { stream, size, flags });
        }
        if stream.read_buf(&mut input).await? == 0 {
            bail!("the server closed the connection");
        }
    }
}

/// Ends a connection whose other side is silent, also while nothing is asked: without power it says no goodbye.
fn watch(stream: &TcpStream) -> Result<()> {
    let (socket, probes) =
        (SockRef::from(stream), TcpKeepalive::new().with_time(PROBE_EVERY).with_interval(PROBE_EVERY));
    socket.set_tcp_keepalive(&probes)?;
    Ok(socket.set_tcp_user_timeout(Some(SILENCE_MAX))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_is_gone_without_a_word_is_noticed() {
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(server.local_addr().unwrap()).await.unwrap();
        watch(&stream).unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), PROBE_EVERY);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), PROBE_EVERY);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(SILENCE_MAX));
    }
}
