//! Jobs: what the configuration says is to be done to the pool from time to time, done.
//!
//! [`scheduler`] decides what is next, from times that are passed in and without any I/O; [`driver`] turns it: it asks the clock, runs
//! the command on a thread, and writes the [`history`] down. [`commands`] shows all that, and asks for a run.
//!
//! Invariants: one run at a time; a run is in the history, durably, before it starts and when it ended, so nothing is done twice for one
//! time unless it was cut; whatever was missed while no daemon ran is made up for once.

pub mod commands;
pub mod driver;
pub mod history;
pub mod scheduler;
#[cfg(test)]
mod tests;
