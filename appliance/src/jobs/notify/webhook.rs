//! Posting a notice to a webhook, over HTTP or HTTPS.
//!
//! Invariants: whoever answers is known by a certificate of the system's authorities, or of those in the file that the configuration names; no
//! redirection is followed, so a token goes where the configuration says and nowhere else; files are read when they are needed, so what is in
//! them may change.

use crate::config::Notify;
use std::path::Path;
use std::sync::Arc;
use ureq::Agent;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// Posts `message`, which is JSON, on a thread of its own; an answer other than success is a failure.
pub(super) async fn post(notify: &Notify, message: String) -> Result<(), String> {
    let notify = notify.clone();
    let posting = tokio::task::spawn_blocking(move || send(&notify, &message));
    posting.await.map_err(|error| error.to_string())?
}

fn send(notify: &Notify, message: &str) -> Result<(), String> {
    let Some(url) = &notify.webhook else { return Ok(()) };
    let tls = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(roots(notify, url)?);
    let config =
        Agent::config_builder().timeout_global(Some(notify.timeout)).max_redirects(0).tls_config(tls.build()).build();
    let mut request = config.new_agent().post(url).content_type("application/json");
    if let Some(file) = &notify.token_file {
        let token = String::from_utf8(read(file)?).map_err(|_| format!("{}: not UTF-8", file.display()))?;
        request = request.header("Authorization", format!("Bearer {}", token.trim()));
    }
    let answer = request.send(message).map_err(|error| format!("{url}: {error}"))?;
    if answer.status().is_success() { Ok(()) } else { Err(format!("{url}: {}", answer.status())) }
}

/// Who vouches for the webhook.
fn roots(notify: &Notify, url: &str) -> Result<RootCerts, String> {
    let certificates: Vec<Certificate<'static>> = match &notify.ca_file {
        _ if !url.starts_with("https:") => Vec::new(),
        Some(file) => parse_pem(&read(file)?).filter_map(Result::ok).filter_map(certificate).collect(),
        None => {
            let found = rustls_native_certs::load_native_certs();
            found.certs.iter().map(|der| Certificate::from_der(der).to_owned()).collect()
        }
    };
    match (certificates.is_empty() && url.starts_with("https:"), &notify.ca_file) {
        (true, Some(file)) => Err(format!("{} has no certificate: expected some in PEM", file.display())),
        (true, None) => {
            Err("the system has no certificates of authorities: install them, or set notify.webhook-ca-file".to_owned())
        }
        (false, _) => Ok(RootCerts::new_with_certs(&certificates)),
    }
}

fn certificate(item: PemItem<'static>) -> Option<Certificate<'static>> {
    match item {
        PemItem::Certificate(certificate) => Some(certificate),
        _ => None,
    }
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))
}
