//! `understudy promote` and `demote`: which side of a volume is written to. The way back is [`crate::tap::failback`].
//!
//! Invariant: nothing is decided here: the appliance says what there is to attach, or why it may not be.

use crate::args::{Demote, Promote};
use crate::connection::Appliance;
use crate::outcome::Outcome;
use crate::report::{Lines, Report};
use crate::text;
use crate::verify::nbd_address;
use anyhow::Result;
use serde_json::json;
use understudy_format::wire::{Failover, Message, Tap};

/// `understudy promote`.
pub async fn promote(args: &Promote) -> Result<Outcome> {
    let mut appliance = Appliance::connect(&args.appliance).await?;
    let asked = Failover::Promote { name: args.name.clone(), force: args.force };
    let (point, generation, at_ns) = match ask(&mut appliance, asked, "Promoted").await? {
        Message::Failover(Failover::Promoted { point, generation, at_ns, .. }) => (point, generation, at_ns),
        other => return Err(appliance.unexpected("Promoted", &other)),
    };
    let (name, since) = (&args.name, text::time(at_ns));
    let export = format!("{name}@{point}+w");
    let uri = uri(&appliance, &export);
    let served =
        uri.as_ref().map_or("the appliance does not serve NBD: start understudyd with --nbd".into(), Clone::clone);
    let line = format!(
        "{name} is promoted since {since} (generation {generation}): it is written to at the appliance, from point {point} on\n\
         attach: {served}\n        understudy attach {name}@{point} --rw\n\
         back:   understudy failback {name} VOLUME-PATH, at the primary's host; understudy demote {name} --discard gives it up"
    );
    let event = json!({
        "event": "promoted", "volume": name.as_str(), "point": point, "generation": generation, "since": since,
        "export": export, "uri": uri,
    });
    Report::new(args.json, Lines::Output).tell(event, &line);
    Ok(Outcome::Done)
}

/// `understudy demote`.
pub async fn demote(args: &Demote) -> Result<Outcome> {
    let mut appliance = Appliance::connect(&args.appliance).await?;
    let generation = match ask(&mut appliance, Failover::Demote { name: args.name.clone() }, "Following").await? {
        Message::Tap(Tap::Following { generation, .. }) => generation,
        other => return Err(appliance.unexpected("Following", &other)),
    };
    let name = &args.name;
    let line = format!(
        "{name} is written to at its primary (generation {generation}); what was written at the appliance since a promotion is gone"
    );
    let event = json!({"event": "demoted", "volume": name.as_str(), "generation": generation});
    Report::new(args.json, Lines::Output).tell(event, &line);
    Ok(Outcome::Done)
}

/// Asks, and waits as long as it takes: a journal is folded, or an overlay stored.
pub(crate) async fn ask(appliance: &mut Appliance, asked: Failover, expected: &'static str) -> Result<Message> {
    appliance.send(&asked.into()).await?;
    appliance.next(expected).await
}

fn uri(appliance: &Appliance, export: &str) -> Option<String> {
    let address = nbd_address(&appliance.nbd, &appliance.address).ok()?;
    let scheme = if appliance.certificates.as_os_str().is_empty() { "nbd" } else { "nbds" };
    Some(format!("{scheme}://{address}/{export}"))
}
