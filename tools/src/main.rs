//! `understudy-tools`: offline and developer tools. Exit codes: 0 done, 1 failed or damaged, 2 usage.

use clap::Parser;
use std::io::{BufWriter, Write};
use std::process::ExitCode;
use understudy_tools::args::{Cli, Command, PoolCommand, StreamCommand};
use understudy_tools::{bench, demo, pool, stream};

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether what was looked at is as it should be.
fn run(cli: &Cli) -> anyhow::Result<bool> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    let fine = match &cli.command {
        Command::Stream(StreamCommand::Inspect(args)) => stream::run(args, &mut out),
        Command::Pool(PoolCommand::Check(args)) => pool::run(args, &mut out),
        Command::Demo(args) => demo::run(args).map(|()| true),
        Command::Bench(args) => bench::run(args).map(|()| true),
    };
    let flushed = out.flush();
    match (fine, flushed) {
        // Whoever reads the output may have seen enough of it.
        (Err(error), _) if is_broken_pipe(&error) => Ok(true),
        (fine, _) => fine,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
