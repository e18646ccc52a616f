//! An export as a disk: a device of the kernel's NBD client, or a file of `nbdfuse`.
//!
//! The kernel's client is preferred where there is one: it waits for a daemon that is restarted. Invariants: a device
//! that is in use is never taken; a disk is there when these return. Requests of 512 bytes are asked for, so that
//! filesystems with small sectors mount.

use super::record::Attachment;
use super::step::is_connected;
use super::tool;
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// Seconds until a request without an answer is taken for a lost connection.
const TIMEOUT: &str = "30";
/// Connections of the kernel's client.
const CONNECTIONS: &str = "4";
/// How often is looked whether `nbdfuse` shows its file, and how many times.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const LOOKS: u32 = 1500;

/// What makes an export a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disk {
    /// The kernel, as this device.
    Kernel(PathBuf),
    /// `nbdfuse`.
    Fuse,
}

impl Disk {
    /// The kernel with the device that was asked for, or a free one when it has any; otherwise `nbdfuse`.
    pub fn choose(wanted: Option<&Path>) -> Result<Self> {
        let has_kernel = || Path::new("/sys/block/nbd0").exists();
        if !has_kernel() {
            // Where there is no such module, or no such program, is no failure.
            let _ = tool::output("modprobe", ["-q", "nbd"], []);
        }
        match (wanted, has_kernel()) {
            (Some(device), true) => free_device(device).map(Self::Kernel),
            (Some(device), false) => bail!(
                "{}: the kernel has no NBD client (module nbd); load it, or leave out --device to attach through nbdfuse",
                device.display()
            ),
            (None, true) if tool::output("nbd-client", ["--version"], []).is_ok() => any_device().map(Self::Kernel),
            (None, _) => Ok(Self::Fuse),
        }
    }
}

fn free_device(device: &Path) -> Result<PathBuf> {
    let name = device.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if !name.starts_with("nbd") || !Path::new("/sys/block").join(name).exists() {
        bail!("{}: is no device of the kernel's NBD client; expected /dev/nbd0 or another number", device.display());
    }
    match is_connected(device) {
        true => bail!("{}: is in use; name another device or leave out its name", device.display()),
        false => Ok(device.to_owned()),
    }
}

fn any_device() -> Result<PathBuf> {
    let devices = (0..).map(|number| PathBuf::from(format!("/dev/nbd{number}")));
    let mut there = devices.take_while(|device| device.exists());
    there.find(|device| !is_connected(device)).context(
        "all devices of the kernel's NBD client are in use; detach one, or load the module with a larger nbds_max",
    )
}

/// Connects a device of the kernel.
pub fn connect(device: &Path, attachment: &Attachment) -> Result<()> {
    let Attachment { export, server, writable, .. } = attachment;
    let (host, port) = server.rsplit_once(':').context("an NBD server is HOST:PORT")?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let device = device.display().to_string();
    let mut words = vec!["-N", export, host, port, &device, "-block-size", "512", "-timeout", TIMEOUT];
    words.extend(["-persist", "-connections", CONNECTIONS]);
    if !writable {
        words.push("-readonly");
    }
    tool::run("nbd-client", words, []).with_context(|| format!("{export} as {device}"))
}

/// Shows an export as a file in `dir`; what goes wrong stands in `log`.
pub async fn fuse(dir: &Path, log: &Path, attachment: &Attachment) -> Result<PathBuf> {
    let Attachment { export, server, writable, .. } = attachment;
    let (disk, errors) = (dir.join("disk"), File::create(log)?);
    let mut command = tool::command("nbdfuse");
    if !writable {
        command.arg("-r");
    }
    command.arg(&disk).arg(format!("nbd://{server}/{export}"));
    // It goes on when this ends, and is not meant by a Ctrl-C that ends this.
    command.stdout(Stdio::null()).stderr(errors).process_group(0);
    let mut child = command.spawn().map_err(|error| tool::cannot_start("nbdfuse", &error))?;
    for _ in 0..LOOKS {
        match std::fs::metadata(&disk) {
            Ok(_) => return Ok(disk),
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(e).with_context(|| format!("{}", disk.display())),
            Err(_) => {}
        }
        if child.try_wait()?.is_some() {
            bail!("nbdfuse failed: {}", tool::said(&std::fs::read(log).unwrap_or_default()));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    // It shows nothing: it must not begin to when this has given up.
    let _ = child.kill();
    bail!("nbdfuse does not show {}; {} may say more", disk.display(), log.display())
}
