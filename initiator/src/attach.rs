//! `understudy attach`, `detach`, `attached`: a point, or a scratch overlay over it, as a device or a mount of this host.
//!
//! The way of an attachment: the export is made a disk, by the kernel's NBD client where there is one ([`hold`], over [`netlink`]
//! with sockets of [`dial`]) and by `nbdfuse` otherwise ([`disk`]); what is on the disk is found ([`filesystem`]) and mounted. Each of these is a [`step`] that is
//! recorded before it is done ([`record`]), so that a failure, a later `detach` ([`detach`]) or one after a crash undoes
//! exactly what was done, in reverse order. Invariants: the export of an attachment names a point by number, or a moment by its exact time, so that it stays
//! the same one when it is connected again; nothing is mounted over a mount. What is asked of the appliance about
//! overlays is in [`scratch`].

pub mod detach;
pub mod dial;
pub mod disk;
pub mod filesystem;
pub mod hold;
pub mod netlink;
pub mod record;
pub mod scratch;
pub mod step;
pub mod tool;

use crate::args::Attach;
use crate::clock;
use crate::connection::Appliance;
use crate::outcome::Outcome;
use crate::report::{Lines, Report};
use crate::text;
use crate::verify::nbd_address;
use anyhow::{Context, Result, bail, ensure};
use disk::Disk;
use filesystem::Filesystem;
use record::{Attachment, Attachments};
use serde_json::json;
use std::path::{Path, PathBuf};
use step::{Step, is_connected, is_held};
use understudy_format::select::PointName;
use understudy_net::mounts::is_mounted;

/// Why a moment is not attached with `--rw`, and what to do.
const READ_ONLY: &str = "is a moment between two points, and a scratch overlay is over a point: leave out --rw, or have the appliance make \
                         a point of what the journal has";

/// `understudy attach NAME[@POINT]`.
pub async fn run(args: &Attach, name: &PointName) -> Result<Outcome> {
    let mut appliance = Appliance::connect(&args.appliance).await?;
    let point = appliance.find(name).await?;
    let found = PointName::of(&name.volume, &point);
    ensure!(!(args.rw && point.is_moment()), "{found}: {READ_ONLY}: `understudyd fold {}`", name.volume);
    let server = nbd_address(&appliance.nbd, &appliance.address)?;
    let certificates = appliance.certificates.clone();
    drop(appliance);
    let suffix = if args.rw { "+w" } else { "" };
    let attachment = Attachment {
        export: format!("{found}{suffix}"),
        volume: name.volume.to_string(),
        writable: args.rw,
        server,
        certificates,
        since: text::time(clock::now_ns()),
        ..Attachment::default()
    };
    let attachments = Attachments::lock(&args.state.directory())?;
    attachments.make_room_for(&attachment.export)?;
    let mut attaching = Attaching { args, attachments: &attachments, attachment };
    match attaching.all().await {
        Ok(()) => attaching.tell(),
        Err(error) => Err(attaching.give_up(error).await),
    }
    .map(|()| Outcome::Done)
}

/// An attachment in the making.
struct Attaching<'a> {
    args: &'a Attach,
    attachments: &'a Attachments,
    attachment: Attachment,
}

impl Attaching<'_> {
    async fn all(&mut self) -> Result<()> {
        let at = self.args.mount.as_deref().map(free_directory).transpose()?;
        let disk = self.disk().await?;
        self.attachment.disk = disk.clone();
        if let Some(at) = at {
            let filesystem = Filesystem::find(&disk, self.args.partition, &self.attachment.export)?;
            self.mount(&disk, &at, &filesystem)?;
        }
        self.attachments.save(&self.attachment)
    }

    /// Records a step, then does it.
    fn step(&mut self, step: Step, act: impl FnOnce() -> Result<()>) -> Result<()> {
        self.attachment.steps.push(step);
        self.attachments.save(&self.attachment)?;
        act()
    }

    /// Makes the export a disk.
    async fn disk(&mut self) -> Result<PathBuf> {
        let (dir, log) = self.attachments.paths(&self.attachment.export);
        match Disk::choose(self.args.device.as_deref(), &self.attachment.certificates)? {
            Disk::Kernel(device) => self.device(device, &log).await,
            Disk::Fuse => {
                self.step(Step::Directory { path: dir.clone() }, || make_directory(&dir))?;
                self.step(Step::Fuse { path: dir.clone() }, || Ok(()))?;
                disk::fuse(&dir, &log, &self.attachment).await
            }
        }
    }

    /// Has the kernel connect a device; another one when somebody was quicker, unless that very one was asked for.
    async fn device(&mut self, mut device: PathBuf, log: &Path) -> Result<PathBuf> {
        let mark = clock::random_id().to_string();
        loop {
            self.step(Step::Kernel { device: device.clone(), mark: mark.clone() }, || Ok(()))?;
            let connected = disk::kernel(&device, &mark, log, &self.attachment).await;
            let is_taken = is_connected(&device) && !is_held(&device, &mark);
            if connected.is_ok() || !is_taken || self.args.device.is_some() {
                return connected;
            }
            self.attachment.steps.pop();
            device = disk::any_device()?;
        }
    }

    fn mount(&mut self, disk: &Path, at: &Path, filesystem: &Filesystem) -> Result<()> {
        if !at.exists() {
            self.step(Step::Directory { path: at.to_owned() }, || make_directory(at))?;
        }
        let is_device = self.attachment.is_kernel();
        let options = filesystem.options(self.attachment.writable, is_device);
        (self.attachment.filesystem, self.attachment.options) = (filesystem.kind.clone(), options.clone());
        filesystem.prepare();
        let step = Step::Mount { path: at.to_owned() };
        self.step(step, || tool::run("mount", ["-t", &filesystem.kind, "-o", &options], [disk, at]))
    }

    /// Undoes what was done.
    async fn give_up(&mut self, error: anyhow::Error) -> anyhow::Error {
        match detach::undo(self.attachments, &mut self.attachment).await {
            Ok(()) => error,
            Err(also) => {
                let export = &self.attachment.export;
                let also = text::one_line(&also);
                anyhow::anyhow!(
                    "{}; undoing it failed as well: {also}; `understudy detach {export}` tries again",
                    text::one_line(&error)
                )
            }
        }
    }

    fn tell(&self) -> Result<()> {
        let Attachment { export, server, disk, filesystem, options, writable, .. } = &self.attachment;
        let mount = self.attachment.mount();
        let by = if self.attachment.is_kernel() { "the kernel" } else { "nbdfuse" };
        let mut lines = vec![format!("{export} of {server} is {} (by {by})", disk.display())];
        if let Some(mount) = mount {
            lines.push(format!("{filesystem} on it is mounted at {} ({options})", mount.display()));
        }
        if *writable {
            lines.push(format!("what is written goes to the scratch overlay {export}, the point stays as it is"));
        }
        lines.push(format!("to undo it: understudy detach {export}"));
        let event = json!({
            "event": "attached", "export": export, "server": server, "disk": disk, "by": by, "mount": mount,
            "filesystem": mount.map(|_| filesystem), "options": mount.map(|_| options), "writable": writable,
        });
        Report::new(self.args.json, Lines::Output).tell(event, &lines.join("\n"));
        Ok(())
    }
}

/// The directory that is mounted at, which need not be there.
fn free_directory(dir: &Path) -> Result<PathBuf> {
    let dir = std::path::absolute(dir)?;
    if is_mounted(&dir) {
        bail!("{}: something is mounted there already; detach it first or name another directory", dir.display());
    }
    match std::fs::metadata(&dir) {
        Ok(found) if !found.is_dir() => bail!("{}: is no directory", dir.display()),
        Ok(_) => Ok(dir.canonicalize()?),
        Err(_) => Ok(dir),
    }
}

fn make_directory(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("{}: cannot be created", dir.display()))
}
