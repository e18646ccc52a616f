//! What is attached on this host: one small JSON file an export, in the state directory.
//!
//! Invariants: a file is replaced as a whole; a step stands in it before it is done and until it is undone; who changes
//! anything holds the lock. A file whose steps are all gone (the host was restarted) is in nobody's way.

use super::step::Step;
use crate::state::{self, NewFile};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// One attachment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The export, with the point's number.
    pub export: String,
    /// The volume.
    pub volume: String,
    /// Whether it is a scratch overlay.
    pub writable: bool,
    /// The NBD server, HOST:PORT.
    pub server: String,
    /// Where the certificates for it are, empty without TLS.
    #[serde(default)]
    pub certificates: PathBuf,
    /// When it was attached.
    pub since: String,
    /// The file or device.
    pub disk: PathBuf,
    /// What is mounted, empty for nothing.
    pub filesystem: String,
    /// How it is mounted.
    pub options: String,
    /// What was done, in order.
    pub steps: Vec<Step>,
}

impl Attachment {
    /// Where it is mounted.
    pub fn mount(&self) -> Option<&Path> {
        self.steps.iter().find_map(|step| match step {
            Step::Mount { path } => Some(path.as_path()),
            _ => None,
        })
    }

    /// Whether the kernel's NBD client carries it.
    pub fn is_kernel(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Kernel { .. }))
    }

    /// Whether anything of it is left.
    pub fn is_there(&self) -> bool {
        self.steps.iter().any(Step::is_there)
    }

    /// What is wrong with it; `None` when all is as it was made.
    pub fn trouble(&self) -> Option<String> {
        let lasting = |step: &&Step| !matches!(step, Step::Directory { .. });
        let lost = self.steps.iter().filter(lasting).filter(|step| !step.is_there()).count();
        match () {
            () if !self.is_there() => Some("gone".to_owned()),
            () if lost > 0 => Some("in part".to_owned()),
            () if fs::metadata(&self.disk).is_err() => Some("disconnected".to_owned()),
            () => None,
        }
    }

    /// Whether a user who says `text` means this one.
    pub fn is_meant_by(&self, text: &str) -> bool {
        let path = std::path::absolute(text).ok();
        let path = path.as_deref().map(|path| path.canonicalize().unwrap_or_else(|_| path.to_owned()));
        let is_path = path.as_deref().is_some_and(|path| self.mount() == Some(path) || self.disk == path);
        is_path
            || [&self.export, &self.volume].contains(&&text.to_owned())
            || self.export.strip_suffix("+w") == Some(text)
    }
}

/// The attachments of this host, locked.
#[derive(Debug)]
pub struct Attachments {
    dir: PathBuf,
    _lock: File,
}

impl Attachments {
    /// Locks the attachments, once whoever changes them is done.
    pub fn lock(state_dir: &Path) -> Result<Self> {
        let dir = state_dir.join("attached");
        let cannot = || format!("state directory {}: cannot be used", dir.display());
        fs::create_dir_all(&dir).with_context(cannot)?;
        let lock = OpenOptions::new().create(true).append(true).open(dir.join("lock")).with_context(cannot)?;
        lock.lock().with_context(cannot)?;
        Ok(Self { dir, _lock: lock })
    }

    /// All of them, by export.
    pub fn all(&self) -> Result<Vec<Attachment>> {
        let entries = fs::read_dir(&self.dir).with_context(|| format!("{}", self.dir.display()))?;
        let paths = entries.flatten().map(|entry| entry.path());
        let mut paths: Vec<PathBuf> =
            paths.filter(|path| path.extension().is_some_and(|kind| kind == "json")).collect();
        paths.sort();
        paths.iter().map(|path| read(path)).collect()
    }

    /// Fails when the export is attached; what is left of it from before a restart is forgotten.
    pub fn make_room_for(&self, export: &str) -> Result<()> {
        let Some(known) = self.all()?.into_iter().find(|known| known.export == export) else { return Ok(()) };
        if known.is_there() {
            let place = known.mount().unwrap_or(&known.disk).display();
            bail!("{export} is attached already, at {place}; `understudy detach {export}` first");
        }
        for step in known.steps.iter().rev() {
            step.undo()?;
        }
        self.forget(&known)
    }

    /// Records an attachment as it is now.
    pub fn save(&self, attachment: &Attachment) -> Result<()> {
        let new = NewFile::create(&self.path(&attachment.export))?;
        new.file()?.write_all(serde_json::to_string_pretty(attachment)?.as_bytes())?;
        new.publish()
    }

    /// Forgets an attachment of which nothing is left.
    pub fn forget(&self, attachment: &Attachment) -> Result<()> {
        let (_, log) = self.paths(&attachment.export);
        // Only what a client said that has ended.
        let _ = fs::remove_file(log);
        state::remove(&self.path(&attachment.export))
    }

    /// Where `nbdfuse` shows an export, and where whoever carries it complains.
    pub fn paths(&self, export: &str) -> (PathBuf, PathBuf) {
        (self.dir.join(export), self.dir.join(format!("{export}.log")))
    }

    fn path(&self, export: &str) -> PathBuf {
        self.dir.join(format!("{export}.json"))
    }
}

fn read(path: &Path) -> Result<Attachment> {
    let read = || -> Result<Attachment> { Ok(serde_json::from_slice(&fs::read(path)?)?) };
    read().with_context(|| format!("{}: cannot be read; remove it when nothing is attached", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment(export: &str) -> Attachment {
        let steps = vec![Step::Mount { path: "/mnt/absent".into() }];
        Attachment {
            export: export.into(),
            volume: "v".into(),
            disk: "/dev/absent".into(),
            steps,
            ..Attachment::default()
        }
    }

    #[test]
    fn attachments_are_remembered_until_they_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let attachments = Attachments::lock(dir.path()).unwrap();
        let (one, two) = (attachment("v@1"), attachment("v@2+w"));
        attachments.save(&two).unwrap();
        attachments.save(&one).unwrap();
        assert_eq!(attachments.all().unwrap(), [one.clone(), two]);
        assert_eq!(one.trouble().as_deref(), Some("gone"));
        attachments.make_room_for("v@1").unwrap();
        assert_eq!(attachments.all().unwrap().len(), 1, "nothing of it was left");
    }

    #[test]
    fn people_mean_an_attachment_by_export_volume_mount_or_disk() {
        let one = attachment("v@2+w");
        for text in ["v", "v@2", "v@2+w", "/mnt/absent", "/dev/absent", "/mnt/./absent"] {
            assert!(one.is_meant_by(text), "{text}");
        }
        for text in ["w", "v@1", "/mnt", "v@2+"] {
            assert!(!one.is_meant_by(text), "{text}");
        }
    }
}
