//! The `understudy` program: reads the command line, runs the command, and ends with its exit code.

use clap::Parser;
use std::process::ExitCode;
use understudy_initiator::args::Arguments;
use understudy_initiator::outcome::FAILED;
use understudy_initiator::text::one_line;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match understudy_initiator::run(&arguments.command) {
        Ok(outcome) => outcome.into(),
        Err(e) => match e.downcast::<clap::Error>() {
            Ok(usage) => usage.exit(),
            Err(e) => {
                eprintln!("error: {}", one_line(&e));
                ExitCode::from(FAILED)
            }
        },
    }
}
