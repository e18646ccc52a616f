//! The `understudy` program: reads the command line, runs the command, and ends with its exit code.

use clap::Parser;
use std::process::ExitCode;
use understudy_initiator::args::Arguments;
use understudy_initiator::outcome::FAILED;

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

/// What failed and why, outermost first; a cause that its effect has told already is left out.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !line.ends_with(&cause) {
            line = if line.is_empty() { cause } else { format!("{line}: {cause}") };
        }
    }
    line.replace('\n', " ")
}
