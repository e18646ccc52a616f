//! What this program says of itself beyond `--help`: completions for shells, and man pages.
//!
//! Both come out of the table that the command line is read by, so they cannot say anything else than it does.

use crate::args::Arguments;
use clap::CommandFactory;
use clap_complete::Shell;
use std::io::{self, Write};
use std::path::Path;

/// Prints completions for a shell.
pub fn completions(shell: Shell) -> io::Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "understudy", &mut text);
    match io::stdout().write_all(&text) {
        // Whoever closed the pipe has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

/// Writes a page for the program and one for each of its commands.
pub fn man(dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    clap_mangen::generate_to(Arguments::command(), dir)
}
