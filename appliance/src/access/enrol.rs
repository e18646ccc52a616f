//! How hosts become clients, stay clients, and cease to be.
//!
//! Invariants: a token is gone, durably, before the certificate that it was given for is handed out, so it is good once; a client that
//! renews keeps what it has until that expires, for its other connections; one that is revoked is unknown at once. What happens is in the audit log
//! before anybody is told.

use super::authority::Issued;
use super::{Access, Register};
use crate::clock;
use crate::error::{Error, Result};
use understudy_format::Digest;
use understudy_format::access::register::Ticket;
use understudy_format::access::token::Token;
use understudy_format::access::{Client, ClientName, Known, Pattern, Rights};
use understudy_format::wire::access::{Identity, PublicKey};

/// Rights to some volumes: to those that match the patterns, or without any to the client's own.
#[derive(Debug, Clone)]
pub struct Granted {
    /// The rights.
    pub rights: Rights,
    /// The patterns.
    pub volumes: Vec<Pattern>,
}

impl Granted {
    fn each(&self) -> Vec<Option<Pattern>> {
        match self.volumes.is_empty() {
            true => vec![None],
            false => self.volumes.iter().cloned().map(Some).collect(),
        }
    }
}

impl Access {
    /// A token with which a host becomes this client until `expires_ns`; what is granted is added to what the client has.
    pub fn enroll(&self, name: &ClientName, granted: &Granted, append_only: bool, expires_ns: i64) -> Result<Token> {
        let token = Token { secret: *clock::random_uuid().as_bytes(), authority: self.with_authority(|a| a.digest())? };
        let now_ns = clock::now_ns();
        self.change(|register| {
            register.forget_expired(now_ns);
            let fresh = || Client::new(name.clone(), now_ns);
            let client = register.clients.entry(name.clone()).or_insert_with(fresh);
            client.append_only |= append_only;
            granted.each().into_iter().for_each(|volumes| client.grant(volumes, granted.rights));
            let secret = Digest::of_secret(&token.secret);
            register.tickets.push(Ticket { secret, expires_ns, client: name.clone() });
            Ok(())
        })?;
        Ok(token)
    }

    /// The identity that a token was made for; `from` is where it is asked from.
    pub fn redeem(&self, secret: &[u8; 16], key: &PublicKey, from: &str) -> Result<Identity> {
        let (secret, now_ns) = (Digest::of_secret(secret), clock::now_ns());
        let redeemed = self.change(|register| {
            register.forget_expired(now_ns);
            let at = register.tickets.iter().position(|ticket| ticket.secret == secret).ok_or_else(useless)?;
            let client = register.tickets.swap_remove(at).client;
            self.certify(register, &client, key, now_ns)
        });
        match redeemed {
            Ok(identity) => {
                self.audit.record("login", &identity.client, &format!("from {from}: it has a certificate"))?;
                Ok(identity)
            }
            Err(error) => {
                self.audit.refuse(&from, &format!("login: {error}"));
                Err(error)
            }
        }
    }

    /// Another certificate for a client that is known by this one.
    pub fn renew(&self, client: &ClientName, shown: &Digest, key: &PublicKey) -> Result<Identity> {
        let now_ns = clock::now_ns();
        let identity = self.change(|register| {
            register.forget_expired(now_ns);
            let is_known = register.by_certificate(shown).is_some_and(|known| known.name == *client);
            let revoked = || Error::refused(format!("the certificate of client {client} is good no more"));
            is_known.then_some(()).ok_or_else(revoked)?;
            self.certify(register, client, key, now_ns)
        })?;
        self.audit.record("renew", client, "it has another certificate")?;
        Ok(identity)
    }

    fn certify(&self, register: &mut Register, name: &ClientName, key: &PublicKey, now_ns: i64) -> Result<Identity> {
        let client = register.clients.get_mut(name).ok_or_else(useless)?;
        self.with_authority(|authority| {
            let Issued { pem, digest, expires_ns, renew_ns } = authority.issue_client(name, key, now_ns)?;
            client.certificates.push(Known { certificate: digest, expires_ns });
            let surplus = client.certificates.len().saturating_sub(CERTIFICATES);
            client.certificates.drain(..surplus);
            let authorities = authority.trusted_pem().to_owned();
            Ok(Identity { client: name.clone(), certificate: pem, authorities, renew_ns })
        })
    }

    /// From now on nobody is this client; what it owns and was granted stays, for when it is enrolled again.
    pub fn revoke(&self, name: &ClientName) -> Result<()> {
        self.change(|register| {
            self.client(register, name)?.certificates.clear();
            register.tickets.retain(|ticket| ticket.client != *name);
            Ok(())
        })
    }

    /// Gives a client rights, or takes them back.
    pub fn grant(&self, name: &ClientName, granted: &Granted, take_back: bool) -> Result<()> {
        self.change(|register| {
            let client = self.client(register, name)?;
            granted.each().into_iter().for_each(|volumes| match take_back {
                true => client.take_back(volumes.as_ref(), granted.rights),
                false => client.grant(volumes, granted.rights),
            });
            Ok(())
        })
    }

    fn client<'a>(&self, register: &'a mut Register, name: &ClientName) -> Result<&'a mut Client> {
        register.clients.get_mut(name).ok_or_else(|| {
            Error::refused(format!(
                "there is no client {name}; `understudyd clients` lists them, `understudyd enroll` adds one"
            ))
        })
    }
}

/// Certificates of a client that are good at the same time; the oldest goes when there are more.
const CERTIFICATES: usize = 4;

fn useless() -> Error {
    Error::refused(
        "the token is not known: it was used, has expired, or is of another appliance; `understudyd enroll NAME` prints another one",
    )
}
