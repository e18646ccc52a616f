//! The scheduler over simulated years: what is run when, what of a daemon that is not always there, and clocks that jump.

use super::driver::{Heard, Jobs};
use super::run::survived;
use super::scheduler::{End, Scheduler, Started, Step, nanoseconds, time};
use crate::config::{Config, Job, read};
use crate::upkeep::Outcome;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use understudy_format::access::ClientName;
use understudy_format::history::{Ended, JobHistory, RUNS_MAX, Why, decode, encode};
use understudy_format::point::VolumeName;

mod agents;
mod alarms;
mod years;

/// A configuration as an administrator would write it.
fn config(text: &str) -> Config {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.yaml");
    std::fs::write(&file, format!("version: 1\ntime-zone: Europe/Berlin\n{text}")).unwrap();
    read(&file).unwrap_or_else(|error| panic!("{error}"))
}

/// Jobs from such a text.
fn jobs(text: &str) -> Vec<Arc<Job>> {
    config(&format!("jobs:\n{text}")).jobs
}

/// The run of the one job of a text, when it is due.
pub(super) fn started(text: &str) -> Started {
    let mut world = World::new(text, "2026-11-21T10:00:00Z");
    world.now = at("2030-01-01T00:00:00Z");
    world.start().unwrap()
}

/// A run that came to this, and did nothing to any volume.
fn end(ended: Ended) -> End {
    End { ended, detail: String::new(), volumes: Vec::new() }
}

/// Agents that do nothing.
fn idle(names: &[&str]) -> BTreeMap<ClientName, BTreeSet<VolumeName>> {
    names.iter().map(|name| (name.parse().unwrap(), BTreeSet::new())).collect()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A scheduler and its clock.
struct World {
    config: Config,
    scheduler: Scheduler,
    now: Timestamp,
    last: String,
}

impl World {
    fn new(text: &str, now: &str) -> Self {
        Self::configured(&format!("jobs:\n{text}"), now)
    }

    fn configured(text: &str, now: &str) -> Self {
        let (config, now) = (config(text), at(now));
        let mut scheduler = Scheduler::new(b"seed".to_vec(), Vec::new(), now);
        scheduler.configure(&config.jobs, config.job_limits, now);
        scheduler.connected(idle(&["web1", "web2"]));
        Self { config, scheduler, now, last: String::new() }
    }

    /// The daemon ends, and another starts at this time, with what is on the disk.
    fn restart(&mut self, now: &str) {
        let known: Vec<JobHistory> = decode(&encode(&self.scheduler.histories())).unwrap();
        self.now = at(now);
        self.scheduler = Scheduler::new(b"seed".to_vec(), known, self.now);
        self.scheduler.configure(&self.config.jobs, self.config.job_limits, self.now);
        self.scheduler.connected(idle(&["web1", "web2"]));
    }

    fn configure(&mut self, text: &str) {
        let jobs = if text.is_empty() { Vec::new() } else { jobs(text) };
        self.scheduler.configure(&jobs, self.config.job_limits, self.now);
    }

    fn start(&mut self) -> Option<Started> {
        match self.scheduler.poll(self.now) {
            Step::Start(started) => {
                self.last.clone_from(&started.job.name);
                Some(*started)
            }
            Step::Stop(_) | Step::Wait(_) => None,
        }
    }

    /// The run that was started last ends so.
    fn end(&mut self, ended: Ended) {
        let job = self.last.clone();
        self.end_of(&job, ended);
    }

    fn end_of(&mut self, job: &str, ended: Ended) {
        self.scheduler.ended(job, end(ended), self.now);
    }

    /// Lets time pass up to `end`; every run takes so long. What ran: job, why, when, and for which time.
    fn live(&mut self, end: &str, takes: SignedDuration) -> Vec<(String, Why, String, String)> {
        let (end, mut ran) = (at(end), Vec::new());
        loop {
            match self.scheduler.poll(self.now) {
                Step::Start(run) => {
                    ran.push((run.job.name.clone(), run.why, self.now.to_string(), run.nominal.to_string()));
                    self.now += takes;
                    self.end_of(&run.job.name, Ended::Done);
                }
                Step::Stop(job) => panic!("{job} has no window"),
                Step::Wait(Some(until)) if until < end => self.now = until.max(self.now),
                Step::Wait(_) => return ran,
            }
        }
    }
}

fn brief(ran: &[(String, Why, String, String)]) -> Vec<(&str, Why, &str)> {
    ran.iter().map(|(job, why, when, _)| (job.as_str(), *why, when.as_str())).collect()
}

const MINUTE: SignedDuration = SignedDuration::from_mins(1);

#[test]
fn a_job_runs_when_it_is_due_and_not_at_once_when_it_is_new() {
    let mut world = World::new("  p: {run: prune, schedule: '02:30'}\n", "2026-03-27T12:00:00Z");
    let ran = world.live("2026-03-31T00:00:00Z", MINUTE);
    // The night of the 29th has no 02:30 in Berlin.
    let expected = ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"];
    assert_eq!(brief(&ran), expected.map(|time| ("p", Why::Due, time)));
}

#[test]
fn years_have_as_many_runs_as_days() {
    let mut world = World::new("  p: {run: prune, schedule: '02:30', random-delay: 45m}\n", "2024-01-01T00:00:00Z");
    let ran = world.live("2034-01-01T00:00:00Z", MINUTE);
    assert_eq!(ran.len(), 3653);
    let late = |run: &(String, Why, String, String)| at(&run.2).duration_since(at(&run.3));
    assert!(ran.iter().all(|run| (SignedDuration::ZERO..SignedDuration::from_mins(45)).contains(&late(run))));
    let days: BTreeSet<&str> = ran.iter().map(|run| &run.2[..10]).collect();
    assert_eq!(days.len(), 3653, "one a day");
    assert!(
        world.scheduler.jobs().all(|(_, history)| history.runs.len() == RUNS_MAX as usize),
        "the history is bounded"
    );
}

#[test]
fn what_was_missed_while_no_daemon_ran_is_made_up_for_once() {
    let text = "  hourly: {run: collect, schedule: hourly}\n  never: {run: prune, schedule: hourly, catch-up: false}\n";
    let mut world = World::new(text, "2026-11-21T10:30:00Z");
    assert_eq!(world.live("2026-11-21T12:00:01Z", SignedDuration::ZERO).len(), 4);
    world.restart("2026-11-25T17:20:00Z");
    let ran = world.live("2026-11-25T18:00:01Z", MINUTE);
    let expected = [
        ("hourly", Why::Missed, "2026-11-25T17:20:00Z"),
        ("hourly", Why::Due, "2026-11-25T18:00:00Z"),
        ("never", Why::Due, "2026-11-25T18:01:00Z"),
    ];
    assert_eq!(brief(&ran), expected);
    assert_eq!(ran[0].3, "2026-11-25T17:00:00Z", "it is for the last of them");
    // Again nothing is missed.
    world.restart("2026-11-25T18:10:00Z");
    assert_eq!(world.live("2026-11-25T18:59:00Z", MINUTE), []);
}

#[test]
fn a_run_that_was_cut_is_due_again_and_one_that_failed_is_not() {
    let mut world = World::new("  p: {run: prune, schedule: daily}\n", "2026-11-21T12:00:00Z");
    world.now = at("2026-11-21T23:00:00Z");
    assert_eq!(world.start().unwrap().nominal, at("2026-11-21T23:00:00Z"));
    assert!(world.start().is_none(), "one at a time");
    world.restart("2026-11-22T06:00:00Z");
    let cut = &world.scheduler.jobs().next().unwrap().1.runs[0];
    assert_eq!(cut.ended, Some((nanoseconds(world.now), Ended::Cut)));
    let again = world.start().unwrap();
    assert_eq!((again.why, again.nominal), (Why::Missed, at("2026-11-21T23:00:00Z")));
    world.end(Ended::Cut);
    assert!(world.start().is_some());
    world.end(Ended::Failed);
    assert!(world.start().is_none(), "the next time is tomorrow");
}

#[test]
fn one_upkeep_at_a_time_the_longest_due_first_and_what_is_asked_for_before() {
    let text = "  a: {run: prune, schedule: hourly}\n  b: {run: collect, schedule: '*:30'}\n  c: {run: scrub, schedule: yearly}\n";
    let mut world = World::new(text, "2026-11-21T10:10:00Z");
    world.now = at("2026-11-21T13:05:00Z");
    assert!(world.scheduler.ask("c") && world.scheduler.ask("c") && !world.scheduler.ask("d"));
    let mut order = Vec::new();
    while let Some(run) = world.start() {
        order.push((run.job.name.clone(), run.why));
        world.end(Ended::Done);
    }
    assert_eq!(order, [("c".to_owned(), Why::Asked), ("b".to_owned(), Why::Due), ("a".to_owned(), Why::Due)]);
    let done: Vec<_> = world.scheduler.jobs().map(|(_, history)| time(history.record.done_ns).to_string()).collect();
    assert_eq!(
        done,
        ["2026-11-21T13:00:00Z", "2026-11-21T12:30:00Z", "2026-11-21T10:10:00Z"],
        "asking does not count as the yearly run"
    );
}

#[test]
fn another_schedule_counts_from_when_it_was_read_and_the_same_goes_on() {
    let mut world = World::new("  p: {run: prune, schedule: hourly}\n", "2026-11-21T10:10:00Z");
    world.live("2026-11-21T11:00:01Z", SignedDuration::ZERO);
    world.now = at("2026-11-21T11:40:00Z");
    world.configure("  p: {run: collect, schedule: '*:20'}\n");
    assert_eq!(brief(&world.live("2026-11-21T12:21:00Z", MINUTE)), [("p", Why::Due, "2026-11-21T12:20:00Z")]);
    // Taken out while it runs, and put back: what it did is remembered.
    world.now = at("2026-11-21T13:20:00Z");
    assert!(world.start().is_some());
    world.configure("");
    assert!(!world.scheduler.ask("p"));
    world.end(Ended::Done);
    world.configure("  p: {run: collect, schedule: '*:20'}\n");
    assert_eq!(world.scheduler.jobs().next().unwrap().1.runs.len(), 3);
    assert!(world.start().is_none());
}

#[test]
fn who_waits_for_a_job_that_is_taken_out_is_told() {
    let text = "  a: {run: prune, schedule: hourly}\n  b: {run: collect, schedule: hourly}\n";
    let World { scheduler, now, .. } = World::new(text, "2026-11-21T10:10:00Z");
    let daemon = Jobs::new(scheduler);
    let ask = |name| {
        let (hear, heard) = crossbeam_channel::unbounded();
        assert!(daemon.ask(name, hear));
        heard
    };
    let first = ask("a");
    let (Step::Start(_), hears) = daemon.poll(now) else { panic!("nothing else runs") };
    let (again, other) = (ask("a"), ask("b"));
    daemon.configure(&jobs("  b: {run: collect, schedule: hourly}\n"), Default::default(), now);
    let Ok(Heard::Ended(Err(reason))) = again.try_recv() else { panic!("it would wait for ever") };
    assert_eq!(reason, "job a was taken out of the configuration before it ran");
    assert!(other.is_empty(), "its run comes");
    assert!(first.is_empty(), "its run goes on");
    hears.iter().for_each(|hear| hear.send(Heard::Ended(Ok(Outcome::Done))).unwrap());
    assert!(matches!(first.try_recv(), Ok(Heard::Ended(Ok(Outcome::Done)))));
}

#[test]
fn a_panic_in_a_command_is_a_failure_of_its_run() {
    let error = survived::<()>(|| panic!("a bug in a command")).unwrap_err();
    assert_eq!(error.to_string(), "internal error: the command panicked; the log says where");
}

#[test]
fn a_clock_that_jumps_stops_no_job() {
    let mut world = World::new("  p: {run: prune, schedule: hourly}\n", "2026-11-21T10:10:00Z");
    // An hour back: nothing runs twice.
    world.live("2026-11-21T12:00:01Z", SignedDuration::ZERO);
    world.now = at("2026-11-21T11:00:00Z");
    assert_eq!(brief(&world.live("2026-11-21T13:00:01Z", MINUTE)), [("p", Why::Due, "2026-11-21T13:00:00Z")]);
    // A year forward and back again with a restart: it goes by the clock.
    world.now = at("2027-11-21T11:00:00Z");
    assert_eq!(world.live("2027-11-21T11:00:01Z", MINUTE).len(), 1);
    world.restart("2026-11-21T14:30:00Z");
    assert_eq!(brief(&world.live("2026-11-21T15:00:01Z", MINUTE)), [("p", Why::Due, "2026-11-21T15:00:00Z")]);
    // The same while the daemon runs.
    world.now = at("2027-11-21T11:00:00Z");
    assert_eq!(world.live("2027-11-21T11:00:01Z", MINUTE).len(), 1);
    world.now = at("2026-11-21T15:30:00Z");
    assert_eq!(brief(&world.live("2026-11-21T16:00:01Z", MINUTE)), [("p", Why::Due, "2026-11-21T16:00:00Z")]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A daemon that comes and goes: nothing runs before it is due or twice for one time, and whenever it is there and idle, nothing is due.
    #[test]
    fn nothing_is_lost_and_nothing_is_done_twice(steps in prop::collection::vec((1i64..4000, 0u8..6), 1..60)) {
        let text = "  a: {run: prune, schedule: '*:0/20', random-delay: 15m}\n  b: {run: collect, schedule: '0 */7 * * *'}\n";
        let mut world = World::new(text, "2026-10-20T00:00:00Z");
        let mut last = BTreeMap::new();
        for (minutes, what) in steps {
            world.now += SignedDuration::from_mins(minutes);
            if what == 0 {
                let now = world.now.to_string();
                world.restart(&now);
            }
            let mut runs = 0;
            while let Some(run) = world.start() {
                prop_assert!(run.nominal <= world.now);
                let before = last.insert(run.job.name.clone(), run.nominal);
                prop_assert!(before.is_none_or(|before| before < run.nominal), "twice for one time");
                world.end(Ended::Done);
                runs += 1;
            }
            prop_assert!(runs <= 2, "once each, however much was missed");
            for (job, _) in world.scheduler.jobs() {
                prop_assert!(world.scheduler.next(&job.name, world.now).next().unwrap().at > world.now);
            }
        }
    }
}
