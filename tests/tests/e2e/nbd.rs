//! The NBD server against clients that are not ours: libnbd, qemu, and some that misbehave.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;
use understudy_tests::image::{self, MIB};
use understudy_tests::wait::wait_until;
use understudy_tests::{Appliance, Lab, NbdFuse, Outcome, Rng, Run, args, compare, count, have_root, seed, tool};

/// Debian's libnbd tools need Debian's Python.
const SYSTEM_PATH: &str = "/usr/bin:/bin:/usr/sbin:/sbin";

fn scene(lab: &Lab) -> Appliance {
    let appliance = Appliance::start(lab);
    let source = lab.file("source.raw");
    let mut rng = Rng::new(seed());
    image::mixed(&source, 16 * MIB + 512, &mut rng);
    appliance.replicate_with(&source, "v", &["--label", "opening"]);
    image::keep(&source, &lab.file("kept 1"));
    image::scribble(&source, 3 * MIB, 100_000, &mut rng);
    appliance.replicate(&source, "v");
    image::keep(&source, &lab.file("kept 2"));
    appliance
}

fn nbdsh(uri: &str, script: &str) -> Outcome {
    Run::peer("nbdsh").env("PATH", SYSTEM_PATH).args(args!["-u", uri, "-c", script]).run()
}

#[test]
fn nbdinfo_shows_what_an_export_is() {
    let lab = Lab::new();
    let appliance = scene(&lab);
    for uri in [appliance.uri("v"), appliance.unix_uri("v@1")] {
        let outcome = tool("nbdinfo", args!["--json", &uri]);
        let json = outcome.json();
        assert_eq!(json["protocol"], "newstyle-fixed", "{outcome}");
        assert_eq!(json["structured"], true, "structured replies: {outcome}");
        let export = &json["exports"][0];
        assert_eq!(count(export, "export-size"), 16 * MIB + 512, "{outcome}");
        assert_eq!(export["is_read_only"], true, "{outcome}");
        assert_eq!(export["can_multi_conn"], true, "{outcome}");
        let contexts = export["contexts"].as_array().cloned().unwrap_or_default();
        assert!(contexts.contains(&Value::from("base:allocation")), "{outcome}");
        assert!(export["block_size_preferred"].is_u64(), "block sizes are announced: {outcome}");
    }
}

#[test]
fn every_volume_and_every_point_is_listed() {
    let lab = Lab::new();
    let appliance = scene(&lab);
    let outcome = tool("nbdinfo", args!["--list", "--json", appliance.uri("")]);
    let json = outcome.json();
    let exports = json["exports"].as_array().cloned().unwrap_or_default();
    // The name that is asked for stands in the URI; "export-name" is the canonical one, which for "v" is "v@2".
    let names: Vec<&str> = exports.iter().filter_map(|export| export["uri"].as_str()?.rsplit('/').next()).collect();
    for name in ["v", "v@1", "v@2"] {
        assert!(names.contains(&name), "the export {name} is listed: {outcome}");
    }
    assert_eq!(exports[0]["export-name"], "v@2", "v is its newest point: {outcome}");
}

#[test]
fn nbdcopy_reads_every_point_over_both_transports() {
    let lab = Lab::new();
    let appliance = scene(&lab);
    for (export, kept) in
        [("v", "kept 2"), ("v@2", "kept 2"), ("v@latest", "kept 2"), ("v@1", "kept 1"), ("v@opening", "kept 1")]
    {
        appliance.assert_export(&lab, export, &lab.file(kept));
        let copy = lab.file("over unix");
        tool("nbdcopy", args![appliance.unix_uri(export), &copy]);
        compare::assert_same(&copy, &lab.file(kept), export);
    }
}

#[test]
fn qemu_img_reads_compares_and_converts() {
    let lab = Lab::new();
    let appliance = scene(&lab);
    for (export, kept) in [("v", "kept 2"), ("v@1", "kept 1")] {
        let uri = appliance.uri(export);
        tool("qemu-img", args!["compare", "-f", "raw", "-F", "raw", lab.file(kept), &uri]);
        let copy = lab.file("converted.raw");
        tool("qemu-img", args!["convert", "-f", "raw", "-O", "raw", &uri, &copy]);
        compare::assert_same(&copy, &lab.file(kept), export);
    }
    let differ = args!["compare", "-f", "raw", "-F", "raw", lab.file("kept 1"), appliance.uri("v@2")];
    Run::peer("qemu-img").args(differ).run().expect_code(1);
}

#[test]
fn a_secondary_that_is_damaged_is_served_to_nobody_and_a_sound_one_serves_for_damaged_history() {
    let lab = Lab::new();
    let mut appliance = scene(&lab);
    let image = appliance.settle("v");
    let mut rng = Rng::new(seed());
    // A block, a byte of another, and one that is cut off: none of them reaches a client.
    image::scribble(&image, 2 * MIB, 65536, &mut rng);
    image::patch(&image, 5 * MIB + 12345, b"not the part");
    appliance.assert_export(&lab, "v", &lab.file("kept 2"));
    appliance.assert_export(&lab, "v@1", &lab.file("kept 1"));
    image::resize(&image, 16 * MIB);
    appliance.assert_export(&lab, "v", &lab.file("kept 2"));
    appliance.stop();
    std::fs::copy(lab.file("kept 2"), &image).expect("the secondary as it was");
    let segments = std::fs::read_dir(appliance.pool().join("segments")).expect("segments");
    for segment in segments.map(|segment| segment.expect("a segment").path()) {
        // Behind the header of the segment and its first records: blocks of both points.
        image::patch(&segment, MIB, &[0x55; 4096]);
    }
    appliance.restart();
    let outcome = Run::peer("nbdcopy").args(args![appliance.uri("v@1"), lab.file("damaged")]).run();
    assert_ne!(outcome.code, Some(0), "the history is damaged: {outcome}");
    appliance.assert_export(&lab, "v", &lab.file("kept 2"));
}

#[test]
fn allocation_tells_holes_from_data() {
    let lab = Lab::new();
    let appliance = Appliance::start(&lab);
    let source = lab.file("source.raw");
    image::hole(&source, 32 * MIB);
    image::scribble(&source, 8 * MIB, 4 * MIB, &mut Rng::new(seed()));
    appliance.replicate(&source, "v");
    let outcome = tool("nbdinfo", args!["--map", "--json", appliance.uri("v")]);
    let json = outcome.json();
    let extents = json.as_array().cloned().unwrap_or_default();
    let data = extents.iter().filter(|extent| extent["type"] == 0);
    let bytes: u64 = data.map(|extent| count(extent, "length")).sum();
    assert_eq!(bytes, 4 * MIB, "exactly the written part is data: {outcome}");
    assert!(extents.iter().all(|extent| extent["type"] == 0 || extent["type"] == 3), "holes read as zero: {outcome}");
    let whole: u64 = extents.iter().map(|extent| count(extent, "length")).sum();
    assert_eq!(whole, 32 * MIB, "the extents cover the volume: {outcome}");
    let copy = lab.file("copy.raw");
    tool("nbdcopy", args![appliance.uri("v"), &copy]);
    compare::assert_sparse(&copy, 5 * MIB);
}

#[test]
fn an_unknown_export_is_a_clear_error() {
    let lab = Lab::new();
    let appliance = scene(&lab);
    for export in ["nobody", "v@99", "v@closing", ""] {
        let outcome = Run::peer("nbdinfo").args(args!["--json", appliance.uri(export)]).run();
        assert_ne!(outcome.code, Some(0), "the export {export:?} does not exist: {outcome}");
    }
    Run::peer("nbdinfo").args(args![appliance.uri("nobody")]).run().says("nobody");
    appliance.assert_export(&lab, "v@1", &lab.file("kept 1"));
}

#[test]
fn an_export_is_read_only() {
    let lab = Lab::new();
    let appliance = scene(&lab);
    let write = args!["-f", "raw", "-c", "write -P 0xff 0 4096", appliance.uri("v")];
    let outcome = Run::peer("qemu-io").args(write).run();
    assert_ne!(outcome.code, Some(0), "a write must fail: {outcome}");
    // Past all politeness of the client: the server itself refuses each of them, and keeps the connection.
    let script = r#"
h.set_strict_mode(0)
import errno
for name, request in [("write", lambda: h.pwrite(b"x" * 4096, 0)), ("trim", lambda: h.trim(4096, 0)),
                      ("zero", lambda: h.zero(4096, 0))]:
    try:
        request()
    except nbd.Error as error:
        assert error.errnum in (errno.EPERM, errno.EROFS, errno.EINVAL), (name, error.errnum)
    else:
        raise Exception(name + " was not refused")
assert len(h.pread(4096, 0)) == 4096
"#;
    nbdsh(&appliance.uri("v"), script).expect_code(0);
    appliance.assert_export(&lab, "v", &lab.file("kept 2"));
}

#[test]
fn requests_outside_of_the_export_are_refused_and_odd_ones_inside_are_served() {
    let lab = Lab::new();
    let appliance = scene(&lab);
    let script = r#"
import errno
h.set_strict_mode(0)
size = h.get_size()
for offset, length in [(size, 1), (size - 1, 2), (size - 512, 1024), (1 << 62, 4096), ((1 << 64) - 512, 1024)]:
    try:
        h.pread(length, offset)
    except (nbd.Error, OverflowError) as error:
        assert not isinstance(error, nbd.Error) or error.errnum in (errno.EINVAL, errno.ENOSPC, errno.EOVERFLOW), error
    else:
        raise Exception("a read of %d at %d was not refused" % (length, offset))
expected = open(FILE, "rb").read()
for offset, length in [(0, 1), (1, 1), (65535, 2), (65537, 131071), (size - 1, 1), (size - 513, 513), (12345, 1000000)]:
    assert h.pread(length, offset) == expected[offset:offset + length], (offset, length)
"#;
    let script = script.replace("FILE", &format!("{:?}", lab.file("kept 2").display().to_string()));
    nbdsh(&appliance.uri("v"), &script).expect_code(0);
}

#[test]
fn a_client_without_structured_replies_reads_the_same() {
    let lab = Lab::new();
    let appliance = scene(&lab);
    let script = r#"
h.set_request_structured_replies(False)
h.connect_uri(URI)
assert not h.get_structured_replies_negotiated()
expected = open(FILE, "rb").read()
got = b"".join(h.pread(min(1 << 20, h.get_size() - at), at) for at in range(0, h.get_size(), 1 << 20))
assert got == expected
h.shutdown()
"#;
    let script = script.replace("URI", &format!("{:?}", appliance.uri("v@1")));
    let script = script.replace("FILE", &format!("{:?}", lab.file("kept 1").display().to_string()));
    Run::peer("nbdsh").env("PATH", SYSTEM_PATH).args(args!["-c", script]).run().expect_code(0);
}

#[test]
fn clients_that_hang_up_or_talk_nonsense_harm_nobody() {
    let lab = Lab::new();
    let appliance = scene(&lab);
    appliance.settle("v");
    // Whatever is opened once and kept is open now.
    appliance.assert_export(&lab, "v", &lab.file("kept 2"));
    let before = appliance.open_files();
    for bytes in [&b""[..], b"\0", b"\0\0\0\x01", b"GET / HTTP/1.1\r\nHost: stage\r\n\r\n", &[0xff; 4096], &[0; 64]] {
        let mut socket = TcpStream::connect(appliance.nbd_address()).expect("the NBD port");
        let mut greeting = [0; 18];
        socket.read_exact(&mut greeting).expect("the server greets first");
        assert_eq!(&greeting[..8], b"NBDMAGIC");
        let _ = socket.write_all(bytes);
    }
    // An option said to be 4 GiB long must not be waited for, nor allocated.
    let mut socket = TcpStream::connect(appliance.nbd_address()).expect("the NBD port");
    let mut greeting = [0; 18];
    socket.read_exact(&mut greeting).expect("the server greets first");
    socket.write_all(b"\0\0\0\x01IHAVEOPT\0\0\0\x03\xff\xff\xff\xff").expect("an option");
    socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    let answer = socket.read(&mut [0; 64]);
    assert!(answer.is_ok(), "it is answered or hung up on, not waited for: {answer:?}");
    // A reader that dies in the middle of everything.
    let script = "import os; [h.aio_pread(nbd.Buffer(1 << 20), n << 20) for n in range(16)]; os.kill(os.getpid(), 9)";
    nbdsh(&appliance.uri("v"), script);
    appliance.assert_export(&lab, "v", &lab.file("kept 2"));
    drop(socket);
    wait_until("nothing of them is left open", || match appliance.open_files() {
        now if now <= before => Ok(()),
        now => Err(format!("{now} descriptors, {before} before")),
    });
}

#[test]
fn the_connections_to_a_point_are_limited_and_those_to_others_are_not() {
    let lab = Lab::new();
    let appliance = Appliance::start_with(&lab, &lab.file("pool"), args!["--nbd-connections-per-export", "2"]);
    let source = lab.file("source.raw");
    image::random(&source, MIB, &mut Rng::new(seed()));
    appliance.replicate(&source, "v");
    appliance.replicate(&source, "other");
    let script = r#"
first, second = nbd.NBD(), nbd.NBD()
first.connect_uri(URI)
second.connect_uri(SOCKET)
third = nbd.NBD()
try:
    third.connect_uri(URI)
except nbd.Error as error:
    pass
else:
    raise Exception("a third connection")
assert h.get_size() == second.get_size()
first.shutdown()
"#;
    let script = script.replace("URI", &format!("{:?}", appliance.uri("v")));
    let script = script.replace("SOCKET", &format!("{:?}", appliance.unix_uri("v@1")));
    nbdsh(&appliance.uri("other"), &script).expect_code(0);
    wait_until("a seat is free again", || {
        let outcome = Run::peer("nbdinfo").args(args!["--size", appliance.uri("v")]).run();
        if outcome.code == Some(0) { Ok(()) } else { Err(outcome.to_string()) }
    });
}

#[test]
fn qemu_maps_and_reads_with_extended_headers() {
    let lab = Lab::new();
    let appliance = scene(&lab);
    let uri = appliance.uri("v@1");
    let map = tool("qemu-img", args!["-T", "nbd_*", "map", "-f", "raw", "--output=json", &uri]);
    assert!(map.stderr.contains("option reply 11 (extended headers), type 1 (ack)"), "{map}");
    let extents = map.json().as_array().cloned().unwrap_or_default();
    let whole: u64 = extents.iter().map(|extent| count(extent, "length")).sum();
    assert_eq!(whole, 16 * MIB + 512, "{map}");
    assert!(extents.iter().any(|extent| extent["zero"] == true && extent["data"] == false), "{map}");
    let read = args!["-r", "-f", "raw", "-c", "read -v 16777216 512", "-c", "read 1 70000", &uri];
    let outcome = tool("qemu-io", read);
    assert!(!outcome.out().contains("failed"), "{outcome}");
    let info = tool("qemu-img", args!["info", "--output=json", &uri]);
    assert_eq!(count(&info.json(), "virtual-size"), 16 * MIB + 512, "{info}");
}

#[test]
fn the_session_port_survives_nonsense_too() {
    let lab = Lab::new();
    let appliance = scene(&lab);
    for bytes in [&b""[..], b"\0", b"GET / HTTP/1.1\r\nHost: stage\r\n\r\n", &[0xff; 4096], &[0; 65536]] {
        let mut socket = TcpStream::connect(appliance.address()).expect("the session port");
        let _ = socket.write_all(bytes);
    }
    appliance.replicate(&lab.file("source.raw"), "v").expect_kind("incremental");
}

#[test]
fn a_reader_keeps_its_point_while_newer_ones_arrive() {
    let lab = Lab::new();
    let appliance = scene(&lab);
    let script = r#"
import subprocess
expected = open(FILE, "rb").read()
half = len(expected) // 2
first = h.pread(half, 0)
subprocess.run(COMMAND, check=True, stdout=subprocess.DEVNULL)
assert first + h.pread(len(expected) - half, half) == expected, "an open export is one point, from beginning to end"
"#;
    image::scribble(&lab.file("source.raw"), 0, 16 * MIB, &mut Rng::new(9));
    let run: Vec<OsString> = appliance.initiator(Appliance::replicate_args(&lab.file("source.raw"), "v")).words();
    let words: Vec<String> = run.iter().map(|word| format!("{:?}", word.display().to_string())).collect();
    let script = script.replace("COMMAND", &format!("[{}]", words.join(", ")));
    let script = script.replace("FILE", &format!("{:?}", lab.file("kept 2").display().to_string()));
    nbdsh(&appliance.uri("v"), &script).expect_code(0);
    assert_eq!(appliance.point_numbers("v"), [1, 2, 3]);
    appliance.assert_export(&lab, "v@2", &lab.file("kept 2"));
    appliance.assert_export(&lab, "v", &lab.file("source.raw"));
}

#[test]
fn incident_nbd_92_a_daemon_killed_under_an_attached_export_is_an_error_and_not_a_hang() {
    if !have_root("an attached export") {
        return;
    }
    let lab = Lab::new();
    let mut appliance = scene(&lab);
    let disk = NbdFuse::new(&appliance.uri("v@1"), &lab.file("attached"));
    let read = |skip: &str| {
        let input = format!("if={}", disk.disk().display());
        Run::peer("dd").args(args![input, "of=/dev/null", "bs=1M", "count=1", format!("skip={skip}")]).run()
    };
    read("0").expect_code(0);
    appliance.kill();
    let outcome = read("12");
    assert_ne!(outcome.code, Some(0), "nobody is there to answer: {outcome}");
    appliance.restart();
    drop(disk);
    let disk = NbdFuse::new(&appliance.uri("v@1"), &lab.file("attached again"));
    compare::assert_same(&disk.disk(), &lab.file("kept 1"), "attached again, it is the point");
}
