//! The messages with which a host becomes a client, and stays one: a token and a public key against a certificate.
//!
//! What would be a certificate signing request is a bare key: who is named in the certificate is the appliance's to say, and that the
//! asker has the private half shows in its first handshake, before the certificate is of any use. Invariants: a key is an uncompressed
//! point of P-256; certificates are PEM, as they are written to files.

use super::{ENROL, IDENTITY, Message, RENEW, TEXT_MAX};
use crate::access::{CLIENT_NAME_MAX, ClientName};
use crate::error::Result;
use crate::layout::{Field, Reader, check_range, put_text};

/// A public key: an uncompressed point of P-256.
pub type PublicKey = [u8; 65];

/// What a client gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Who it is.
    pub client: ClientName,
    /// Its certificate, PEM.
    pub certificate: String,
    /// The certificates of the authorities that it trusts from now on, and no others, PEM.
    pub authorities: String,
    /// When it is time to ask for another certificate, nanoseconds since 1970-01-01T00:00:00Z.
    pub renew_ns: i64,
}

pub(super) fn put(message: &Message, out: &mut Vec<u8>) {
    match message {
        Message::Enrol { secret, key } => {
            secret.put(out);
            key.put(out);
        }
        Message::Renew { key } => key.put(out),
        Message::Identity(identity) => {
            put_text(out, identity.client.as_str());
            put_text(out, &identity.certificate);
            put_text(out, &identity.authorities);
            identity.renew_ns.put(out);
        }
        _ => unreachable!("other messages have other modules"),
    }
}

pub(super) fn read(tag: [u8; 4], r: &mut Reader<'_>) -> Result<Message> {
    Ok(match tag {
        ENROL => Message::Enrol { secret: r.field()?, key: read_key("Enrol", r)? },
        RENEW => Message::Renew { key: read_key("Renew", r)? },
        IDENTITY => Message::Identity(Identity {
            client: r.text("client", CLIENT_NAME_MAX)?.parse()?,
            certificate: r.text("certificate", TEXT_MAX)?,
            authorities: r.text("authorities", 4 * TEXT_MAX)?,
            renew_ns: r.field()?,
        }),
        _ => unreachable!("the caller looked the tag up"),
    })
}

fn read_key(what: &'static str, r: &mut Reader<'_>) -> Result<PublicKey> {
    let key: PublicKey = r.field()?;
    check_range(what, "form of the key", key[0].into(), 4, 4)?;
    Ok(key)
}
