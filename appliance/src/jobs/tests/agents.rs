//! Jobs of agents: what runs beside what, agents that are away, windows, tries, fulls.

use super::*;
use crate::config::Task;
use crate::jobs::hands::works;
use crate::jobs::scheduler::{Cause, Hindrance};
use understudy_format::agent::{VolumeFigures, VolumeReport, Work};

impl World {
    fn agents(&mut self, names: &[&str]) {
        self.scheduler.connected(idle(names));
    }

    /// All that may start now.
    fn start_all(&mut self) -> Vec<(String, Why)> {
        std::iter::from_fn(|| self.start()).map(|run| (run.job.name.clone(), run.why)).collect()
    }

    fn waits(&self, job: &str) -> Option<Hindrance> {
        self.scheduler.hindrance(job, self.now)
    }

    fn last_run(&self, job: &str) -> understudy_format::history::Run {
        let (_, history) = self.scheduler.jobs().find(|(known, _)| known.name == job).unwrap();
        history.runs.last().unwrap().clone()
    }
}

fn names(started: &[(String, Why)]) -> Vec<&str> {
    started.iter().map(|(name, _)| name.as_str()).collect()
}

#[test]
fn volumes_agents_and_upkeep_have_as_many_runs_as_they_may() {
    let text = "limits: {jobs: 4, jobs-per-agent: 2}\njobs:\n  \
        a: {replicate: [x, y], agent: web1, schedule: hourly}\n  b: {replicate: [y, z], agent: web1, schedule: hourly}\n  \
        c: {verify: [w], agent: web1, schedule: hourly}\n  d: {replicate: [v], agent: web1, schedule: hourly}\n  \
        e: {replicate: [z], agent: web2, schedule: hourly}\n  \
        p: {run: prune, schedule: hourly}\n  q: {run: collect, schedule: hourly}\n";
    let mut world = World::configured(text, "2026-11-21T10:10:00Z");
    world.now = at("2026-11-21T11:00:00Z");
    // b waits for y and keeps z from e; d waits for a place at web1; q for p.
    assert_eq!(names(&world.start_all()), ["a", "c", "p"]);
    assert_eq!(world.waits("b"), Some(Hindrance::Agent("web1".parse().unwrap(), 2)));
    assert_eq!(world.waits("q"), Some(Hindrance::Upkeep));
    assert_eq!(world.waits("a"), None, "it runs");
    world.end_of("c", Ended::Done);
    assert_eq!(names(&world.start_all()), ["d"], "b waits for y");
    assert_eq!(world.waits("b"), Some(Hindrance::Agent("web1".parse().unwrap(), 2)));
    world.end_of("p", Ended::Done);
    assert_eq!(names(&world.start_all()), ["q"], "e does not pass b by");
    ["a", "d", "q"].into_iter().for_each(|job| world.end_of(job, Ended::Done));
    assert_eq!(names(&world.start_all()), ["b"]);
    assert_eq!(world.waits("e"), Some(Hindrance::Volume("z".parse().unwrap())));
    world.end_of("b", Ended::Done);
    assert_eq!(names(&world.start_all()), ["e"]);
}

#[test]
fn what_is_due_while_its_agent_is_away_runs_once_when_it_is_back() {
    let text = "  a: {replicate: [x], agent: web1, schedule: every 15m}\n  n: {replicate: [y], agent: web1, schedule: every 15m, catch-up: false}\n";
    let mut world = World::new(text, "2026-11-21T10:10:00Z");
    world.agents(&["web2"]);
    for minutes in [5, 20, 35] {
        world.now = at("2026-11-21T10:10:00Z") + SignedDuration::from_mins(minutes);
        assert_eq!(world.start_all(), []);
        assert_eq!(world.waits("a"), Some(Hindrance::Away("web1".parse().unwrap())));
    }
    assert_eq!(world.waits("n"), None, "what is not caught up is passed over");
    world.agents(&["web1"]);
    let run = world.start().unwrap();
    assert_eq!((run.why, run.nominal.to_string().as_str()), (Why::Away, "2026-11-21T10:45:00Z"));
    assert!(world.start().is_none());
    world.end_of("a", Ended::Done);
    world.now = at("2026-11-21T11:00:00Z");
    assert_eq!(world.start_all(), [("a".to_owned(), Why::Due), ("n".to_owned(), Why::Due)]);
}

#[test]
fn who_asks_waits_for_an_agent_and_not_for_a_window() {
    let text = "  a: {replicate: [x], agent: web1, schedule: yearly, windows: ['03:00..04:00']}\n";
    let mut world = World::new(text, "2026-11-21T10:10:00Z");
    world.agents(&[]);
    assert!(world.scheduler.ask("a"));
    assert_eq!(world.start_all(), []);
    assert_eq!(world.waits("a"), Some(Hindrance::Away("web1".parse().unwrap())));
    world.agents(&["web1"]);
    let run = world.start().unwrap();
    assert_eq!((run.why, run.until), (Why::Asked, None));
}

#[test]
fn a_run_stays_in_its_window_and_goes_on_in_the_next() {
    let text = "  a: {replicate: [x], agent: web1, schedule: '*:00', windows: ['Mon..Fri 22:00..06:00', 'Sat,Sun']}\n";
    // A Wednesday; Berlin is an hour ahead.
    let mut world = World::new(text, "2026-11-18T10:10:00Z");
    let due = world.scheduler.next("a", world.now).next().unwrap();
    assert_eq!(
        (due.at.to_string().as_str(), due.starts.to_string().as_str()),
        ("2026-11-18T11:00:00Z", "2026-11-18T21:00:00Z")
    );
    let second = world.scheduler.next("a", world.now).nth(1).unwrap();
    assert_eq!(second.starts, at("2026-11-18T22:00:00Z"), "what came while it was closed is done at once");
    world.now = at("2026-11-18T15:00:00Z");
    assert!(matches!(world.scheduler.poll(world.now), Step::Wait(Some(until)) if until == at("2026-11-18T21:00:00Z")));
    world.now = at("2026-11-18T21:00:00Z");
    let run = world.start().unwrap();
    assert_eq!((run.why, run.nominal, run.until), (Why::Window, world.now, Some(at("2026-11-19T05:00:00Z"))));
    assert!(matches!(world.scheduler.poll(world.now), Step::Wait(Some(until)) if until == at("2026-11-19T05:00:00Z")));
    world.now = at("2026-11-19T05:00:00Z");
    assert!(matches!(world.scheduler.poll(world.now), Step::Stop(job) if job == "a"));
    assert!(matches!(world.scheduler.poll(world.now), Step::Wait(None)), "it is told once");
    world.end_of("a", Ended::Cut);
    assert_eq!(world.last_run("a").ended.unwrap().1, Ended::Closed);
    assert_eq!(world.start_all(), []);
    world.now = at("2026-11-19T21:00:00Z");
    assert_eq!(world.start().unwrap().why, Why::Window);
}

#[test]
fn what_fails_is_tried_again_ever_later_until_its_next_time() {
    let text = "  a: {replicate: [x], agent: web1, schedule: hourly, retry: {count: 3, delay: 10m}}\n  b: {verify: [y], agent: web1, schedule: hourly, retry: {count: 0}}\n";
    let mut world = World::new(text, "2026-11-21T10:10:00Z");
    world.now = at("2026-11-21T11:00:00Z");
    assert_eq!(names(&world.start_all()), ["a", "b"]);
    world.end_of("b", Ended::Failed);
    world.end_of("a", Ended::Failed);
    let due = world.scheduler.next("a", world.now).next().unwrap();
    assert_eq!((due.cause, due.starts), (Cause::Retry(2), at("2026-11-21T11:10:00Z")));
    assert_eq!(world.start_all(), []);
    // The history is all that is needed.
    world.restart("2026-11-21T11:09:00Z");
    assert_eq!(world.start_all(), []);
    world.now = at("2026-11-21T11:10:00Z");
    let run = world.start().unwrap();
    assert_eq!((run.why, run.attempt, run.nominal), (Why::Retried, 2, at("2026-11-21T11:00:00Z")));
    world.end_of("a", Ended::Failed);
    world.now = at("2026-11-21T11:29:59Z");
    assert_eq!(world.start_all(), [], "after twice as long");
    world.now = at("2026-11-21T11:30:00Z");
    assert_eq!(world.start().unwrap().attempt, 3);
    world.end_of("a", Ended::Failed);
    // The fourth would come at 12:10, and its time comes before.
    world.now = at("2026-11-21T12:00:00Z");
    assert_eq!(world.start_all(), [("a".to_owned(), Why::Due), ("b".to_owned(), Why::Due)]);
    world.end_of("a", Ended::Done);
    world.now = at("2026-11-21T12:59:00Z");
    assert_eq!(world.start_all(), [], "what did well is not tried again");
    // Who asked sees for himself.
    assert!(world.scheduler.ask("a"));
    assert_eq!(names(&world.start_all()), ["a"]);
    world.end_of("a", Ended::Failed);
    assert_eq!(world.scheduler.next("a", world.now).next().unwrap().cause, Cause::Schedule);
}

#[test]
fn a_try_that_is_cut_or_in_vain_by_hand_is_made_again() {
    let text = "  a: {replicate: [x], agent: web1, schedule: daily, retry: {count: 3, delay: 10m}}\n";
    let mut world = World::new(text, "2026-11-21T10:10:00Z");
    let failed_at = |world: &mut World, time: &str| {
        world.now = at(time);
        let run = world.start().unwrap();
        world.end(Ended::Failed);
        (run.why, run.attempt)
    };
    assert_eq!(failed_at(&mut world, "2026-11-21T23:00:00Z"), (Why::Due, 1));
    assert!(world.scheduler.ask("a"));
    assert_eq!(failed_at(&mut world, "2026-11-21T23:05:00Z"), (Why::Asked, 1));
    world.now = at("2026-11-21T23:10:00Z");
    let run = world.start().unwrap();
    assert_eq!((run.why, run.attempt), (Why::Retried, 2), "who asked in vain leaves it");
    world.restart("2026-11-21T23:12:00Z");
    let run = world.start().unwrap();
    assert_eq!((run.why, run.attempt, run.nominal), (Why::Retried, 2, at("2026-11-21T23:00:00Z")), "it was cut");
    world.end_of("a", Ended::Failed);
    assert!(world.scheduler.ask("a") && world.start().is_some());
    world.end_of("a", Ended::Done);
    assert_eq!(world.scheduler.next("a", world.now).next().unwrap().cause, Cause::Schedule, "it is done by hand");
}

#[test]
fn a_try_that_an_agent_was_away_for_is_made_up_for_only_when_that_is_wanted() {
    let text = "  a: {replicate: [x], agent: web1, schedule: daily, catch-up: false, retry: {count: 3, delay: 10m}}\n";
    let mut world = World::new(text, "2026-11-21T10:10:00Z");
    world.now = at("2026-11-21T23:00:00Z");
    assert!(world.start().is_some());
    world.end(Ended::Failed);
    world.agents(&[]);
    world.now = at("2026-11-21T23:30:00Z");
    assert_eq!(world.start_all(), []);
    world.agents(&["web1"]);
    assert_eq!(world.start_all(), []);
}

#[test]
fn what_an_agent_went_on_with_is_not_begun_again_and_ends_the_run_that_was_cut() {
    let text = "  a: {replicate: [x, y], agent: web1, schedule: hourly}\n";
    let mut world = World::new(text, "2026-11-21T10:10:00Z");
    world.now = at("2026-11-21T11:00:00Z");
    let work = works(&world.start().unwrap()).remove(0);
    world.restart("2026-11-21T11:05:00Z");
    let (web1, y): (ClientName, VolumeName) = ("web1".parse().unwrap(), "y".parse().unwrap());
    world.scheduler.connected([(web1.clone(), [y.clone()].into())].into());
    assert_eq!(world.start_all(), []);
    assert_eq!(world.waits("a"), Some(Hindrance::Busy(web1.clone(), y)));
    let other = Work::Verify { volume: "x".parse().unwrap(), point: 0 };
    assert_eq!(world.scheduler.ended_late(&web1, &other, done(""), world.now), None, "it is other work");
    assert_eq!(world.scheduler.ended_late(&web1, &work, done("first point"), world.now), Some("a".to_owned()));
    assert_eq!(world.scheduler.ended_late(&web1, &work, done(""), world.now), None, "it ends once");
    world.agents(&["web1"]);
    assert_eq!(world.start_all(), [], "its time is done");
    let run = world.last_run("a");
    assert_eq!((run.number, run.ended), (1, Some((nanoseconds(world.now), Ended::Done))));
    let (_, history) = world.scheduler.jobs().next().unwrap();
    assert_eq!((history.record.full_ns, history.record.success_ns), (run.started_ns, nanoseconds(world.now)));
}

/// What a run did to the volume x.
fn done(full_reason: &str) -> End {
    let figures = VolumeFigures { point: 1, ..VolumeFigures::ZERO };
    let report = VolumeReport {
        volume: "x".parse().unwrap(),
        figures,
        full_reason: full_reason.to_owned(),
        text: String::new(),
    };
    End { volumes: vec![report], ..end(Ended::Done) }
}

/// Runs a job each day; of each run, whether it was full. The third fails.
fn fulls(text: &str, days: i64) -> Vec<bool> {
    let mut world = World::new(
        &format!("  a: {{replicate: [x], agent: web1, schedule: daily, retry: {{count: 0}}, {text}}}\n"),
        "2026-11-21T10:10:00Z",
    );
    let day = |day: i64| {
        world.now = at("2026-11-21T23:00:00Z") + SignedDuration::from_hours(24 * day);
        let run = world.start().unwrap();
        let is_first = day == 0;
        let Work::Replicate(work) = works(&run).remove(0) else { panic!("it replicates") };
        let reason = if is_first { Some("there is no point".to_owned()) } else { work.full };
        let end = if day == 2 { end(Ended::Failed) } else { done(reason.as_deref().unwrap_or_default()) };
        world.scheduler.ended("a", end, world.now);
        reason.is_some()
    };
    (0..days).map(day).collect()
}

#[test]
fn fulls_come_every_so_many_runs_or_by_a_schedule_and_otherwise_never() {
    let only = |days: &[i64]| (0..10).map(|day| days.contains(&day)).collect::<Vec<bool>>();
    assert_eq!(fulls("rpo: 48h", 10), only(&[0]));
    // The run of day 2 failed, and does not count.
    assert_eq!(fulls("full-every: 3", 10), only(&[0, 4, 7]));
    // One that failed is made up for by the next.
    assert_eq!(fulls("full-every: 2", 10), only(&[0, 2, 3, 5, 7, 9]));
    // Mondays are days 1 (the 23rd) and 8 in Berlin.
    assert_eq!(fulls("full-schedule: 'Mon 06:00'", 10), only(&[0, 2, 3, 9]));
    let mut world = World::new(
        "  a: {replicate: [x], agent: web1, schedule: hourly, full-every: 1, bandwidth: 50M, bandwidth-windows: [{when: 'Mon..Fri 08:00..18:00', limit: 10M}]}\n",
        "2026-11-21T10:10:00Z",
    );
    world.now = at("2026-11-23T07:00:00Z");
    let run = world.start().unwrap();
    assert_eq!(run.full.as_deref(), Some("full-every: 1, and 0 runs since the last full"));
    assert_eq!(run.bytes_per_second, 10 << 20, "it is 8 o'clock in Berlin");
    world.end_of("a", Ended::Done);
    world.now = at("2026-11-23T17:00:00Z");
    assert_eq!(world.start().unwrap().bytes_per_second, 50 << 20);
    let Task::Replicate(replicate) = &run.job.task else { panic!("it replicates") };
    assert_eq!(replicate.bandwidth.at(at("2026-11-22T10:00:00Z")), 50 << 20);
}
