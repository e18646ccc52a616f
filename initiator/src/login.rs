//! `understudy login`: how this host becomes a client of an appliance.
//!
//! Invariants: the key is made here and stays here; the appliance is trusted by what the token says, before anything is sent to
//! it; nothing is stored unless all of it came.

use crate::args::Login;
use crate::connection::{Appliance, open};
use crate::identity::{Identity, public};
use crate::list::print;
use crate::outcome::Outcome;
use anyhow::{Context, Result, bail};
use rcgen::KeyPair;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;
use understudy_format::access::token::Token;
use understudy_format::wire::Message;
use understudy_format::wire::access::Identity as Issued;
use understudy_net::tls::{APPLIANCE, pinned_client};

/// Becomes a client, or renews what it is.
pub async fn run(args: &Login) -> Result<Outcome> {
    let appliance = args.appliance();
    let dir = appliance.identity();
    let Some(token) = &args.token else {
        let identity = Identity::find(&dir)?;
        let identity =
            identity.with_context(|| format!("{} does not exist: login with a token first", dir.display()))?;
        identity.renew(&mut Appliance::connect(&appliance).await?).await?;
        return print(&format!("the certificate in {} is a new one", dir.display()));
    };
    let token: Token = read(token)?.parse()?;
    let key = KeyPair::generate()?;
    let issued = enrol(&args.address, &token, &key).await?;
    Identity::create(&dir, &key, &issued)?;
    print(&format!("this host is {} to {}; its certificate is in {}", issued.client, args.address, dir.display()))
}

fn read(token: &str) -> Result<String> {
    match token {
        "-" => std::io::read_to_string(std::io::stdin()).context("standard input"),
        token => Ok(token.to_owned()),
    }
}

async fn enrol(address: &str, token: &Token, key: &KeyPair) -> Result<Issued> {
    let connector = TlsConnector::from(pinned_client(token.authority)?);
    let stream = connector.connect(ServerName::try_from(APPLIANCE)?, open(address).await?).await;
    let stream = stream
        .with_context(|| format!("appliance {address}: it is not the one that the token is of, or has no TLS"))?;
    let (from, to) = tokio::io::split(stream);
    let mut appliance = Appliance::greet(address, Box::new(from), Box::new(to)).await?;
    let request = Message::Enrol { secret: token.secret, key: public(key)? };
    match appliance.ask(&request, "Identity").await? {
        Message::Identity(issued) => Ok(issued),
        other => bail!(appliance.unexpected("Identity", &other)),
    }
}
