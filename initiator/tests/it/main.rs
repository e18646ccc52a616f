//! The `understudy` program against an appliance in memory, as a user runs it: arguments in; output,
//! exit code, points and files out.

mod bitmap;
mod disk;
mod emit;
mod fake;
mod moments;
mod replicate;
mod restore;

use fake::Fake;
use serde_json::Value;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A block of the tests, bytes.
const BLOCK: usize = 4096;

struct World {
    fake: Fake,
    directory: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        Self { fake: Fake::start(), directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn run(&self, line: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_understudy"))
            .args(line.split(' '))
            .current_dir(self.directory.path())
            .env("UNDERSTUDY_APPLIANCE", &self.fake.address)
            .env("UNDERSTUDY_STATE_DIR", self.path("state"))
            .output()
            .unwrap()
    }

    /// Runs, expects an exit code, and returns standard output and standard error.
    fn expect(&self, code: i32, line: &str) -> (String, String) {
        let output = self.run(line);
        let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert_eq!(output.status.code(), Some(code), "{line}\n{out}{err}");
        (out, err)
    }

    /// Replicates `source` to volume `v`, checks that the new point equals it, and returns start and summary.
    fn replicate(&self, options: &str) -> (Value, Value) {
        let (out, _) = self.expect(0, &format!("replicate source --volume v --json{options}"));
        let events: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let (start, summary) = (events[0].clone(), events.last().unwrap().clone());
        assert_eq!((start["event"].as_str(), summary["event"].as_str()), (Some("start"), Some("summary")));
        let content = self.fake.content("v", summary["point"].as_u64().unwrap());
        assert!(content == std::fs::read(self.path("source")).unwrap(), "the point is not the source");
        (start, summary)
    }

    fn map_path(&self) -> PathBuf {
        self.path("state/00000000-0000-0000-0000-00000000004d/v.map")
    }
}

/// Random bytes that are the same for the same seed.
fn random(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn patch(path: &Path, offset: usize, bytes: &[u8]) {
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(bytes, offset as u64).unwrap();
}

/// A sparse file with data at some blocks.
fn sparse(path: &Path, size: usize, blocks: &[usize]) {
    let file = std::fs::File::create(path).unwrap();
    file.set_len(size as u64).unwrap();
    for block in blocks {
        let length = BLOCK.min(size - block * BLOCK);
        patch(path, block * BLOCK, &random(*block as u64, length));
    }
}

fn resize(path: &Path, size: usize) {
    std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(size as u64).unwrap();
}
