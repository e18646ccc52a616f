//! Scratch overlays: what was written over points; kept as a new volume, or discarded.

use super::context::Context;
use super::input::{InBody, InPath, InQuery};
use super::problem::Problem;
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};
use understudy_format::point::{Label, VolumeName};
use understudy_format::text;
use understudy_format::wire::OverlayInfo;

/// What becomes of an overlay that is kept.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Keep {
    name: String,
    label: Option<String>,
}

/// How an overlay is discarded.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Discard {
    #[serde(default)]
    force: bool,
}

/// `GET /v1/overlays`.
pub(super) async fn list(State(context): State<Context>) -> Result<Json<Value>, Problem> {
    context.ask(|context| Ok(Json(context.overlays().list().iter().map(overlay_json).collect()))).await
}

/// `POST /v1/overlays/{volume}/{point}/keep`.
pub(super) async fn keep(
    State(context): State<Context>,
    InPath((volume, point)): InPath<(String, u64)>,
    InBody(Keep { name, label }): InBody<Keep>,
) -> Result<Json<Value>, Problem> {
    let misunderstood = |error: understudy_format::FormatError| Problem::misunderstood(error.to_string());
    let name: VolumeName = name.parse().map_err(misunderstood)?;
    let label = label.map(|label| label.parse::<Label>()).transpose().map_err(misunderstood)?;
    context
        .ask(move |context| {
            let entry = context.volume(&volume)?;
            let (kept, point) = context.overlays().keep(&entry.volume.uuid, point, name, label)?;
            Ok(Json(json!({
                "volume": kept.name.as_str(), "point": point.number, "root": point.map.root().to_string(),
                "changed_blocks": point.changed_blocks, "stored_bytes": point.stored_bytes,
            })))
        })
        .await
}

/// `DELETE /v1/overlays/{volume}/{point}`.
pub(super) async fn discard(
    State(context): State<Context>,
    InPath((volume, point)): InPath<(String, u64)>,
    InQuery(Discard { force }): InQuery<Discard>,
) -> Result<Json<Value>, Problem> {
    context
        .ask(move |context| {
            let entry = context.volume(&volume)?;
            let discarded = context.overlays().discard(&entry.volume.uuid, point, force)?;
            Ok(Json(overlay_json(&discarded)))
        })
        .await
}

fn overlay_json(overlay: &OverlayInfo) -> Value {
    let OverlayInfo { name, status } = overlay;
    json!({
        "overlay": format!("{name}@{}+w", status.point), "volume": name.as_str(), "point": status.point,
        "size": status.volume_size, "written_bytes": status.owned_bytes, "connections": status.connections,
        "created": text::time(status.created_ns), "damaged": status.damaged != 0,
    })
}
