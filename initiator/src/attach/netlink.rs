//! The kernel's NBD client, told over netlink what to do: connect a device, give it other sockets, disconnect it.
//!
//! Three messages of generic netlink, laid out here: the kept crates for netlink bring fifteen others along. `include/uapi/linux/
//! nbd-netlink.h` and `genetlink.h` of the kernel have the numbers. Invariants: every message is acknowledged or refused before the next
//! one; what the kernel says is read no further than it goes. The process may end afterwards: the kernel keeps the sockets.

use anyhow::{Context, Result, bail};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

const AF_NETLINK: i32 = 16;
const NETLINK_GENERIC: i32 = 16;
/// `NLM_F_REQUEST | NLM_F_ACK`.
const REQUEST_WITH_ACK: u16 = 1 | 4;
const NLMSG_ERROR: u16 = 2;
const HEADER: usize = 16;
const GENERIC_HEADER: usize = 4;

/// The family that knows the others: `GENL_ID_CTRL`, `CTRL_CMD_GETFAMILY`, `CTRL_ATTR_FAMILY_ID`, `CTRL_ATTR_FAMILY_NAME`.
const CONTROL: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;

const CONNECT: u8 = 1;
const DISCONNECT: u8 = 2;
const RECONFIGURE: u8 = 3;

const INDEX: u16 = 1;
const SIZE_BYTES: u16 = 2;
const BLOCK_SIZE_BYTES: u16 = 3;
const TIMEOUT: u16 = 4;
const SERVER_FLAGS: u16 = 5;
const SOCKETS: u16 = 7;
const DEAD_CONN_TIMEOUT: u16 = 8;
const BACKEND_IDENTIFIER: u16 = 10;
/// `NBD_SOCK_ITEM` in `NBD_ATTR_SOCKETS`, and `NBD_SOCK_FD` in that.
const SOCKET_ITEM: u16 = 1;
const SOCKET_FD: u16 = 1;
/// `NLA_F_NESTED`.
const NESTED: u16 = 1 << 15;

/// What the kernel is to know of a device.
#[derive(Debug, Clone, Copy)]
pub struct Device<'a> {
    /// Its number: N of `/dev/nbdN`.
    pub index: u32,
    /// Shown in `/sys/block/nbdN/backend` (Linux 5.14), and asked for when it is to have other sockets.
    pub mark: &'a str,
    /// Bytes.
    pub size: u64,
    /// Bytes of its sectors.
    pub sector: u64,
    /// Transmission flags, as the server sent them.
    pub flags: u16,
    /// How long a request may be without an answer.
    pub request_max: Duration,
    /// How long requests wait for other sockets when all are dead.
    pub reconnect_max: Duration,
}

/// The kernel's NBD client.
#[derive(Debug)]
pub struct Kernel {
    socket: Socket,
    family: u16,
}

impl Kernel {
    /// Finds it.
    pub fn open() -> Result<Self> {
        let socket = Socket::new(Domain::from(AF_NETLINK), Type::RAW, Some(Protocol::from(NETLINK_GENERIC)));
        let mut own = Self { socket: socket.context("netlink cannot be used here")?, family: CONTROL };
        let name = Attributes::default().put(FAMILY_NAME, b"nbd\0");
        let reply = own.ask(GET_FAMILY, &name).context("the kernel has no NBD client (module nbd)")?;
        let id = attribute(reply.get(GENERIC_HEADER..).unwrap_or_default(), FAMILY_ID);
        let id = id.and_then(|id| Some(u16::from_ne_bytes(id.try_into().ok()?)));
        own.family = id.context("the kernel's answer is not understood")?;
        Ok(own)
    }

    /// Connects a device.
    pub fn connect(&self, device: &Device<'_>, sockets: &[impl AsRawFd]) -> Result<()> {
        let attributes = Attributes::default()
            .put(INDEX, &device.index.to_ne_bytes())
            .put(SIZE_BYTES, &device.size.to_ne_bytes())
            .put(BLOCK_SIZE_BYTES, &device.sector.to_ne_bytes())
            .put(SERVER_FLAGS, &u64::from(device.flags).to_ne_bytes())
            .put(TIMEOUT, &device.request_max.as_secs().to_ne_bytes())
            .put(DEAD_CONN_TIMEOUT, &device.reconnect_max.as_secs().to_ne_bytes())
            .put(BACKEND_IDENTIFIER, &text(device.mark))
            .put(SOCKETS | NESTED, &nested(sockets));
        let answer = self.ask(CONNECT, &attributes);
        answer.map(drop).with_context(|| format!("/dev/nbd{} cannot be connected", device.index))
    }

    /// Puts other sockets in the place of those that are dead; the kernel refuses when the device has another mark.
    pub fn reconnect(&self, index: u32, mark: &str, sockets: &[impl AsRawFd]) -> Result<()> {
        let attributes = Attributes::default().put(INDEX, &index.to_ne_bytes()).put(BACKEND_IDENTIFIER, &text(mark));
        let attributes = attributes.put(SOCKETS | NESTED, &nested(sockets));
        self.ask(RECONFIGURE, &attributes).map(drop).with_context(|| format!("/dev/nbd{index} cannot be reconnected"))
    }

    /// Disconnects a device.
    pub fn disconnect(&self, index: u32) -> Result<()> {
        let attributes = Attributes::default().put(INDEX, &index.to_ne_bytes());
        self.ask(DISCONNECT, &attributes).map(drop).with_context(|| format!("/dev/nbd{index} cannot be disconnected"))
    }

    /// Sends a message, and waits until it is acknowledged; what the kernel said before that.
    fn ask(&self, command: u8, attributes: &Attributes) -> Result<Vec<u8>> {
        (&self.socket).write_all(&message(self.family, command, attributes))?;
        let (mut reply, mut buffer) = (Vec::new(), [0; 16 << 10]);
        loop {
            let length = (&self.socket).read(&mut buffer)?;
            for (kind, payload) in messages(&buffer[..length]) {
                if kind != NLMSG_ERROR {
                    reply = payload.to_vec();
                    continue;
                }
                let code = payload.first_chunk::<4>().map(|code| i32::from_ne_bytes(*code));
                match code.context("the kernel's answer is not understood")? {
                    0 => return Ok(reply),
                    code => bail!("{}", std::io::Error::from_raw_os_error(-code)),
                }
            }
        }
    }
}

/// Attributes of a message: length, type and value each, in steps of 4 bytes.
#[derive(Debug, Default)]
struct Attributes(Vec<u8>);

impl Attributes {
    fn put(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(4 + value.len()).expect("some sockets are some bytes");
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }
}

/// Text ends with a zero.
fn text(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0"].concat()
}

fn nested(sockets: &[impl AsRawFd]) -> Vec<u8> {
    let item = |fd: RawFd| Attributes::default().put(SOCKET_FD, &fd.to_ne_bytes()).0;
    let put = |all: Attributes, socket: &_| all.put(SOCKET_ITEM | NESTED, &item(AsRawFd::as_raw_fd(socket)));
    sockets.iter().fold(Attributes::default(), put).0
}

/// A message with its headers: `struct nlmsghdr`, then `struct genlmsghdr`.
fn message(family: u16, command: u8, attributes: &Attributes) -> Vec<u8> {
    let length = (HEADER + GENERIC_HEADER + attributes.0.len()) as u32;
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend_from_slice(&family.to_ne_bytes());
    bytes.extend_from_slice(&REQUEST_WITH_ACK.to_ne_bytes());
    // Sequence number and sender: there is one request at a time, and the kernel knows who asks.
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(&[command, 1, 0, 0]);
    bytes.extend_from_slice(&attributes.0);
    bytes
}

/// The messages that came together: their types, and what follows their headers.
fn messages(bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let (mut rest, mut found) = (bytes, Vec::new());
    while let (Some(length), Some(kind)) = (u32_at(rest, 0), u16_at(rest, 4)) {
        let Some(payload) = rest.get(HEADER..length as usize) else { break };
        found.push((kind, payload));
        rest = rest.get((length as usize).next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// The value of the first attribute of a type.
fn attribute(mut bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let (length, kind) = (usize::from(u16_at(bytes, 0)?), u16_at(bytes, 2)?);
        let value = bytes.get(4..length)?;
        if kind & !NESTED == wanted {
            return Some(value);
        }
        bytes = bytes.get(length.next_multiple_of(4)..)?;
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_attributes_come_back() {
        let attributes = Attributes::default().put(INDEX, &7_u32.to_ne_bytes()).put(9, b"abc").put(10 | NESTED, b"xy");
        let one = message(27, CONNECT, &attributes);
        let both = [one.clone(), message(28, DISCONNECT, &Attributes::default())].concat();
        let found = messages(&both);
        assert_eq!(found.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [27, 28]);
        let payload = &found[0].1[GENERIC_HEADER..];
        assert_eq!(attribute(payload, INDEX), Some(&7_u32.to_ne_bytes()[..]));
        assert_eq!(attribute(payload, 9), Some(&b"abc"[..]));
        assert_eq!(attribute(payload, 10), Some(&b"xy"[..]));
        assert_eq!(attribute(payload, 11), None);
    }

    #[test]
    fn nothing_is_read_past_the_end() {
        let whole = message(27, CONNECT, &Attributes::default().put(1, b"abcd"));
        for length in 0..whole.len() {
            assert!(messages(&whole[..length]).is_empty(), "{length} bytes");
        }
        let attributes = Attributes::default().put(1, b"abcd").0;
        for length in 0..attributes.len() {
            assert_eq!(attribute(&attributes[..length], 1), None, "{length} bytes");
        }
        assert_eq!(attribute(&[0, 0, 1, 0], 2), None, "an attribute without a length ends the search");
    }

    #[test]
    fn the_kernel_answers_for_a_family_that_it_has() {
        // Its own directory of families is one.
        let socket = Socket::new(Domain::from(AF_NETLINK), Type::RAW, Some(Protocol::from(NETLINK_GENERIC))).unwrap();
        let kernel = Kernel { socket, family: CONTROL };
        let reply = kernel.ask(GET_FAMILY, &Attributes::default().put(FAMILY_NAME, b"nlctrl\0")).unwrap();
        assert_eq!(attribute(&reply[GENERIC_HEADER..], FAMILY_ID), Some(&CONTROL.to_ne_bytes()[..]));
        let refused = kernel.ask(GET_FAMILY, &Attributes::default().put(FAMILY_NAME, b"no such\0")).unwrap_err();
        assert!(refused.to_string().contains("os error 2"), "{refused}");
    }
}
