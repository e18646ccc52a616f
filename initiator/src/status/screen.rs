//! The screen: what needs a look first, then volumes, jobs and agents. Pure.

use crate::text::{bytes, table};
use serde_json::Value;

/// The screen of a status.
pub fn of(status: &Value) -> String {
    let mut parts = vec![head(status)];
    let warnings = rows(&status["warnings"]).iter().map(|warning| {
        format!(
            "{}: {} {}: {}",
            text(&warning["level"]),
            text(&warning["about"]),
            text(&warning["name"]),
            text(&warning["text"])
        )
    });
    parts.extend([warnings.collect::<Vec<_>>().join("\n")]);
    parts.push(part(
        &status["volumes"],
        &["VOLUME", ">SIZE", ">POINTS", "NEWEST", ">LAG", ">RPO", "SECONDARY", "NEXT"],
        volume,
    ));
    parts.push(part(&status["jobs"], &["JOB", "RUN", "LAST", "LAST SUCCESS", "NEXT"], job));
    parts.push(part(&status["agents"], &["AGENT", "STATE", "SINCE", ">VOLUMES", ">RUNS"], agent));
    parts.retain(|part| !part.is_empty());
    parts.join("\n\n")
}

fn head(status: &Value) -> String {
    let mut head = format!("pool {} at {}", text(&status["pool"]), text(&status["time"]));
    if let Some(space) = status["space"].as_object() {
        let of = |key: &str| bytes(space[key].as_u64().unwrap_or(0));
        head += &format!("\n{} used, {} free of {}", of("used_bytes"), of("free_bytes"), of("disk_bytes"));
        if space["reclaimable_bytes"].is_u64() {
            head += &format!(", {} to collect", of("reclaimable_bytes"));
        }
        head += &format!("; {} sessions, {} NBD clients", status["sessions"], status["nbd_clients"]);
    }
    if rows(&status["warnings"]).is_empty() { head + "; all is well" } else { head }
}

fn part(all: &Value, head: &[&str], row: impl Fn(&Value) -> Vec<String>) -> String {
    let rows: Vec<Vec<String>> = rows(all).iter().map(row).collect();
    if rows.is_empty() { String::new() } else { table(head, &rows) }
}

fn rows(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A text, or a dash for none.
fn text(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}

fn volume(volume: &Value) -> Vec<String> {
    let secondary = match volume["secondary"]["state"].as_str() {
        Some("behind") => format!("{} blocks behind", volume["secondary"]["behind_blocks"]),
        state => state.unwrap_or("-").to_owned(),
    };
    vec![
        text(&volume["name"]),
        bytes(volume["size"].as_u64().unwrap_or(0)),
        volume["points"].to_string(),
        text(&volume["newest"]["time"]),
        length(&volume["lag_seconds"]),
        length(&volume["rpo_seconds"]),
        secondary,
        text(&volume["next"]),
    ]
}

fn job(job: &Value) -> Vec<String> {
    let next = if job["running"] == true { "running".to_owned() } else { text(&job["next"]) };
    vec![text(&job["job"]), text(&job["run"]), text(&job["last"]), text(&job["last_success"]), next]
}

fn agent(agent: &Value) -> Vec<String> {
    let state = if agent["connected"] == true { "connected" } else { "away" };
    let count = |key: &str| rows(&agent[key]).len().to_string();
    vec![text(&agent["name"]), state.to_owned(), text(&agent["since"]), count("volumes"), count("runs")]
}

/// Seconds as people say them, in its two largest units.
fn length(seconds: &Value) -> String {
    let Some(seconds) = seconds.as_u64() else { return "-".to_owned() };
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lengths_have_two_units() {
        let table = [(5, "5s"), (65, "1m05s"), (3 * 3600 + 240, "3h04m"), (86_400 * 2 + 3600, "2d01h")];
        for (seconds, text) in table {
            assert_eq!(length(&json!(seconds)), text);
        }
        assert_eq!(length(&Value::Null), "-");
    }

    #[test]
    fn the_screen_has_warnings_first_and_leaves_out_what_there_is_none_of() {
        let volume = json!({
            "name": "db", "size": 1_000_000, "points": 3, "newest": {"time": "2026-11-21T10:00:00Z"}, "lag_seconds": 90,
            "rpo_seconds": 60, "secondary": {"state": "behind", "behind_blocks": 7}, "next": null,
        });
        let warning = json!({"level": "critical", "about": "volume", "name": "db", "text": "fell behind"});
        let status = json!({"pool": "p", "time": "t", "volumes": [volume], "warnings": [warning], "jobs": []});
        let expected = "pool p at t\n\ncritical: volume db: fell behind\n\n\
            VOLUME    SIZE  POINTS  NEWEST                  LAG    RPO  SECONDARY        NEXT\n\
            db      1.0 MB       3  2026-11-21T10:00:00Z  1m30s  1m00s  7 blocks behind  -";
        assert_eq!(of(&status), expected);
    }
}
