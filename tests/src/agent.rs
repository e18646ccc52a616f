//! A running `understudy agent` in a lab: started with a configuration, read again, stopped, killed and started again.
//!
//! Invariants: the process never outlives its `Agent`; the first lines of its standard output are the contract (`agent`, `ready`); its log, over all its
//! starts, can be read at any time.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Stdio;

use rustix::process::Signal;

use crate::args;
use crate::bins::UNDERSTUDY;
use crate::lab::Lab;
use crate::process::Process;
use crate::run::Run;
use crate::wait::wait_until;

/// An agent on this host.
pub struct Agent {
    name: String,
    config: PathBuf,
    log: PathBuf,
    process: Process,
}

impl Agent {
    /// Starts an agent of this name for an appliance; `rest` is the rest of its configuration.
    pub fn start(lab: &Lab, name: &str, appliance: &str, rest: &str) -> Agent {
        let config = lab.file(&format!("{name}.yaml"));
        let log = lab.file(&format!("{name}.log"));
        let mut agent = Agent { name: name.to_owned(), config, log, process: Process::idle("the agent") };
        agent.write(lab, appliance, rest);
        agent.restart();
        agent
    }

    /// Writes another configuration; it is read by the next [`Agent::restart`] or [`Agent::read_again`].
    pub fn write(&self, lab: &Lab, appliance: &str, rest: &str) {
        let state = lab.dir(&format!("{} state", self.name));
        let common = format!(
            "version: 1\nname: {}\nappliance: {appliance}\nstate-dir: {}\nkeep-alive: 2s\nreconnect: 200ms\n",
            self.name,
            state.display()
        );
        std::fs::write(&self.config, common + rest).expect("the agent's configuration");
    }

    /// Starts it again. It must not be running.
    pub fn restart(&mut self) {
        self.process.assert_idle("the agent is still running");
        let log = File::options().create(true).append(true).open(&self.log).expect("the agent's log");
        let run = Run::ours(UNDERSTUDY).args(args!["agent", "--config", &self.config]);
        let mut command = run.command();
        command.stdout(Stdio::piped()).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {}: {error}", run.line()));
        let stdout = self.process.began(child).expect("a piped stdout");
        let lines: Vec<String> = BufReader::new(stdout).lines().take(2).map_while(Result::ok).collect();
        assert_eq!(lines, [format!("agent {}", self.name), "ready".to_owned()], "the log:\n{}", self.log());
    }

    /// SIGHUP; waits until the log says `word` once more than before.
    pub fn read_again(&self, word: &str) {
        let before = self.log().matches(word).count();
        self.process.signal(Signal::HUP);
        wait_until(&format!("the agent says {word:?}"), || match self.log().matches(word).count() > before {
            true => Ok(()),
            false => Err(self.log()),
        });
    }

    /// SIGTERM: a clean end, exit code 0.
    #[track_caller]
    pub fn stop(&mut self) {
        self.process.signal(Signal::TERM);
        let status = self.process.reap();
        assert_eq!(status.code(), Some(0), "SIGTERM is a clean end ({status}); the log:\n{}", self.log());
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.signal(Signal::KILL);
        self.process.reap();
    }

    /// Waits until the log says this.
    #[track_caller]
    pub fn says(&self, word: &str) {
        wait_until(&format!("the agent says {word:?}"), || match self.log().contains(word) {
            true => Ok(()),
            false => Err(self.log()),
        });
    }

    /// What the agent logged so far, over all its starts.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}
