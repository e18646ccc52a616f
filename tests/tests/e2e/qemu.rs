//! Disks of a running QEMU as sources: one moment's image while it is written to, and increments out of its bitmaps.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use understudy_tests::image::MIB;
use understudy_tests::wait::wait_until;
use understudy_tests::*;

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

    /// Writes what does not compress and was never seen, so that it has to travel.
    fn scribble(&self, at: u64, length: u64) {
        // qemu-io takes no names with spaces.
        let noise = tempfile::NamedTempFile::new().expect("a temporary file");
        image::random(noise.path(), length, &mut Rng::new(seed() + at));
        let command = format!("write -s {} {at} {length}", noise.path().display());
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

fn replicate(appliance: &Appliance, qemu: &Qemu) -> Summary {
    appliance.replicate(&qemu.source(), "v")
}

/// Blocks that were read, but for the sample of those that a bitmap calls clean.
#[track_caller]
fn assert_read(summary: &Summary, blocks: std::ops::RangeInclusive<u64>) {
    let read = summary.count("blocks_read") - summary.count("blocks_sampled");
    assert!(blocks.contains(&read), "{read} blocks were read, expected {blocks:?}");
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
    assert_read(&replicate(&appliance, &qemu).expect_kind("incremental"), 3..=3);
    assert_point(&appliance, &lab, &qemu.content(&lab));
    qemu.assert_clean();
    // The bitmap outlives the daemon.
    qemu.restart();
    qemu.write(3, 9 * MIB, BLOCK);
    assert_read(&replicate(&appliance, &qemu).expect_kind("incremental"), 1..=1);
    assert_point(&appliance, &lab, &qemu.content(&lab));
    qemu.assert_clean();
}

#[test]
fn a_daemon_without_a_server_gets_one_for_the_time() {
    let lab = Lab::new();
    let (qemu, appliance) = (Qemu::start(&lab, "raw", false), Appliance::start(&lab));
    replicate(&appliance, &qemu).expect_kind("full");
    qemu.assert_clean();
    assert_read(&replicate(&appliance, &qemu).expect_kind("incremental"), 0..=0);
    qemu.assert_clean();
    let server = PathBuf::from(format!("{}.nbd", qemu.monitor.display()));
    assert!(UnixStream::connect(server).is_err(), "the server is stopped again");
}

/// The image is of one moment, whatever the guest writes; and a killed run costs no more than its work.
#[test]
fn a_run_that_is_killed_while_the_guest_writes_loses_no_change() {
    let lab = Lab::new();
    let (qemu, appliance) = (Qemu::start(&lab, "qcow2", true), Appliance::start(&lab));
    qemu.write(1, 0, 40 * MIB);
    replicate(&appliance, &qemu);
    qemu.scribble(8 * MIB, 8 * MIB);
    let proxy = Proxy::hold_after(appliance.address(), 2 * MIB);
    let held = appliance.initiator(args!["replicate", qemu.source(), "--volume", "v", "--to", proxy.address()]);
    let held = held.start().wait_held(&proxy);
    // After the moment of the stream that is under way.
    qemu.write(3, 30 * MIB, MIB);
    // In what is durable of it already.
    qemu.write(4, 8 * MIB, BLOCK);
    held.kill();
    proxy.cut();
    assert!(qemu.bitmaps().len() > 1, "what a killed run leaves");
    // Another stream, for another moment: it waits until the appliance has seen that the killed one is gone.
    let summary = appliance.replicate_with(&qemu.source(), "v", &["--retries", "9"]).expect_kind("incremental");
    assert_eq!(summary.count("blocks_changed"), 9 * MIB / BLOCK);
    qemu.assert_clean();
    assert_point(&appliance, &lab, &qemu.content(&lab));
}

#[test]
fn what_is_written_while_it_is_read_is_of_the_next_point() {
    let lab = Lab::new();
    let (qemu, appliance) = (Qemu::start(&lab, "qcow2", true), Appliance::start(&lab));
    qemu.scribble(0, 40 * MIB);
    let moment = lab.file("moment.raw");
    std::fs::rename(qemu.content(&lab), &moment).expect("one filesystem");
    let proxy = Proxy::hold_after(appliance.address(), 2 * MIB);
    let held = appliance.initiator(args!["replicate", qemu.source(), "--volume", "v", "--to", proxy.address()]);
    let held = held.start().wait_held(&proxy);
    qemu.write(9, 0, 40 * MIB);
    proxy.release();
    held.finish().expect_code(0);
    assert_point(&appliance, &lab, &moment);
    assert_read(&replicate(&appliance, &qemu).expect_kind("incremental"), 640..=640);
    assert_point(&appliance, &lab, &qemu.content(&lab));
    qemu.assert_clean();
}

/// Ended by a signal, or by an appliance that is gone: QEMU keeps nothing but the bitmap of the point that there is.
#[test]
fn a_run_that_fails_takes_its_image_away() {
    let lab = Lab::new();
    let (qemu, mut appliance) = (Qemu::start(&lab, "qcow2", true), Appliance::start(&lab));
    qemu.write(1, 0, 4 * MIB);
    replicate(&appliance, &qemu);
    let kept = qemu.bitmaps();
    qemu.scribble(MIB, 2 * MIB);
    let proxy = Proxy::hold_after(appliance.address(), MIB);
    let held = appliance.initiator(args!["replicate", qemu.source(), "--volume", "v", "--to", proxy.address()]);
    let held = held.start().wait_held(&proxy);
    held.signal(Signal::TERM);
    held.finish().says("interrupted: the image of qemu:");
    qemu.assert_clean();
    assert_eq!(qemu.bitmaps(), kept);
    let uri = qemu.source().display().to_string();
    appliance.understudy(args!["verify", &uri, "v@1"]).expect_code(4);
    qemu.assert_clean();
    appliance.kill();
    appliance.try_replicate(&qemu.source(), "v", &["--retries", "0"]).expect_code(1);
    qemu.assert_clean();
    appliance.restart();
    assert_eq!(replicate(&appliance, &qemu).count("blocks_changed"), 2 * MIB / BLOCK);
    assert_point(&appliance, &lab, &qemu.content(&lab));
}

/// Without the job that keeps what the guest overwrites, what is read is of several moments.
#[test]
fn an_image_that_somebody_ended_is_not_committed() {
    let lab = Lab::new();
    let (qemu, appliance) = (Qemu::start(&lab, "qcow2", true), Appliance::start(&lab));
    qemu.scribble(0, 40 * MIB);
    let proxy = Proxy::hold_after(appliance.address(), 2 * MIB);
    let held = appliance.initiator(args!["replicate", qemu.source(), "--volume", "v", "--to", proxy.address()]);
    let held = held.start().wait_held(&proxy);
    let jobs = qemu.monitor("query-jobs", &json!({}));
    qemu.monitor("job-cancel", &json!({"id": jobs[0]["id"]}));
    proxy.release();
    held.finish().expect_code(1).says("somebody cancelled the job that keeps its image");
    appliance.assert_no_point("v");
    let left = qemu.monitor("query-block-exports", &json!({}));
    assert_eq!(left.as_array().map(Vec::len), Some(1), "{left}");
}

/// A bitmap that may lack writes is never gone by.
#[test]
fn after_a_crash_of_qemu_everything_is_compared() {
    let lab = Lab::new();
    let (mut qemu, appliance) = (Qemu::start(&lab, "qcow2", true), Appliance::start(&lab));
    qemu.write(1, 0, 20 * MIB);
    replicate(&appliance, &qemu);
    // So that the bitmap is in the image, in use.
    qemu.restart();
    qemu.write(2, 3 * MIB, BLOCK);
    qemu.kill();
    qemu.run();
    let outcome = appliance.try_replicate(&qemu.source(), "v", &[]).expect_code(0);
    outcome.says("inconsistent").summary().expect_kind("incremental").expect_count("bytes_read", 19 * MIB..=65 * MIB);
    assert_point(&appliance, &lab, &qemu.content(&lab));
    qemu.assert_clean();
    assert_read(&replicate(&appliance, &qemu), 0..=0);
}

#[test]
fn what_is_wrong_is_said() {
    let lab = Lab::new();
    let (qemu, appliance) = (Qemu::start(&lab, "qcow2", true), Appliance::start(&lab));
    let refused = |source: &str| appliance.try_replicate(Path::new(source), "v", &[]).expect_refusal();
    let monitor = qemu.monitor.display();
    refused(&format!("qemu:{monitor}/dsk")).says("has no block node \"dsk\"").says("disk");
    refused(&format!("qemu:{monitor}/disk")).says("?nbd=");
    refused("qemu:/nowhere/qmp/disk").says("/nowhere/qmp");
    refused("qemu:disk").says("expected qemu:MONITOR/NODE");
    let with_bitmap = appliance.try_replicate(&qemu.source(), "v", &["--bitmap", "b0"]);
    with_bitmap.expect_refusal().says("leave out --bitmap");
    appliance.assert_no_point("v");
}
