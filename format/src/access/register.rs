//! The register of an appliance: its clients, and the tokens with which more may come.
//!
//! Invariants: the file is replaced as a whole; of a token only the digest of its secret is there; no volume is owned by two. A pool
//! without a register has no clients. Nothing of a point depends on it.

use super::{CLIENT_NAME_MAX, Client, ClientName, Grant, Known, PATTERN_MAX, Rights};
use crate::digest::Digest;
use crate::error::{FormatError, Result};
use crate::layout::{Field, Layout, Reader, check_magic, check_range, check_version, put_text, seal, unseal};
use crate::point::{NAME_MAX, VolumeName};
use std::collections::{BTreeMap, BTreeSet};

/// "Understudy ACCess".
pub const REGISTER_MAGIC: [u8; 4] = *b"UACC";
/// The layout that this program writes and reads.
pub const REGISTER_VERSION: u16 = 1;
/// Most clients.
pub const CLIENTS_MAX: u32 = 4096;
/// Most grants of a client.
pub const GRANTS_MAX: u32 = 256;
/// Most volumes that a client owns.
pub const OWNED_MAX: u32 = 4096;
/// Most certificates of a client that are good at the same time.
pub const CERTIFICATES_MAX: u32 = 8;
/// Most tokens that wait to be used.
pub const TICKETS_MAX: u32 = 4096;

crate::layout! {
    /// What the register begins with.
    pub struct RegisterHeader, 16 {
        /// [`REGISTER_MAGIC`].
        0 magic: [u8; 4],
        /// [`REGISTER_VERSION`].
        4 version: u16,
        /// 0.
        6 reserved: [u8; 10],
    }
}

crate::layout! {
    /// The fixed part of a client.
    pub struct ClientRecord, 16 {
        /// When it was enrolled first, nanoseconds since 1970-01-01T00:00:00Z.
        0 created_ns: i64,
        /// 1 when it only adds.
        8 append_only: u8,
        /// 0.
        9 reserved: [u8; 7],
    }
}

crate::layout! {
    /// A certificate that a client is known by.
    pub struct CertificateRecord, 40 {
        /// Its digest.
        0 certificate: Digest,
        /// When it expires, nanoseconds since 1970-01-01T00:00:00Z.
        32 expires_ns: i64,
    }
}

crate::layout! {
    /// The fixed part of a token that waits to be used; the client's name follows as a text.
    pub struct TicketRecord, 40 {
        /// The digest of its secret.
        0 secret: Digest,
        /// When it expires, nanoseconds since 1970-01-01T00:00:00Z.
        32 expires_ns: i64,
    }
}

/// A token that waits to be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// The digest of its secret ([`Digest::of_secret`]).
    pub secret: Digest,
    /// When it expires, nanoseconds since 1970-01-01T00:00:00Z.
    pub expires_ns: i64,
    /// Whom it enrols.
    pub client: ClientName,
}

/// See the module documentation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Register {
    /// The clients, by name.
    pub clients: BTreeMap<ClientName, Client>,
    /// The tokens that wait to be used.
    pub tickets: Vec<Ticket>,
}

impl Register {
    /// The client that is known by a certificate.
    pub fn by_certificate(&self, certificate: &Digest) -> Option<&Client> {
        let knows = |client: &&Client| client.certificates.iter().any(|known| known.certificate == *certificate);
        self.clients.values().find(knows)
    }

    /// Who owns a volume.
    pub fn owner(&self, volume: &VolumeName) -> Option<&ClientName> {
        self.clients.values().find(|client| client.owned.contains(volume)).map(|client| &client.name)
    }

    /// Forgets what expired.
    pub fn forget_expired(&mut self, now_ns: i64) {
        self.tickets.retain(|ticket| ticket.expires_ns > now_ns);
        let clients = self.clients.values_mut();
        clients.for_each(|client| client.certificates.retain(|known| known.expires_ns > now_ns));
    }

    /// Why this could not be read again; `Ok` when it can.
    pub fn check(&self) -> Result<()> {
        let list = |field, found: usize, max: u32| check_range(WHAT, field, found as u64, 0, max.into());
        list("clients", self.clients.len(), CLIENTS_MAX)?;
        list("tickets", self.tickets.len(), TICKETS_MAX)?;
        self.clients.values().try_for_each(|client| {
            list("grants", client.grants.len(), GRANTS_MAX)?;
            list("owned", client.owned.len(), OWNED_MAX)?;
            list("certificates", client.certificates.len(), CERTIFICATES_MAX)
        })
    }

    /// The bytes of the file.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        RegisterHeader { magic: REGISTER_MAGIC, version: REGISTER_VERSION, reserved: [0; 10] }.put(&mut out);
        put_list(&mut out, self.clients.len(), self.clients.values(), put_client);
        put_list(&mut out, self.tickets.len(), &self.tickets, put_ticket);
        out.extend([0; 4]);
        seal(&mut out);
        out
    }

    /// Reads the file.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let header = RegisterHeader::get(bytes)?;
        check_magic(WHAT, header.magic, REGISTER_MAGIC)?;
        check_version(WHAT, header.version, REGISTER_VERSION)?;
        let mut reader = Reader::new(WHAT, unseal(WHAT, bytes)?);
        reader.take(RegisterHeader::SIZE)?;
        let clients = reader.list("clients", CLIENTS_MAX, read_client)?;
        let tickets = reader.list("tickets", TICKETS_MAX, read_ticket)?;
        reader.finish()?;
        Ok(Self { clients: by_name(clients)?, tickets })
    }
}

const WHAT: &str = "register of clients";

fn by_name(clients: Vec<Client>) -> Result<BTreeMap<ClientName, Client>> {
    let mut owned = BTreeSet::new();
    let mut all = BTreeMap::new();
    for client in clients {
        if let Some(volume) = client.owned.iter().find(|volume| !owned.insert((*volume).clone())) {
            return Err(FormatError::invalid(WHAT, format!("two clients own volume {volume}")));
        }
        if let Some(other) = all.insert(client.name.clone(), client) {
            return Err(FormatError::invalid(WHAT, format!("client {} is there twice", other.name)));
        }
    }
    Ok(all)
}

fn put_list<T>(out: &mut Vec<u8>, count: usize, items: impl IntoIterator<Item = T>, put: impl Fn(&mut Vec<u8>, T)) {
    (count as u32).put(out);
    items.into_iter().for_each(|item| put(out, item));
}

fn put_client(out: &mut Vec<u8>, client: &Client) {
    ClientRecord { created_ns: client.created_ns, append_only: client.append_only.into(), reserved: [0; 7] }.put(out);
    put_text(out, client.name.as_str());
    put_list(out, client.grants.len(), &client.grants, |out, grant| {
        grant.rights.0.put(out);
        put_text(out, grant.volumes.as_ref().map_or("", |pattern| pattern.as_str()));
    });
    put_list(out, client.owned.len(), &client.owned, |out, volume| put_text(out, volume.as_str()));
    put_list(out, client.certificates.len(), &client.certificates, |out, known| {
        CertificateRecord { certificate: known.certificate, expires_ns: known.expires_ns }.put(out);
    });
}

fn read_client(reader: &mut Reader<'_>) -> Result<Client> {
    let record = reader.layout::<ClientRecord>()?;
    check_range(WHAT, "append only", record.append_only.into(), 0, 1)?;
    Ok(Client {
        name: reader.text("name", CLIENT_NAME_MAX)?.parse()?,
        created_ns: record.created_ns,
        append_only: record.append_only == 1,
        grants: reader.list("grants", GRANTS_MAX, read_grant)?,
        owned: reader.list("owned", OWNED_MAX, |r| r.text("volume", NAME_MAX)?.parse())?.into_iter().collect(),
        certificates: reader.list("certificates", CERTIFICATES_MAX, read_known)?,
    })
}

fn read_grant(reader: &mut Reader<'_>) -> Result<Grant> {
    let rights = Rights::from_wire(reader.field()?)?;
    let pattern = reader.text("pattern", PATTERN_MAX)?;
    Ok(Grant { rights, volumes: if pattern.is_empty() { None } else { Some(pattern.parse()?) } })
}

fn read_known(reader: &mut Reader<'_>) -> Result<Known> {
    let record = reader.layout::<CertificateRecord>()?;
    Ok(Known { certificate: record.certificate, expires_ns: record.expires_ns })
}

fn put_ticket(out: &mut Vec<u8>, ticket: &Ticket) {
    TicketRecord { secret: ticket.secret, expires_ns: ticket.expires_ns }.put(out);
    put_text(out, ticket.client.as_str());
}

fn read_ticket(reader: &mut Reader<'_>) -> Result<Ticket> {
    let record = reader.layout::<TicketRecord>()?;
    let client = reader.text("client", CLIENT_NAME_MAX)?.parse()?;
    Ok(Ticket { secret: record.secret, expires_ns: record.expires_ns, client })
}
