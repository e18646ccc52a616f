//! What an administrator asks about clients, carried out; who asks could write to the pool's directory anyway.

use super::enrol::Granted;
use super::{Access, Peer};
use crate::args::{self, Clients, Enroll, Grant, Revoke, Rotate};
use crate::clock;
use crate::error::{Error, Result};
use crate::upkeep::{Outcome, Told};
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use understudy_format::access::{Client, Right, Rights};
use understudy_format::text::time;

/// What a client may do unless something else is said.
const USUAL: [Right; 3] = [Right::Replicate, Right::Read, Right::Restore];

impl Access {
    /// Carries out a command of `peer`.
    pub fn carry_out(&self, what: &Clients, peer: &Peer, tell: &mut dyn FnMut(Told)) -> Result<Outcome> {
        let mut tell = |text: String, event: Value| tell(Told { text, event });
        match what {
            Clients::Enroll(enroll) => self.tell_token(enroll, &mut tell)?,
            Clients::Clients(_) => self.clients().iter().for_each(|client| tell(text_of(client), json_of(client))),
            Clients::Revoke(revoke) => self.tell_revoked(revoke, &mut tell)?,
            Clients::Grant(grant) => self.tell_granted(grant, &mut tell)?,
            Clients::Rotate(rotate) => self.rotate(rotate, peer, &mut tell)?,
        }
        Ok(Outcome::Done)
    }

    fn tell_token(&self, enroll: &Enroll, tell: &mut dyn FnMut(String, Value)) -> Result<()> {
        let (name, now_ns) = (&enroll.client, clock::now_ns());
        let expires_ns = now_ns.saturating_add(now_ns.saturating_sub(enroll.valid.before(now_ns, &TimeZone::UTC)));
        let granted = granted(&enroll.rights, &USUAL)?;
        let what = format!("a token until {}: {}", time(expires_ns), text_of_grant(&granted));
        self.audit.record("enroll", name, &what)?;
        let token = self.enroll(name, &granted, enroll.append_only, expires_ns)?;
        tell(
            format!(
                "{token}\n{name} may {}; on its host, once, until {}: understudy login HOST --token TOKEN",
                text_of_grant(&granted),
                time(expires_ns)
            ),
            json!({"event": "enrolled", "client": name.as_str(), "token": token.to_string(), "expires": time(expires_ns)}),
        );
        Ok(())
    }

    fn tell_revoked(&self, Revoke { client, .. }: &Revoke, tell: &mut dyn FnMut(String, Value)) -> Result<()> {
        self.revoke(client)?;
        self.audit.record("revoke", client, "nobody is this client any more")?;
        tell(format!("{client} is revoked"), json!({"event": "revoked", "client": client.as_str()}));
        Ok(())
    }

    fn tell_granted(&self, grant: &Grant, tell: &mut dyn FnMut(String, Value)) -> Result<()> {
        let (client, granted) = (&grant.client, granted(&grant.rights, &[])?);
        let verb = if grant.take_back { "take back" } else { "give" };
        self.audit.record("grant", client, &format!("{verb}: {}", text_of_grant(&granted)))?;
        self.grant(client, &granted, grant.take_back)?;
        let now = self.clients().into_iter().find(|known| known.name == *client);
        now.iter().for_each(|client| tell(text_of(client), json_of(client)));
        Ok(())
    }

    fn rotate(&self, rotate: &Rotate, peer: &Peer, tell: &mut dyn FnMut(String, Value)) -> Result<()> {
        let what = match (rotate.authority, rotate.finish) {
            (true, _) => "there is a new authority, and the former one is trusted until `understudyd rotate --finish`",
            (_, true) => "the former authority is trusted no longer",
            _ => "the appliance has another key",
        };
        self.audit.record("rotate", peer, what)?;
        match (rotate.authority, rotate.finish) {
            (true, _) => self.replace_authority(|authority| authority.succeed(clock::now_ns()))?,
            (_, true) => self.replace_authority(|authority| Ok(authority.alone()))?,
            _ => {}
        }
        if self.doors().is_some() {
            self.renew_doors()?;
        }
        tell(what.to_owned(), json!({"event": "rotated", "authority": rotate.authority, "finish": rotate.finish}));
        Ok(())
    }
}

fn granted(rights: &args::ClientRights, usual: &[Right]) -> Result<Granted> {
    let roles = if rights.roles.is_empty() { usual } else { &rights.roles };
    match roles.is_empty() {
        true => Err(Error::refused("no role is named: add --role replicate, read, restore or administer")),
        false => Ok(Granted { rights: roles.iter().copied().collect(), volumes: rights.volumes.clone() }),
    }
}

fn text_of_rights(rights: Rights) -> String {
    rights.iter().map(Right::name).collect::<Vec<_>>().join(", ")
}

fn text_of_grant(granted: &Granted) -> String {
    let names: Vec<_> = granted.volumes.iter().map(|pattern| pattern.as_str()).collect();
    let volumes = if names.is_empty() { "its own volumes".to_owned() } else { format!("volumes {}", names.join(", ")) };
    format!("{} {volumes}", text_of_rights(granted.rights))
}

fn text_of(client: &Client) -> String {
    let lasts = client.certificates.iter().map(|known| known.expires_ns).max();
    let state = lasts.map_or("no certificate".to_owned(), |expires| format!("certificate until {}", time(expires)));
    let only = if client.append_only { ", only adds" } else { "" };
    let mut lines = vec![format!("{}: {state}{only}", client.name)];
    lines.extend(client.grants.iter().map(|grant| {
        let volumes = grant.volumes.as_ref().map_or("its own volumes".into(), |pattern| format!("volumes {pattern}"));
        format!("  {} {volumes}", text_of_rights(grant.rights))
    }));
    let owned: Vec<_> = client.owned.iter().map(|volume| volume.as_str()).collect();
    if !owned.is_empty() {
        lines.push(format!("  owns {}", owned.join(", ")));
    }
    lines.join("\n")
}

fn json_of(client: &Client) -> Value {
    let grants = client.grants.iter().map(|grant| {
        let roles: Vec<_> = grant.rights.iter().map(Right::name).collect();
        json!({"volumes": grant.volumes.as_ref().map(|pattern| pattern.as_str()), "roles": roles})
    });
    let certificates = client
        .certificates
        .iter()
        .map(|known| json!({"digest": known.certificate.to_string(), "expires": time(known.expires_ns)}));
    let owned: Vec<_> = client.owned.iter().map(|volume| volume.as_str()).collect();
    json!({
        "event": "client", "client": client.name.as_str(), "created": time(client.created_ns),
        "append_only": client.append_only, "grants": grants.collect::<Vec<_>>(), "owned": owned,
        "certificates": certificates.collect::<Vec<_>>(),
    })
}
