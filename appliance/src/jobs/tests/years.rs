//! Years of several jobs at the same time, in zones whose clocks change: a model of what must hold beside the scheduler.

use super::*;
use std::collections::{BTreeMap, BTreeSet};

/// What of the jobs is under way.
#[derive(Default)]
struct Model {
    running: BTreeMap<String, (Started, Timestamp)>,
    /// Up to when each job was done by its runs.
    done: BTreeMap<String, Timestamp>,
}

impl Model {
    fn starts(&mut self, started: Started, until: Timestamp, now: Timestamp) {
        let name = started.job.name.clone();
        assert!(started.nominal <= now, "{name} before its time");
        assert!(started.why == Why::Asked || started.job.windows.is_open(now), "{name} outside its window");
        let mut volumes = BTreeSet::new();
        let others = self.running.values().map(|(run, _)| &run.job);
        for job in others.chain([&started.job]) {
            assert!(job.volumes().iter().all(|volume| volumes.insert(volume.clone())), "two runs of one volume");
        }
        let of = |agent: &str| {
            self.running.values().filter(|(run, _)| run.job.agent().is_some_and(|a| a.as_str() == agent)).count()
        };
        let agent = started.job.agent().map(|agent| agent.as_str().to_owned());
        assert!(agent.is_none_or(|agent| of(&agent) < 2), "too many of one agent");
        assert!(self.running.len() < 3, "too many at the same time");
        let upkeep = |job: &Job| job.agent().is_none();
        assert!(!upkeep(&started.job) || !self.running.values().any(|(run, _)| upkeep(&run.job)), "two upkeeps");
        if !matches!(started.why, Why::Asked | Why::Retried) {
            let before = self.done.get(&name).copied().unwrap_or(Timestamp::MIN);
            assert!(before < started.nominal, "{name} twice for one time");
        }
        assert!(self.running.insert(name, (started, until)).is_none(), "twice at the same time");
    }

    fn ends(&mut self, name: &str, ended: Ended) {
        let (started, _) = self.running.remove(name).unwrap();
        if started.why != Why::Asked && ended != Ended::Cut {
            let done = self.done.entry(name.to_owned()).or_insert(started.nominal);
            *done = started.nominal.max(*done);
        }
    }
}

const JOBS: &str = "limits: {jobs: 3, jobs-per-agent: 2}\njobs:\n  \
    often: {replicate: [x], agent: web1, schedule: '*:0/20 ZONE', random-delay: 5m, retry: {count: 2, delay: 3m}, full-every: 7}\n  \
    pair: {replicate: [x, y], agent: web1, group: true, schedule: '02:30 ZONE', full-schedule: 'monthly ZONE'}\n  \
    nights: {replicate: [z], agent: web2, schedule: 'hourly ZONE', windows: ['22:00..05:00 ZONE']}\n  \
    check: {verify: [y, z], agent: web2, schedule: 'Sun 04:00 ZONE'}\n  \
    prune: {run: prune, schedule: '30 1 * * * ZONE'}\n  collect: {run: collect, schedule: 'every 7h'}\n";

/// Lives from now to the end; `dice` says how long each run takes and how it ends, and when agents come and go.
fn live(world: &mut World, model: &mut Model, end: Timestamp, mut dice: impl FnMut(u64) -> u64) -> usize {
    let mut runs = 0;
    while world.now < end {
        let step = world.scheduler.poll(world.now);
        match step {
            Step::Start(started) => {
                runs += 1;
                let takes = SignedDuration::from_secs(1 + dice(1800) as i64 * (1 + 9 * (dice(20) / 19) as i64));
                model.starts(*started, world.now + takes, world.now);
            }
            Step::Stop(job) => {
                model.ends(&job, Ended::Cut);
                world.end_of(&job, Ended::Cut);
            }
            Step::Wait(until) => {
                let ends = model.running.values().map(|(_, ends)| *ends);
                world.now = ends
                    .chain(until)
                    .chain([end, world.now + SignedDuration::from_hours(5)])
                    .min()
                    .unwrap()
                    .max(world.now);
                let over =
                    model.running.iter().filter(|(_, (_, ends))| *ends <= world.now).map(|(name, _)| name.clone());
                for name in over.collect::<Vec<_>>() {
                    let ended = if dice(6) == 0 { Ended::Failed } else { Ended::Done };
                    model.ends(&name, ended);
                    world.end_of(&name, ended);
                }
                let here = ["web1", "web2"].into_iter().filter(|_| dice(10) > 0);
                world.scheduler.connected(idle(&here.collect::<Vec<_>>()));
            }
        }
    }
    runs
}

/// With all agents there and nothing under way, nothing that is due and inside its window is left.
fn assert_nothing_is_left(world: &mut World, model: &mut Model) {
    world.scheduler.connected(idle(&["web1", "web2"]));
    loop {
        match world.scheduler.poll(world.now) {
            Step::Start(started) => {
                let name = started.job.name.clone();
                model.starts(*started, world.now, world.now);
                model.ends(&name, Ended::Done);
                world.end_of(&name, Ended::Done);
            }
            Step::Stop(job) => {
                model.ends(&job, Ended::Cut);
                world.end_of(&job, Ended::Cut);
            }
            Step::Wait(_) if model.running.is_empty() => break,
            Step::Wait(_) => {
                let names: Vec<String> = model.running.keys().cloned().collect();
                names.iter().for_each(|name| {
                    model.ends(name, Ended::Done);
                    world.end_of(name, Ended::Done);
                });
            }
        }
    }
    for (job, history) in world.scheduler.jobs() {
        let next = job.schedule.next(time(history.record.done_ns)).unwrap();
        let delayed = next + job.delay_max;
        assert!(
            delayed > world.now || !job.windows.is_open(world.now),
            "{}: {next} was neither run nor caught up",
            job.name
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    /// A year with runs that take from seconds to hours, fail, and are cut by ends of the daemon; agents come and go.
    #[test]
    fn every_time_is_run_or_caught_up_and_limits_hold(
        zone in prop::sample::select(vec!["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "UTC"]),
        seed in any::<u64>(),
    ) {
        let mut state = seed | 1;
        let mut dice = move |sides: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % sides
        };
        let mut world = World::configured(&JOBS.replace("ZONE", zone), "2025-10-01T00:00:00Z");
        let (mut model, mut runs) = (Model::default(), 0);
        for _ in 0..6 {
            let end = world.now + SignedDuration::from_hours(24 * 60);
            runs += live(&mut world, &mut model, end, &mut dice);
            if dice(2) == 0 {
                let back = (world.now + SignedDuration::from_mins(dice(4000) as i64)).to_string();
                model.running.clear();
                world.restart(&back);
            }
            assert_nothing_is_left(&mut world, &mut model);
        }
        prop_assert!(runs > 10_000, "{} runs in a year", runs);
    }
}

#[test]
fn times_of_seconds_are_kept() {
    let mut world = World::new("  a: {replicate: [x], agent: web1, schedule: every 2s}\n", "2026-11-21T10:00:00.5Z");
    let ran = world.live("2026-11-21T10:01:00Z", SignedDuration::from_millis(300));
    assert_eq!(ran.len(), 29);
    assert!(ran.iter().all(|run| run.2 == run.3), "each when it is due");
}
