//! `understudyd`: the appliance. Exit codes: 0 done, 1 failed, 2 usage, 3 done with warnings, 4 damage remains.

use clap::{CommandFactory, FromArgMatches};
use std::process::ExitCode;
use understudy_appliance::args::{Cli, Command};
use understudy_appliance::upkeep::Outcome;
use understudy_appliance::{check, control, error, manual, offline, serve};
use understudy_config::log::{self, LogFormat};

fn main() -> ExitCode {
    let typed = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&typed).unwrap_or_else(|error| error.exit());
    if !matches!(cli.command, Command::Serve(_)) {
        log::init(LogFormat::Human, None);
    }
    let result = match &cli.command {
        Command::Serve(args) => serve::run(args).map(|()| Outcome::Done),
        Command::Ingest(args) => offline::run(args, std::io::stdin().lock()).map(|()| Outcome::Done),
        Command::Completions(args) => written(manual::completions(args.shell)),
        Command::Man(args) => written(manual::man(&args.dir)),
        Command::CheckConfig(args) => check::config(args),
        Command::Calendar(args) => check::calendar(args),
        Command::Jobs(args) => control::client::ask_daemon(args.place(), "jobs are", &typed),
        Command::OfAgents(args) => control::client::ask_daemon(args.place(), "agents are", &typed),
        Command::Clients(clients) => control::client::manage(clients, &typed),
        Command::Upkeep(upkeep) => control::client::run(upkeep, &typed),
    };
    match result {
        Ok(outcome) => outcome.into(),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn written(result: std::io::Result<()>) -> error::Result<Outcome> {
    result.map(|()| Outcome::Done).map_err(|error| error::Error::refused(format!("cannot be written: {error}")))
}
