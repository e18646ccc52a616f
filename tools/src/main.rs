//! `understudy-tools`: offline and developer tools. Exit codes: 0 done, 1 failed or damaged, 2 usage, 3 done with
//! warnings, 4 not identical.

use clap::Parser;
use std::io::{BufWriter, Write};
use std::process::ExitCode;
use understudy_tools::args::{Cli, Command, PoolCommand, StreamCommand};
use understudy_tools::outcome::Outcome;
use understudy_tools::{bench, demo, pool, scale, stream};

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(outcome) => outcome.into(),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<Outcome> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    let fine = match &cli.command {
        Command::Stream(StreamCommand::Inspect(args)) => stream::run(args, &mut out).map(sound),
        Command::Pool(PoolCommand::Check(args)) => pool::check::run(args, &mut out),
        Command::Pool(PoolCommand::Extract(args)) => pool::extract::run(args, &mut out),
        Command::Pool(PoolCommand::Rebuild(args)) => pool::rebuild::run(args, &mut out),
        Command::Demo(args) => demo::run(args).map(|()| Outcome::Done),
        Command::Bench(args) => bench::run(args).map(|()| Outcome::Done),
        Command::Scale(args) => scale::run(args).map(|()| Outcome::Done),
    };
    let flushed = out.flush();
    match (fine, flushed) {
        // Whoever reads the output may have seen enough of it.
        (Err(error), _) if is_broken_pipe(&error) => Ok(Outcome::Done),
        (fine, _) => fine,
    }
}

fn sound(is_sound: bool) -> Outcome {
    if is_sound { Outcome::Done } else { Outcome::Failed }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
