//! An appliance and three agents, each on a host of its own in a network that is cut: what is due every few seconds is made up for,
//! whoever was away, killed or restarted; every volume ends identical, nothing is lost, and the metrics say so.

use std::path::PathBuf;

use serde_json::Value;
use understudy_tests::image::{self, MIB};
use understudy_tests::wait::wait_until;
use understudy_tests::{
    Appliance, Host, Lab, Network, Rng, Run, Running, UNDERSTUDY, args, compare, count, have_root, seed,
};

/// The jobs with their agents and their volumes; those of the first commit together.
const JOBS: [(&str, &str, &[&str]); 3] =
    [("pair", "host1", &["data", "logs"]), ("mail", "host2", &["mail"]), ("web", "host3", &["web"])];

fn config(schedule: &str) -> String {
    let job = |(name, agent, volumes): &(&str, &str, &[&str])| {
        let (volumes, group) = (volumes.join(", "), volumes.len() > 1);
        format!("  {name}: {{template: all, agent: {agent}, replicate: [{volumes}], group: {group}, bracket: gate}}\n")
    };
    let jobs: String = JOBS.iter().map(job).collect();
    format!(
        "version: 1\ntime-zone: UTC\njob-templates:\n  all: {{schedule: {schedule}, rpo: 1h, retry: {{count: 100, delay: 1s}}}}\njobs:\n{jobs}"
    )
}

struct Fleet {
    agents: Vec<Option<Running>>,
    appliance: Appliance,
    hosts: Vec<Host>,
    // Behind what runs in it.
    _network: Network,
    lab: Lab,
    rng: Rng,
}

impl Fleet {
    fn new() -> Fleet {
        let lab = Lab::new();
        let mut rng = Rng::new(seed());
        JOBS.iter().flat_map(|job| job.2).for_each(|volume| image::random(&lab.file(volume), 6 * MIB, &mut rng));
        let (network, mut hosts) = Network::new(4);
        let file = lab.write("appliance.yaml", config("every 2s"));
        let appliance = Appliance::start_on_host(&lab, &hosts.remove(0), args!["--config", file]);
        let mut fleet = Fleet { agents: Vec::new(), appliance, hosts, _network: network, lab, rng };
        for (at, (_, name, _)) in JOBS.iter().enumerate() {
            fleet.appliance.enrol(name, &fleet.hosts[at], &fleet.identity(at));
            let agent = fleet.agent(at);
            fleet.agents.push(Some(agent));
        }
        fleet
    }

    fn source(&self, volume: &str) -> PathBuf {
        self.lab.file(volume)
    }

    fn identity(&self, at: usize) -> PathBuf {
        self.lab.file(&format!("identity {at}"))
    }

    fn agent(&self, at: usize) -> Running {
        let (_, name, volumes) = JOBS[at];
        let gate = format!("while [ -e '{}' ]; do sleep 0.1; done\n", self.gate(at).display());
        let gate = self.lab.write(&format!("gate{at}.sh"), gate);
        let volume = |volume: &&str| format!("  {volume}: {{source: {}}}\n", self.source(volume).display());
        let volumes: String = volumes.iter().map(volume).collect();
        let file = self.lab.write(
            &format!("agent{at}.yaml"),
            format!(
                "version: 1\nname: {name}\nappliance: {}\nstate-dir: {}\nkeep-alive: 2s\nreconnect: 1s\nvolumes:\n{volumes}\
                 brackets:\n  gate: {{pre: [/bin/sh, {}]}}\n",
                self.appliance.address(),
                self.lab.file(&format!("state {at}")).display(),
                gate.display(),
            ),
        );
        let run = Run::ours(UNDERSTUDY).args(args!["agent", "--config", file]);
        self.hosts[at].on(run.env("UNDERSTUDY_IDENTITY", self.identity(at))).start().wait_line("ready")
    }

    /// While this file is there, the runs of an agent do not get beyond their bracket.
    fn gate(&self, at: usize) -> PathBuf {
        self.lab.file(&format!("closed {at}"))
    }

    /// The runs of a job, once they are what is waited for.
    #[track_caller]
    fn runs(&self, at: usize, event: &str, is_it: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        wait_until(event, || {
            let mut runs = self.appliance.upkeep(&["jobs", JOBS[at].0, "--json"]).expect_code(0).events();
            runs.retain(|run| run["event"] != "none");
            if is_it(&runs) { Ok(runs) } else { Err(format!("{runs:#?}")) }
        })
    }

    /// Waits until every job did well once more, in a run that began from now on.
    fn all_do_well(&self) {
        for (at, (job, ..)) in JOBS.iter().enumerate() {
            let started = self.runs(at, "there are runs", |_| true).iter().map(run_number).max().unwrap_or(0);
            let is_done = |run: &Value| run["outcome"] == "done" && run_number(run) > started;
            self.runs(at, &format!("{job} does well once more"), |runs| runs.iter().any(is_done));
        }
    }

    fn change_all(&mut self) {
        for volume in JOBS.iter().flat_map(|job| job.2) {
            let at = self.rng.below(4) * MIB;
            image::scribble(&self.lab.file(volume), at, MIB / 2, &mut self.rng);
        }
    }

    /// What Prometheus is told, through the socket in the pool's directory.
    fn metrics(&self) -> String {
        let socket = self.appliance.pool().join("control");
        Run::peer("curl").args(args!["-sSf", "--unix-socket", socket, "http://pool/metrics"]).run().expect_code(0).out()
    }

    #[track_caller]
    fn metric(&self, metrics: &str, name: &str, label: &str, value: &str) -> f64 {
        let sample = format!("understudy_{name}{{{label}=\"{value}\"}} ");
        let found = metrics.lines().find_map(|line| line.strip_prefix(&sample));
        let found = found.unwrap_or_else(|| panic!("no sample {sample}in\n{metrics}"));
        found.parse().unwrap_or_else(|error| panic!("{sample}{found}: {error}"))
    }
}

fn run_number(run: &Value) -> u64 {
    count(run, "run")
}

#[test]
fn a_fleet_whose_hosts_are_cut_killed_and_restarted_loses_nothing() {
    if !have_root("a network of namespaces") {
        return;
    }
    let mut fleet = Fleet::new();
    fleet.all_do_well();

    // One host is unplugged; an agent is killed in the middle of a run; the appliance is killed.
    fleet.lab.write("closed 2", "");
    fleet.runs(2, "web runs", |runs| runs.iter().any(|run| run["outcome"] == "running"));
    fleet.hosts[1].unplug();
    drop(fleet.agents[2].take().expect("it runs").kill());
    fleet.change_all();
    fleet.appliance.kill();
    let restarted = started_ns();
    fleet.appliance.restart();
    std::fs::remove_file(fleet.gate(2)).expect("the gate was closed");
    let points = || fleet.metric(&fleet.metrics(), "volume_points", "volume", "data");
    let before = points();
    wait_until("the pair goes on without the others", || {
        let points = points();
        if points > before + 1.0 { Ok(()) } else { Err(format!("{points} points")) }
    });
    fleet.hosts[1].plug_in();
    fleet.agents[2] = Some(fleet.agent(2));
    fleet.all_do_well();

    // Those that were away made up for what they missed.
    for (at, (job, ..)) in JOBS.iter().enumerate().skip(1) {
        let made_up = |run: &Value| ["missed", "away", "retried"].iter().any(|why| run["why"] == *why);
        let runs = fleet.runs(at, "there are runs", |_| true);
        assert!(runs.iter().any(made_up), "{job}: {runs:#?}");
    }

    // Nothing is due any more: one run each for what the sources are in the end.
    fleet.appliance.reconfigure(&config("yearly"), "is in force");
    fleet.change_all();
    for (job, ..) in JOBS {
        wait_until("the job is done", || match fleet.appliance.upkeep(&["run", job]) {
            outcome if outcome.code == Some(0) => Ok(()),
            outcome => Err(outcome.to_string()),
        });
    }
    for volume in JOBS.iter().flat_map(|job| job.2) {
        let (secondary, source) = (fleet.appliance.secondary(volume), fleet.source(volume));
        wait_until("the secondary settles", || compare::difference(&secondary, &source).map_or(Ok(()), Err));
    }
    let metrics = fleet.metrics();
    for (job, agent, volumes) in JOBS {
        assert_eq!(fleet.metric(&metrics, "job_last_status", "name", job), 0.0, "{metrics}");
        assert!(fleet.metric(&metrics, "job_last_success_timestamp_seconds", "name", job) * 1e9 > restarted as f64);
        assert_eq!(fleet.metric(&metrics, "agent_connected", "agent", agent), 1.0, "{metrics}");
        let points = |volume: &&str| fleet.metric(&metrics, "volume_points", "volume", volume);
        let points: Vec<f64> = volumes.iter().map(points).collect();
        assert!(points[0] >= 3.0 && points.iter().all(|count| *count == points[0]), "{volumes:?}: {points:?}");
        assert!(volumes.iter().all(|volume| fleet.metric(&metrics, "volume_rpo_seconds", "volume", volume) < 3600.0));
    }
    fleet.appliance.stop();
    fleet.appliance.assert_pool_sound();
}

/// Nanoseconds since 1970, as another program tells them.
fn started_ns() -> u64 {
    Run::peer("date").args(args!["+%s%N"]).run().out().trim().parse().expect("a number")
}
