//! A connection to an appliance, as an initiator has it, for streams that are made ([`super::synthetic`]); and one to its
//! NBD server, as any client has it.

use super::synthetic::{Peer, Recent, Stream, send};
use crate::clock::Stopwatch;
use anyhow::{Context, bail};
use nbd::client::{NbdClient, handshake};
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::net::TcpStream;
use understudy_format::map::Map;
use understudy_format::point::VolumeName;
use understudy_format::session::Sender;
use understudy_format::wire::{Message, SESSION_VERSION};
use understudy_net::blocking::{FrameFile, write_message};

/// See the module documentation.
#[derive(Debug)]
pub struct Session {
    reader: FrameFile<BufReader<TcpStream>>,
    writer: BufWriter<TcpStream>,
}

impl Session {
    /// Connects and says hello.
    pub fn connect(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        let writer = BufWriter::new(stream.try_clone()?);
        let mut own = Self { reader: FrameFile::new(BufReader::new(stream)), writer };
        own.send(&Message::Hello { version: SESSION_VERSION, software: "understudy-tools scale".into() })?;
        match own.answer()? {
            Message::Welcome { .. } => Ok(own),
            other => bail!("Welcome expected, found {}", other.name()),
        }
    }

    /// Sends a stream until it is stored.
    pub fn push(&mut self, name: &VolumeName, stream: &Stream, pages: &mut Recent) -> anyhow::Result<Map> {
        let begin = stream.begin();
        self.send(&Message::Push { name: name.clone(), label: None, group: None, over: None })?;
        self.send(&Message::Begin(begin))?;
        let window = match self.answer()? {
            Message::Accept { window, .. } => window,
            other => bail!("Accept expected, found {}", other.name()),
        };
        let (map, sender) = send(self, Sender::online(begin, window), stream, pages)?;
        self.send(&Message::Commit(sender.commit(map.root())?))?;
        match self.answer()? {
            Message::Stored(point) if point.map == map => Ok(map),
            other => bail!("Stored with the same map expected, found {}", other.name()),
        }
    }

    fn answer(&mut self) -> anyhow::Result<Message> {
        self.writer.flush()?;
        match self.reader.next_message()? {
            Some(Message::Fail { text, .. }) => bail!("the appliance refused: {text}"),
            Some(message) => Ok(message),
            None => bail!("the appliance closed the connection"),
        }
    }
}

impl Peer for Session {
    fn send(&mut self, message: &Message) -> anyhow::Result<()> {
        write_message(&mut self.writer, message).map(drop).context("cannot send to the appliance")
    }

    fn need(&mut self) -> anyhow::Result<(u64, Vec<bool>)> {
        match self.answer()? {
            Message::Need { sequence, wanted } => Ok((sequence, wanted)),
            other => bail!("Need expected, found {}", other.name()),
        }
    }
}

/// Opens an export and reads 4 KiB at `offset`; returns the size of the export and how many seconds all of that took.
pub fn open_export(address: &str, export: &str, offset: u64) -> anyhow::Result<(u64, f64)> {
    let watch = Stopwatch::start();
    let mut stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
    stream.set_nodelay(true)?;
    let opened = handshake(&mut stream, export.as_bytes()).with_context(|| format!("cannot open {export}"))?;
    let mut client = NbdClient::new(&mut stream, &opened);
    client.seek(SeekFrom::Start(offset))?;
    client.read_exact(&mut [0; 4096]).with_context(|| format!("cannot read {export} at {offset}"))?;
    Ok((opened.size, watch.seconds()))
}
