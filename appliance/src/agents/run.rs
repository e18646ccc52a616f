//! One run of an agent, as far as it is known here.
//!
//! Invariants: what is kept for who waits is bounded: of the news that were not looked at, the newest; an agent tells only of volumes that
//! its run is about, and what it says is free of control characters.

use super::RunInfo;
use crate::error::{Error, Result};
use crate::upkeep::Told;
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};
use understudy_format::ErrorKind;
use understudy_format::agent::{Progress, RUN_VOLUMES_MAX, Report, Work};
use understudy_format::point::VolumeName;
use understudy_format::text::bytes;
use uuid::Uuid;

/// News that are kept.
const NEWS_MAX: usize = 64;

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Run {
    work: Work,
    progress: BTreeMap<VolumeName, (u64, u64)>,
    waited: Option<Waited>,
}

/// What somebody waits for.
#[derive(Debug, Default)]
struct Waited {
    news: VecDeque<Progress>,
    end: Option<Result<Report>>,
}

impl Run {
    /// One that nobody waits for.
    pub(super) fn of(work: Work) -> Self {
        Self { work, progress: BTreeMap::new(), waited: None }
    }

    /// One that somebody waits for.
    pub(super) fn waited_for(work: Work) -> Self {
        Self { waited: Some(Waited::default()), ..Self::of(work) }
    }

    pub(super) fn work(&self) -> &Work {
        &self.work
    }

    pub(super) fn is_waited_for(&self) -> bool {
        self.waited.is_some()
    }

    pub(super) fn info(&self, run: Uuid) -> RunInfo {
        RunInfo { run, work: self.work.clone(), progress: self.progress.clone() }
    }

    /// Of a report what is about this run, as text that can be told.
    pub(super) fn own(&self, report: Report) -> Report {
        let mut volumes = report.volumes;
        volumes.retain(|volume| self.work.volumes().contains(&volume.volume));
        for volume in &mut volumes {
            (volume.full_reason, volume.text) = (plain(&volume.full_reason), plain(&volume.text));
        }
        Report { text: plain(&report.text), volumes, ..report }
    }

    pub(super) fn came_to(&mut self, progress: Progress) {
        if !self.work.volumes().contains(&progress.volume) {
            return;
        }
        if self.progress.len() < RUN_VOLUMES_MAX as usize || self.progress.contains_key(&progress.volume) {
            self.progress.insert(progress.volume.clone(), (progress.done, progress.total));
        }
        if let Some(waited) = &mut self.waited {
            waited.news.push_back(progress);
            if waited.news.len() > NEWS_MAX {
                waited.news.pop_front();
            }
        }
    }

    /// It is over; whether somebody waits for that.
    pub(super) fn end(&mut self, end: Result<Report>) -> bool {
        if let Some(waited) = &mut self.waited {
            waited.end.get_or_insert(end);
        }
        self.waited.is_some()
    }

    /// The agent does not know it; whether somebody waits for it.
    pub(super) fn lose(&mut self) -> bool {
        self.end(Err(Error::Busy("the agent was restarted, and does not know the run any more".into())))
    }

    /// Nobody waits any more; whether there is nothing left to wait for.
    pub(super) fn let_go(&mut self) -> bool {
        // An end that was taken by who waited leaves nothing either.
        self.waited.take().is_none_or(|waited| waited.end.is_some())
    }

    /// What is to be told, and the end.
    pub(super) fn take_news(&mut self) -> (Vec<Told>, Option<Result<Report>>) {
        let Some(waited) = &mut self.waited else { return (Vec::new(), None) };
        let told = waited.news.drain(..).map(|progress| told(&progress)).collect();
        let end = waited.end.take();
        if end.is_some() {
            self.waited = None;
        }
        (told, end)
    }
}

/// Why an agent does not do something, as an error of this program.
pub(super) fn declined(kind: ErrorKind, text: String) -> Error {
    match kind {
        ErrorKind::Retry | ErrorKind::Closed => Error::Busy(plain(&text)),
        _ => Error::Refused(plain(&text)),
    }
}

/// Without characters that a terminal obeys; lines stay.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

fn told(progress: &Progress) -> Told {
    let Progress { run, volume, done, total, text } = progress;
    let text = plain(text);
    let line = match (text.is_empty(), total) {
        (false, _) => format!("{volume}: {text}"),
        (true, 0) => format!("{volume}: {}", bytes(*done)),
        (true, total) => format!("{volume}: {} of {}", bytes(*done), bytes(*total)),
    };
    let event = json!({
        "event": if text.is_empty() { "progress" } else { "told" }, "run": run.to_string(), "volume": volume.as_str(),
        "bytes_done": done, "bytes_total": total, "text": text,
    });
    Told { text: line, event }
}
