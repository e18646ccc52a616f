//! Agents as processes: what they are told is done, reported and listed, and no run is lost to a network, an agent or an appliance that
//! comes and goes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use understudy_tests::image::{self, MIB};
use understudy_tests::wait::wait_until;
use understudy_tests::{
    Agent, Appliance, Lab, Proxy, Rng, Run, Running, Signal, UNDERSTUDY, UNDERSTUDYD, args, compare, seed,
};

const IN_FORCE: &str = "the configuration was read again and is in force";
/// In the middle of the stream of a source of 8 MiB.
const HALF: u64 = 4 << 20;

fn source(lab: &Lab) -> PathBuf {
    let source = lab.file("source.raw");
    image::random(&source, 8 * MIB, &mut Rng::new(seed()));
    source
}

fn volume(source: &Path) -> String {
    format!("volumes:\n  v: {{source: '{}'}}\n", source.display())
}

/// What the daemon says of its agents.
fn agents(appliance: &Appliance) -> Vec<Value> {
    let mut events = appliance.upkeep(&["agents", "--json"]).expect_code(0).events();
    events.retain(|event| event["event"] == "agent");
    events
}

/// Waits until an agent is connected, or not.
#[track_caller]
fn connected(appliance: &Appliance, name: &str, wanted: bool) {
    wait_until(&format!("{name} is connected: {wanted}"), || {
        let agents = agents(appliance);
        let found = agents.iter().any(|agent| agent["agent"] == name && agent["connected"] == wanted);
        if found { Ok(()) } else { Err(format!("{agents:?}")) }
    });
}

/// An appliance, an agent behind a relay that holds its breath in the middle of a stream, and somebody who waits for that run.
struct Held {
    lab: Lab,
    appliance: Appliance,
    source: PathBuf,
    proxy: Proxy,
    agent: Agent,
    asked: Running,
}

fn held() -> Held {
    let lab = Lab::new();
    let appliance = Appliance::start(&lab);
    let source = source(&lab);
    let proxy = Proxy::hold_after(appliance.address(), HALF);
    let agent = Agent::start(&lab, "host", proxy.address(), &volume(&source));
    connected(&appliance, "host", true);
    let asked = appliance.upkeep_run(&["replicate", "v", "--json"]).start();
    wait_until("the relay holds", || if proxy.held() { Ok(()) } else { Err(agent.log()) });
    Held { lab, appliance, source, proxy, agent, asked }
}

#[test]
fn what_an_agent_is_told_is_done() {
    let lab = Lab::new();
    let appliance = Appliance::start(&lab);
    let source = source(&lab);
    let target = lab.file("target.raw");
    let rest = format!("{}targets:\n  spare: {{path: '{}'}}\n", volume(&source), target.display());
    let mut agent = Agent::start(&lab, "host", appliance.address(), &rest);
    connected(&appliance, "host", true);
    let shown = agents(&appliance).remove(0);
    assert_eq!((&shown["volumes"][0]["volume"], &shown["targets"][0]), (&"v".into(), &"spare".into()));
    assert_eq!(shown["volumes"][0]["size"], 8 * MIB);

    let full = appliance.upkeep(&["replicate", "v", "--json"]).expect_code(0).events();
    let volume = full.iter().find(|event| event["event"] == "volume").expect("a volume");
    assert_eq!((&volume["point"], &volume["full_reason"]), (&1.into(), &"first point of this volume".into()));
    assert_eq!(volume["bytes_read"], 8 * MIB);
    appliance.assert_secondary("v", &source);
    let first = image::keep(&source, &lab.file("first.raw"));
    image::patch(&source, 3 * MIB, b"act two");
    let next = appliance.upkeep(&["replicate", "v", "--label", "two", "--agent", "host", "--json"]).expect_code(0);
    let next = next.events();
    let volume = next.iter().find(|event| event["event"] == "volume").expect("a volume");
    assert_eq!((&volume["point"], &volume["full_reason"]), (&2.into(), &"".into()));

    appliance.upkeep(&["verify", "v"]).expect_code(0).says("identical");
    image::patch(&source, 5 * MIB, b"act three");
    appliance.upkeep(&["verify", "v@two"]).expect_code(4).says("the first is block 80");
    appliance.upkeep(&["restore", "v@1", "--target", "spare", "--agent", "host"]).expect_code(0);
    compare::assert_same(&first, &target, "the target is the point");
    let again = appliance.upkeep(&["restore", "v@2", "--target", "spare", "--agent", "host"]).expect_refusal();
    again.says("has content").says("overwrite: true");
    compare::assert_same(&first, &target, "a target that may not be overwritten stays");
    appliance.upkeep(&["replicate", "w"]).expect_refusal().says("no agent that was here offers w");
    appliance.upkeep(&["replicate", "w", "--agent", "host"]).expect_refusal().says("allows no volume w; it allows: v");
    agent.stop();
    connected(&appliance, "host", false);
    appliance.upkeep(&["replicate", "v", "--agent", "host"]).expect_refusal().says("agent host is not connected since");
}

#[test]
fn a_group_of_an_agent_is_committed_together_and_ends_at_once_when_a_member_fails() {
    let lab = Lab::new();
    let appliance = Appliance::start(&lab);
    let (source, second) = (source(&lab), lab.file("second.raw"));
    image::random(&second, 2 * MIB, &mut Rng::new(seed()));
    let rest = format!("{}  w: {{source: '{}', size: 2M}}\n", volume(&source), second.display());
    let _agent = Agent::start(&lab, "host", appliance.address(), &rest);
    connected(&appliance, "host", true);
    appliance.upkeep(&["replicate", "v", "w", "--group"]).expect_code(0);
    appliance.assert_secondary("v", &source);
    appliance.assert_secondary("w", &second);
    std::fs::remove_file(&second).expect("a source that is gone");
    let failed = appliance.upkeep(&["replicate", "v", "w", "--group"]).expect_code(1);
    failed.says("w: ").says("second.raw").says("v: ended early");
    assert_eq!((appliance.point_numbers("v"), appliance.point_numbers("w")), (vec![1], vec![1]));
    appliance.upkeep(&["replicate", "v"]).expect_code(0);
    assert_eq!(appliance.point_numbers("v"), [1, 2]);
}

#[test]
fn a_network_that_is_cut_ends_no_run() {
    let Held { appliance, source, proxy, agent, asked, lab: _lab } = held();
    // Nothing closes the connections: silence alone says that they are dead.
    agent.says("for 2 s");
    connected(&appliance, "host", false);
    assert!(!asked.has_ended());
    proxy.break_now();
    proxy.release();
    asked.finish().expect_code(0);
    appliance.assert_secondary("v", &source);
}

#[test]
fn an_agent_that_was_killed_reports_what_it_did_not_finish() {
    let Held { appliance, source, proxy, mut agent, asked, lab } = held();
    agent.kill();
    wait_until("the command of the agent ends with it", || {
        let lock = std::fs::File::options().append(true).open(lock_of(&lab)).expect("the lock of the volume");
        lock.try_lock().map_err(|error| error.to_string())
    });
    proxy.break_now();
    proxy.release();
    agent.restart();
    asked.finish().expect_code(1).says("the agent ended before the run did");
    appliance.assert_no_point("v");
    connected(&appliance, "host", true);
    appliance.upkeep(&["replicate", "v"]).expect_code(0);
    appliance.assert_secondary("v", &source);
}

/// The file that the initiator of a volume holds.
fn lock_of(lab: &Lab) -> PathBuf {
    let state = lab.file("host state");
    let pools = std::fs::read_dir(&state).expect("the state directory").map(|entry| entry.expect("an entry").path());
    let mut locks = pools.map(|pool| pool.join("v.lock")).filter(|lock| lock.exists());
    locks.next().expect("the lock of the volume")
}

#[test]
fn an_appliance_that_was_killed_gets_the_report_of_a_run_that_it_does_not_know() {
    let Held { mut appliance, source, proxy, agent, asked, lab: _lab } = held();
    appliance.kill();
    asked.finish().expect_code(1);
    appliance.restart();
    proxy.break_now();
    proxy.release();
    wait_until("the report of the run comes", || {
        let log = appliance.log();
        if log.contains("a run ended that nobody waits for any more") { Ok(()) } else { Err(agent.log()) }
    });
    appliance.assert_secondary("v", &source);
    connected(&appliance, "host", true);
    assert_eq!(agents(&appliance)[0]["runs"], Value::Array(vec![]));
}

#[test]
fn an_agent_that_is_stopped_ends_its_runs_and_says_so_when_it_is_back() {
    let Held { appliance, proxy, mut agent, asked, lab: _lab, .. } = held();
    agent.stop();
    proxy.break_now();
    proxy.release();
    assert!(!asked.has_ended(), "the report could not be delivered");
    agent.restart();
    asked.finish().expect_code(1).says("ended early, as it was told to");
    appliance.assert_no_point("v");
}

#[test]
fn a_command_that_is_interrupted_cancels_its_run() {
    let Held { appliance, proxy, agent, asked, lab: _lab, .. } = held();
    proxy.release();
    asked.signal(Signal::INT);
    // Either it was over just now, or it is told to end.
    wait_until("the run is over", || match agents(&appliance)[0]["runs"].as_array().is_some_and(Vec::is_empty) {
        true => Ok(()),
        false => Err(agent.log()),
    });
}

#[test]
fn a_configuration_is_read_again_without_ending_a_run() {
    let Held { appliance, source, proxy, agent, asked, lab } = held();
    agent.write(&lab, proxy.address(), &format!("volumes:\n  w: {{source: '{}'}}\n", source.display()));
    agent.read_again(IN_FORCE);
    agent.write(&lab, proxy.address(), "volums: {}\n");
    agent.read_again("the configuration is wrong: what was in force still is");
    proxy.release();
    asked.finish().expect_code(0);
    wait_until("what changed is announced", || {
        let agents = agents(&appliance);
        if agents[0]["volumes"][0]["volume"] == "w" { Ok(()) } else { Err(format!("{agents:?}")) }
    });
    appliance.upkeep(&["replicate", "v", "--agent", "host"]).expect_refusal().says("allows no volume v; it allows: w");
}

#[test]
fn a_volume_has_one_run_at_a_time() {
    let Held { appliance, proxy, agent: _agent, asked, lab: _lab, .. } = held();
    let shown = agents(&appliance).remove(0);
    assert_eq!(shown["runs"][0]["work"], "replicate v", "{shown}");
    proxy.release();
    let outcome = appliance.upkeep(&["verify", "v@1", "--agent", "host"]);
    assert!(outcome.code == Some(1) || outcome.code == Some(0), "refused as busy, or after the run: {outcome}");
    asked.finish().expect_code(0);
}

#[test]
fn the_later_of_two_agents_of_one_name_has_the_session() {
    let lab = Lab::new();
    let appliance = Appliance::start(&lab);
    let source = source(&lab);
    let first = Agent::start(&lab, "host", appliance.address(), &volume(&source));
    connected(&appliance, "host", true);
    let other = Lab::new();
    let mut second = Agent::start(&other, "host", appliance.address(), &volume(&source));
    first.says("another session of agent host has taken the place of this one");
    second.stop();
    connected(&appliance, "host", true);
    appliance.upkeep(&["replicate", "v"]).expect_code(0);
}

#[test]
fn mistakes_in_the_configuration_are_told_with_their_place() {
    let lab = Lab::new();
    let file = lab.write("agent.yaml", "version: 1\nname: h\nvolumes:\n  db:\n    sorce: /dev/x\n");
    let check = || Run::ours(UNDERSTUDY).args(args!["agent", "--check-config", "--config", &file]).run();
    let place = format!("{}:5:5: volumes.db: unknown key \"sorce\"; did you mean \"source\"?", file.display());
    check().expect_refusal().says(&place).says("Accepted here: source, bitmap, block-size, size");
    lab.write("agent.yaml", "version: 1\nname: h\n");
    check().expect_code(3).says("can be used").says("nothing to do");
    lab.write("agent.yaml", "version: 1\nname: h\nvolumes:\n  db: {source: /dev/x}\n");
    check().expect_code(0).says("is right");
    let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("../images");
    let example = images.join("agent.yaml");
    Run::ours(UNDERSTUDY).args(args!["agent", "--check-config", "--config", example]).run().expect_code(0);
}

/// What systemd would be told.
struct Systemd {
    socket: std::os::unix::net::UnixDatagram,
    path: PathBuf,
}

impl Systemd {
    fn listen(lab: &Lab) -> Systemd {
        let path = lab.file("notify");
        let socket = std::os::unix::net::UnixDatagram::bind(&path).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(60))).expect("a limit");
        Systemd { socket, path }
    }

    fn start(&self, run: Run) -> Running {
        run.env("NOTIFY_SOCKET", &self.path).env("WATCHDOG_USEC", "200000").start().wait_line("ready")
    }

    /// Waits until this is told.
    #[track_caller]
    fn is_told(&self, word: &str) {
        let mut message = [0; 4096];
        loop {
            let length = self.socket.recv(&mut message).unwrap_or_else(|error| panic!("{word} is not told: {error}"));
            if String::from_utf8_lossy(&message[..length]).contains(word) {
                return;
            }
        }
    }

    /// What every service of ours tells.
    #[track_caller]
    fn hears_all_of(&self, service: Running) {
        self.is_told("READY=1");
        self.is_told("WATCHDOG=1");
        self.is_told("WATCHDOG=1");
        service.signal(Signal::HUP);
        self.is_told("RELOADING=1\nMONOTONIC_USEC=");
        self.is_told("READY=1");
        service.signal(Signal::TERM);
        self.is_told("STOPPING=1");
        service.finish().expect_code(0);
    }
}

#[test]
fn systemd_is_told_of_both_services() {
    let lab = Lab::new();
    let systemd = Systemd::listen(&lab);
    let config = format!("version: 1\nname: h\nstate-dir: '{}'\nappliance: 127.0.0.1:1\n", lab.dir("state").display());
    let config = lab.write("agent.yaml", config);
    systemd.hears_all_of(systemd.start(Run::ours(UNDERSTUDY).args(args!["agent", "--config", config])));
    let any = "127.0.0.1:0";
    let serve = args!["serve", "--pool", lab.file("pool"), "--listen", any, "--nbd", any];
    systemd.hears_all_of(systemd.start(Run::ours(UNDERSTUDYD).args(serve)));
}
