//! Files and directories by path, as a filesystem keeps them.
//!
//! Invariants: a node lives as long as a name or an open file leads to it; power loss forgets nodes
//! that no durable name leads to; nothing here counts or fails by itself.

use super::directory::{self, Directory, NodeId};
use super::file::{File, Loss};
use crate::rng::Rng;
use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path};

const ROOT: NodeId = 0;

#[derive(Debug, Clone)]
enum Node {
    File(File),
    Directory(Directory),
}

/// See the module documentation.
#[derive(Debug, Clone)]
pub struct Tree {
    nodes: BTreeMap<NodeId, Node>,
    next: NodeId,
}

impl Default for Tree {
    fn default() -> Self {
        Self { nodes: BTreeMap::from([(ROOT, Node::Directory(Directory::default()))]), next: ROOT + 1 }
    }
}

impl Tree {
    /// What `path` leads to.
    pub fn find(&self, path: &Path) -> Option<NodeId> {
        let step = |node, name: &str| match self.nodes.get(&node)? {
            Node::Directory(directory) => directory.names().get(name).copied(),
            Node::File(_) => None,
        };
        names(path).try_fold(ROOT, step)
    }

    /// An open file.
    pub fn file(&self, node: NodeId) -> io::Result<&File> {
        match self.nodes.get(&node) {
            Some(Node::File(file)) => Ok(file),
            _ => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    /// An open file.
    pub fn file_mut(&mut self, node: NodeId) -> io::Result<&mut File> {
        match self.nodes.get_mut(&node) {
            Some(Node::File(file)) => Ok(file),
            _ => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    /// A directory.
    pub fn directory(&self, path: &Path) -> io::Result<&Directory> {
        match self.find(path).and_then(|node| self.nodes.get(&node)) {
            Some(Node::Directory(directory)) => Ok(directory),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(not_found(path)),
        }
    }

    /// A directory.
    pub fn directory_mut(&mut self, path: &Path) -> io::Result<&mut Directory> {
        let node = self.find(path).ok_or_else(|| not_found(path))?;
        match self.nodes.get_mut(&node) {
            Some(Node::Directory(directory)) => Ok(directory),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// Makes an empty file.
    pub fn create_file(&mut self, path: &Path) -> io::Result<NodeId> {
        self.link(path, Node::File(File::default()))
    }

    /// Makes a directory in one that is there.
    pub fn create_directory(&mut self, path: &Path) -> io::Result<NodeId> {
        self.link(path, Node::Directory(Directory::default()))
    }

    fn link(&mut self, path: &Path, node: Node) -> io::Result<NodeId> {
        let (dir, name) = split(path)?;
        let id = self.next;
        self.directory_mut(dir)?.change(directory::Change::Link(name, id));
        self.nodes.insert(id, node);
        self.next += 1;
        Ok(id)
    }

    /// Takes a file's name away.
    pub fn unlink(&mut self, path: &Path) -> io::Result<()> {
        let (dir, name) = split(path)?;
        self.directory_mut(dir)?.change(directory::Change::Unlink(name));
        Ok(())
    }

    /// Renames within a directory; nothing else is asked of a disk.
    pub fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let ((dir, from), (to_dir, to)) = (split(from)?, split(to)?);
        if dir != to_dir {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.directory_mut(dir)?.change(directory::Change::Rename(from, to));
        Ok(())
    }

    /// Bytes of the disk that are taken.
    pub fn space(&self) -> u64 {
        let files = self.reachable().into_iter().filter_map(|node| self.file(node).ok());
        files.map(File::space).sum()
    }

    /// What is there after a loss of power.
    pub fn lose_power(&mut self, rng: &mut Rng) {
        let all = Loss::of(rng);
        for node in self.nodes.values_mut() {
            let loss = if rng.chance(50) { all } else { Loss::of(rng) };
            match node {
                Node::File(file) => file.lose_power(loss, rng),
                Node::Directory(directory) => directory.lose_power(loss, rng),
            }
        }
        // All names that are seen are durable now: what none of them leads to can never come back.
        let reachable = self.reachable();
        self.nodes.retain(|node, _| reachable.contains(node));
    }

    fn reachable(&self) -> Vec<NodeId> {
        let mut found = vec![ROOT];
        let mut at = 0;
        while at < found.len() {
            if let Some(Node::Directory(directory)) = self.nodes.get(&found[at]) {
                found.extend(directory.names().values());
            }
            at += 1;
        }
        found
    }
}

fn names(path: &Path) -> impl Iterator<Item = &str> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => name.to_str(),
        _ => None,
    })
}

fn split(path: &Path) -> io::Result<(&Path, String)> {
    let name = path.file_name().and_then(|name| name.to_str());
    let (dir, name) = path.parent().zip(name).ok_or(io::ErrorKind::InvalidInput)?;
    Ok((dir, name.to_owned()))
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{} is not there", path.display()))
}
