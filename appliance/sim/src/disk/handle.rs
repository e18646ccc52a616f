//! The disk as the pool sees it.

use super::directory::NodeId;
use super::fault::Kind;
use super::file::Change;
use super::{SimDisk, State};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use understudy_appliance::pool::disk::{Access, Disk, DiskFile, Lock};
use uuid::Uuid;

impl Disk for SimDisk {
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        state.check_power()?;
        Ok(state.tree.directory(dir)?.names().keys().cloned().collect())
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        state.check_power()?;
        let node = match (state.tree.find(path), access) {
            (Some(_), Access::Create) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(node), Access::Read | Access::Write | Access::Private) => node,
            (_, Access::Device) => return Err(io::ErrorKind::Unsupported.into()),
            (None, Access::Read) => return Err(io::ErrorKind::NotFound.into()),
            (None, Access::Write | Access::Private | Access::Create) => state.create(path)?,
        };
        state.tree.file(node)?;
        Ok(Arc::new(SimFile { disk: self.clone(), node, path: path.to_owned(), writable: access != Access::Read }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.check_power()?;
        state.tree.find(from).ok_or(io::ErrorKind::NotFound)?;
        state.whole(Kind::Rename, from)?;
        state.tree.rename(from, to)
    }

    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.check_power()?;
        let mut missing: Vec<&Path> = dir.ancestors().take_while(|dir| state.tree.find(dir).is_none()).collect();
        while let Some(dir) = missing.pop() {
            state.whole(Kind::MakeDir, dir)?;
            state.tree.create_directory(dir)?;
        }
        state.tree.directory(dir).map(|_| ())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.state().sync_dir(dir)
    }

    fn free(&self, _: &Path) -> io::Result<u64> {
        let state = self.state();
        state.check_power()?;
        Ok(state.limit.map_or(u64::MAX, |limit| limit.saturating_sub(state.tree.space())))
    }

    /// Nothing is shared on this disk, but blocks stand where they could be.
    fn shares_from(&self, _: &Path) -> Option<usize> {
        self.state().shares.then_some(crate::image::BLOCK as usize)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.check_power()?;
        state.tree.find(path).ok_or(io::ErrorKind::NotFound)?;
        state.whole(Kind::Remove, path)?;
        state.tree.unlink(path)
    }

    fn boot(&self) -> Uuid {
        Uuid::from_u128(self.state().boot.into())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let mut state = self.state();
        state.check_power()?;
        if state.locked.iter().any(|locked| locked == path) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.locked.push(path.to_owned());
        Ok(Box::new(Locked { disk: self.clone(), path: path.to_owned() }))
    }
}

/// A lock on a file; free again when this is dropped.
#[derive(Debug)]
struct Locked {
    disk: SimDisk,
    path: PathBuf,
}

impl Drop for Locked {
    fn drop(&mut self) {
        self.disk.state().locked.retain(|locked| *locked != self.path);
    }
}

impl Lock for Locked {}

impl State {
    fn create(&mut self, path: &Path) -> io::Result<NodeId> {
        self.tree.directory(path.parent().ok_or(io::ErrorKind::InvalidInput)?)?;
        self.whole(Kind::Create, path)?;
        self.tree.create_file(path)
    }
}

/// An open file of a [`SimDisk`].
#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    node: NodeId,
    path: PathBuf,
    writable: bool,
}

impl SimFile {
    fn change(&self, kind: Kind, change: Change) -> io::Result<()> {
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.disk.state().change(self.node, kind, &self.path, change)
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.disk.state();
        state.check_power()?;
        let content = state.tree.file(self.node)?.content();
        let range = offset as usize..offset as usize + buffer.len();
        buffer.copy_from_slice(content.get(range).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.change(Kind::Write, Change::Write { offset, bytes: bytes.to_vec() })
    }

    fn zero(&self, offset: u64, length: u64) -> io::Result<()> {
        self.change(Kind::Zero, Change::Zero { offset, length })
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.state().sync(self.node, &self.path)
    }

    fn forget_cached(&self) {
        if let Ok(file) = self.disk.state().tree.file_mut(self.node) {
            file.forget_cached();
        }
    }

    fn size(&self) -> io::Result<u64> {
        let state = self.disk.state();
        state.check_power()?;
        Ok(state.tree.file(self.node)?.content().len() as u64)
    }

    fn resize(&self, length: u64) -> io::Result<()> {
        self.change(Kind::Resize, Change::Resize(length))
    }
}
