//! NBD URIs, as libnbd, nbdkit and qemu write them (`doc/uri.md` of `NetworkBlockDevice/nbd`).
//!
//! Invariant: what a URI says is used or refused, never passed over.

use anyhow::{Context, Result, bail};
use percent_encoding::percent_decode_str;
use std::path::PathBuf;
use understudy_format::bitmap::EXPORT_MAX;
use understudy_net::nbd_client::{Address, Server, TlsFiles};

const PORT: u16 = 10809;
const EXPECTED: &str = "expected nbd://HOST[:PORT]/EXPORT or nbd+unix:///EXPORT?socket=PATH (nbds, nbds+unix for TLS)";

/// Where an export is.
#[derive(Debug, Clone)]
pub struct NbdUri {
    /// The server.
    pub server: Server,
    /// The export; empty for the default one.
    pub export: String,
}

/// What stands behind the question mark.
#[derive(Debug, Default)]
struct Query {
    socket: Option<String>,
    certificates: Option<String>,
    hostname: Option<String>,
}

impl NbdUri {
    /// Reads a URI; `None` when the text is none of NBD.
    pub fn parse(text: &str) -> Result<Option<Self>> {
        let Some((scheme, rest)) = text.split_once("://") else { return Ok(None) };
        let (unix, tls) = match scheme {
            "nbd" => (false, false),
            "nbds" => (false, true),
            "nbd+unix" => (true, false),
            "nbds+unix" => (true, true),
            _ if scheme.starts_with("nbd") => bail!("source {text}: {EXPECTED}"),
            _ => return Ok(None),
        };
        Self::parse_rest(rest, unix, tls).with_context(|| format!("source {text}")).map(Some)
    }

    fn parse_rest(rest: &str, unix: bool, tls: bool) -> Result<Self> {
        if rest.len() > EXPORT_MAX / 2 {
            bail!("a URI has at most {} bytes", EXPORT_MAX / 2);
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (export, query) = (decoded(path)?, Query::parse(query)?);
        let address = match (unix, query.socket.as_ref()) {
            (true, Some(socket)) if authority.is_empty() => Address::Unix(PathBuf::from(socket)),
            (false, None) => tcp(authority)?,
            (true, None) => bail!("a URI with +unix has a ?socket=PATH: {EXPECTED}"),
            _ => bail!("a URI has a host, or +unix and a socket: {EXPECTED}"),
        };
        let server = Server { address, tls: query.tls(tls)? };
        Ok(Self { server, export })
    }
}

impl Query {
    fn parse(text: &str) -> Result<Self> {
        let mut query = Self::default();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decoded(value)?;
            match key {
                "socket" => query.socket = Some(value),
                "tls-certificates" => query.certificates = Some(value),
                "tls-hostname" => query.hostname = Some(value),
                "tls-verify-peer" => check_verified(&value)?,
                _ => bail!("{key}: expected socket, tls-certificates, tls-hostname or tls-verify-peer"),
            }
        }
        Ok(query)
    }

    fn tls(self, tls: bool) -> Result<Option<TlsFiles>> {
        let Self { certificates, hostname, .. } = self;
        match (tls, certificates) {
            (true, Some(directory)) => Ok(Some(TlsFiles { directory: PathBuf::from(directory), hostname })),
            (true, None) => bail!("TLS needs ?tls-certificates=DIR, with ca-cert.pem in it"),
            (false, None) if hostname.is_none() => Ok(None),
            (false, _) => bail!("TLS is for nbds:// and nbds+unix://"),
        }
    }
}

fn decoded(text: &str) -> Result<String> {
    let text = percent_decode_str(text).decode_utf8().with_context(|| format!("{text:?}: not UTF-8"))?;
    if text.contains('\0') {
        bail!("{text:?}: has a zero byte");
    }
    Ok(text.into_owned())
}

/// The peer is always verified: one that may be anybody can say anything about a volume.
fn check_verified(text: &str) -> Result<()> {
    match text {
        "1" | "true" | "yes" | "on" => Ok(()),
        _ => bail!(
            "tls-verify-peer={text}: servers are always verified; put what signed its certificate into ca-cert.pem"
        ),
    }
}

/// `[USER@]HOST[:PORT]`; an IPv6 address stands in brackets.
fn tcp(authority: &str) -> Result<Address> {
    if authority.contains('@') {
        bail!("a user in a URI is for pre-shared keys, which are not supported: use certificates");
    }
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, Some(port.strip_prefix(':').context(EXPECTED)?)),
        None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    if host.is_empty() {
        bail!(EXPECTED);
    }
    let port = port.map_or(Ok(PORT), str::parse).with_context(|| format!("{authority}: the port"))?;
    Ok(Address::Tcp { host: decoded(host)?, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> NbdUri {
        NbdUri::parse(text).unwrap().unwrap()
    }

    fn at(host: &str, port: u16) -> Address {
        Address::Tcp { host: host.into(), port }
    }

    #[test]
    fn uris_are_read_as_others_write_them() {
        let table = [
            ("nbd://host", at("host", 10809), ""),
            ("nbd://host/", at("host", 10809), ""),
            ("nbd://host:1/a%20b", at("host", 1), "a b"),
            ("nbd://[::1]:2//x/y", at("::1", 2), "/x/y"),
            ("nbd://[::1]/e", at("::1", 10809), "e"),
            ("nbd+unix:///e?socket=/tmp/a%20b", Address::Unix("/tmp/a b".into()), "e"),
            ("nbd+unix:///?socket=s", Address::Unix("s".into()), ""),
        ];
        for (text, address, export) in table {
            let uri = parse(text);
            assert_eq!((uri.server.address, uri.export.as_str()), (address, export), "{text}");
            assert!(uri.server.tls.is_none());
        }
    }

    #[test]
    fn tls_is_read() {
        let tls = parse("nbds://h/e?tls-certificates=/pki&tls-verify-peer=true").server.tls.unwrap();
        assert_eq!((tls.directory, tls.hostname), ("/pki".into(), None));
        let tls = parse("nbds+unix:///e?socket=s&tls-certificates=p&tls-hostname=box").server.tls.unwrap();
        assert_eq!((tls.directory, tls.hostname.as_deref()), ("p".into(), Some("box")));
    }

    #[test]
    fn what_is_no_uri_of_nbd_is_somebody_elses() {
        for text in ["disk.raw", "/dev/sda", "qemu:/run/q/disk", "https://x/y"] {
            assert!(NbdUri::parse(text).unwrap().is_none(), "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (text, why) in [
            ("nbd+vsock://1/", "expected nbd://"),
            ("nbd:///e", "expected nbd://"),
            ("nbd://h:x/e", "port"),
            ("nbd://h/e?socket=s", "a host, or +unix"),
            ("nbd+unix:///e", "?socket=PATH"),
            ("nbd+unix://h/e?socket=s", "a host, or +unix"),
            ("nbd://h/e?tls-certificates=d", "nbds://"),
            ("nbds://h/e?tls-psk-file=f", "tls-psk-file: expected"),
            ("nbds://h/e?tls-verify-peer=false", "always verified"),
            ("nbds://h/e", "needs ?tls-certificates"),
            ("nbds://user@h/e", "pre-shared"),
            ("nbd://h/%00", "zero byte"),
            ("nbd://h/%ff", "UTF-8"),
        ] {
            let error = format!("{:#}", NbdUri::parse(text).unwrap_err());
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
