//! What is so at this moment, read where it is known.

use super::{Family, Labels};
use crate::config::Job;
use crate::daemon::Daemon;
use crate::error::Result;
use crate::jobs::scheduler::{Scheduler, time};
use crate::journals::Figures;
use crate::pool::VolumeEntry;
use crate::{clock, export};
use understudy_format::follow::Role;
use understudy_format::history::{JobHistory, Run};

/// All families, each told also when it has no sample.
pub(super) fn families(daemon: &Daemon) -> Result<Vec<Family>> {
    let mut all = vec![Family::gauge("build_info", "1, with the version", vec![(version(), 1.0)])];
    all.extend(pool(daemon)?);
    all.extend(volumes(daemon)?);
    all.extend(journals(daemon));
    all.extend(daemon.jobs.look(jobs));
    all.extend(connections(daemon));
    all.extend(daemon.counters.families());
    Ok(all)
}

fn version() -> Labels {
    vec![("version", env!("CARGO_PKG_VERSION").to_owned())]
}

fn seconds(ns: i64) -> f64 {
    ns as f64 / 1e9
}

fn one(value: f64) -> Vec<(Labels, f64)> {
    vec![(Labels::new(), value)]
}

fn maybe(value: Option<f64>) -> Vec<(Labels, f64)> {
    value.into_iter().map(|value| (Labels::new(), value)).collect()
}

fn pool(daemon: &Daemon) -> Result<Vec<Family>> {
    let figures = daemon.pool.figures()?;
    let checked = figures.checked_ns.map(seconds);
    let reclaimable = daemon.counters.reclaimable().map(|bytes| bytes as f64);
    Ok(vec![
        Family::gauge(
            "pool_disk_size_bytes",
            "Size of the disk that the pool is on",
            one(crate::disk_size(daemon.pool.dir()) as f64),
        ),
        Family::gauge("pool_free_bytes", "Bytes that can still be written to it", one(figures.free_bytes as f64)),
        Family::gauge("pool_used_bytes", "Bytes of all segments", one(figures.used_bytes as f64)),
        Family::gauge(
            "pool_reclaimable_bytes",
            "Bytes that no point needed at the last collection or dry run, and that are still there",
            maybe(reclaimable),
        ),
        Family::gauge(
            "scrub_oldest_check_timestamp_seconds",
            "The check that is the longest ago of any segment",
            maybe(checked),
        ),
        Family::gauge(
            "scrub_unchecked_segments",
            "Segments that were never checked",
            one(figures.unchecked_segments as f64),
        ),
        Family::gauge(
            "scrub_damaged_records",
            "Blocks and map pages that are known to be damaged and were not stored again",
            one(figures.damaged_records as f64),
        ),
    ])
}

fn volumes(daemon: &Daemon) -> Result<Vec<Family>> {
    let entries = daemon.pool.volumes();
    let of = |value: &dyn Fn(&VolumeEntry) -> f64| -> Vec<(Labels, f64)> {
        entries.iter().map(|entry| (vec![("volume", entry.volume.name.to_string())], value(entry))).collect()
    };
    let newest = |entry: &VolumeEntry| entry.newest().map_or(0, |point| point.created_ns);
    let now = clock::now_ns();
    let mut behind = Vec::new();
    for entry in &entries {
        let status = daemon.secondaries.status(&entry.volume, entry.newest())?;
        behind.push((vec![("volume", entry.volume.name.to_string())], status.behind_blocks as f64));
    }
    let size = |entry: &VolumeEntry| entry.newest().map_or(0, |point| point.map.geometry.volume_size()) as f64;
    Ok(vec![
        Family::gauge("volume_size_bytes", "Size of a volume's newest point", of(&size)),
        Family::gauge("volume_points", "Points of a volume", of(&|entry| entry.points.len() as f64)),
        Family::gauge(
            "volume_newest_point_timestamp_seconds",
            "When the newest point of a volume was made",
            of(&|entry| seconds(newest(entry))),
        ),
        Family::gauge(
            "volume_rpo_seconds",
            "Age of the newest point: what would be lost now",
            of(&|entry| seconds(now.saturating_sub(newest(entry)))),
        ),
        Family::gauge(
            "promoted",
            "Whether a volume is written to at the appliance instead of its primary",
            of(&|entry| f64::from(u8::from(daemon.journals.state(&entry.volume.name).role != Role::Following))),
        ),
        Family::gauge("volume_secondary_behind_blocks", "Blocks that a secondary lacks of the newest point", behind),
    ])
}

fn journals(daemon: &Daemon) -> Vec<Family> {
    let (all, now) = (daemon.journals.figures(), clock::now_ns());
    let of = |value: &dyn Fn(&Figures) -> Option<f64>| -> Vec<(Labels, f64)> {
        let labels = |figures: &Figures| vec![("volume", figures.name.to_string())];
        all.iter().filter_map(|figures| Some((labels(figures), value(figures)?))).collect()
    };
    let is_tapped = |figures: &Figures| {
        let newest = daemon.pool.volume(&figures.name).and_then(|entry| Some(entry.newest()?.position.is_some()));
        figures.is_followed || newest.unwrap_or(false)
    };
    let lag = |figures: &Figures| seconds(now.saturating_sub(figures.complete_ns).max(0));
    vec![
        Family::gauge("journal_bytes", "Bytes of a volume's journals", of(&|figures| Some(figures.bytes as f64))),
        Family::gauge(
            "journal_followed",
            "Whether the tap of a volume has a session; of volumes whose newest point is of a journal",
            of(&|figures| is_tapped(figures).then(|| f64::from(u8::from(figures.is_followed)))),
        ),
        Family::gauge(
            "journal_lag_seconds",
            "Up to how long ago the journal of a followed volume is known to be complete: what would be lost now",
            of(&|figures| figures.is_followed.then(|| lag(figures))),
        ),
    ]
}

fn jobs(scheduler: &Scheduler) -> Vec<Family> {
    type Value<'a> = &'a dyn Fn(&Job, &JobHistory) -> Option<f64>;
    let of = |value: Value<'_>| -> Vec<(Labels, f64)> {
        let all = scheduler.jobs();
        all.filter_map(|(job, history)| Some((vec![("name", job.name.clone())], value(job, history)?))).collect()
    };
    let last =
        |history: &JobHistory| history.runs.iter().rev().find_map(|run: &Run| Some((run.started_ns, run.ended?)));
    let now = time(clock::now_ns());
    let next = |job: &Job| scheduler.next(&job.name, now).next().map(|due| due.starts.as_nanosecond() as f64 / 1e9);
    vec![
        Family::gauge(
            "job_last_success_timestamp_seconds",
            "When a run of a job last ended well",
            of(&|_, history| (history.record.success_ns != 0).then(|| seconds(history.record.success_ns))),
        ),
        Family::gauge(
            "job_last_status",
            "How the last run of a job ended: 0 done, 1 failed or stopped, 3 with warnings, 4 damage or difference",
            of(&|_, history| last(history).map(|(_, (_, ended))| f64::from(code(ended)))),
        ),
        Family::gauge(
            "job_last_duration_seconds",
            "How long it took",
            of(&|_, history| last(history).map(|(started, (ended, _))| seconds(ended.saturating_sub(started)))),
        ),
        Family::gauge("job_next_run_timestamp_seconds", "When a job runs next", of(&|job, _| next(job))),
        Family::gauge("job_runs", "Runs of a job that there were", of(&|_, history| Some(history.record.count as f64))),
        Family::gauge(
            "job_rpo_target_seconds",
            "How old the newest point of a job's volumes may be",
            of(&|job, _| job.rpo.map(|rpo| rpo.as_secs_f64())),
        ),
        Family::gauge(
            "volume_rpo_target_seconds",
            "The same of each volume, the strictest of its jobs",
            targets(scheduler),
        ),
    ]
}

/// How the end of a run is told: as the exit code of the command that does the same.
fn code(ended: understudy_format::history::Ended) -> u8 {
    use understudy_format::history::Ended;
    match ended {
        Ended::Done => 0,
        Ended::Warnings => 3,
        Ended::Damage => 4,
        Ended::Failed | Ended::Cut | Ended::Closed => 1,
    }
}

fn targets(scheduler: &Scheduler) -> Vec<(Labels, f64)> {
    let mut targets = std::collections::BTreeMap::new();
    for (job, _) in scheduler.jobs() {
        let Some(rpo) = job.rpo.map(|rpo| rpo.as_secs_f64()) else { continue };
        for volume in job.volumes().iter().filter(|volume| job.replicates(volume)) {
            let target = targets.entry(volume.to_string()).or_insert(rpo);
            *target = rpo.min(*target);
        }
    }
    targets.into_iter().map(|(volume, rpo)| (vec![("volume", volume)], rpo)).collect()
}

fn connections(daemon: &Daemon) -> Vec<Family> {
    let agents = daemon.agents.list();
    let connected =
        agents.iter().map(|agent| (vec![("agent", agent.name.to_string())], f64::from(u8::from(agent.connected))));
    vec![
        Family::gauge("nbd_clients", "NBD connections that use a point", one(daemon.pool.uses(export::USE) as f64)),
        Family::gauge("sessions", "Sessions of initiators and agents", one(daemon.counters.sessions() as f64)),
        Family::gauge("agent_connected", "Whether an agent that was here has a session", connected.collect()),
    ]
}
