//! A running `understudyd serve` on free ports, seen through its command line alone.
//!
//! Invariants: the daemon never outlives its [`Daemon`]; it is ready when it says so, and what it says before
//! that is the contract (`pool`, `listening`, `nbd`, `ready`).

use crate::process::{Running, line, ours, output, wait_for};
use anyhow::{Context, bail};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long a daemon may take to be ready, to end, and to settle a secondary.
const LIMIT: Duration = Duration::from_secs(600);

/// See the module documentation.
#[derive(Debug)]
pub struct Daemon {
    running: Running,
    dir: PathBuf,
    pool: String,
    /// What it printed until it was ready.
    pub said: Vec<String>,
    /// The command line.
    pub command: String,
    /// HOST:PORT for initiators.
    pub address: String,
    /// HOST:PORT for NBD.
    pub nbd: String,
}

impl Daemon {
    /// Serves the pool `pool` in `dir`, whose file `understudyd.log` takes the log.
    pub fn start(dir: &Path, pool: &str) -> anyhow::Result<Self> {
        Self::start_with(dir, pool, &[])
    }

    /// The same with more arguments.
    pub fn start_with(dir: &Path, pool: &str, more: &[&str]) -> anyhow::Result<Self> {
        let log = dir.join("understudyd.log");
        let mut command = Command::new(ours("understudyd")?);
        command.args(["serve", "--pool", pool, "--listen", "127.0.0.1:0", "--nbd", "127.0.0.1:0"]);
        command.args(more).current_dir(dir);
        command.stdout(Stdio::piped()).stderr(File::create(&log).context("cannot make the log")?);
        let mut running = Running::start(&mut command)?;
        let stdout = running.child().stdout.take().context("no output of understudyd")?;
        let mut said = Vec::new();
        for said_line in BufReader::new(stdout).lines().map_while(Result::ok) {
            said.push(said_line);
            if said.last().is_some_and(|line| line == "ready") {
                break;
            }
        }
        let find = |prefix: &str| said.iter().find_map(|line| line.strip_prefix(prefix)).map(str::to_owned);
        let (Some(address), Some(nbd)) = (find("listening "), find("nbd ")) else {
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            bail!("understudyd did not get ready: {}", log.trim());
        };
        let command = line(&command);
        Ok(Self { running, dir: dir.to_owned(), pool: pool.to_owned(), said, command, address, nbd })
    }

    /// `understudy`, with this appliance and a state directory in the environment.
    pub fn understudy(&self) -> anyhow::Result<Command> {
        let mut command = Command::new(ours("understudy")?);
        command.current_dir(&self.dir);
        command.env("UNDERSTUDY_APPLIANCE", &self.address).env("UNDERSTUDY_STATE_DIR", "state");
        Ok(command)
    }

    /// What is told of a volume; `None` when there is none of that name.
    pub fn volume(&self, name: &str) -> anyhow::Result<Option<Value>> {
        let shown = output(self.understudy()?.args(["volumes", "--json"]))?;
        let shown: Value = serde_json::from_slice(&shown.stdout).context("the volumes are no JSON")?;
        let volumes = shown.as_array().context("the volumes are no JSON array")?;
        Ok(volumes.iter().find(|found| found["name"] == name).cloned())
    }

    /// A figure of the metrics, by its name and labels; `None` when it is not told.
    pub fn metric(&self, series: &str) -> anyhow::Result<Option<f64>> {
        let socket = self.dir.join(&self.pool).join("control");
        let mut told = String::new();
        let asked = UnixStream::connect(&socket).and_then(|mut stream| {
            stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
            stream.read_to_string(&mut told)
        });
        asked.with_context(|| format!("cannot ask for metrics at {}", socket.display()))?;
        let value = told.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
        Ok(value)
    }

    /// Waits until the secondary of a volume is the newest point.
    pub fn settle(&self, volume: &str) -> anyhow::Result<()> {
        wait_for(&format!("the secondary of {volume} settles"), LIMIT, || {
            let Some(found) = self.volume(volume)? else { return Ok(None) };
            let secondary = &found["secondary"];
            let settled = secondary["state"] == "settled" && secondary["settled_root"] == found["newest_root"];
            Ok(settled.then_some(()))
        })
    }

    /// The most memory that the daemon has had so far, bytes.
    pub fn peak(&self) -> u64 {
        self.running.peak()
    }

    /// What the daemon has written to disks so far, bytes.
    pub fn written(&self) -> u64 {
        self.running.written()
    }

    /// A clean shutdown.
    pub fn stop(self) -> anyhow::Result<()> {
        self.running.end(LIMIT).context("understudyd")
    }
}
