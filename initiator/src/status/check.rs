//! One line for Nagios and its like, with an exit code: the conventions of the Monitoring Plugins guidelines. Pure.

use serde_json::Value;

/// All is well.
const OK: u8 = 0;
/// Somebody should look soon.
const WARNING: u8 = 1;
/// What was promised is not kept.
const CRITICAL: u8 = 2;
/// Nothing was learnt.
pub const UNKNOWN: u8 = 3;

/// The exit code of a status, and its line: what is wrong, then performance data.
pub fn of(status: &Value) -> (u8, String) {
    let (Some(warnings), Some(volumes)) = (status["warnings"].as_array(), status["volumes"].as_array()) else {
        return (UNKNOWN, "UNDERSTUDY UNKNOWN - the answer is no status".to_owned());
    };
    let is_critical = warnings.iter().any(|warning| warning["level"] == "critical");
    let (code, word) = match (warnings.is_empty(), is_critical) {
        (true, _) => (OK, "OK"),
        (false, false) => (WARNING, "WARNING"),
        (false, true) => (CRITICAL, "CRITICAL"),
    };
    let said: Vec<String> =
        warnings.iter().map(|warning| clean(&format!("{} {}", name(warning), text(warning, "text")))).collect();
    let said = if said.is_empty() { format!("{} volumes, all is well", volumes.len()) } else { said.join("; ") };
    (code, format!("UNDERSTUDY {word} - {said} |{}", data(status, volumes)))
}

fn name(warning: &Value) -> String {
    format!("{} {}:", text(warning, "about"), text(warning, "name"))
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// A bar would begin the performance data, a newline the long text.
fn clean(said: &str) -> String {
    said.replace(['|', '\n'], " ")
}

/// `'label'=value[unit];warn;crit;min;max` for each volume's lag, and the space.
fn data(status: &Value, volumes: &[Value]) -> String {
    let mut data = String::new();
    for volume in volumes {
        let critical = volume["rpo_seconds"].as_u64().map_or(String::new(), |seconds| seconds.to_string());
        if let Some(lag) = volume["lag_seconds"].as_u64() {
            data += &format!(" 'lag_{}'={lag}s;;{critical};0", text(volume, "name"));
        }
    }
    if let (Some(free), Some(disk)) = (status["space"]["free_bytes"].as_u64(), status["space"]["disk_bytes"].as_u64()) {
        data += &format!(" 'free'={free}B;;;0;{disk}");
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status(warnings: Value) -> Value {
        json!({
            "volumes": [{"name": "db", "lag_seconds": 90, "rpo_seconds": 60}, {"name": "new", "lag_seconds": null}],
            "space": {"free_bytes": 5, "disk_bytes": 10}, "warnings": warnings,
        })
    }

    #[test]
    fn the_worst_decides() {
        let warning = json!({"level": "warning", "about": "agent", "name": "a", "text": "not connected"});
        let critical = json!({"level": "critical", "about": "job", "name": "night", "text": "failed: a|b\nc"});
        let data = "| 'lag_db'=90s;;60;0 'free'=5B;;;0;10";
        assert_eq!(of(&status(json!([]))), (0, format!("UNDERSTUDY OK - 2 volumes, all is well {data}")));
        assert_eq!(of(&status(json!([warning]))), (1, format!("UNDERSTUDY WARNING - agent a: not connected {data}")));
        let both = format!("UNDERSTUDY CRITICAL - agent a: not connected; job night: failed: a b c {data}");
        assert_eq!(of(&status(json!([warning, critical]))), (2, both));
        assert_eq!(of(&json!({})).0, 3);
    }
}
