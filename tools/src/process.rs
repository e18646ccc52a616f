//! Finding and running other programs: ours beside this executable, others where the system keeps them.
//!
//! Invariants: a program that is absent is named with the package that has it; a running program never outlives its
//! [`Running`]; peaks of memory are the kernel's own high-water marks, read while the process lives.

use crate::clock::{POLL, Stopwatch, pause};
use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Programs of others, and the Debian packages that have them.
const PACKAGES: [(&str, &str); 13] = [
    ("mke2fs", "e2fsprogs"),
    ("debugfs", "e2fsprogs"),
    ("e2fsck", "e2fsprogs"),
    ("cmp", "diffutils"),
    ("dd", "coreutils"),
    ("nbdcopy", "libnbd-bin"),
    ("nbdfuse", "libnbd-bin"),
    ("fusermount3", "fuse3"),
    ("nbdkit", "nbdkit"),
    ("qemu-img", "qemu-utils"),
    ("qemu-io", "qemu-utils"),
    ("qemu-nbd", "qemu-utils"),
    ("fio", "fio"),
];

/// One of our programs, beside this executable.
pub fn ours(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find this executable")?;
    let path = own.with_file_name(name);
    match path.is_file() {
        true => Ok(path),
        false => bail!("{} is not there: build all three programs with `make build`", path.display()),
    }
}

/// A program of somebody else; Debian keeps half of the tools of filesystems where only root looks.
pub fn theirs(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    let mut places = std::env::split_paths(&path).chain(system).map(|dir| dir.join(name));
    let package = PACKAGES.iter().find(|(program, _)| *program == name).map_or(name, |(_, package)| package);
    places
        .find(|path| path.is_file())
        .with_context(|| format!("{name} is not installed; on Debian: sudo apt install {package}"))
}

/// Fails with all that is absent at once.
pub fn need(names: &[&str]) -> anyhow::Result<()> {
    let absent: Vec<String> = names.iter().filter_map(|name| theirs(name).err()).map(|e| e.to_string()).collect();
    match absent.is_empty() {
        true => Ok(()),
        false => bail!("{}", absent.join("\n       ")),
    }
}

/// A command as it would be typed.
pub fn line(command: &Command) -> String {
    let name = Path::new(command.get_program()).file_name().unwrap_or(command.get_program()).to_string_lossy();
    let words = std::iter::once(name).chain(command.get_args().map(|arg| arg.to_string_lossy()));
    let quoted = words.map(|word| match word.chars().any(|c| c.is_whitespace() || "'\"$*?|&;<>".contains(c)) {
        true => format!("'{word}'"),
        false => word.into_owned(),
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// Runs a command to its end; fails unless it succeeds, with what it said.
pub fn output(command: &mut Command) -> anyhow::Result<Output> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {}", line(command)))?;
    match output.status.success() {
        true => Ok(output),
        false => {
            let said = String::from_utf8_lossy(if output.stderr.is_empty() { &output.stdout } else { &output.stderr });
            bail!("`{}` failed ({}): {}", line(command), output.status, said.trim())
        }
    }
}

/// A program that is killed when this is dropped.
#[derive(Debug)]
pub struct Running(Child);

impl Running {
    /// Starts it.
    pub fn start(command: &mut Command) -> anyhow::Result<Self> {
        let child = command.stdin(Stdio::null()).spawn();
        Ok(Self(child.with_context(|| format!("cannot run {}", line(command)))?))
    }

    /// Starts it with a pipe as its input.
    pub fn start_fed(command: &mut Command) -> anyhow::Result<Self> {
        let child = command.stdin(Stdio::piped()).spawn();
        Ok(Self(child.with_context(|| format!("cannot run {}", line(command)))?))
    }

    /// Starts a server, and waits until it has its socket; what one before left there, that was killed, is removed.
    pub fn start_at(command: &mut Command, socket: &Path) -> anyhow::Result<Self> {
        let _ = std::fs::remove_file(socket);
        let server = Self::start(command.stdout(Stdio::null()).stderr(Stdio::null()))?;
        wait_for("the server listens", Duration::from_secs(20), || Ok(socket.exists().then_some(())))?;
        Ok(server)
    }

    /// The process.
    pub fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    /// Asks it to end, and waits until it has; fails unless it did well.
    pub fn end(mut self, limit: Duration) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.0), Signal::TERM).context("cannot be asked to end")?;
        let status = wait_for("its end", limit, || Ok(self.0.try_wait()?))?;
        match status.success() {
            true => Ok(()),
            false => bail!("ended with {status}"),
        }
    }

    /// The most memory that it has had so far, bytes.
    pub fn peak(&self) -> u64 {
        peak(self.0.id()).unwrap_or(0)
    }

    /// What it has written to disks so far, bytes.
    pub fn written(&self) -> u64 {
        let io = std::fs::read_to_string(format!("/proc/{}/io", self.0.id())).unwrap_or_default();
        let count = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
        count.and_then(|count| count.parse().ok()).unwrap_or(0)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a command took.
#[derive(Debug, Clone, Copy)]
pub struct Taken {
    /// From its start to its end, seconds.
    pub seconds: f64,
    /// The most memory that it had, bytes.
    pub peak: u64,
}

/// Runs a command to its end and measures it.
pub fn measure(command: &mut Command) -> anyhow::Result<Taken> {
    watch(command.stdin(Stdio::null()), |_| Ok(()))
}

/// Runs a command to its end, its input what `write` writes, and measures it.
pub fn feed(command: &mut Command, write: impl FnOnce(ChildStdin) -> anyhow::Result<()>) -> anyhow::Result<Taken> {
    watch(command.stdin(Stdio::piped()), |child| write(child.stdin.take().context("no input")?))
}

fn watch(command: &mut Command, work: impl FnOnce(&mut Child) -> anyhow::Result<()>) -> anyhow::Result<Taken> {
    let watch = Stopwatch::start();
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = child.with_context(|| format!("cannot run {}", line(command)))?;
    let (id, done, most) = (child.id(), AtomicBool::new(false), AtomicU64::new(0));
    // A process that ended has no memory any more, so the mark is read while it runs.
    let (worked, output, seconds) = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                most.fetch_max(peak(id).unwrap_or(0), Ordering::SeqCst);
                pause(POLL);
            }
        });
        let worked = work(&mut child);
        let output = child.wait_with_output();
        let seconds = watch.seconds();
        done.store(true, Ordering::SeqCst);
        (worked, output, seconds)
    });
    let output = output.with_context(|| format!("cannot wait for {}", line(command)))?;
    match output.status.success() {
        true => worked.map(|()| Taken { seconds, peak: most.into_inner() }),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("`{}` failed ({}): {}", line(command), output.status, said.trim())
        }
    }
}

/// The high-water mark of a living process, bytes.
fn peak(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let mark = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    mark.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

/// Looks again and again until something is there; fails after `limit`.
pub fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let watch = Stopwatch::start();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if watch.elapsed() > limit {
            bail!("{what}: not within {} s", limit.as_secs());
        }
        pause(POLL);
    }
}
