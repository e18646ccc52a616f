//! Tells the story: numbered steps, commands as they would be typed, and what they print.

use crate::process::{line, ours, theirs};
use crate::text::say;
use anyhow::{Context, bail};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// See the module documentation.
#[derive(Debug)]
pub struct Stage {
    dir: PathBuf,
    environment: Vec<(String, String)>,
    colour: bool,
    step: u32,
    title: String,
}

impl Stage {
    /// Commands run in `dir`.
    pub fn new(dir: &Path) -> Self {
        let colour = std::io::stdout().is_terminal();
        Self { dir: dir.to_owned(), environment: Vec::new(), colour, step: 0, title: "0".into() }
    }

    /// Where commands run.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The step that is being played, for errors.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Begins a step: what happens, and why.
    pub fn step(&mut self, title: &str, why: &str) {
        self.step += 1;
        self.title = format!("{} ({title})", self.step);
        say(&format!("\n{}", self.paint("1", &format!("{}. {title}", self.step))));
        say(&format!("   {why}\n"));
    }

    /// A sentence.
    pub fn say(&self, text: &str) {
        say(text);
    }

    /// A command line.
    pub fn command(&self, line: &str) {
        say(&format!("   {} {}", self.paint("2", "$"), self.paint("36", line)));
    }

    /// A line that a command printed.
    pub fn output(&self, line: &str) {
        say(&format!("     {line}"));
    }

    /// Sets a variable for all commands that follow.
    pub fn set(&mut self, name: &str, value: &str) {
        self.command(&format!("export {name}={value}"));
        self.environment.push((name.into(), value.into()));
    }

    /// Shows a command, runs it, shows what it prints; fails unless it succeeds.
    pub fn run(&self, program: &str, args: &[&str]) -> anyhow::Result<String> {
        let printed = self.run_quietly(program, args)?;
        // Tools of filesystems begin by telling their version.
        let is_banner = |line: &str| line.starts_with("debugfs 1.") || line.starts_with("e2fsck 1.");
        printed.trim_end().lines().filter(|line| !is_banner(line)).for_each(|line| self.output(line.trim_end()));
        Ok(printed)
    }

    /// The same, without what it prints.
    pub fn run_quietly(&self, program: &str, args: &[&str]) -> anyhow::Result<String> {
        let mut command = self.command_of(program, args)?;
        self.command(&line(&command));
        let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {program}"))?;
        let printed = [&output.stderr[..], &output.stdout[..]].map(String::from_utf8_lossy).concat();
        match output.status.success() {
            true => Ok(printed),
            false => bail!("`{}` failed ({}):\n{}", line(&command), output.status, printed.trim()),
        }
    }

    /// A command in the directory of the story, with its variables.
    pub fn command_of(&self, program: &str, args: &[&str]) -> anyhow::Result<Command> {
        let is_ours = program.starts_with("understudy");
        let path = if is_ours { ours(program)? } else { theirs(program)? };
        let mut command = Command::new(path);
        command.args(args).current_dir(&self.dir).envs(self.environment.iter().map(|(name, value)| (name, value)));
        Ok(command)
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.into() }
    }
}
