//! Jobs, their runs and what is next: as lines for people and as JSON objects for programs. Nothing is asked or changed here.

use super::commands::{how, said, why};
use super::scheduler::{Cause, Due, Hindrance, Lag, Started, nanoseconds};
use crate::config::{Job, Task};
use crate::upkeep::Told;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use understudy_format::agent::VolumeReport;
use understudy_format::history::{JobHistory, Run};
use understudy_format::text;

/// What is known of a job.
pub(super) struct State<'a> {
    pub(super) job: &'a Job,
    pub(super) history: &'a JobHistory,
    pub(super) running: Option<&'a Started>,
    pub(super) is_asked: bool,
    pub(super) hindrance: Option<Hindrance>,
    pub(super) next: Option<Due>,
    pub(super) lag: Option<Lag>,
    pub(super) now: Timestamp,
}

/// A time as it is shown.
pub(super) fn shown(at: Timestamp) -> String {
    text::time(nanoseconds(at))
}

fn ns(ns: i64) -> Option<String> {
    (ns != 0).then(|| text::time(ns))
}

/// To the second.
fn whole(length: SignedDuration) -> SignedDuration {
    SignedDuration::from_secs(length.as_secs())
}

impl State<'_> {
    pub(super) fn told(&self) -> Told {
        Told { text: self.lines(), event: self.json() }
    }

    fn lines(&self) -> String {
        let Self { job, history, .. } = self;
        let delay = if job.delay_max.is_zero() { String::new() } else { format!(", up to {:#} later", job.delay_max) };
        let windows = if job.windows.0.is_empty() { String::new() } else { format!(", in the window {}", job.windows) };
        let mut text = format!("{}: {}\n  schedule  {}{delay}{windows}", job.name, job.task, job.schedule);
        text += &format!("\n  last      {}", history.runs.last().map_or("never".to_owned(), line));
        if let Some(lag) = &self.lag {
            text += &format!("\n  newest    {}", self.lag_line(lag));
        }
        text + &format!("\n  next      {}", self.next_line())
    }

    fn lag_line(&self, lag: &Lag) -> String {
        let age = whole(self.now.duration_since(lag.since));
        let point = match lag.has_point {
            true => format!("{}: {} ({age:#} old)", lag.volume, shown(lag.since)),
            false => format!("{}: no point yet ({age:#})", lag.volume),
        };
        match self.job.rpo {
            Some(rpo) if age > rpo => format!("{point}: BEHIND, the RPO is {rpo:#}"),
            Some(rpo) => format!("{point}, the RPO is {rpo:#}"),
            None => point,
        }
    }

    fn next_line(&self) -> String {
        let next = self.next.map_or("never".to_owned(), |due| shown(due.starts));
        match (&self.hindrance, self.is_asked, self.next.map(|due| due.cause)) {
            (Some(hindrance), true, _) => format!("asked for, waits: {hindrance}"),
            (Some(hindrance), false, _) => format!("due, waits: {hindrance}"),
            (None, true, _) => "asked for".to_owned(),
            (None, false, Some(Cause::Retry(attempt))) => format!("{next}, attempt {attempt}"),
            _ => next,
        }
    }

    fn json(&self) -> Value {
        let Self { job, history, .. } = self;
        json!({
            "event": "job", "job": job.name, "task": job.task.to_string(), "schedule": job.schedule.to_string(),
            "agent": job.agent().map(ToString::to_string),
            "volumes": job.volumes().iter().map(ToString::to_string).collect::<Vec<_>>(),
            "random_delay_s": job.delay_max.as_secs(), "catch_up": job.catch_up,
            "windows": job.windows.0.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "last": history.runs.last().map_or(Value::Null, |run| run_json(&job.name, run)),
            "last_success": ns(history.record.success_ns), "last_full": ns(history.record.full_ns), "runs": history.record.count,
            "rpo_s": job.rpo.map(|rpo| rpo.as_secs()),
            "lag": self.lag.as_ref().map(|lag| lag_json(lag, self.now)),
            "is_behind": self.lag.as_ref().zip(job.rpo).is_some_and(|(lag, rpo)| self.now.duration_since(lag.since) > rpo),
            "next": self.next.map(|due| shown(due.starts)), "asked": self.is_asked,
            "running": self.running.map(|run| run.number),
            "waits": self.hindrance.as_ref().map(ToString::to_string),
        })
    }
}

/// How far a volume is behind, for programs.
pub(super) fn lag_json(lag: &Lag, now: Timestamp) -> Value {
    json!({
        "volume": lag.volume.to_string(), "newest": lag.has_point.then(|| shown(lag.since)),
        "seconds": now.duration_since(lag.since).as_secs().max(0),
    })
}

/// A run with what it did to volumes.
pub(super) fn told_run(job: &Job, run: &Run) -> Told {
    let volumes = run.volumes.iter().map(|volume| format!("\n    {}", volume_line(&job.task, volume)));
    let full = if run.full.is_empty() { String::new() } else { format!("\n    to be full: {}", run.full) };
    let text = format!("{:>4}  {}{full}{}", run.number, line(run), volumes.collect::<String>());
    Told { text, event: run_json(&job.name, run) }
}

fn volume_line(task: &Task, report: &VolumeReport) -> String {
    let VolumeReport { volume, figures, full_reason, text } = report;
    let point = if figures.point == 0 { String::new() } else { format!("@{}", figures.point) };
    if figures.code == 1 || figures.code == 2 {
        return format!("{volume}: failed: {text}");
    }
    if matches!(task, Task::Verify { .. }) {
        let how = if figures.code == 4 { "not identical" } else { "identical" };
        return format!("{volume}{point}: {how}");
    }
    let full = if full_reason.is_empty() { String::new() } else { format!("; full: {full_reason}") };
    format!(
        "{volume}{point}: read {}, changed {}, sent {}, deduplicated {}, {} on the wire in {:.1} s{full}",
        text::bytes(figures.read_bytes),
        text::bytes(figures.changed_bytes),
        text::bytes(figures.sent_bytes),
        text::bytes(figures.deduplicated_bytes),
        text::bytes(figures.wire_bytes),
        figures.duration_ms as f64 / 1e3,
    )
}

fn line(run: &Run) -> String {
    let started = text::time(run.started_ns);
    let attempt = if run.attempt > 1 { format!(", attempt {}", run.attempt) } else { String::new() };
    let why = why(run.why);
    let Some((ended_ns, ended)) = run.ended else { return format!("{started}  runs ({why}{attempt})") };
    let seconds = ended_ns.saturating_sub(run.started_ns) as f64 / 1e9;
    format!("{started}  {} after {seconds:.1} s ({why}{attempt}){}", how(ended), said(ended, &run.detail))
}

/// A run, for programs.
pub(super) fn run_json(job: &str, run: &Run) -> Value {
    json!({
        "event": "run", "job": job, "run": run.number, "why": format!("{:?}", run.why).to_lowercase(),
        "attempt": run.attempt, "nominal": text::time(run.nominal_ns), "started": text::time(run.started_ns),
        "ended": run.ended.map(|(ns, _)| text::time(ns)),
        "seconds": run.ended.map(|(ns, _)| ns.saturating_sub(run.started_ns) as f64 / 1e9),
        "outcome": run.ended.map_or("running".to_owned(), |(_, ended)| format!("{ended:?}").to_lowercase()),
        "full": if run.full.is_empty() { Value::Null } else { run.full.clone().into() },
        "detail": run.detail,
        "volumes": run.volumes.iter().map(volume_json).collect::<Vec<_>>(),
    })
}

fn volume_json(report: &VolumeReport) -> Value {
    let VolumeReport { volume, figures, full_reason, text } = report;
    json!({
        "volume": volume.to_string(), "point": (figures.point != 0).then_some(figures.point), "code": figures.code,
        "read_bytes": figures.read_bytes, "changed_bytes": figures.changed_bytes, "sent_bytes": figures.sent_bytes,
        "deduplicated_bytes": figures.deduplicated_bytes, "wire_bytes": figures.wire_bytes,
        "seconds": figures.duration_ms as f64 / 1e3,
        "full_reason": if full_reason.is_empty() { Value::Null } else { full_reason.clone().into() }, "text": text,
    })
}

/// When something is due, and why then.
pub(super) fn told_due(due: &Due, job: &Job, hindrance: Option<&Hindrance>, now: Timestamp) -> Told {
    let reason = reason(due, job, hindrance, now);
    let event = json!({
        "event": "due", "job": job.name, "at": shown(due.starts), "nominal": shown(due.nominal), "reason": reason,
    });
    Told { text: format!("{}  {}: {reason}", shown(due.starts), job.name), event }
}

fn reason(due: &Due, job: &Job, hindrance: Option<&Hindrance>, now: Timestamp) -> String {
    let nominal = shown(due.nominal);
    if let (true, Some(hindrance)) = (due.starts <= now, hindrance) {
        return format!("it is for {nominal}, and waits: {hindrance}");
    }
    let delay = due.at.duration_since(due.nominal);
    let came = match due.cause {
        Cause::Retry(attempt) => format!("attempt {attempt} of what failed, for {nominal}"),
        Cause::Schedule if due.at < now && due.starts <= now => format!("{nominal} is over, and it has not run since"),
        Cause::Schedule if delay.is_zero() && due.starts == due.at => format!("{} comes", job.schedule),
        Cause::Schedule if delay.is_zero() => format!("{} comes at {nominal}", job.schedule),
        Cause::Schedule => format!("{} comes at {nominal}, and {delay:#} later", job.schedule),
    };
    if due.starts <= now.max(due.at) { came } else { format!("{came}; its window opens then ({})", job.windows) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::tests::started;
    use understudy_format::agent::VolumeFigures;

    #[test]
    fn a_comparison_says_what_it_came_to() {
        let job = started("  v: {verify: [x], agent: web1, schedule: daily}\n").job;
        let figures = VolumeFigures { point: 3, ..VolumeFigures::ZERO };
        let line = |code| {
            let (volume, figures) = ("x".parse().unwrap(), VolumeFigures { code, ..figures });
            volume_line(&job.task, &VolumeReport { volume, figures, full_reason: String::new(), text: "why".into() })
        };
        assert_eq!([0, 4, 1].map(line), ["x@3: identical", "x@3: not identical", "x: failed: why"]);
    }
}
