//! Runs a command to its end and keeps everything it left behind, so that a failed expectation can show all of it.
//!
//! Invariants: every command runs under a time limit; a panic of the program under test fails the test whatever was
//! expected of the exit code; the environment holds none of the caller's `UNDERSTUDY_*` variables.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::bins::binary;

/// What `timeout` exits with when the limit passed.
const TIMED_OUT: i32 = 124;
/// What the documented exit codes mean.
const EXIT_CODES: &str = "0 done, 1 failed, 2 usage, 3 done with warnings, 4 not identical";

/// A command in the making.
pub struct Run {
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(String, OsString)>,
    stdin: Option<PathBuf>,
    seconds: u32,
}

impl Run {
    /// A program of somebody else, looked up in the `PATH`.
    pub fn peer(program: &str) -> Run {
        Run { program: PathBuf::from(program), args: Vec::new(), env: Vec::new(), stdin: None, seconds: 120 }
    }

    /// A program of ours.
    pub fn ours(program: &str) -> Run {
        Run { program: binary(program), ..Run::peer(program) }
    }

    /// Adds arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = OsString>) -> Run {
        self.args.extend(args);
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, key: &str, value: impl Into<OsString>) -> Run {
        self.env.push((key.to_string(), value.into()));
        self
    }

    /// Runs it by another program, whose words come before its own.
    pub fn inside(self, words: Vec<OsString>) -> Run {
        let mut words = words.into_iter();
        let program = PathBuf::from(words.next().expect("a program"));
        let args = words.chain([self.program.into_os_string()]).chain(self.args).collect();
        Run { program, args, env: self.env, stdin: self.stdin, seconds: self.seconds }
    }

    /// Reads standard input from a file; it is empty otherwise.
    pub fn stdin(mut self, file: &Path) -> Run {
        self.stdin = Some(file.to_path_buf());
        self
    }

    /// Another time limit than the usual one.
    pub fn limit(mut self, seconds: u32) -> Run {
        self.seconds = seconds;
        self
    }

    /// The command as it would be started directly, with nothing around it: for a process that a test kills.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args);
        self.dress(&mut command);
        command
    }

    /// The command as one list of words that needs nothing around it: `env KEY=VALUE PROGRAM ARGUMENTS`.
    pub fn words(&self) -> Vec<OsString> {
        let mut words = vec![OsString::from("env")];
        words.extend(self.env.iter().map(|(key, value)| {
            let mut word = OsString::from(format!("{key}="));
            word.push(value);
            word
        }));
        words.push(self.program.clone().into_os_string());
        words.extend(self.args.iter().cloned());
        words
    }

    /// How a shell would show it.
    pub fn line(&self) -> String {
        let words = std::iter::once(self.program.as_os_str()).chain(self.args.iter().map(|arg| arg.as_os_str()));
        let mut line: Vec<String> =
            self.env.iter().map(|(key, value)| format!("{key}='{}'", value.display())).collect();
        line.extend(words.map(|word| format!("'{}'", word.display())));
        if let Some(file) = &self.stdin {
            line.push(format!("< '{}'", file.display()));
        }
        line.join(" ")
    }

    /// Runs it to its end.
    pub fn run(self) -> Outcome {
        let mut command = Command::new("timeout");
        command.args(["-k", "5", &self.seconds.to_string()]).arg(&self.program).args(&self.args);
        self.dress(&mut command);
        let output = command.output().unwrap_or_else(|error| panic!("cannot start `{}`: {error}", self.line()));
        let outcome = Outcome {
            command: self.line(),
            code: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        assert_ne!(outcome.code, Some(TIMED_OUT), "still running after {} s: {outcome}", self.seconds);
        assert!(!outcome.stderr.contains("panicked at"), "the program panicked: {outcome}");
        outcome
    }

    fn dress(&self, command: &mut Command) {
        for (key, _) in std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("UNDERSTUDY_")) {
            command.env_remove(key);
        }
        command.env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
        command.envs(self.env.iter().map(|(key, value)| (key, value)));
        match &self.stdin {
            Some(file) => {
                let file = std::fs::File::open(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
                command.stdin(file)
            }
            None => command.stdin(Stdio::null()),
        };
    }
}

/// Runs somebody else's program, which must succeed.
pub fn tool(program: &str, args: Vec<OsString>) -> Outcome {
    Run::peer(program).args(args).run().expect_code(0)
}

/// What a command left behind.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The command, as a shell would show it.
    pub command: String,
    /// Its exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// Its standard output, as bytes: streams go there.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: String,
}

impl Outcome {
    /// Standard output as text.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard output and standard error as text.
    pub fn all(&self) -> String {
        format!("{}{}", self.out(), self.stderr)
    }

    /// The exit code must be this one.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Outcome {
        assert_eq!(self.code, Some(code), "expected exit code {code} ({EXIT_CODES}): {self}");
        self
    }

    /// One of several exit codes.
    #[track_caller]
    pub fn expect_codes(self, codes: &[i32]) -> Outcome {
        assert!(
            self.code.is_some_and(|code| codes.contains(&code)),
            "expected one of the exit codes {codes:?}: {self}"
        );
        self
    }

    /// Exit code 1 and exactly one line `error: ...` on standard error, at its end.
    #[track_caller]
    pub fn expect_refusal(self) -> Outcome {
        let outcome = self.expect_code(1);
        let errors = outcome.stderr.lines().filter(|line| line.starts_with("error: ")).count();
        assert_eq!(errors, 1, "expected exactly one line `error: ...` on stderr: {outcome}");
        let last = outcome.stderr.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("");
        assert!(last.starts_with("error: "), "the error is the last line of stderr: {outcome}");
        outcome
    }

    /// The output has at least one of these, in any case of letters.
    #[track_caller]
    pub fn says_any(self, words: &[&str]) -> Outcome {
        let all = self.all().to_lowercase();
        let said = words.iter().any(|word| all.contains(&word.to_lowercase()));
        assert!(said, "expected the output to have one of {words:?}: {self}");
        self
    }

    /// The output has this, in any case of letters.
    #[track_caller]
    pub fn says(self, word: &str) -> Outcome {
        self.says_any(&[word])
    }

    /// Standard output as one JSON value.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("stdout is not JSON ({error}): {self}"))
    }

    /// Standard output as JSON lines, each with an `event`.
    #[track_caller]
    pub fn events(&self) -> Vec<Value> {
        let parse = |line: &str| {
            let value: Value =
                serde_json::from_str(line).unwrap_or_else(|error| panic!("not a JSON line ({error}): {line}\n{self}"));
            assert!(value["event"].is_string(), "a JSON line without an event: {line}\n{self}");
            value
        };
        self.out().lines().map(parse).collect()
    }

    /// The summary, which is the last JSON line.
    #[track_caller]
    pub fn summary(&self) -> Summary {
        let last = self.events().pop().unwrap_or_else(|| panic!("no JSON lines: {self}"));
        assert_eq!(last["event"], "summary", "the last JSON line is the summary: {self}");
        Summary { value: last, shown: self.to_string() }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.code.map_or("killed by a signal".to_string(), |code| code.to_string());
        let (out, err) = (shorten(&self.out()), shorten(&self.stderr));
        write!(f, "\n  command: {}\n  exit:    {code}\n  stdout:  {out}\n  stderr:  {err}\n", self.command)
    }
}

/// A program's output, without flooding the terminal.
fn shorten(text: &str) -> String {
    const SHOWN: usize = 4000;
    let skipped = text.chars().count().saturating_sub(SHOWN);
    if skipped == 0 {
        return text.trim_end().to_string();
    }
    format!("[{skipped} characters left out] {}", text.chars().skip(skipped).collect::<String>())
}

/// The last line of a run with `--json`.
pub struct Summary {
    value: Value,
    shown: String,
}

impl Summary {
    /// A figure.
    #[track_caller]
    pub fn count(&self, key: &str) -> u64 {
        self.value[key].as_u64().unwrap_or_else(|| panic!("the summary has no number `{key}`: {}", self.shown))
    }

    /// A word.
    #[track_caller]
    pub fn text(&self, key: &str) -> &str {
        self.value[key].as_str().unwrap_or_else(|| panic!("the summary has no text `{key}`: {}", self.shown))
    }

    /// The run must have been of this kind: `full` or `incremental`.
    #[track_caller]
    pub fn expect_kind(self, kind: &str) -> Summary {
        assert_eq!(self.text("kind"), kind, "expected a run of kind {kind}: {}", self.shown);
        self
    }

    /// The figure must be in this range.
    #[track_caller]
    pub fn expect_count(self, key: &str, range: impl std::ops::RangeBounds<u64> + fmt::Debug) -> Summary {
        let count = self.count(key);
        assert!(range.contains(&count), "expected {key} in {range:?}, it is {count}: {}", self.shown);
        self
    }
}

/// A number in a JSON object.
#[track_caller]
pub fn count(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_else(|| panic!("no number `{key}` in {value}"))
}

/// A text in a JSON object.
#[track_caller]
pub fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no text `{key}` in {value}"))
}
