//! NBD servers that are not ours, as sources: nbdkit and qemu-nbd on Unix sockets in the lab, and the qcow2 images behind the latter.
//!
//! Invariants: a server is ready when its value is there, and gone when that is dropped; an image is opened by one program at
//! a time, as qemu demands.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::args;
use crate::image;
use crate::lab::Lab;
use crate::rng::Rng;
use crate::run::{Run, tool};
use crate::running::Running;
use crate::wait::wait_until;

/// A running server.
pub struct NbdServer {
    running: Running,
    socket: PathBuf,
}

impl NbdServer {
    /// `nbdkit` with these arguments.
    pub fn nbdkit(lab: &Lab, arguments: Vec<OsString>) -> NbdServer {
        let socket = free_socket(lab, "nbdkit");
        let run = Run::peer("nbdkit").args(args!["-f", "-U", &socket]).args(arguments);
        NbdServer::start(run, socket)
    }

    /// `qemu-nbd`, which goes on when a client left, with these arguments.
    pub fn qemu(lab: &Lab, arguments: Vec<OsString>) -> NbdServer {
        let socket = free_socket(lab, "qemu");
        let run = Run::peer("qemu-nbd").args(args!["-t", "-k", &socket]).args(arguments);
        NbdServer::start(run, socket)
    }

    fn start(run: Run, socket: PathBuf) -> NbdServer {
        let running = run.start();
        wait_until("the NBD server listens, or ends", || match socket.exists() || running.has_ended() {
            true => Ok(()),
            false => Err("no socket yet".to_string()),
        });
        if !socket.exists() {
            panic!("the server ended: {}", running.finish());
        }
        NbdServer { running, socket }
    }

    /// An export of it, as an NBD client names it.
    pub fn uri(&self, export: &str) -> String {
        format!("nbd+unix:///{export}?socket={}", self.socket.display().to_string().replace(' ', "%20"))
    }

    /// SIGKILL.
    pub fn kill(self) {
        self.running.kill();
    }
}

/// A path that is the socket of no other server.
fn free_socket(lab: &Lab, kind: &str) -> PathBuf {
    let mut paths = (1..).map(|number| lab.file(&format!("{kind} {number}.sock")));
    let path = paths.find(|path| !path.exists()).expect("numbers do not end");
    let _ = std::fs::remove_file(&path);
    path
}

/// A qcow2 image with a persistent dirty bitmap called `b0`, which records while nobody serves the image.
pub struct Qcow2 {
    path: PathBuf,
    socket: PathBuf,
}

impl Qcow2 {
    /// An image of this size, without a bitmap.
    pub fn new(lab: &Lab, size: u64) -> Qcow2 {
        let path = lab.file("disk.qcow2");
        tool("qemu-img", args!["create", "-q", "-f", "qcow2", &path, size.to_string()]);
        Qcow2 { path, socket: lab.file("qcow2.sock") }
    }

    /// The image.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The same image with another bitmap, recording from now on.
    pub fn add_bitmap(&self, name: &str) {
        self.bitmap(&["--add", "-g", "64k"], name);
    }

    /// `qemu-img bitmap HOW... IMAGE NAME`.
    pub fn bitmap(&self, how: &[&str], name: &str) {
        let words: Vec<OsString> = how.iter().map(OsString::from).collect();
        tool("qemu-img", [args!["bitmap"], words, args![&self.path, name]].concat());
    }

    /// Runs commands of `qemu-io`, such as `write -P 7 0 64k`.
    pub fn io(&self, commands: &[&str]) {
        let commands = commands.iter().flat_map(|command| args!["-c", command]);
        tool("qemu-io", [args!["-f", "qcow2"], commands.collect(), args![&self.path]].concat());
    }

    /// Overwrites a range with incompressible bytes.
    pub fn scribble(&self, at: u64, length: u64, rng: &mut Rng) {
        // Beside the lab: qemu-io takes no spaces in names.
        let noise = tempfile::NamedTempFile::new().expect("a temporary file");
        image::random(noise.path(), length, rng);
        self.io(&[&format!("write -q -s {} {at} {length}", noise.path().display())]);
    }

    /// Serves the image read-only as export `disk`, with the bitmap `b0`, which does not record meanwhile; always on the same socket.
    pub fn serve(&self) -> Served<'_> {
        self.bitmap(&["--disable"], "b0");
        Served { image: self, server: Some(self.start(args!["-B", "b0"])) }
    }

    /// Serves the image without its bitmap.
    pub fn serve_bare(&self) -> NbdServer {
        self.start(Vec::new())
    }

    fn start(&self, more: Vec<OsString>) -> NbdServer {
        let _ = std::fs::remove_file(&self.socket);
        let arguments = args!["-t", "-k", &self.socket, "-r", "-A", "-e", "16", "-f", "qcow2", "-x", "disk"];
        let run = Run::peer("qemu-nbd").args(arguments).args(more).args(args![&self.path]);
        NbdServer::start(run, self.socket.clone())
    }

    /// What is in it, as a raw file.
    pub fn content(&self, lab: &Lab) -> PathBuf {
        let raw = lab.file("content.raw");
        tool("qemu-img", args!["convert", "-f", "qcow2", "-O", "raw", &self.path, &raw]);
        raw
    }
}

/// An image being served; its bitmap records again when this is dropped.
pub struct Served<'a> {
    image: &'a Qcow2,
    server: Option<NbdServer>,
}

impl Served<'_> {
    /// The export.
    pub fn uri(&self) -> String {
        self.server.as_ref().expect("it is served").uri("disk")
    }
}

impl Drop for Served<'_> {
    fn drop(&mut self) {
        self.server.take().expect("it is served").kill();
        if !std::thread::panicking() {
            self.image.bitmap(&["--enable"], "b0");
        }
    }
}
