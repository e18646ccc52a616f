//! Running the tools of the system that attach and mount: what they say when they fail is part of the error.
//!
//! Invariant: a tool that is not there is named with the package that has it.

use anyhow::{Result, bail};
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Packages of the tools, as Debian calls them.
const PACKAGES: [(&str, &str); 6] = [
    ("nbdfuse", "libnbd-bin"),
    ("fusermount3", "fuse3"),
    ("mount", "mount"),
    ("umount", "mount"),
    ("blkid", "util-linux"),
    ("partx", "util-linux"),
];

/// A command of the system; root's tools are found also where root's path is not set.
pub fn command(program: &str) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(program);
    command.env("PATH", format!("{path}:/usr/sbin:/sbin:/usr/bin:/bin")).env("LC_ALL", "C").stdin(Stdio::null());
    command
}

/// Runs a tool to its end, whatever comes of it.
pub fn output<'a>(
    program: &str,
    words: impl IntoIterator<Item = &'a str>,
    paths: impl IntoIterator<Item = &'a Path>,
) -> Result<Output> {
    let mut command = command(program);
    command.args(words).args(paths.into_iter().map(AsRef::<OsStr>::as_ref));
    match command.output() {
        Ok(output) => Ok(output),
        Err(error) => Err(cannot_start(program, &error)),
    }
}

/// Runs a tool, which must succeed.
pub fn run<'a>(
    program: &str,
    words: impl IntoIterator<Item = &'a str>,
    paths: impl IntoIterator<Item = &'a Path>,
) -> Result<()> {
    let output = output(program, words, paths)?;
    match output.status.success() {
        true => Ok(()),
        false => bail!("{program} failed: {}", said(&output.stderr)),
    }
}

/// The error for a tool that did not start.
pub fn cannot_start(program: &str, error: &std::io::Error) -> anyhow::Error {
    let package = PACKAGES.iter().find(|(known, _)| *known == program).map_or(program, |(_, package)| package);
    match error.kind() {
        ErrorKind::NotFound => anyhow::anyhow!("{program} is needed and not there; install it (Debian: {package})"),
        _ => anyhow::anyhow!("{program} cannot be started: {error}"),
    }
}

/// What a tool said, on one line.
pub fn said(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() { "it said nothing".to_owned() } else { lines.join("; ") }
}
