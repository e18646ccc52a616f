//! How a command ended, as far as it did not fail, and the exit code of that.

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All is well.
    Done,
    /// Done, and something was warned of.
    Warnings,
    /// What was compared is not identical.
    Different,
    /// What a check for monitoring found: its exit codes are others.
    Checked(u8),
}

/// The exit code of a failure.
pub const FAILED: u8 = 1;

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(match outcome {
            Outcome::Done => 0,
            Outcome::Warnings => 3,
            Outcome::Different => 4,
            Outcome::Checked(code) => code,
        })
    }
}
