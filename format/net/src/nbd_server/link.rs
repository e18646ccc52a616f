//! A byte stream with what was received of it and not yet understood.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Room for small requests that arrive together.
const INPUT_ROOM: usize = 64 << 10;

pub(super) struct Link<S> {
    pub(super) stream: S,
    pub(super) input: BytesMut,
}

impl<S> Link<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, input: BytesMut::with_capacity(INPUT_ROOM) }
    }

    /// The stream alone. Nothing may wait to be understood: it would be lost.
    pub(super) fn into_empty(self) -> S {
        assert!(self.input.is_empty(), "STARTTLS was the last that came");
        self.stream
    }
}

impl<S: AsyncRead + Unpin> Link<S> {
    /// Receives something, with room for `wanted` bytes; `false` at the end of the stream.
    pub(super) async fn receive(&mut self, wanted: usize) -> io::Result<bool> {
        self.input.reserve(wanted.max(INPUT_ROOM));
        match self.stream.read_buf(&mut self.input).await {
            Ok(received) => Ok(received > 0),
            // How clients that leave in a hurry look, without TLS and with it.
            Err(error) if is_hurry(error.kind()) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn is_hurry(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof)
}
