//! `understudyd`: the appliance. Exit codes: 0 done, 1 failed, 2 usage, 3 done with warnings, 4 damage remains.

use clap::Parser;
use std::io::IsTerminal;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;
use understudy_appliance::args::{Cli, Command};
use understudy_appliance::upkeep::Outcome;
use understudy_appliance::{control, offline, serve};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_env("UNDERSTUDY_LOG").unwrap_or_else(|_| EnvFilter::new("warn,understudy=info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    log.with_ansi(std::io::stderr().is_terminal()).with_target(false).init();
    let result = match &cli.command {
        Command::Serve(args) => serve::run(args).map(|()| Outcome::Done),
        Command::Ingest(args) => offline::run(args, std::io::stdin().lock()).map(|()| Outcome::Done),
        Command::Upkeep(upkeep) => control::client::run(upkeep, words()),
    };
    match result {
        Ok(outcome) => outcome.into(),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The arguments of the command line as text. Only a path may be no text, and the daemon knows where its pool is.
fn words() -> Vec<String> {
    std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect()
}
