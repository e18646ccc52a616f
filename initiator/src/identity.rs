//! Who this host is to an appliance: a key that never leaves it, the appliance's certificate for that, and whom to trust.
//!
//! The files have qemu's names, so what speaks `nbds://` takes the directory as it is. Invariants: the key is readable by its
//! owner alone; a certificate is replaced as a whole, for the same key; a directory in which something is missing is an error, never taken for
//! no identity, for then a connection would not be encrypted.

use crate::clock;
use crate::connection::Appliance;
use anyhow::{Context, Result, anyhow, bail};
use rcgen::KeyPair;
use rustls::pki_types::ServerName;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use understudy_format::wire::Message;
use understudy_format::wire::access::{Identity as Issued, PublicKey};
use understudy_net::NetError;
use understudy_net::tls::{self, APPLIANCE};

const AUTHORITIES: &str = "ca-cert.pem";
const CERTIFICATE: &str = "client-cert.pem";
const KEY: &str = "client-key.pem";
/// When another certificate is due, nanoseconds since 1970-01-01T00:00:00Z as a decimal number.
const RENEW: &str = "renew-after";

/// See the module documentation.
#[derive(Debug)]
pub struct Identity {
    dir: PathBuf,
}

impl Identity {
    /// What is in a directory; nothing when there is none.
    pub fn find(dir: &Path) -> Result<Option<Self>> {
        match dir.symlink_metadata() {
            Ok(_) => Ok(Some(Self { dir: dir.to_owned() })),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| dir.display().to_string()),
        }
    }

    /// Where it is, as the certificates of an NBD client.
    pub fn directory(&self) -> &Path {
        &self.dir
    }

    /// Shakes hands over a connection, to speak `protocol`; and whether it is time for another certificate.
    pub async fn encrypt(
        &self,
        stream: TcpStream,
        address: &str,
        protocol: &[u8],
    ) -> Result<(TlsStream<TcpStream>, bool)> {
        let connector = TlsConnector::from(tls::appliance_client(&self.dir, protocol)?);
        let stream = connector.connect(ServerName::try_from(APPLIANCE)?, stream).await;
        let stream = stream.map_err(not_shaken).with_context(|| {
            format!("appliance {address}: TLS, as the client in {} (see `understudy login --help`)", self.dir.display())
        })?;
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let knows = tls::knows_authorities(&self.dir, chain)?;
        Ok((stream, !knows || self.is_old()))
    }

    fn is_old(&self) -> bool {
        let text = std::fs::read_to_string(self.dir.join(RENEW)).unwrap_or_default();
        text.trim().parse().is_ok_and(|due: i64| clock::now_ns() >= due)
    }

    /// Takes over another certificate over a session.
    pub async fn renew(&self, appliance: &mut Appliance) -> Result<()> {
        let path = self.dir.join(KEY);
        let pem = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let key = KeyPair::from_pem(&pem).with_context(|| format!("{}: expected a private key", path.display()))?;
        match appliance.ask(&Message::Renew { key: public(&key)? }, "Identity").await? {
            Message::Identity(issued) => self.store(&issued),
            other => Err(appliance.unexpected("Identity", &other)),
        }
    }

    /// Stores what was issued for `key`, which is new; what was in the directory before stays until all of it is there.
    pub fn create(dir: &Path, key: &KeyPair, issued: &Issued) -> Result<Self> {
        let context = || dir.display().to_string();
        let mut new = dir.as_os_str().to_owned();
        new.push(".new");
        let fresh = Self { dir: new.into() };
        remove(&fresh.dir)?;
        DirBuilder::new().recursive(true).mode(0o700).create(&fresh.dir).with_context(context)?;
        write(&fresh.dir.join(KEY), &key.serialize_pem())?;
        fresh.store(issued)?;
        remove(dir)?;
        std::fs::rename(&fresh.dir, dir).with_context(context)?;
        Ok(Self { dir: dir.to_owned() })
    }

    fn store(&self, issued: &Issued) -> Result<()> {
        replace(&self.dir.join(AUTHORITIES), &issued.authorities)?;
        replace(&self.dir.join(CERTIFICATE), &issued.certificate)?;
        replace(&self.dir.join(RENEW), &issued.renew_ns.to_string())
    }
}

/// The public half of a key.
pub fn public(key: &KeyPair) -> Result<PublicKey> {
    key.public_key_raw().try_into().map_err(|_| anyhow!("the key is none of P-256; `understudy login` makes one"))
}

/// Removes an identity, and nothing else.
fn remove(dir: &Path) -> Result<()> {
    for name in [KEY, AUTHORITIES, CERTIFICATE, RENEW] {
        gone(std::fs::remove_file(dir.join(name)), dir)?;
    }
    match std::fs::remove_dir(dir) {
        Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {
            bail!("{} has other files in it; name an empty directory", dir.display())
        }
        removed => gone(removed, dir),
    }
}

fn gone(removed: io::Result<()>, dir: &Path) -> Result<()> {
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error).with_context(|| dir.display().to_string()),
        _ => Ok(()),
    }
}

fn replace(path: &Path, text: &str) -> Result<()> {
    let new = path.with_extension("new");
    gone(std::fs::remove_file(&new), path)?;
    write(&new, text)?;
    std::fs::rename(&new, path).with_context(|| path.display().to_string())
}

/// Writes a file that its owner alone can read, durably.
fn write(path: &Path, text: &str) -> Result<()> {
    let open = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let write = |mut file: File| file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    open().and_then(write).with_context(|| path.display().to_string())
}
/// Why hands were not shaken: that a connection was cut meanwhile is nobody's refusal, and another one may help.
fn not_shaken(error: io::Error) -> anyhow::Error {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    match error.kind() {
        BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof => NetError::Io(error).into(),
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retry::may_help;

    #[test]
    fn hands_that_were_cut_off_are_shaken_again_and_a_stranger_is_not_asked_twice() {
        for (kind, again) in [
            (ErrorKind::ConnectionReset, true),
            (ErrorKind::UnexpectedEof, true),
            (ErrorKind::InvalidData, false),
            (ErrorKind::PermissionDenied, false),
        ] {
            let error = not_shaken(io::Error::from(kind)).context("TLS");
            assert_eq!(may_help(&error), again, "{kind}");
        }
    }
}
