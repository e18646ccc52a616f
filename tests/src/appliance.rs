//! A running `understudyd serve` on a pool in a lab: started on free ports, stopped, killed and started again on the
//! same pool and the same ports.
//!
//! Invariants: the process never outlives its `Appliance`; the first lines of its standard output are the contract
//! (`pool`, `listening`, `nbd`, `ready`) and anything else there fails the test; its log is shown when a test fails.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::bins::{TOOLS, UNDERSTUDY, UNDERSTUDYD};
use crate::lab::Lab;
use crate::network::Host;
use crate::process::Process;
use crate::run::{Outcome, Run, Summary, tool};
use crate::wait::wait_until;
use crate::{args, compare};

const START_LIMIT: Duration = Duration::from_secs(60);

/// A daemon on a pool.
pub struct Appliance {
    pool: PathBuf,
    state: PathBuf,
    socket: PathBuf,
    log: PathBuf,
    /// More arguments of `serve`.
    more: Vec<OsString>,
    /// Where it runs, when that is not this host.
    host: Option<Host>,
    ports: Ports,
    process: Process,
}

/// What the daemon said when it was ready.
#[derive(Clone)]
struct Ports {
    uuid: String,
    listen: String,
    nbd: String,
}

impl Appliance {
    /// Starts a daemon on `pool` in the lab, on free ports.
    pub fn start(lab: &Lab) -> Appliance {
        Appliance::start_on(lab, &lab.file("pool"))
    }

    /// Starts a daemon on this pool; its log, its socket and the initiator's state are in the lab.
    pub fn start_on(lab: &Lab, pool: &Path) -> Appliance {
        Appliance::start_with(lab, pool, Vec::new())
    }

    /// Starts a daemon on `pool` in the lab with this configuration; its ports are flags all the same.
    pub fn start_configured(lab: &Lab, config: &str) -> Appliance {
        let file = lab.write("appliance.yaml", config);
        Appliance::start_with(lab, &lab.file("pool"), args!["--config", file])
    }

    /// The same as [`Appliance::start_on`], with more arguments of `serve`.
    pub fn start_with(lab: &Lab, pool: &Path, more: Vec<OsString>) -> Appliance {
        Appliance::start_at(lab, pool, more, None)
    }

    /// Starts a daemon on `pool` in the lab, on a host of a network, which it serves through TLS.
    pub fn start_on_host(lab: &Lab, host: &Host, mut more: Vec<OsString>) -> Appliance {
        more.extend(args!["--tls", "on"]);
        Appliance::start_at(lab, &lab.file("pool"), more, Some(host.clone()))
    }

    /// Makes a host a client of this appliance, by the token that is printed for it; who it is then stands in a directory.
    #[track_caller]
    pub fn enrol(&self, client: &str, host: &Host, identity: &Path) {
        let printed = self.upkeep(&["enroll", client, "--json"]).expect_code(0);
        let token = printed.events().into_iter().find_map(|event| event["token"].as_str().map(String::from));
        let login = args!["login", self.address(), "--token", token.expect("a token")];
        host.on(Run::ours(UNDERSTUDY).args(login).env("UNDERSTUDY_IDENTITY", identity)).run().expect_code(0);
    }

    fn start_at(lab: &Lab, pool: &Path, more: Vec<OsString>, host: Option<Host>) -> Appliance {
        let any = format!("{}:0", host.as_ref().map_or("127.0.0.1", Host::address));
        let ports = Ports { uuid: String::new(), listen: any.clone(), nbd: any };
        let mut appliance = Appliance {
            pool: pool.to_path_buf(),
            state: lab.file("state"),
            socket: lab.file("nbd.sock"),
            log: lab.file("understudyd.log"),
            more,
            host,
            ports,
            process: Process::idle("the daemon"),
        };
        appliance.restart();
        appliance
    }

    /// Starts the daemon again, on the same pool and ports. It must not be running.
    pub fn restart(&mut self) {
        self.process.assert_idle("the daemon is still running");
        let log = File::options().create(true).append(true).open(&self.log).expect("the daemon's log");
        let run = Run::ours(UNDERSTUDYD).args(args![
            "serve",
            "--pool",
            &self.pool,
            "--listen",
            &self.ports.listen,
            "--nbd",
            &self.ports.nbd,
            "--nbd-socket",
            &self.socket
        ]);
        let run = run.args(self.more.iter().cloned());
        let run = if let Some(host) = &self.host { host.on(run) } else { run };
        let mut command = run.command();
        command.stdout(Stdio::piped()).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {}: {error}", run.line()));
        let stdout = self.process.began(child).expect("a piped stdout");
        let lines = read_until_ready(stdout);
        let was = self.ports.uuid.clone();
        self.ports = self.parse(&lines).unwrap_or_else(|why| {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            panic!("the daemon is not ready: {why}\n  command: {}\n  stdout: {lines:#?}\n  stderr: {log}", run.line())
        });
        assert!(was.is_empty() || was == self.ports.uuid, "a pool keeps its UUID over restarts");
    }

    /// The four lines of the contract, in their order, and nothing else.
    fn parse(&self, lines: &[String]) -> Result<Ports, String> {
        let [pool, listening, nbd, unix, ready] = lines else {
            return Err(format!("expected the lines pool, listening, nbd, nbd unix:, ready; got {}", lines.len()));
        };
        let uuid = pool.strip_prefix(&format!("pool {} ", self.pool.display())).ok_or("no line `pool DIR UUID`")?;
        let listen = listening.strip_prefix("listening ").ok_or("no line `listening HOST:PORT`")?;
        let nbd = nbd.strip_prefix("nbd ").ok_or("no line `nbd HOST:PORT`")?;
        if *unix != format!("nbd unix:{}", self.socket.display()) {
            return Err(format!("no line `nbd unix:{}`", self.socket.display()));
        }
        if ready != "ready" {
            return Err("no line `ready`".to_string());
        }
        Ok(Ports { uuid: uuid.to_string(), listen: listen.to_string(), nbd: nbd.to_string() })
    }

    /// SIGTERM: a clean shutdown, exit code 0.
    #[track_caller]
    pub fn stop(&mut self) {
        self.process.signal(Signal::TERM);
        let status = self.process.reap();
        assert_eq!(status.code(), Some(0), "SIGTERM is a clean shutdown ({status}); the log:\n{}", self.log());
    }

    /// Writes another configuration and SIGHUPs the daemon; waits until its log says `word` once more than before.
    pub fn reconfigure(&self, config: &str, word: &str) {
        let before = self.log().matches(word).count();
        let at = self.more.iter().position(|word| word == "--config").expect("a daemon with a configuration");
        std::fs::write(&self.more[at + 1], config).expect("the configuration");
        self.process.signal(Signal::HUP);
        wait_until(&format!("the daemon says {word:?}"), || match self.log().matches(word).count() > before {
            true => Ok(()),
            false => Err(self.log()),
        });
    }

    /// SIGKILL: what a crash looks like from outside.
    pub fn kill(&mut self) {
        self.kill_when(|| {});
    }

    /// SIGKILL to a daemon that cannot end before something else happens: a write that the kernel does not let through.
    pub fn kill_when(&mut self, happens: impl FnOnce()) {
        self.process.signal(Signal::KILL);
        happens();
        self.process.reap();
    }

    /// What the daemon logged so far, over all its starts.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Files and sockets that the daemon has open.
    pub fn open_files(&self) -> usize {
        let pid = self.process.id();
        std::fs::read_dir(format!("/proc/{pid}/fd")).expect("the daemon's descriptors").count()
    }

    /// The pool's directory.
    pub fn pool(&self) -> &Path {
        &self.pool
    }

    /// The initiator's state directory.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// HOST:PORT for initiators.
    pub fn address(&self) -> &str {
        &self.ports.listen
    }

    /// HOST:PORT for NBD clients.
    pub fn nbd_address(&self) -> &str {
        &self.ports.nbd
    }

    /// The Unix socket for NBD clients.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// An export as an NBD client names it.
    pub fn uri(&self, export: &str) -> String {
        format!("nbd://{}/{export}", self.ports.nbd)
    }

    /// The same through TLS, with the certificates in a directory.
    pub fn tls_uri(&self, export: &str, certificates: &Path) -> String {
        let dir = certificates.display().to_string().replace(' ', "%20");
        format!("nbds://{}/{export}?tls-certificates={dir}", self.ports.nbd)
    }

    /// The same, over the Unix socket.
    pub fn unix_uri(&self, export: &str) -> String {
        let socket = self.socket.display().to_string().replace(' ', "%20");
        format!("nbd+unix:///{export}?socket={socket}")
    }

    /// The native image of a volume's newest point.
    pub fn secondary(&self, volume: &str) -> PathBuf {
        self.pool.join("volumes").join(volume).join("secondary.raw")
    }

    /// An `understudy` command that knows this appliance and this state directory.
    pub fn initiator(&self, arguments: Vec<OsString>) -> Run {
        Run::ours(UNDERSTUDY)
            .args(arguments)
            .env("UNDERSTUDY_APPLIANCE", self.address())
            .env("UNDERSTUDY_STATE_DIR", &self.state)
            // A line that is cut is the end of a run, unless the test is about what comes after.
            .env("UNDERSTUDY_RETRIES", "0")
    }

    /// Runs such a command.
    pub fn understudy(&self, arguments: Vec<OsString>) -> Outcome {
        self.initiator(arguments).run()
    }

    /// The arguments of `understudy replicate SOURCE --volume NAME --json`.
    pub fn replicate_args(source: &Path, volume: &str) -> Vec<OsString> {
        args!["replicate", source, "--volume", volume, "--json"]
    }

    /// Replicates, with more arguments; whatever comes of it.
    pub fn try_replicate(&self, source: &Path, volume: &str, more: &[&str]) -> Outcome {
        let mut arguments = Appliance::replicate_args(source, volume);
        arguments.extend(more.iter().map(OsString::from));
        self.understudy(arguments)
    }

    /// Replicates, which must succeed.
    #[track_caller]
    pub fn replicate(&self, source: &Path, volume: &str) -> Summary {
        self.replicate_with(source, volume, &[])
    }

    /// Replicates with more arguments, which must succeed.
    #[track_caller]
    pub fn replicate_with(&self, source: &Path, volume: &str, more: &[&str]) -> Summary {
        self.try_replicate(source, volume, more).expect_code(0).summary()
    }

    /// The volume as `understudy volumes --json` shows it, if it is there.
    #[track_caller]
    pub fn find_volume(&self, volume: &str) -> Option<Value> {
        let outcome = self.understudy(args!["volumes", "--json"]).expect_code(0);
        let json = outcome.json();
        let volumes = json.as_array().unwrap_or_else(|| panic!("not a JSON array: {outcome}"));
        volumes.iter().find(|entry| entry["name"] == volume).cloned()
    }

    /// The points of a volume as `understudy points NAME --json` shows them, oldest first.
    #[track_caller]
    pub fn points(&self, volume: &str) -> Vec<Value> {
        let outcome = self.understudy(args!["points", volume, "--json"]).expect_code(0);
        let mut points =
            outcome.json().as_array().cloned().unwrap_or_else(|| panic!("not a JSON array of points: {outcome}"));
        points.sort_by_key(|point| point["point"].as_u64());
        points
    }

    /// The numbers of the points of a volume; none when there is no such volume.
    #[track_caller]
    pub fn point_numbers(&self, volume: &str) -> Vec<u64> {
        if self.find_volume(volume).is_none() {
            return Vec::new();
        }
        self.points(volume).iter().map(|point| crate::count(point, "point")).collect()
    }

    /// The volume has no point: a refused or broken stream leaves nothing.
    #[track_caller]
    pub fn assert_no_point(&self, volume: &str) {
        let points = self.point_numbers(volume);
        assert!(points.is_empty(), "volume {volume} must have no point, it has {points:?}");
    }

    /// Waits until the secondary is the newest point, materialised.
    #[track_caller]
    pub fn settle(&self, volume: &str) -> PathBuf {
        wait_until(&format!("the secondary of {volume} is settled"), || {
            let shown = self.find_volume(volume).ok_or("no such volume")?;
            let secondary = &shown["secondary"];
            let settled = secondary["state"] == "settled" && secondary["settled_root"] == shown["newest_root"];
            if settled { Ok(()) } else { Err(shown.to_string()) }
        });
        self.secondary(volume)
    }

    /// The settled secondary has exactly the bytes of this file.
    #[track_caller]
    pub fn assert_secondary(&self, volume: &str, source: &Path) {
        compare::assert_same(&self.settle(volume), source, "the settled secondary is the source at the newest point");
    }

    /// Reads an export with `nbdcopy`, a client that is not ours, and compares it with a file.
    #[track_caller]
    pub fn assert_export(&self, lab: &Lab, export: &str, expected: &Path) {
        let copy = lab.file(&format!("nbdcopy of {}", export.replace('/', "_")));
        let _ = std::fs::remove_file(&copy);
        tool("nbdcopy", args![self.uri(export), &copy]);
        compare::assert_same(&copy, expected, &format!("export {export} is the point's bytes"));
        std::fs::remove_file(&copy).expect("the copy can be removed");
    }

    /// A command such as `understudyd prune --pool DIR --keep-last 1` on this pool, whether a daemon runs or not.
    pub fn upkeep_run(&self, words: &[&str]) -> Run {
        let (command, rest) = words.split_first().expect("a command");
        Run::ours(UNDERSTUDYD).args(args![command, "--pool", &self.pool]).args(rest.iter().map(OsString::from))
    }

    /// Runs such a command.
    pub fn upkeep(&self, words: &[&str]) -> Outcome {
        self.upkeep_run(words).run()
    }

    /// What such a command tells as JSON; nothing when all that it tells is that there is nothing.
    #[track_caller]
    pub fn ask(&self, words: &[&str]) -> Vec<Value> {
        let words: Vec<&str> = words.iter().copied().chain(["--json"]).collect();
        let mut events = self.upkeep(&words).expect_code(0).events();
        events.retain(|event| event["event"] != "none");
        events
    }

    /// The runs of a job, oldest first, once what they are is what is waited for.
    #[track_caller]
    pub fn runs(&self, job: &str, event: &str, is_it: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        wait_until(event, || match self.ask(&["jobs", job]) {
            runs if is_it(&runs) => Ok(runs),
            runs => Err(format!("{runs:#?}")),
        })
    }

    /// Bytes that the pool's history takes on its disk: segments, index and the pool's own record, secondaries left out.
    pub fn history_bytes(&self) -> u64 {
        ["segments", "index", "pool"].iter().map(|name| compare::disk_usage(&self.pool.join(name))).sum()
    }

    /// Loses the index, a cache of the segments. The daemon must not be running.
    pub fn lose_index(&self) {
        self.process.assert_idle("the index is in use");
        std::fs::remove_dir_all(self.pool.join("index")).expect("the index can be removed");
    }

    /// `pool check` finds nothing wrong. The daemon must not be running.
    #[track_caller]
    pub fn assert_pool_sound(&self) {
        self.process.assert_idle("a pool is checked at rest");
        pool_check(&self.pool).expect_code(0);
    }
}

/// Runs `understudy-tools pool check`.
pub fn pool_check(pool: &Path) -> Outcome {
    Run::ours(TOOLS).args(args!["pool", "check", pool]).run()
}

impl Drop for Appliance {
    fn drop(&mut self) {
        self.process.end();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(60).collect();
            eprintln!("--- the daemon's log (its last lines) ---");
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// The lines up to `ready`, or up to the end of the daemon, or as many as came within the limit. The pipe is read for
/// as long as the daemon lives, so that it never writes into a closed one.
fn read_until_ready(stdout: ChildStdout) -> Vec<String> {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let _ = send.send(line);
        }
    });
    let mut lines = Vec::new();
    while let Ok(line) = receive.recv_timeout(START_LIMIT) {
        let ready = line == "ready";
        lines.push(line);
        if ready {
            break;
        }
    }
    lines
}
