//! The image of one moment of a disk that is written to, exported over NBD with what changed since another moment.
//!
//! Made of: a file for what the guest overwrites (removed from its directory as soon as QEMU has it open, so that it ends with
//! QEMU or this, whichever comes first), a qcow2 node on top of it backed by the disk, a backup job that fills it, an
//! export. Invariants: what a killed run left is taken away before anything is made; making it half is undone; the bitmaps of
//! two moments exist together until it is known which one counts.

use super::bitmap::Bitmaps;
use super::node::{Node, all};
use super::qmp::{Owner, Qmp, QmpError};
use super::{QemuName, connect};
use crate::source::Capture;
use anyhow::{Context, Result, anyhow, bail};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{OpenOptionsExt, fchown};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use uuid::Uuid;

/// A bitmap by name, or why there is none, where there is a point to compare with.
type Changes = Option<Result<String, String>>;

/// See the module documentation. Ended with [`Fleece::end`]; dropped, it is undone.
#[derive(Debug)]
pub struct Fleece {
    name: QemuName,
    of: Option<Capture>,
    /// Where the export is: an NBD URI.
    pub uri: String,
    /// The bitmap that says what changed since the base, or why there is none; `None` without a base.
    pub changes: Changes,
    ended: bool,
}

impl Fleece {
    /// Takes the image of this moment, for a stream or only to be read.
    pub fn take(name: &QemuName, of: Option<Capture>) -> Result<Self> {
        let mut qmp = connect(name)?;
        let context = || format!("source {name}");
        let mut maker = Maker { qmp: &mut qmp, name, of };
        maker.clear(Keep::Base).with_context(context)?;
        let made = maker.make();
        if made.is_err() {
            let _ = maker.clear(Keep::Base);
        }
        let (uri, changes) = made.with_context(context)?;
        Ok(Self { name: name.clone(), of, uri, changes, ended: false })
    }

    /// Fails unless the image is that of its moment still.
    pub fn check(&self) -> Result<()> {
        match self.maker(&mut connect(&self.name)?).is_whole()? {
            true => Ok(()),
            false => bail!("source {}: somebody cancelled the job that keeps its image: run it again", self.name),
        }
    }

    /// Takes the image away; with the point stored, the next one is compared with this moment, otherwise with the same as this.
    pub fn end(mut self, stored: bool) -> Result<()> {
        self.ended = true;
        self.clear(if stored { Keep::Stream } else { Keep::Base })
    }

    fn clear(&self, keep: Keep) -> Result<()> {
        self.maker(&mut connect(&self.name)?).clear(keep)
    }

    fn maker<'a>(&'a self, qmp: &'a mut Qmp) -> Maker<'a> {
        Maker { qmp, name: &self.name, of: self.of }
    }
}

impl Drop for Fleece {
    fn drop(&mut self) {
        if !self.ended {
            // The next run takes away what is left.
            let _ = self.clear(Keep::Base);
        }
    }
}

/// Which bitmap of the volume stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    Base,
    Stream,
}

struct Maker<'a> {
    qmp: &'a mut Qmp,
    name: &'a QemuName,
    of: Option<Capture>,
}

impl Maker<'_> {
    fn bitmaps(&self) -> Bitmaps {
        Bitmaps::of(self.of.map_or(Uuid::nil(), |of| of.volume))
    }

    fn id(&self, part: &str) -> String {
        let tag = self.of.map_or_else(|| Bitmaps::reader_tag(&self.name.node), |_| self.bitmaps().tag());
        format!("{tag}-{part}")
    }

    fn run(&mut self, command: &str, arguments: Value) -> Result<Value> {
        Ok(self.qmp.run(command, &arguments)?)
    }

    fn make(&mut self) -> Result<(String, Changes)> {
        let node = Node::find(self.qmp, self.name)?;
        self.add_fleece(node.size)?;
        let base = self.of.and_then(|of| of.base);
        let changes = base.map(|base| self.changes(&node, base));
        let told = changes.as_ref().and_then(|changes| changes.as_deref().ok());
        self.begin(&node, base.filter(|_| told.is_some()))?;
        let uri = self.export(told)?;
        Ok((uri, changes))
    }

    /// The bitmap that will say what changed since the base, if that can be known.
    fn changes(&self, node: &Node, base: Uuid) -> Result<String, String> {
        let wanted = self.bitmaps().since(base);
        let found = node.bitmaps.iter().find(|bitmap| bitmap.name == wanted);
        match found.ok_or("QEMU has no bitmap of the newest point's moment")?.fault {
            Some(fault) => Err(format!("the bitmap of the newest point's moment {fault}")),
            None => Ok(self.bitmaps().until(base)),
        }
    }

    fn add_fleece(&mut self, size: u64) -> Result<()> {
        let (file, fleece, job) = (self.id("file"), self.id("fleece"), self.id("create"));
        let path = self.make_file()?;
        let added =
            self.run("blockdev-add", json!({"driver": "file", "node-name": file, "filename": path.to_string_lossy()}));
        // QEMU has it open, or never will.
        let removed = std::fs::remove_file(&path);
        added.with_context(|| format!("QEMU must be able to use files in {}", self.name.fleece_dir.display()))?;
        removed.with_context(|| format!("cannot remove {}", path.display()))?;
        let options = json!({"driver": "qcow2", "file": file, "size": size});
        self.run("blockdev-create", json!({"job-id": job, "options": options}))?;
        self.job_is(&job, "concluded")?;
        self.run("job-dismiss", json!({"id": job}))?;
        let backing = &self.name.node;
        self.run("blockdev-add", json!({"driver": "qcow2", "node-name": fleece, "file": file, "backing": backing}))?;
        Ok(())
    }

    /// An empty file that QEMU may open.
    fn make_file(&mut self) -> Result<PathBuf> {
        let path = self.name.fleece_dir.join(format!("{}.qcow2", self.id("fleece")));
        // That of a run which was killed at this very place.
        let _ = std::fs::remove_file(&path);
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let file = file.with_context(|| format!("cannot create {}", path.display()))?;
        let given = self.qmp.owner().map_err(anyhow::Error::from).and_then(|owner| give(&file, owner));
        given.inspect_err(|_| drop(std::fs::remove_file(&path)))?;
        Ok(path)
    }

    fn job_is(&mut self, id: &str, status: &str) -> Result<()> {
        let reached = |data: &Value| data["id"] == id && data["status"] == status;
        Ok(self.qmp.wait("JOB_STATUS_CHANGE", reached)?)
    }

    /// The moment itself: all of it happens at once, or nothing.
    ///
    /// What the bitmap of `base` recorded is copied.
    fn begin(&mut self, node: &Node, base: Option<Uuid>) -> Result<()> {
        let (bitmaps, disk) = (self.bitmaps(), self.name.node.as_str());
        let mut actions = Vec::new();
        if let Some(of) = self.of {
            let add = json!({"node": disk, "name": bitmaps.since(of.stream), "persistent": node.keeps_bitmaps});
            actions.push(json!({"type": "block-dirty-bitmap-add", "data": add}));
        }
        // From here to the end of the transaction nothing is written: what was before is in the copy, what comes after is kept.
        let job = json!({"job-id": self.id("backup"), "device": disk, "target": self.id("fleece"), "sync": "none"});
        actions.push(json!({"type": "blockdev-backup", "data": job}));
        if let Some(base) = base {
            let (from, copy) = (bitmaps.since(base), bitmaps.until(base));
            let add = json!({"node": disk, "name": copy, "disabled": true});
            let merge = json!({"node": disk, "target": copy, "bitmaps": [from]});
            actions.push(json!({"type": "block-dirty-bitmap-add", "data": add}));
            actions.push(json!({"type": "block-dirty-bitmap-merge", "data": merge}));
        }
        self.run("transaction", json!({"actions": actions}))?;
        Ok(())
    }

    /// Exports the fleece; the address.
    fn export(&mut self, changes: Option<&str>) -> Result<String> {
        let (id, fleece) = (self.id("export"), self.id("fleece"));
        let place = self.serve()?;
        let mut export = json!({"type": "nbd", "id": id, "node-name": fleece, "name": id, "writable": false});
        if let Some(bitmap) = changes {
            export["bitmaps"] = json!([{"node": self.name.node, "name": bitmap}]);
        }
        self.run("block-export-add", export)?;
        Ok(match place.strip_prefix('/') {
            Some(_) => format!("nbd+unix:///{id}?socket={}", utf8_percent_encode(&place, NON_ALPHANUMERIC)),
            None => format!("nbd://{place}/{id}"),
        })
    }

    /// Sees to it that QEMU's NBD server runs, of which it has one; its address.
    fn serve(&mut self) -> Result<String> {
        if let Some(address) = &self.name.nbd {
            return Ok(address.clone());
        }
        let socket = self.own_server();
        let address = json!({"addr": {"type": "unix", "data": {"path": socket}}});
        match self.qmp.run("nbd-server-start", &address) {
            Ok(_) => Ok(socket),
            Err(QmpError::Refused { .. }) if UnixStream::connect(&socket).is_ok() => Ok(socket),
            Err(error @ QmpError::Refused { .. }) => Err(anyhow!(
                "{error}; if its NBD server runs already, name its address: {}?nbd=PATH or ?nbd=HOST:PORT",
                self.name
            )),
            Err(error) => Err(error.into()),
        }
    }

    /// The socket of the server that is started here: beside the monitor's, where QEMU can make one.
    fn own_server(&self) -> String {
        let monitor = std::path::absolute(&self.name.monitor).unwrap_or_else(|_| self.name.monitor.clone());
        format!("{}.nbd", monitor.display())
    }

    /// Takes everything away that may be there, but for one bitmap.
    fn clear(&mut self, keep: Keep) -> Result<()> {
        self.clear_export()?;
        self.clear_jobs()?;
        self.clear_nodes()?;
        self.clear_bitmaps(keep)
    }

    fn clear_export(&mut self) -> Result<()> {
        let id = self.id("export");
        let exports = self.run("query-block-exports", json!({}))?;
        let mut exports = exports.as_array().cloned().unwrap_or_default();
        exports.retain(|export| export["type"] == "nbd");
        let others = exports.iter().filter(|export| export["id"] != id.as_str()).count();
        if others < exports.len() {
            self.run("block-export-del", json!({"id": id, "mode": "hard"}))?;
            self.qmp.wait("BLOCK_EXPORT_DELETED", |data| data["id"] == id.as_str())?;
        }
        let is_own = self.name.nbd.is_none() && UnixStream::connect(self.own_server()).is_ok();
        if is_own && others == 0 {
            self.run("nbd-server-stop", json!({}))?;
        }
        Ok(())
    }

    fn clear_jobs(&mut self) -> Result<()> {
        let jobs = self.run("query-jobs", json!({}))?;
        for part in ["backup", "create"] {
            let id = self.id(part);
            let Some(job) = jobs.as_array().and_then(|jobs| jobs.iter().find(|job| job["id"] == id.as_str())) else {
                continue;
            };
            if job["status"] != "concluded" {
                // Refused when it has just ended.
                let _ = self.qmp.run("job-cancel", &json!({"id": id}));
                self.job_is(&id, "concluded")?;
            }
            // A backup dismisses itself.
            let _ = self.qmp.run("job-dismiss", &json!({"id": id}));
            self.job_is(&id, "null")?;
        }
        Ok(())
    }

    /// Whether the guest's writes are still kept out of the image.
    fn is_whole(&mut self) -> Result<bool> {
        let (jobs, id) = (self.run("query-jobs", json!({}))?, self.id("backup"));
        let own = jobs.as_array().and_then(|jobs| jobs.iter().find(|job| job["id"] == id.as_str()));
        Ok(own.is_some_and(|job| matches!(job["status"].as_str(), Some("running" | "ready" | "paused" | "standby"))))
    }

    fn clear_nodes(&mut self) -> Result<()> {
        let nodes = all(self.qmp)?;
        for part in ["fleece", "file"] {
            let id = self.id(part);
            if nodes.iter().any(|node| node["node-name"] == id.as_str()) {
                self.run("blockdev-del", json!({"node-name": id}))?;
            }
        }
        Ok(())
    }

    fn clear_bitmaps(&mut self, keep: Keep) -> Result<()> {
        let Some(of) = self.of else { return Ok(()) };
        let own = self.bitmaps();
        let kept = match keep {
            Keep::Base => of.base.map(|base| own.since(base)),
            Keep::Stream => Some(own.since(of.stream)),
        };
        for bitmap in Node::find(self.qmp, self.name)?.bitmaps {
            if own.own(&bitmap.name) && kept.as_ref() != Some(&bitmap.name) {
                self.run("block-dirty-bitmap-remove", json!({"node": self.name.node, "name": bitmap.name}))?;
            }
        }
        Ok(())
    }
}

/// Makes QEMU's user the owner of a file, where it is another one.
fn give(file: &File, Owner { uid, gid }: Owner) -> Result<()> {
    let own = rustix::process::geteuid().as_raw();
    match uid == own {
        true => Ok(()),
        false => fchown(file, Some(uid), Some(gid))
            .with_context(|| format!("QEMU runs as user {uid}, this as user {own}: run it as that user or as root")),
    }
}
