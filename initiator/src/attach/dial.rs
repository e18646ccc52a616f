//! Sockets of an NBD export, ready for somebody else's requests: connected, shaken hands, nothing more said.
//!
//! Invariants: what the server refuses is told in its words; of every read the length is known before; a connection ends soon after its server does, however that ended. The requests are the
//! kernel's, so nothing here asks for structured replies.

use anyhow::{Context, Result, bail};
use socket2::{SockRef, TcpKeepalive};
use std::net::TcpStream as Plain;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use understudy_format::nbd::{
    ClientFlags, Greeting, Info, InfoRequest, OPTION_REPLY_HEAD_LEN, OptionReply, OptionReplyHead, OptionRequest,
    TransmissionFlags,
};

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
    let mut greeting = [0; Greeting::LEN];
    stream.read_exact(&mut greeting).await?;
    Greeting::decode(&greeting)?;
    let mut out = Vec::new();
    out.extend_from_slice(&(ClientFlags::FIXED_NEWSTYLE | ClientFlags::NO_ZEROES).0.to_be_bytes());
    OptionRequest::Go(InfoRequest { name: export.to_owned(), wants: Vec::new() }).encode(&mut out);
    stream.write_all(&out).await?;
    let mut found = None;
    loop {
        match reply(&mut stream).await? {
            OptionReply::Info(Info::Export { size, flags }) => found = Some((size, flags)),
            OptionReply::Ack => break,
            OptionReply::Error(refusal) => bail!("{}", refusal.text),
            _ => {}
        }
    }
    let (size, flags) = found.context("the server did not say how large the export is")?;
    Ok(Line { stream, size, flags })
}

/// Ends a connection whose other side is silent, also while nothing is asked: without power it says no goodbye.
fn watch(stream: &TcpStream) -> Result<()> {
    let (socket, probes) =
        (SockRef::from(stream), TcpKeepalive::new().with_time(PROBE_EVERY).with_interval(PROBE_EVERY));
    socket.set_tcp_keepalive(&probes)?;
    Ok(socket.set_tcp_user_timeout(Some(SILENCE_MAX))?)
}

async fn reply(stream: &mut TcpStream) -> Result<OptionReply> {
    let mut head = [0; OPTION_REPLY_HEAD_LEN];
    stream.read_exact(&mut head).await?;
    let head = OptionReplyHead::decode(&head)?;
    let mut data = vec![0; head.length as usize];
    stream.read_exact(&mut data).await?;
    Ok(OptionReply::decode(head.kind, &data)?)
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
