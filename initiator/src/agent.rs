//! `understudy agent`: this host does what the appliance tells it to, as far as its administrator allows.
//!
//! The way of an assignment: session ([`link`]) -> [`service`], the one owner of everything -> [`desk`], which decides by the
//! [`config`] alone and makes an order of it -> [`store`] -> a [`run`], which puts commands of this very program between the
//! hooks of a bracket ([`process`]) and hears what they say ([`heard`]) -> report -> store -> session, until it was taken.
//!
//! Invariants: nothing that an appliance says becomes a path, a command or an option but by a name that the configuration has; what reads
//! and writes volumes are processes of their own, so they can be ended, and cannot hurt the session.

pub mod config;
pub mod desk;
pub mod heard;
pub mod link;
pub mod process;
mod raw;
pub mod run;
mod service;
pub mod store;

use crate::args::Agent;
use crate::outcome::Outcome;
use anyhow::Result;
use config::Config;
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use serde_json::json;
use service::Service;
use std::io::Write;
use understudy_config::{ConfigError, log};

/// Runs the command.
pub async fn run(args: &Agent) -> Result<Outcome> {
    let config = Config::read(&args.config)?;
    if args.check_config {
        return Ok(check(&config, args.json));
    }
    let logs = log::init(config.log_format, config.log_level.as_deref());
    config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let name = config.name.clone();
    let service = Service::new(&args.config, config, &logs)?;
    // Whoever started the agent may have closed its output: no reason not to serve.
    let mut out = std::io::stdout();
    let _ = writeln!(out, "agent {name}\nready").and_then(|()| out.flush());
    service.serve().await?;
    Ok(Outcome::Done)
}

/// Tells what is in a configuration.
fn check(config: &Config, json: bool) -> Outcome {
    let files: Vec<String> = config.files.iter().map(|file| file.display().to_string()).collect();
    let (verdict, outcome) = match config.warnings.is_empty() {
        true => ("is right", Outcome::Done),
        false => ("can be used", Outcome::Warnings),
    };
    if json {
        config.warnings.iter().map(ConfigError::event).for_each(|event| println!("{event}"));
        println!("{}", json!({"event": "checked", "files": files, "warnings": config.warnings.len()}));
    } else {
        config.warnings.iter().for_each(|warning| println!("warning: {warning}"));
        println!("{} {verdict}", files.join(", "));
    }
    outcome
}

/// A command that an agent started ends with it, however that ends.
pub fn end_with_parent() -> Result<()> {
    let Some(parent) = std::env::var(run::PARENT).ok().and_then(|parent| parent.parse::<i32>().ok()) else {
        return Ok(());
    };
    set_parent_process_death_signal(Some(Signal::TERM))?;
    let is_there = getppid().is_some_and(|found| found.as_raw_nonzero().get() == parent);
    anyhow::ensure!(is_there, "the agent that started this has ended");
    Ok(())
}
