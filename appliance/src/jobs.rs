//! Jobs: what the configuration says is to be done from time to time, to the pool or by agents, done.
//!
//! [`scheduler`] decides what is next, from times that are passed in and without any I/O; [`driver`] turns it: it asks the clock, carries
//! out each [`run`] on a thread, and writes the [`history`] and the [`log`] of the run down. What agents are to do goes through [`hands`];
//! whoever is to know that a job fails or falls behind is told by [`notify`]. [`commands`] shows all that, and asks for a run.
//!
//! Invariants: a run is in the history, durably, before it starts and when it ended, so nothing is done twice for one
//! time unless it was cut; whatever was missed while no daemon ran, or the agent was away, is made up for once.

pub mod commands;
pub mod driver;
pub mod hands;
pub mod history;
pub mod log;
pub mod notify;
pub(crate) mod run;
pub mod scheduler;
mod show;
#[cfg(test)]
mod tests;
