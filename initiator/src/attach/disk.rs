//! An export as a disk: a device of the kernel's NBD client, or a file of `nbdfuse`.
//!
//! The kernel's client is preferred where there is one: it waits for a daemon that is restarted, `nbdfuse` does not. Invariants: a
//! device that is in use is never taken, nor one believed to be ours that another client took first; a disk is there when these return; what carries it goes on when this program ends.

use super::record::Attachment;
use super::step::{about, is_connected, is_held};
use super::tool;
use anyhow::{Context, Result, bail, ensure};
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// How often is looked whether the disk is there, and how many times.
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
    /// The kernel with the device that was asked for, or a free one when it has any; otherwise, and through TLS, `nbdfuse`.
    pub fn choose(wanted: Option<&Path>, certificates: &Path) -> Result<Self> {
        if !certificates.as_os_str().is_empty() {
            ensure!(
                wanted.is_none(),
                "the kernel's NBD client has no TLS, which the appliance asks for; leave out --device"
            );
            return Ok(Self::Fuse);
        }
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
            (None, true) => any_device().map(Self::Kernel),
            (None, false) => Ok(Self::Fuse),
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

/// A device that nobody uses.
pub fn any_device() -> Result<PathBuf> {
    let devices = (0..).map(|number| PathBuf::from(format!("/dev/nbd{number}")));
    let mut there = devices.take_while(|device| device.exists());
    there.find(|device| !is_connected(device)).context(
        "all devices of the kernel's NBD client are in use; detach one, or load the module with a larger nbds_max",
    )
}

/// Has a process of our own connect a device of the kernel with a mark, and hold it; what goes wrong stands in `log`.
pub async fn kernel(device: &Path, mark: &str, log: &Path, attachment: &Attachment) -> Result<PathBuf> {
    let Attachment { export, server, .. } = attachment;
    let mut command = Command::new("/proc/self/exe");
    command.args(["attach", "hold", "--server", server, "--export", export, "--mark", mark, "--device"]).arg(device);
    let size = about(device, "size");
    let is_ready = || is_held(device, mark) && std::fs::read_to_string(&size).is_ok_and(|size| size.trim() != "0");
    start("understudy attach hold", command, log, is_ready).await?;
    Ok(device.to_owned())
}

/// Shows an export as a file in `dir`; what goes wrong stands in `log`.
pub async fn fuse(dir: &Path, log: &Path, attachment: &Attachment) -> Result<PathBuf> {
    let Attachment { export, server, writable, certificates, .. } = attachment;
    let disk = dir.join("disk");
    let mut command = tool::command("nbdfuse");
    if !writable {
        command.arg("-r");
    }
    command.arg(&disk);
    match certificates.as_os_str().is_empty() {
        true => command.arg(format!("nbd://{server}/{export}")),
        false => command.args(through_tls(attachment)?),
    };
    start("nbdfuse", command, log, || disk.exists()).await?;
    Ok(disk)
}

/// What `nbdfuse` reads through, for it takes no certificates itself: `nbdkit`, which ends with it.
fn through_tls(attachment: &Attachment) -> Result<Vec<OsString>> {
    let Attachment { export, server, writable, certificates, .. } = attachment;
    let (host, port) = server.rsplit_once(':').with_context(|| format!("{server}: expected HOST:PORT"))?;
    let mut directory = OsString::from("tls-certificates=");
    directory.push(std::path::absolute(certificates)?);
    let mut words: Vec<OsString> = ["[", "nbdkit", "--exit-with-parent"].map(OsString::from).into();
    words.extend((!writable).then(|| "--readonly".into()));
    words.extend(["nbd".into(), "tls=require".into(), directory]);
    words.extend([format!("hostname={host}"), format!("port={port}"), format!("export={export}")].map(OsString::from));
    words.push("]".into());
    Ok(words)
}

/// Starts what carries a disk, and waits until that is there.
async fn start(program: &str, mut command: Command, log: &Path, is_ready: impl Fn() -> bool) -> Result<()> {
    // It goes on when this ends, and is not meant by a Ctrl-C that ends this.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(log)?).process_group(0);
    let mut child = command.spawn().map_err(|error| tool::cannot_start(program, &error))?;
    for _ in 0..LOOKS {
        if is_ready() {
            return Ok(());
        }
        if child.try_wait()?.is_some() {
            bail!("{program} failed: {}", tool::said(&std::fs::read(log).unwrap_or_default()));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    // It must not begin to when this has given up.
    let _ = child.kill();
    bail!("{program} shows no disk; {} may say more", log.display())
}
