//! A life with an accident every day: a real ext4 is replicated, pruned and collected, and each of these is cut short by
//! `kill -9` of the daemon, somewhere. After each, what is there is what a plain model says may be there, byte for byte.
//!
//! `UNDERSTUDY_TEST_ROUNDS` says how many accidents; `make soak` has more of them, with new seeds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use understudy_tests::image::{self, Filesystem, MIB, WITNESS};
use understudy_tests::{Appliance, Lab, NbdFuse, Outcome, Proxy, Rng, Run, Running, count, have_root, seed};

/// Accidents in a run of `make test`.
const ROUNDS: u64 = 6;
/// What an increment sends at least; where a full ends is not known before.
const INCREMENT: u64 = 2 * MIB;

/// What is done when the accident happens.
#[derive(Debug, Clone, Copy)]
enum Act {
    Incremental,
    Full,
    Prune,
    Collect,
    CollectBesideAStream,
}

const ACTS: [Act; 5] = [Act::Incremental, Act::Prune, Act::CollectBesideAStream, Act::Full, Act::Collect];

/// What whoever asked for it knows of what was cut short.
#[derive(Debug, Default)]
struct Aftermath {
    stream: Option<Outcome>,
    prune: Option<Outcome>,
    /// The points that the prune was to remove.
    doomed: BTreeSet<u64>,
}

struct Life {
    lab: Lab,
    rng: Rng,
    appliance: Appliance,
    round: u64,
    /// The model: each point, and a copy of what the volume was.
    points: BTreeMap<u64, PathBuf>,
}

impl Life {
    fn new() -> Life {
        let lab = Lab::new();
        let mut rng = Rng::new(seed());
        Filesystem::Ext4.make(&lab.file("source.img"), lab.path(), &mut rng);
        let appliance = Appliance::start(&lab);
        let mut life = Life { lab, rng, appliance, round: 0, points: BTreeMap::new() };
        life.appliance.replicate(&life.source(), "v").expect_kind("full");
        life.keep(1);
        life
    }

    fn source(&self) -> PathBuf {
        self.lab.file("source.img")
    }

    fn keep(&mut self, point: u64) {
        let copy = image::keep(&self.source(), &self.lab.file(&format!("kept {point}.img")));
        self.points.insert(point, copy);
    }

    /// Files come, change and go, through a kernel mount.
    fn change(&mut self) {
        let mount = Filesystem::Ext4.mount(&self.source(), &self.lab.file("mount"));
        let (root, bytes) = (mount.path(), self.rng.bytes(INCREMENT as usize));
        fs::write(root.join(format!("day {}.bin", self.round)), bytes).expect("a new file");
        image::patch(&root.join(WITNESS), self.rng.below(2_900_000), &self.rng.bytes(5_000));
        let _ = fs::remove_file(root.join(format!("day {}.bin", self.round.saturating_sub(4))));
        mount.unmount();
    }

    /// A stream into the volume, through the relay.
    fn stream(&self, proxy: &Proxy, full: bool) -> Running {
        let mut words = Appliance::replicate_args(&self.source(), "v");
        words.extend(full.then(|| "--full".into()));
        self.appliance.initiator(words).env("UNDERSTUDY_APPLIANCE", proxy.address()).start()
    }

    /// The daemon dies somewhere in a stream, or after it.
    fn die_in_a_stream(&mut self, full: bool) -> Aftermath {
        self.change();
        let limit = 1 + self.rng.below(INCREMENT + INCREMENT / 4);
        let proxy = Proxy::hold_after(self.appliance.address(), limit);
        let mut run = self.stream(&proxy, full);
        run.is_held(&proxy);
        self.appliance.kill();
        proxy.cut();
        Aftermath { stream: Some(run.finish()), ..Aftermath::default() }
    }

    /// The command that removes what a policy does not keep, or tells what that is.
    fn prune(&self, more: &str) -> Run {
        self.appliance.upkeep_run(&["prune", "--keep-last", "2", "--json", more])
    }

    /// The daemon dies after it told of so many points, or right away.
    fn die_in_a_prune(&mut self) -> Aftermath {
        let doomed = gone(&self.prune("--dry-run").run());
        let lines = self.rng.below(self.points.len() as u64 + 2);
        let run = self.prune("--collect").start();
        let run = (0..lines).fold(run, |run, _| run.wait_line(""));
        self.appliance.kill();
        Aftermath { doomed, prune: Some(run.finish()), ..Aftermath::default() }
    }

    /// The daemon dies at the so-manieth change of the segments, or right away.
    fn die_in_a_collection(&mut self) -> Aftermath {
        let changes = self.rng.below(4);
        let run = self.appliance.upkeep_run(&["collect", "--dead-max", "0"]).start();
        for _ in 0..changes {
            let before = self.segments();
            while !run.has_ended() && self.segments() == before {
                std::thread::yield_now();
            }
        }
        self.appliance.kill();
        run.finish();
        Aftermath::default()
    }

    fn segments(&self) -> BTreeSet<String> {
        let names = fs::read_dir(self.appliance.pool().join("segments")).expect("the pool has segments");
        names.map(|entry| entry.expect("an entry").file_name().display().to_string()).collect()
    }

    /// The daemon dies in a collection, while a stream stands still that needs what was removed from under it.
    fn die_in_a_collection_beside_a_stream(&mut self) -> Aftermath {
        self.change();
        let limit = 1 + self.rng.below(INCREMENT);
        let proxy = Proxy::hold_after(self.appliance.address(), limit);
        let mut stream = self.stream(&proxy, false);
        stream.is_held(&proxy);
        let doomed = gone(&self.prune("--collect").run().expect_code(0));
        self.points.retain(|point, _| !doomed.contains(point));
        if self.rng.below(2) == 0 {
            // It goes on after one collection, and ends before the next one, which is cut short.
            self.appliance.upkeep(&["collect", "--dead-max", "0"]).expect_code(0);
            proxy.release();
            stream = stream.wait_line(r#""event":"summary""#);
        }
        self.die_in_a_collection();
        proxy.cut();
        Aftermath { stream: Some(stream.finish()), ..Aftermath::default() }
    }

    fn die(&mut self, act: Act) -> Aftermath {
        eprintln!("round {}: {act:?}, points {:?}", self.round, self.points.keys());
        match act {
            Act::Incremental => self.die_in_a_stream(false),
            Act::Full => self.die_in_a_stream(true),
            Act::Prune => self.die_in_a_prune(),
            Act::Collect => self.die_in_a_collection(),
            Act::CollectBesideAStream => self.die_in_a_collection_beside_a_stream(),
        }
    }

    /// What the accident left is sound, and opens again.
    fn rise(&mut self) {
        self.appliance.assert_pool_sound();
        if self.rng.below(3) == 0 {
            self.appliance.lose_index();
        }
        self.appliance.restart();
    }

    /// Brings the model up to date: a point whose commit or removal was under way is there or not; one whose commit was
    /// acknowledged is there, one whose removal was acknowledged is not.
    #[track_caller]
    fn learn(&mut self, after: &Aftermath) {
        let there = BTreeSet::from_iter(self.appliance.point_numbers("v"));
        let done = |outcome: &Option<Outcome>| outcome.as_ref().is_some_and(|outcome| outcome.code == Some(0));
        let next = self.next();
        if done(&after.prune) {
            assert!(there.is_disjoint(&after.doomed), "their removal was acknowledged: {after:?}, there are {there:?}");
        }
        if done(&after.stream) {
            assert!(there.contains(&next), "its commit was acknowledged: {after:?}, there are {there:?}");
        }
        self.points.retain(|point, _| there.contains(point) || !after.doomed.contains(point));
        if after.stream.is_some() && there.contains(&next) {
            self.keep(next);
        }
        assert!(there.iter().eq(self.points.keys()), "{there:?} are there, {:?} should be", self.points.keys());
    }

    /// Every point is what the volume was, and the secondary is the newest.
    #[track_caller]
    fn assert_whole(&self) {
        for (point, was) in &self.points {
            self.appliance.assert_export(&self.lab, &format!("v@{point}"), was);
        }
        let (newest, was) = self.points.last_key_value().expect("a volume has a point");
        self.appliance.assert_secondary("v", was);
        let disk = NbdFuse::new(&self.appliance.uri(&format!("v@{newest}")), &self.lab.file("attached"));
        Filesystem::Ext4.check(&disk.disk());
    }

    /// The number of the next point.
    fn next(&self) -> u64 {
        self.points.keys().next_back().expect("a volume has a point") + 1
    }

    /// A day without an accident.
    fn live(&mut self) {
        self.change();
        let next = self.next();
        self.appliance.replicate(&self.source(), "v").expect_count("point", next..=next);
        self.keep(next);
        // A secondary that is on its way keeps the points that it comes from and goes to.
        self.appliance.settle("v");
    }
}

/// The points that a prune did not keep, or would not.
fn gone(prune: &Outcome) -> BTreeSet<u64> {
    let points = prune.events().into_iter().filter(|event| event["event"] == "point" && event["keep"] == false);
    points.map(|point| count(&point, "point")).collect()
}

fn rounds() -> u64 {
    let rounds = std::env::var("UNDERSTUDY_TEST_ROUNDS").ok();
    rounds.map_or(ROUNDS, |rounds| rounds.parse().expect("UNDERSTUDY_TEST_ROUNDS is a number"))
}

#[test]
fn kill_nine_anywhere_in_a_life_of_full_incremental_prune_and_collect_loses_nothing() {
    if !have_root("a kernel mount") {
        return;
    }
    let mut life = Life::new();
    for round in 1..=rounds() {
        life.round = round;
        life.live();
        let act = ACTS[usize::try_from(life.rng.below(ACTS.len() as u64)).expect("a small number")];
        let after = life.die(act);
        life.rise();
        life.learn(&after);
        life.assert_whole();
    }
    life.appliance.stop();
    life.appliance.assert_pool_sound();
}
