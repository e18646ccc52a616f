//! `understudy attach overlays`, `keep` and `discard`: what the appliance is asked about scratch overlays.
//!
//! Invariant: an overlay is named by the point that it is over; what is destroyed was named, and forced when it held anything.

use crate::args::{Discard, Keep, Overlays};
use crate::connection::Appliance;
use crate::list;
use crate::outcome::Outcome;
use crate::report::{Lines, Report};
use crate::text;
use anyhow::Result;
use serde_json::{Value, json};
use understudy_format::point::Point;
use understudy_format::wire::{Message, OverlayInfo};

/// `understudy attach overlays`.
pub async fn list(args: &Overlays) -> Result<Outcome> {
    let mut appliance = Appliance::connect(&args.appliance).await?;
    let overlays = ask_overlays(&mut appliance, &Message::ListOverlays).await?;
    let rows: Vec<Vec<String>> = overlays.iter().map(row).collect();
    list::print(&match args.json {
        true => Value::Array(overlays.iter().map(to_json).collect()).to_string(),
        false => text::table(&["OVERLAY", ">SIZE", ">WRITTEN", ">CONNECTIONS", "CREATED", "STATE"], &rows),
    })
}

/// `understudy attach keep`.
pub async fn keep(args: &Keep) -> Result<Outcome> {
    let mut appliance = Appliance::connect(&args.appliance).await?;
    let point = appliance.find(&args.point).await?;
    let (name, label) = (args.name.clone(), args.label.clone());
    // It takes as long as what was written takes to be read and stored.
    appliance.send(&Message::Keep { volume: point.volume, point: point.number, name, label }).await?;
    let kept = match appliance.next("Stored").await? {
        Message::Stored(kept) => kept,
        other => return Err(appliance.unexpected("Stored", &other)),
    };
    let (new, old) = (format!("{}@{}", args.name, kept.number), format!("{}@{}", args.point.volume, point.number));
    let Point { changed_blocks, stored_bytes, new_bytes, .. } = kept;
    let line = format!(
        "{new} is what {old}+w was: {changed_blocks} blocks of it are its own, {} stored\nroot:   {}\n\
         the overlay stays; `understudy attach discard {old} --force` gives its space back",
        text::bytes(stored_bytes),
        kept.map.root()
    );
    let event = json!({
        "event": "kept", "volume": args.name.as_str(), "point": kept.number, "root": kept.map.root().to_string(),
        "changed_blocks": changed_blocks, "stored_bytes": stored_bytes, "new_bytes": new_bytes,
    });
    Report::new(args.json, Lines::Output).tell(event, &line);
    Ok(Outcome::Done)
}

/// `understudy attach discard`.
pub async fn discard(args: &Discard) -> Result<Outcome> {
    let mut appliance = Appliance::connect(&args.appliance).await?;
    let point = appliance.find(&args.point).await?;
    let request = Message::Discard { volume: point.volume, point: point.number, force: args.force };
    let mut report = Report::new(args.json, Lines::Output);
    for gone in ask_overlays(&mut appliance, &request).await? {
        let (name, bytes) = (full_name(&gone), gone.status.owned_bytes);
        let line = format!("{name} is discarded: {} that were written", text::bytes(bytes));
        report.tell(json!({"event": "discarded", "overlay": name, "written_bytes": bytes}), &line);
    }
    Ok(Outcome::Done)
}

async fn ask_overlays(appliance: &mut Appliance, request: &Message) -> Result<Vec<OverlayInfo>> {
    match appliance.ask(request, "Overlays").await? {
        Message::Overlays(overlays) => Ok(overlays),
        other => Err(appliance.unexpected("Overlays", &other)),
    }
}

fn full_name(OverlayInfo { name, status }: &OverlayInfo) -> String {
    format!("{name}@{}+w", status.point)
}

fn state(info: &OverlayInfo) -> &'static str {
    match info.status {
        status if status.damaged != 0 => "damaged",
        status if status.connections > 0 => "in use",
        _ => "at rest",
    }
}

fn row(info: &OverlayInfo) -> Vec<String> {
    let status = &info.status;
    vec![
        full_name(info),
        text::bytes(status.volume_size),
        text::bytes(status.owned_bytes),
        status.connections.to_string(),
        text::time(status.created_ns),
        state(info).to_owned(),
    ]
}

fn to_json(info: &OverlayInfo) -> Value {
    let status = &info.status;
    json!({
        "overlay": full_name(info), "volume": info.name.as_str(), "point": status.point, "size": status.volume_size,
        "written_bytes": status.owned_bytes, "connections": status.connections,
        "created": text::time(status.created_ns), "state": state(info),
    })
}
