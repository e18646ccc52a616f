//! Makes a point a file without root: through FUSE where that is allowed, else as a copy that is read over NBD.
//!
//! Invariant: what was attached is detached when this is dropped, whatever became of the story.

use super::stage::Stage;
use crate::process::{Running, line, theirs, wait_for};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long attaching may take.
const LIMIT: Duration = Duration::from_secs(20);

/// A point as a file.
#[derive(Debug)]
pub struct Attached {
    /// The file, as a path from the directory of the story.
    pub name: String,
    mount: Option<Mount>,
}

/// A running `nbdfuse`.
#[derive(Debug)]
struct Mount {
    dir: PathBuf,
    /// Dropped after the unmount, which ends it.
    _running: Running,
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Ok(fusermount) = theirs("fusermount3") {
            let _ = Command::new(fusermount).args(["-u", "-z"]).arg(&self.dir).stderr(Stdio::null()).status();
        }
    }
}

impl Attached {
    /// Attaches the export `uri` as a file named after `label`.
    pub fn new(stage: &Stage, dir: &Path, label: &str, uri: &str) -> anyhow::Result<Self> {
        if fuse_is_allowed()
            && let Ok(attached) = Self::mounted(stage, dir, label, uri)
        {
            return Ok(attached);
        }
        let name = format!("{label}.raw");
        stage.run("nbdcopy", &[uri, &name])?;
        stage.output("(a copy that is read over NBD: nbdfuse is not open to this user here)");
        Ok(Self { name, mount: None })
    }

    fn mounted(stage: &Stage, dir: &Path, label: &str, uri: &str) -> anyhow::Result<Self> {
        let (name, path) = (format!("{label}/disk"), dir.join(label));
        fs::create_dir_all(&path)?;
        let mut command = stage.command_of("nbdfuse", &["--readonly", &name, uri])?;
        let mut running = Running::start(command.stdout(Stdio::null()).stderr(Stdio::null()))?;
        let file = dir.join(&name);
        wait_for("nbdfuse", LIMIT, || match running.child().try_wait()? {
            Some(status) => anyhow::bail!("nbdfuse ended with {status}"),
            None => Ok(file.exists().then_some(())),
        })?;
        stage.command(&format!("mkdir {label}; {} &", line(&command)));
        Ok(Self { name, mount: Some(Mount { dir: path, _running: running }) })
    }

    /// Takes it away again.
    pub fn detach(self, stage: &Stage) -> anyhow::Result<()> {
        if let Some(mount) = &self.mount {
            let dir = mount.dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
            stage.run("fusermount3", &["-u", &dir])?;
        }
        Ok(())
    }
}

/// Whether this user may mount through FUSE.
fn fuse_is_allowed() -> bool {
    let device = File::options().read(true).write(true).open("/dev/fuse");
    device.is_ok() && theirs("nbdfuse").is_ok() && theirs("fusermount3").is_ok()
}
