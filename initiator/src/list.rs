//! `understudy volumes`, and `understudy points`: those of a volume, or the moments between them.

use crate::args::{Points, Volumes};
use crate::connection::{Appliance, Listing};
use crate::outcome::Outcome;
use crate::text;
use anyhow::{Result, bail};
use serde_json::{Value, json};
use std::io::{self, Write};
use understudy_format::Digest;
use understudy_format::point::{Label, Point};
use understudy_format::wire::{Moment, VolumeInfo};

/// Moments that are listed when nobody says how many.
const MOMENTS_DEFAULT: u32 = 100;

/// `understudy volumes`.
pub async fn volumes(args: &Volumes) -> Result<Outcome> {
    let mut appliance = Appliance::connect(&args.appliance).await?;
    let volumes = appliance.volumes().await?;
    match args.json {
        true => print(&json(volumes.iter().map(volume_json))),
        false => print(&volume_table(&volumes)),
    }
}

/// `understudy points`.
pub async fn points(args: &Points) -> Result<Outcome> {
    let mut appliance = Appliance::connect(&args.appliance).await?;
    if args.moments {
        return moments(args, &mut appliance).await;
    }
    let Some(listing) = appliance.points(&args.name, args.newest.unwrap_or(u32::MAX)).await? else {
        bail!("volume {}: the appliance {} has no such volume (see `understudy volumes`)", args.name, appliance.address)
    };
    match args.json {
        true => print(&json(listing.points.iter().map(|point| point_json(point, &listing)))),
        false => print(&point_table(&listing)),
    }
}

async fn moments(args: &Points, appliance: &mut Appliance) -> Result<Outcome> {
    let newest = args.newest.unwrap_or(MOMENTS_DEFAULT);
    let (from_ns, to_ns) = (args.since.unwrap_or(i64::MIN), args.until.unwrap_or(i64::MAX));
    let moments = appliance.moments(&args.name, from_ns, to_ns, newest).await?;
    match args.json {
        true => print(&json(moments.iter().map(moment_json))),
        false => {
            let rows: Vec<Vec<String>> = moments.iter().map(moment_row).collect();
            print(&text::table(&["TIME", ">AFTER", ">ENTRY"], &rows))
        }
    }
}

fn moment_json(moment: &Moment) -> Value {
    json!({"time": text::exact_time(moment.time_ns), "point": moment.point, "entry": moment.sequence})
}

fn moment_row(moment: &Moment) -> Vec<String> {
    vec![text::exact_time(moment.time_ns), format!("@{}", moment.point), moment.sequence.to_string()]
}

fn json(rows: impl Iterator<Item = Value>) -> String {
    Value::Array(rows.collect()).to_string()
}

/// Whoever closed the pipe (`| head`) has seen enough.
pub fn print(text: &str) -> Result<Outcome> {
    match writeln!(io::stdout(), "{text}") {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(e.into()),
        _ => Ok(Outcome::Done),
    }
}

fn mode(info: &VolumeInfo) -> &'static str {
    match info.status.secondary_mode {
        0 => "none",
        1 => "native",
        _ => "device",
    }
}

fn state(info: &VolumeInfo) -> &'static str {
    match info.status.settled_root == info.status.newest_root {
        _ if info.status.secondary_mode == 0 => "none",
        true => "settled",
        false => "behind",
    }
}

fn digest_json(digest: &Digest) -> Value {
    if digest.is_zero() { Value::Null } else { digest.to_string().into() }
}

fn volume_json(info: &VolumeInfo) -> Value {
    let VolumeInfo { volume, status } = info;
    json!({
        "name": volume.name.as_str(), "uuid": volume.uuid.to_string(), "size": status.size,
        "block_size": volume.block_size.bytes(), "points": status.points, "newest": status.newest,
        "newest_root": digest_json(&status.newest_root), "created": text::time(volume.created_ns),
        "secondary": {
            "mode": mode(info), "settled_root": digest_json(&status.settled_root), "state": state(info),
            "behind_blocks": status.behind_blocks,
        },
    })
}

fn volume_table(volumes: &[VolumeInfo]) -> String {
    let rows: Vec<Vec<String>> = volumes.iter().map(volume_row).collect();
    text::table(&["NAME", ">SIZE", ">BLOCK", ">POINTS", ">NEWEST", "ROOT", "SECONDARY"], &rows)
}

fn volume_row(info: &VolumeInfo) -> Vec<String> {
    let VolumeInfo { volume, status } = info;
    let secondary = match (mode(info), state(info)) {
        ("none", _) => "none".to_owned(),
        (mode, "behind") => format!("{mode}, {} blocks behind", status.behind_blocks),
        (mode, state) => format!("{mode}, {state}"),
    };
    vec![
        volume.name.to_string(),
        text::bytes(status.size),
        volume.block_size.to_string(),
        status.points.to_string(),
        status.newest.to_string(),
        text::digest(&status.newest_root),
        secondary,
    ]
}

fn kind(point: &Point) -> &'static str {
    if point.base.is_some() { "incremental" } else { "full" }
}

fn point_json(point: &Point, listing: &Listing) -> Value {
    json!({
        "point": point.number, "time": text::exact_time(point.created_ns), "label": point.label.as_ref().map(Label::as_str),
        "kind": kind(point), "base": point.base, "size": point.map.geometry.volume_size(),
        "root": point.map.root().to_string(), "changed_blocks": point.changed_blocks,
        "stored_bytes": point.stored_bytes, "new_bytes": point.new_bytes, "protected": is_protected(point, listing),
    })
}

fn is_protected(point: &Point, listing: &Listing) -> bool {
    listing.protected.contains(&point.number)
}

fn point_table(listing: &Listing) -> String {
    let rows: Vec<Vec<String>> = listing.points.iter().map(|point| point_row(point, listing)).collect();
    text::table(
        &[">POINT", "TIME", "KIND", ">SIZE", ">CHANGED", ">NEW", ">STORED", "ROOT", "PROTECTED", "LABEL"],
        &rows,
    )
}

fn point_row(point: &Point, listing: &Listing) -> Vec<String> {
    let kind = point.base.map_or(kind(point).to_owned(), |base| format!("incremental on {base}"));
    vec![
        point.number.to_string(),
        text::time(point.created_ns),
        kind,
        text::bytes(point.map.geometry.volume_size()),
        point.changed_blocks.to_string(),
        text::bytes(point.new_bytes),
        text::bytes(point.stored_bytes),
        point.map.root().short(),
        if is_protected(point, listing) { "yes".into() } else { "-".into() },
        point.label.as_ref().map_or(String::new(), |label| label.as_str().to_owned()),
    ]
}
