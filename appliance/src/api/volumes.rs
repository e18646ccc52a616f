//! Volumes and their points, and where a point is exported.

use super::context::Context;
use super::input::InPath;
use super::problem::Problem;
use crate::access::Right;
use crate::error::Result;
use crate::moments::{self, Opened};
use crate::pool::VolumeEntry;
use crate::retention::policy::Policy;
use crate::upkeep::show_mode;
use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use std::sync::Arc;
use understudy_format::Digest;
use understudy_format::catalogue::SecondaryMode;
use understudy_format::point::{Label, Point, VolumeName};
use understudy_format::select::PointName;
use understudy_format::text;

/// `GET /v1/volumes`.
pub(super) async fn list(State(context): State<Context>) -> Result<Json<Value>, Problem> {
    context
        .ask(|context| {
            let volumes = context.daemon.pool.volumes();
            let seen = volumes.iter().filter(|entry| context.sees(&entry.volume.name));
            Ok(Json(seen.map(|entry| volume_json(context, entry)).collect::<Result<Vec<_>>>()?.into()))
        })
        .await
}

/// `GET /v1/volumes/{volume}`.
pub(super) async fn one(
    State(context): State<Context>,
    InPath(volume): InPath<String>,
) -> Result<Json<Value>, Problem> {
    context
        .ask(move |context| {
            let entry = context.volume(&volume)?;
            Ok(Json(volume_json(context, &entry)?))
        })
        .await
}

/// `GET /v1/volumes/{volume}/points`.
pub(super) async fn points(
    State(context): State<Context>,
    InPath(volume): InPath<String>,
) -> Result<Json<Value>, Problem> {
    context
        .ask(move |context| {
            let entry = context.volume(&volume)?;
            Ok(Json(entry.points.iter().map(|point| point_json(context, &entry, point)).collect()))
        })
        .await
}

/// `GET /v1/volumes/{volume}/points/{point}`.
pub(super) async fn point(
    State(context): State<Context>,
    InPath((volume, point)): InPath<(String, String)>,
) -> Result<Json<Value>, Problem> {
    context
        .ask(move |context| {
            let (entry, opened) = context.point(&volume, &point)?;
            Ok(Json(point_json(context, &entry, &opened.point)))
        })
        .await
}

/// `GET /v1/volumes/{volume}/points/{point}/attach`.
pub(super) async fn attach(
    State(context): State<Context>,
    InPath((volume, point)): InPath<(String, String)>,
) -> Result<Json<Value>, Problem> {
    context
        .ask(move |context| {
            let (entry, Opened { point, .. }) = context.point(&volume, &point)?;
            context.may(Right::Read, Some(&entry.volume.name))?;
            let export = PointName::of(&entry.volume.name, &point).to_string();
            let uri = context.daemon.nbd.uri(&export);
            let overlay = |name: &str| (!point.is_moment()).then(|| format!("{name}+w"));
            Ok(Json(json!({
                "volume": entry.volume.name.as_str(), "point": point.recorded(), "export": export, "uri": uri,
                "overlay_export": overlay(&export), "overlay_uri": overlay(&uri),
            })))
        })
        .await
}

impl Context {
    /// A volume that whoever asks may see.
    pub(super) fn volume(&self, name: &str) -> Result<Arc<VolumeEntry>, Problem> {
        let unknown = || Problem::unknown(format!("there is no volume {name:?}; /v1/volumes has them all"));
        let parsed: VolumeName = name.parse().map_err(|_| unknown())?;
        let entry = self.daemon.pool.volume(&parsed).filter(|_| self.sees(&parsed));
        entry.ok_or_else(unknown)
    }

    /// A point of a volume, or a moment, by any of its names.
    pub(super) fn point(&self, volume: &str, point: &str) -> Result<(Arc<VolumeEntry>, Opened), Problem> {
        let entry = self.volume(volume)?;
        let unknown = || Problem::unknown(format!("volume {volume} has no point {point}"));
        let name = self.point_name(volume, point).map_err(|_| unknown())?;
        if name.selector.at_or_before().is_some() {
            // A moment is made for who asks.
            self.may(Right::Read, Some(&entry.volume.name))?;
        }
        let found = moments::find(&self.daemon.pool, &self.daemon.journals, &name)?.ok_or_else(unknown)?;
        Ok((entry, found))
    }
}

/// A volume, as programs are told of it.
pub(super) fn volume_json(context: &Context, entry: &VolumeEntry) -> Result<Value> {
    let VolumeEntry { volume, points, settings, .. } = entry;
    let newest = points.last();
    let status = context.daemon.secondaries.status(volume, newest)?;
    let state = match (&settings.secondary, status.behind_blocks) {
        (SecondaryMode::None, _) => "none",
        (_, 0) => "settled",
        _ => "behind",
    };
    Ok(json!({
        "name": volume.name.as_str(), "uuid": volume.uuid.to_string(), "created": text::time(volume.created_ns),
        "block_size": volume.block_size.bytes(),
        "size": newest.map_or(0, |point| point.map.geometry.volume_size()),
        "points": points.len(), "newest": newest.map(|point| point_json(context, entry, point)),
        "retention": Policy::of(settings)?.to_string(),
        "secondary": {
            "mode": show_mode(&settings.secondary), "state": state, "behind_blocks": status.behind_blocks,
            "settled_root": digest_json(&status.settled_root),
        },
    }))
}

fn digest_json(digest: &Digest) -> Value {
    if digest.is_zero() { Value::Null } else { digest.to_string().into() }
}

fn point_json(context: &Context, entry: &VolumeEntry, point: &Point) -> Value {
    let point = context.daemon.access.shown(&context.peer, point.clone());
    let time = if point.is_moment() { text::exact_time(point.created_ns) } else { text::time(point.created_ns) };
    json!({
        "point": point.recorded(), "time": time, "label": point.label.as_ref().map(Label::as_str),
        "kind": if point.base.is_some() { "incremental" } else { "full" }, "base": point.base,
        "size": point.map.geometry.volume_size(), "root": point.map.root().to_string(),
        "changed_blocks": point.changed_blocks, "stored_bytes": point.stored_bytes, "new_bytes": point.new_bytes,
        "protected": entry.protected.contains(&point.number),
    })
}
