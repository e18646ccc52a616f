//! Arguments of the commands about clients.

use super::Place;
use crate::access::{ClientName, Right};
use crate::retention::age::Age;
use clap::{Args, Subcommand};
use understudy_format::access::Pattern;

/// Who may use a pool: by the daemon that has it open, or here when there is none.
#[derive(Debug, Subcommand)]
pub enum Clients {
    /// Print a token with which a host becomes a client, once: `understudy login HOST --token TOKEN`.
    Enroll(Enroll),
    /// List the clients, what they may do and what they own.
    Clients(ClientsList),
    /// Let nobody be this client any more: its connections end at once.
    Revoke(Revoke),
    /// Give a client rights, or take them back.
    Grant(Grant),
    /// Make another key and certificate for the appliance, or another authority.
    Rotate(Rotate),
}

impl Clients {
    /// Where.
    pub fn place(&self) -> &Place {
        match self {
            Self::Enroll(Enroll { place, .. })
            | Self::Clients(ClientsList { place })
            | Self::Revoke(Revoke { place, .. })
            | Self::Grant(Grant { place, .. })
            | Self::Rotate(Rotate { place, .. }) => place,
        }
    }
}

/// Rights, and to which volumes.
#[derive(Debug, Args)]
pub struct Rights {
    /// What it may do: replicate, read, restore or administer; may be given several times.
    #[arg(long = "role", value_name = "ROLE")]
    pub roles: Vec<Right>,
    /// With volumes of these names (`*` stands for any characters), instead of those that it creates; may be given several times.
    #[arg(long = "volume", value_name = "PATTERN")]
    pub volumes: Vec<Pattern>,
}

/// Arguments of `enroll`.
#[derive(Debug, Args)]
pub struct Enroll {
    /// Where.
    #[command(flatten)]
    pub place: Place,
    /// The client; one that is there already gets what is given besides, and another certificate.
    #[arg(value_name = "NAME")]
    pub client: ClientName,
    /// What it may do [default: replicate, read and restore].
    #[command(flatten)]
    pub rights: Rights,
    /// It only adds: nothing that it asks for takes away what is kept.
    #[arg(long)]
    pub append_only: bool,
    /// How long the token is good (1h, 30min, 7d).
    #[arg(long, value_name = "AGE", default_value = "1h")]
    pub valid: Age,
}

/// Arguments of `clients`.
#[derive(Debug, Args)]
pub struct ClientsList {
    /// Where.
    #[command(flatten)]
    pub place: Place,
}

/// Arguments of `revoke`.
#[derive(Debug, Args)]
pub struct Revoke {
    /// Where.
    #[command(flatten)]
    pub place: Place,
    /// The client.
    #[arg(value_name = "NAME")]
    pub client: ClientName,
}

/// Arguments of `grant`.
#[derive(Debug, Args)]
pub struct Grant {
    /// Where.
    #[command(flatten)]
    pub place: Place,
    /// The client.
    #[arg(value_name = "NAME")]
    pub client: ClientName,
    /// What is given.
    #[command(flatten)]
    pub rights: Rights,
    /// Take it back instead; say the same pattern with which it was given.
    #[arg(long)]
    pub take_back: bool,
}

/// Arguments of `rotate`.
#[derive(Debug, Args)]
pub struct Rotate {
    /// Where.
    #[command(flatten)]
    pub place: Place,
    /// Another authority: both are trusted until `rotate --finish`; clients take over the new one as they connect.
    #[arg(long, conflicts_with = "finish")]
    pub authority: bool,
    /// Trust the former authority no longer.
    #[arg(long)]
    pub finish: bool,
}
