//! Disks of a running QEMU as sources: one moment's image while it is written to, and increments out of its bitmaps.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use understudy_tests::appliance::Appliance;
use understudy_tests::args;
use understudy_tests::compare;
use understudy_tests::image::MIB;
use understudy_tests::lab::Lab;
use understudy_tests::rng::{Rng, seed};
use understudy_tests::run::{Outcome, Run, tool};
use understudy_tests::running::Running;
use understudy_tests::wait::wait_until;

const SIZE: u64 = 64 * MIB;
const BLOCK: u64 = 64 << 10;

/// A qemu-storage-daemon with one disk that a guest writes to, over NBD.
struct Qemu {
    monitor: PathBuf,
    guest: PathBuf,
    disk: PathBuf,
    /// Given to the daemon when it starts: without, it has no NBD server of its own.
    with_server: bool,
    daemon: Option<Running>,
}

impl Qemu {
    fn start(lab: &Lab, format: &str, with_server: bool) -> Qemu {
        let disk = lab.file(&format!("disk.{format}"));
        tool("qemu-img", args!["create", "-q", "-f", format, &disk, SIZE.to_string()]);
        let (monitor, guest) = (lab.file("qmp"), lab.file("guest"));
        let mut qemu = Qemu { monitor, guest, disk, with_server, daemon: None };
        qemu.run();
        qemu
    }

    fn run(&mut self) {
        let format = self.disk.extension().and_then(|format| format.to_str()).expect("a format");
        let file = format!("file,node-name=file,filename={}", self.disk.display());
        let chardev = format!("socket,id=c,path={},server=on,wait=off", self.monitor.display());
        let mut words = args!["--chardev", chardev, "--monitor", "chardev=c", "--blockdev", file];
        words.extend(args!["--blockdev", format!("{format},node-name=disk,file=file")]);
        if self.with_server {
            let server = format!("addr.type=unix,addr.path={},max-connections=16", self.guest.display());
            let export = "nbd,id=guest,node-name=disk,name=guest,writable=on";
            words.extend(args!["--nbd-server", server, "--export", export]);
        }
        let _ = std::fs::remove_file(&self.monitor);
        self.daemon = Some(Run::peer("qemu-storage-daemon").args(words).limit(300).start());
        wait_until("the monitor listens", || UnixStream::connect(&self.monitor).map(drop).map_err(|e| e.to_string()));
    }

    /// Ends in order: bitmaps are kept.
    fn restart(&mut self) {
        self.monitor("quit", &json!({}));
        self.daemon.take().expect("it runs").finish();
        self.run();
    }

    fn kill(&mut self) {
        self.daemon.take().expect("it runs").kill();
    }

    /// How the disk is named as a source.
    fn source(&self) -> PathBuf {
        let server = if self.with_server { format!("?nbd={}", self.guest.display()) } else { String::new() };
        PathBuf::from(format!("qemu:{}/disk{server}", self.monitor.display()))
    }

    /// Writes as a guest does.
    fn write(&self, byte: u8, at: u64, length: u64) {
        let command = format!("write -P {byte} {at} {length}");
        let uri = format!("nbd+unix:///guest?socket={}", self.guest.display());
        tool("qemu-io", args!["-f", "raw", "-c", command, uri]);
    }

    fn monitor(&self, command: &str, arguments: &Value) -> Value {
        let mut to = UnixStream::connect(&self.monitor).expect("the monitor is free");
        let mut from = BufReader::new(to.try_clone().expect("a second handle"));
        let mut answer = Value::Null;
        for message in [json!({"execute": "qmp_capabilities"}), json!({"execute": command, "arguments": arguments})] {
            writeln!(to, "{message}").expect("a message");
            answer = loop {
                let mut line = String::new();
                from.read_line(&mut line).expect("an answer");
                let value: Value = serde_json::from_str(&line).expect("JSON");
                if value.get("return").is_some() || value.get("error").is_some() {
                    break value;
                }
            };
        }
        answer["return"].clone()
    }

    /// The bitmaps that are kept on the disk.
    fn bitmaps(&self) -> Vec<String> {
        let nodes = self.monitor("query-named-block-nodes", &json!({"flat": true}));
        let nodes = nodes.as_array().expect("nodes");
        let disk = nodes.iter().find(|node| node["node-name"] == "disk").expect("the disk");
        let bitmaps = disk["dirty-bitmaps"].as_array().cloned().unwrap_or_default();
        bitmaps.iter().map(|bitmap| bitmap["name"].as_str().expect("a name").to_owned()).collect()
    }

    /// Nothing is left but the disk, and one bitmap.
    #[track_caller]
    fn assert_clean(&self) {
        let nodes = self.monitor("query-named-block-nodes", &json!({"flat": true}));
        let own = |node: &&Value| node["node-name"].as_str().is_some_and(|name| name.starts_with("understudy"));
        assert_eq!(nodes.as_array().expect("nodes").iter().filter(own).count(), 0, "{nodes}");
        assert_eq!(self.monitor("query-jobs", &json!({})), json!([]));
        let exports = self.monitor("query-block-exports", &json!({}));
        assert_eq!(exports.as_array().expect("exports").len(), usize::from(self.with_server), "{exports}");
        assert_eq!(self.bitmaps().len(), 1, "{:?}", self.bitmaps());
    }

    /// The content of the disk now.
    fn content(&self, lab: &Lab) -> PathBuf {
        let (out, uri) = (lab.file("now.raw"), format!("nbd+unix:///guest?socket={}", self.guest.display()));
        tool("qemu-img", args!["convert", "-f", "raw", "-O", "raw", uri, &out]);
        out
    }
}

fn replicate(appliance: &Appliance, qemu: &Qemu) -> understudy_tests::run::Summary {
    appliance.replicate(&qemu.source(), "v")
}

/// The point is what the disk was.
#[track_caller]
fn assert_point(appliance: &Appliance, lab: &Lab, expected: &Path) {
    appliance.settle("v");
    appliance.assert_export(lab, "v", expected);
}

#[test]
fn increments_of_a_running_disk_read_what_was_written() {
    let lab = Lab::new();
    let (mut qemu, appliance) = (Qemu::start(&lab, "qcow2", true), Appliance::start(&lab));
    qemu.write(1, 0, 20 * MIB);
    replicate(&appliance, &qemu).expect_kind("full");
    qemu.assert_clean();
    qemu.write(2, 5 * MIB, 3 * BLOCK);
    let summary = replicate(&appliance, &qemu).expect_kind("incremental");
    summary.expect_count("bytes_read", 1..=2 * MIB);
    assert_point(&appliance, &lab, &qemu.content(&lab));
    qemu.assert_clean();
    // The bitmap outlives the daemon.
    qemu.restart();
    qemu.write(3, 9 * MIB, BLOCK);
    replicate(&appliance, &qemu).expect_kind("incremental").expect_count("bytes_read", 1..=2 * MIB);
    assert_point(&appliance, &lab, &qemu.content(&lab));
    qemu.assert_clean();
}

#[test]
fn a_daemon_without_a_server_gets_one_for_the_time() {
    let lab = Lab::new();
    let (qemu, appliance) = (Qemu::start(&lab, "raw", false), Appliance::start(&lab));
    replicate(&appliance, &qemu).expect_kind("full");
    qemu.assert_clean();
    replicate(&appliance, &qemu).expect_kind("incremental").expect_count("bytes_read", 0..=2 * MIB);
    qemu.assert_clean();
    let server = PathBuf::from(format!("{}.nbd", qemu.monitor.display()));
    assert!(UnixStream::connect(server).is_err(), "the server is stopped again");
}
