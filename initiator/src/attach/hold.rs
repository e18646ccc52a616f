//! The process behind a device of the kernel's NBD client: it connects the device, and connects it again when the server
//! was away.
//!
//! The kernel has the sockets that requests travel over; one more stays here, and its end tells that the server is gone. Meanwhile
//! the kernel lets requests wait, for [`RECONNECT_MAX`], before it fails them: so a mount survives a daemon that is
//! restarted. Invariants: the process ends when the device is disconnected; another size of the export is never put under a
//! device; the device of somebody else is never touched: the kernel shows whose it is by a mark.

use super::dial::Line;
use super::netlink::{Device, Kernel};
use super::step::is_held;
use crate::args::Hold;
use anyhow::{Context, Result, bail};
use std::net::{Shutdown, TcpStream as Plain};
use std::path::Path;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use understudy_format::nbd::TransmissionFlags;

/// How long a request may be without an answer before it is sent over another connection.
const REQUEST_MAX: Duration = Duration::from_secs(30);
/// How long requests wait for a server that is away.
const RECONNECT_MAX: Duration = Duration::from_secs(600);
/// How often is looked whether the device is still there, and tried to connect again.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Connections of a device.
const CONNECTIONS: usize = 4;
/// Sectors of the device: filesystems with small ones mount as well.
const SECTOR: u64 = 512;

/// Holds a device until it is disconnected.
pub async fn run(args: &Hold) -> Result<()> {
    let index = index(&args.device)?;
    let kernel = Kernel::open()?;
    let mut lines = Lines::dial(args).await?;
    let (size, flags, mark) = (lines.size, lines.flags.0, args.mark.as_str());
    let (request_max, reconnect_max) = (REQUEST_MAX, RECONNECT_MAX);
    kernel.connect(&Device { index, mark, size, sector: SECTOR, flags, request_max, reconnect_max }, &lines.sockets)?;
    if !is_held(&args.device, mark) {
        kernel.disconnect(index)?;
        bail!(
            "{}: this kernel cannot tell whose a device is, expected Linux 5.14 or later; \
             `rmmod nbd`, and attach goes through nbdfuse",
            args.device.display()
        );
    }
    while is_held(&args.device, mark) {
        if lines.lost().await {
            eprintln!("the connection to {} is lost; connecting again", args.server);
            lines.end();
            match again(args, size).await? {
                None => return Ok(()),
                Some(new) => lines = new,
            }
            kernel.reconnect(index, mark, &lines.sockets)?;
            eprintln!("connected again");
        }
    }
    Ok(())
}

/// Disconnects a device; whoever holds it ends.
pub fn disconnect(device: &Path) -> Result<()> {
    Kernel::open()?.disconnect(index(device)?)
}

fn index(device: &Path) -> Result<u32> {
    let name = device.file_name().and_then(|name| name.to_str());
    let number = name.and_then(|name| name.strip_prefix("nbd")?.parse().ok());
    number.with_context(|| format!("{}: expected /dev/nbd and a number", device.display()))
}

/// Connects until that succeeds; `None` when the device was disconnected meanwhile.
async fn again(args: &Hold, size: u64) -> Result<Option<Lines>> {
    while is_held(&args.device, &args.mark) {
        match Lines::dial(args).await {
            Ok(lines) if lines.size == size => return Ok(Some(lines)),
            Ok(lines) => {
                bail!("{} has {} bytes now, it had {size}; it is not connected again", args.export, lines.size)
            }
            // A server that is away for long is told of once.
            Err(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
    Ok(None)
}

/// The connections of a device.
struct Lines {
    size: u64,
    flags: TransmissionFlags,
    /// For the kernel.
    sockets: Vec<Plain>,
    /// Nothing is ever said here.
    silent: TcpStream,
}

impl Lines {
    async fn dial(args: &Hold) -> Result<Self> {
        let Line { stream: silent, size, flags } = Line::dial(&args.server, &args.export).await?;
        let count = if flags.contains(TransmissionFlags::CAN_MULTI_CONN) { CONNECTIONS } else { 1 };
        let mut sockets = Vec::with_capacity(count);
        for _ in 0..count {
            sockets.push(Line::dial(&args.server, &args.export).await?.into_plain()?);
        }
        Ok(Self { size, flags, sockets, silent })
    }

    /// The kernel replaces only connections that it knows to be dead, and may not have noticed that these are.
    fn end(&self) {
        for socket in &self.sockets {
            // One that is not connected any more is what is wanted.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Waits a while; whether the server closed its end, or is gone without that.
    async fn lost(&mut self) -> bool {
        tokio::time::timeout(LOOK_EVERY, self.silent.read(&mut [0])).await.is_ok()
    }
}
