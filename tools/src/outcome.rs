//! How a command ended, as far as it did not fail with an error, and the exit code of that.

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All is well.
    Done,
    /// What was looked at is damaged.
    Failed,
    /// Done, and something was warned of.
    Warnings,
    /// What was compared is not identical.
    Different,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(match outcome {
            Outcome::Done => 0,
            Outcome::Failed => 1,
            Outcome::Warnings => 3,
            Outcome::Different => 4,
        })
    }
}
