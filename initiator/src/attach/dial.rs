//! Sockets of an NBD export, ready for somebody else's requests: connected, shaken hands, nothing more said.
//!
//! Invariants: what the server refuses is told in its words; of every read the length is known before. The requests are the
//! kernel's, so nothing here asks for structured replies.

use anyhow::{Context, Result, bail};
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

async fn reply(stream: &mut TcpStream) -> Result<OptionReply> {
    let mut head = [0; OPTION_REPLY_HEAD_LEN];
    stream.read_exact(&mut head).await?;
    let head = OptionReplyHead::decode(&head)?;
    let mut data = vec![0; head.length as usize];
    stream.read_exact(&mut data).await?;
    Ok(OptionReply::decode(head.kind, &data)?)
}
