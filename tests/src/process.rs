//! One of our programs that runs for as long as a test wants it: started, signalled, waited for and started again.
//!
//! Invariant: what was started never outlives its `Process`.

use std::process::{Child, ChildStdout, ExitStatus};

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::wait_until;

/// A program, running or not.
pub(crate) struct Process {
    /// What it is in messages.
    what: &'static str,
    child: Option<Child>,
}

impl Process {
    /// One that does not run yet.
    pub(crate) fn idle(what: &'static str) -> Process {
        Process { what, child: None }
    }

    /// It was started; its standard output, if that is a pipe.
    pub(crate) fn began(&mut self, mut child: Child) -> Option<ChildStdout> {
        let stdout = child.stdout.take();
        self.child = Some(child);
        stdout
    }

    /// Fails the test while it runs.
    #[track_caller]
    pub(crate) fn assert_idle(&self, why: &str) {
        assert!(self.child.is_none(), "{why}");
    }

    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.running().id()
    }

    fn running(&self) -> &Child {
        self.child.as_ref().unwrap_or_else(|| panic!("{} runs", self.what))
    }

    /// Whether it has ended; so it has when it never began.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)))
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let sent = kill_process(Pid::from_child(self.running()), signal);
        sent.unwrap_or_else(|error| panic!("a signal to {}: {error}", self.what));
    }

    /// Waits for its end.
    pub(crate) fn reap(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap_or_else(|| panic!("{} runs", self.what));
        wait_until(&format!("{} ends", self.what), || match child.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err(format!("{other:?}")),
        })
    }

    /// Ends it if it runs, however.
    pub(crate) fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}
