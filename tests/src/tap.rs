//! A running `understudy tap` over a file in a lab: started, stopped, killed and started again on the same socket.
//!
//! Invariants: the process never outlives its `Tap`; what it told, over all its starts, can be read at any time, as events; it is ready when
//! it says so.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::Value;

use crate::args;
use crate::bins::UNDERSTUDY;
use crate::lab::Lab;
use crate::process::Process;
use crate::run::{Run, tool};
use crate::wait::wait_until;

/// A tap on this host.
pub struct Tap {
    volume: PathBuf,
    arguments: Vec<OsString>,
    socket: PathBuf,
    told: PathBuf,
    log: PathBuf,
    process: Process,
}

impl Tap {
    /// Starts a tap of this file for the volume `v` of an appliance, with more arguments.
    pub fn start(lab: &Lab, volume: &Path, appliance: &str, more: &[&str]) -> Tap {
        let socket = lab.file("tap.sock");
        let mut arguments = args!["tap", volume, "--volume", "v", "--to", appliance, "--json", "--reconnect", "200"];
        arguments.extend(args!["--serve", format!("unix:{}", socket.display()), "--state", lab.file("tap state")]);
        arguments.extend(more.iter().map(OsString::from));
        let (told, log) = (lab.file("tap.json"), lab.file("tap.log"));
        let mut tap =
            Tap { volume: volume.to_path_buf(), arguments, socket, told, log, process: Process::idle("the tap") };
        tap.restart();
        tap
    }

    /// Starts it again. It must not be running.
    pub fn restart(&mut self) {
        self.process.assert_idle("the tap is still running");
        let open = |path: &Path| File::options().create(true).append(true).open(path).expect("a file of the lab");
        let (before, run) = (self.count("ready"), Run::ours(UNDERSTUDY).args(self.arguments.clone()));
        let mut command = run.command();
        command.stdout(open(&self.told)).stderr(open(&self.log)).stdin(Stdio::null());
        self.process.began(command.spawn().unwrap_or_else(|error| panic!("cannot start {}: {error}", run.line())));
        self.wait("it is ready", |tap| tap.count("ready") > before);
    }

    /// The volume.
    pub fn volume(&self) -> &Path {
        &self.volume
    }

    /// The export as an NBD client names it.
    pub fn uri(&self) -> String {
        format!("nbd+unix:///v?socket={}", self.socket.display().to_string().replace(' ', "%20"))
    }

    /// Runs commands of `qemu-io` on the export.
    #[track_caller]
    pub fn io(&self, commands: &[&str]) {
        let mut arguments = args!["-f", "raw"];
        commands.iter().for_each(|command| arguments.extend(args!["-c", *command]));
        arguments.extend(args![self.uri()]);
        tool("qemu-io", arguments);
    }

    /// SIGTERM: a clean end, exit code 0.
    #[track_caller]
    pub fn stop(&mut self) {
        self.process.signal(Signal::TERM);
        let status = self.process.reap();
        assert_eq!(status.code(), Some(0), "SIGTERM is a clean end ({status}): {}", self.all());
    }

    /// SIGKILL: what a crash of the program looks like.
    pub fn kill(&mut self) {
        self.process.signal(Signal::KILL);
        self.process.reap();
    }

    /// Bytes that it wrote, to whatever, since it was started.
    pub fn written(&self) -> u64 {
        let pid = self.process.id();
        let io = std::fs::read_to_string(format!("/proc/{pid}/io")).expect("what the tap wrote");
        let written = io.lines().find_map(|line| line.strip_prefix("wchar: ")?.parse().ok());
        written.expect("a number of bytes")
    }

    /// What it told, over all its starts.
    pub fn events(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.told).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// What it told since it was started last.
    pub fn events_since_start(&self) -> Vec<Value> {
        let events = self.events();
        let start = events.iter().rposition(|event| event["event"] == "ready").unwrap_or(0);
        events[start..].to_vec()
    }

    /// How many events of this name it told.
    pub fn count(&self, name: &str) -> usize {
        self.events().iter().filter(|event| event["event"] == name).count()
    }

    /// Waits until something is so.
    #[track_caller]
    pub fn wait(&mut self, what: &str, is_so: impl Fn(&Tap) -> bool) {
        let ended = wait_until(what, || match self.process.has_ended() {
            true => Ok(true),
            false if is_so(self) => Ok(false),
            false => Err(self.all()),
        });
        assert!(!ended, "the tap ended while this was waited for: {what}: {}", self.all());
    }

    /// Waits until this is where it stands, as told last since it was started.
    #[track_caller]
    pub fn wait_phase(&mut self, phase: &str) {
        self.wait(&format!("the tap is {phase}"), |tap| tap.phase().as_deref() == Some(phase));
    }

    /// Where it stands, as told last since it was started.
    pub fn phase(&self) -> Option<String> {
        let events = self.events_since_start();
        let told = events.iter().rev().find(|event| event["event"] == "standing")?;
        told["phase"].as_str().map(String::from)
    }

    fn all(&self) -> String {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        format!("told:\n{}log:\n{}", read(&self.told), read(&self.log))
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.process.end();
        if std::thread::panicking() {
            eprintln!("--- the tap ---\n{}", self.all());
        }
    }
}
