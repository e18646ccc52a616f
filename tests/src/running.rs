//! A command that is still running: for what a test does to it, or around it, in the middle.
//!
//! Invariants: it dies with its value; waiting for it has a limit; what it wrote is never lost, whenever it dies.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::proxy::Proxy;
use crate::run::{Outcome, Run};
use crate::wait::wait_until;

const PATIENCE: Duration = Duration::from_secs(60);

/// A started command.
pub struct Running {
    line: String,
    child: Child,
    seen: Vec<u8>,
    stdout: Receiver<Vec<u8>>,
    stderr: Option<JoinHandle<String>>,
}

impl Run {
    /// Starts it and goes on.
    pub fn start(self) -> Running {
        let line = self.line();
        let mut command = self.command();
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start `{line}`: {error}"));
        let (stdout, stderr) = (child.stdout.take().expect("a pipe"), child.stderr.take().expect("a pipe"));
        let (send, receive) = channel();
        std::thread::spawn(move || {
            let mut stdout = BufReader::new(stdout);
            let mut line = Vec::new();
            while matches!(stdout.read_until(b'\n', &mut line), Ok(1..)) {
                let _ = send.send(std::mem::take(&mut line));
            }
        });
        let stderr = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = BufReader::new(stderr).read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        });
        Running { line, child, seen: Vec::new(), stdout: receive, stderr: Some(stderr) }
    }
}

impl Running {
    /// Waits for a line on standard output that has this in it; panics with all output when there is none.
    #[track_caller]
    pub fn wait_line(mut self, word: &str) -> Running {
        while let Ok(line) = self.stdout.recv_timeout(PATIENCE) {
            let found = String::from_utf8_lossy(&line).contains(word);
            self.seen.extend(line);
            if found {
                return self;
            }
        }
        let _ = self.child.kill();
        panic!("no line with {word}: {}", self.finish());
    }

    /// Waits until the relay holds what this sends; panics with all output when it ends before.
    #[track_caller]
    pub fn wait_held(mut self, proxy: &Proxy) -> Running {
        if !self.is_held(proxy) {
            let passed = proxy.passed();
            panic!("it ended after {passed} bytes, before the relay could hold it: {}", self.finish());
        }
        self
    }

    /// Waits until the relay holds what this sends (true), or until this ends (false).
    pub fn is_held(&mut self, proxy: &Proxy) -> bool {
        wait_until("the relay holds, or the process ends", || match self.child.try_wait() {
            _ if proxy.held() => Ok(true),
            Ok(Some(_)) => Ok(false),
            other => Err(format!("{} bytes passed, the process: {other:?}", proxy.passed())),
        })
    }

    /// Sends it a signal: SIGSTOP freezes it, SIGCONT lets it go on, SIGINT is Ctrl-C.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a signal to the process");
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        let ended = waitid(
            WaitId::Pid(Pid::from_child(&self.child)),
            WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG,
        );
        ended.expect("the process can be asked").is_some()
    }

    /// SIGKILL, and what was left behind.
    pub fn kill(mut self) -> Outcome {
        self.child.kill().expect("the process can be killed");
        self.finish()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn finish(mut self) -> Outcome {
        let child = &mut self.child;
        let status = wait_until(&format!("this ends: {}", self.line), || match child.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err(format!("{other:?}")),
        });
        let mut stdout = std::mem::take(&mut self.seen);
        stdout.extend(self.stdout.iter().flatten());
        let stderr = self.stderr.take().map(|thread| thread.join().expect("the reading thread"));
        let stderr = stderr.unwrap_or_default();
        let outcome = Outcome { command: self.line.clone(), code: status.code(), stdout, stderr };
        assert!(!outcome.stderr.contains("panicked at"), "the program panicked: {outcome}");
        outcome
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
