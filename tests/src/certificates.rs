//! Certificates for TLS, made by `certtool`: directories with the names that qemu, nbdkit, libnbd and understudyd look for.
//!
//! An [`Authority`] signs; [`Authority::identity`] is a directory with its certificate and a signed pair for one end.

use std::path::{Path, PathBuf};

use crate::args;
use crate::lab::Lab;
use crate::run::tool;

/// Whose certificate it is, and so what it may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A server on this machine.
    Server,
    /// A client.
    Client,
}

impl End {
    fn name(self) -> &'static str {
        match self {
            End::Server => "server",
            End::Client => "client",
        }
    }

    fn template(self) -> &'static str {
        match self {
            End::Server => "cn = \"stage\"\ndns_name = \"localhost\"\nip_address = \"127.0.0.1\"\ntls_www_server\n",
            End::Client => "cn = \"spectator\"\ntls_www_client\n",
        }
    }
}

/// Somebody who signs certificates.
pub struct Authority<'a> {
    lab: &'a Lab,
    dir: PathBuf,
}

impl<'a> Authority<'a> {
    /// A new one, with a key of its own.
    pub fn new(lab: &'a Lab, name: &str) -> Authority<'a> {
        let dir = lab.dir(name);
        key(&dir.join("ca-key.pem"));
        let template =
            lab.write(&format!("{name}.template"), format!("cn = \"{name}\"\nca\ncert_signing_key\ncrl_signing_key\n"));
        let (key, certificate) = (dir.join("ca-key.pem"), dir.join("ca-cert.pem"));
        tool(
            "certtool",
            args!["--generate-self-signed", "--load-privkey", key, "--template", template, "--outfile", certificate],
        );
        Authority { lab, dir }
    }

    /// A directory with this authority's certificate, and a certificate with its key for one end.
    pub fn identity(&self, end: End, name: &str) -> PathBuf {
        self.sign(end, name, "expiration_days = 7\n")
    }

    /// The same, expired long ago.
    pub fn expired(&self, end: End, name: &str) -> PathBuf {
        self.sign(end, name, "activation_date = \"2020-01-01 00:00:00\"\nexpiration_date = \"2021-01-01 00:00:00\"\n")
    }

    /// A directory with this authority's certificate alone.
    pub fn trust(&self, name: &str) -> PathBuf {
        let dir = self.lab.dir(name);
        std::fs::copy(self.dir.join("ca-cert.pem"), dir.join("ca-cert.pem")).expect("a copy of a certificate");
        dir
    }

    /// The list of certificates that it takes back, for the one in `dir`.
    pub fn revoke(&self, end: End, dir: &Path) -> PathBuf {
        let list = self.dir.join("ca-crl.pem");
        let template = self.lab.write("crl.template", "crl_next_update = 7\ncrl_number = 1\n");
        let mut args = args!["--generate-crl", "--load-ca-privkey", self.dir.join("ca-key.pem")];
        args.extend(args!["--load-ca-certificate", self.dir.join("ca-cert.pem"), "--template", template]);
        args.extend(args!["--load-certificate", dir.join(format!("{}-cert.pem", end.name())), "--outfile", &list]);
        tool("certtool", args);
        list
    }

    fn sign(&self, end: End, name: &str, validity: &str) -> PathBuf {
        let dir = self.trust(name);
        let (private, signed) =
            (dir.join(format!("{}-key.pem", end.name())), dir.join(format!("{}-cert.pem", end.name())));
        key(&private);
        let template = format!("{}signing_key\nencryption_key\n{validity}", end.template());
        let template = self.lab.write(&format!("{name}.template"), template);
        let mut args = args!["--generate-certificate", "--load-privkey", private, "--template", template];
        args.extend(args!["--load-ca-certificate", self.dir.join("ca-cert.pem")]);
        args.extend(args!["--load-ca-privkey", self.dir.join("ca-key.pem"), "--outfile", signed]);
        tool("certtool", args);
        dir
    }
}

fn key(path: &Path) {
    tool("certtool", args!["--generate-privkey", "--key-type=rsa", "--bits=2048", "--outfile", path]);
}
