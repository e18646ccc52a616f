//! Messages over an asynchronous byte stream: one half reads, the other writes.
//!
//! Invariants: memory for a body is taken only after its frame header was checked, and there is a time for each message, with all
//! that is skipped before it; the bytes of a
//! chunk are received into one buffer and shared from there on, never copied, and the buffer is used again; an end of
//! the connection is clean only between two messages. Nothing here decides what is said.

use crate::aligned::Ring;
use crate::error::{NetError, Result};
use crate::limit::Limit;
use bytes::Bytes;
use std::time::Duration;
use std::{fmt, io};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use understudy_format::FormatError;
use understudy_format::frame::{BODY_MAX, FrameHeader};
use understudy_format::layout::check_range;
use understudy_format::wire::Message;

/// The receiving half of a connection, whatever it is.
pub type Incoming = Box<dyn AsyncRead + Send + Unpin>;
/// The sending half of a connection, whatever it is.
pub type Outgoing = Box<dyn AsyncWrite + Send + Unpin>;

/// Reads messages.
pub struct MessageReader<R> {
    from: R,
    idle_max: Duration,
    body_max: u32,
    bytes_received: u64,
    buffers: Ring,
    limit: Limit,
}

impl<R> fmt::Debug for MessageReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageReader").field("bytes_received", &self.bytes_received).finish_non_exhaustive()
    }
}

impl<R: AsyncRead + Unpin> MessageReader<R> {
    /// Reads messages from a byte stream; each must have come `idle_max` after it was asked for.
    pub fn new(from: R, idle_max: Duration) -> Self {
        let (buffers, limit) = (Ring::default(), Limit::default());
        Self { from, idle_max, body_max: BODY_MAX, bytes_received: 0, buffers, limit }
    }

    /// From now on each message must have come this long after it was asked for.
    pub fn set_idle_max(&mut self, idle_max: Duration) {
        self.idle_max = idle_max;
    }

    /// From now on no body is longer than this.
    pub fn set_body_max(&mut self, body_max: u32) {
        self.body_max = body_max;
    }

    /// From now on at most so many bytes a second are received; `None`: as fast as it goes.
    pub fn set_limit(&mut self, rate: Option<u64>) {
        self.limit = Limit::to(rate);
    }

    /// Bytes received so far, frame headers included.
    pub fn bytes_received(&self) -> u64 {
        self.bytes_received
    }

    /// The next message; `None` when the peer closed the connection between two messages.
    pub async fn next(&mut self) -> Result<Option<Message>> {
        let idle_max = self.idle_max;
        let message = tokio::time::timeout(idle_max, self.message()).await;
        message.map_err(|_| NetError::Silent { seconds: idle_max.as_secs() })?
    }

    /// The next message that this version knows; others are skipped.
    async fn message(&mut self) -> Result<Option<Message>> {
        while let Some((header, body)) = self.frame().await? {
            if let Some(message) = Message::decode(&header, &body)? {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    /// The next message, where one must come; a failure that the peer reports is an error.
    pub async fn expect(&mut self, expected: &'static str) -> Result<Message> {
        match self.next().await? {
            Some(Message::Fail { kind, text }) => Err(NetError::Remote { kind, text }),
            Some(message) => Ok(message),
            None => Err(NetError::Closed(expected)),
        }
    }

    async fn frame(&mut self) -> Result<Option<(FrameHeader, Bytes)>> {
        let Some(header) = self.exactly(16).await? else { return Ok(None) };
        let header = FrameHeader::decode(header[..].try_into().expect("16 bytes were read"))?;
        check_range("frame", "body length", header.length.into(), 0, self.body_max.into())?;
        let body = self.exactly(header.length as usize).await?;
        match body {
            Some(body) => Ok(Some((header, body))),
            None => Err(truncated(header.length.into(), 0)),
        }
    }

    /// Exactly `length` bytes; `None` when the connection ended before the first of them.
    async fn exactly(&mut self, length: usize) -> Result<Option<Bytes>> {
        let mut buffer = self.buffers.take(length);
        while buffer.len() < length {
            let want = (length - buffer.len()).min(self.limit.piece()) as u64;
            let received = ended((&mut self.from).take(want).read_buf(&mut buffer).await)?;
            if received == 0 {
                return if buffer.is_empty() { Ok(None) } else { Err(truncated(length as u64, buffer.len() as u64)) };
            }
            self.limit.spend(received).await;
        }
        self.bytes_received += length as u64;
        Ok(Some(self.buffers.share(buffer)))
    }
}

/// An end without a farewell of TLS is an end like any other: what is missing then is missed by the lengths and the order of messages.
fn ended(read: io::Result<usize>) -> io::Result<usize> {
    match read {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
        read => read,
    }
}

fn truncated(needed: u64, found: u64) -> NetError {
    FormatError::Truncated { what: "frame", needed, found }.into()
}

/// Writes messages.
pub struct MessageWriter<W> {
    to: W,
    idle_max: Duration,
    bytes_sent: u64,
    limit: Limit,
}

impl<W> fmt::Debug for MessageWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageWriter").field("bytes_sent", &self.bytes_sent).finish_non_exhaustive()
    }
}

impl<W: AsyncWrite + Unpin> MessageWriter<W> {
    /// Writes messages to a byte stream; the peer must have taken each, or each piece of one, within `idle_max`.
    pub fn new(to: W, idle_max: Duration) -> Self {
        Self { to, idle_max, bytes_sent: 0, limit: Limit::default() }
    }

    /// From now on at most so many bytes a second are sent; `None`: as fast as it goes.
    pub fn set_limit(&mut self, rate: Option<u64>) {
        self.limit = Limit::to(rate);
    }

    /// From now on the peer must have taken each message within this.
    pub fn set_idle_max(&mut self, idle_max: Duration) {
        self.idle_max = idle_max;
    }

    /// Bytes sent so far, frame headers included.
    pub fn bytes_sent(&self) -> u64 {
        self.bytes_sent
    }

    /// Sends a message.
    pub async fn send(&mut self, message: &Message) -> Result<()> {
        let encoded = message.encode()?;
        for part in [&encoded.head[..], &encoded.payload] {
            for piece in part.chunks(self.limit.piece()) {
                self.limit.spend(piece.len()).await;
                taken(self.idle_max, self.to.write_all(piece)).await?;
            }
        }
        // What TLS holds back.
        taken(self.idle_max, self.to.flush()).await?;
        self.bytes_sent += (encoded.head.len() + encoded.payload.len()) as u64;
        Ok(())
    }

    /// Ends the sending half, so that the peer sees that nothing more comes.
    pub async fn close(mut self) -> Result<()> {
        Ok(self.to.shutdown().await?)
    }
}

/// Waits until the peer took something.
async fn taken(idle_max: Duration, write: impl Future<Output = io::Result<()>>) -> Result<()> {
    let written = tokio::time::timeout(idle_max, write).await;
    Ok(written.map_err(|_| NetError::Silent { seconds: idle_max.as_secs() })??)
}
