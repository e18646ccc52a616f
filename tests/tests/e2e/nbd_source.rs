//! Exports of other servers as sources: whatever they can and cannot do, the point is what they serve, or there is none.

use std::ffi::OsString;
use std::path::Path;

use understudy_tests::certificates::{Authority, End};
use understudy_tests::image::{self, MIB};
use understudy_tests::{
    Appliance, Lab, NbdServer, Outcome, Proxy, Qcow2, Rng, Run, Running, args, compare, seed, tool,
};

/// Replicates an export, which must succeed, and compares the point with what a client that is not ours reads of it.
#[track_caller]
fn replicated(lab: &Lab, appliance: &Appliance, uri: &str, volume: &str, more: &[&str]) {
    let expected = lab.file("nbdcopy of the source");
    let _ = std::fs::remove_file(&expected);
    tool("nbdcopy", args![uri, &expected]);
    appliance.replicate_with(Path::new(uri), volume, more);
    appliance.assert_export(lab, volume, &expected);
}

#[track_caller]
fn refused(appliance: &Appliance, uri: &str) -> Outcome {
    let outcome =
        appliance.try_replicate(Path::new(uri), "refused", &[]).expect_refusal().says(&format!("source {uri}"));
    appliance.assert_no_point("refused");
    outcome
}

#[test]
fn whatever_serves_it_the_point_is_the_export() {
    let lab = Lab::new();
    let appliance = Appliance::start(&lab);
    let raw = lab.file("source.raw");
    image::mixed(&raw, 24 * MIB + 512, &mut Rng::new(seed()));
    let file = || OsString::from(&raw);
    let servers: Vec<(&str, Vec<OsString>)> = vec![
        ("pattern", args!["pattern", "20M"]),
        ("sparse-random", args!["sparse-random", "64M", "percent=20", "seed=7"]),
        ("data", args!["data", "( 0x55 0xAA )*700000 @0x1000000 0x75 0x6e @0x2000000 1", "size=40M"]),
        ("memory", args!["memory", "8M"]),
        ("file", args!["file", file()]),
        ("one-connection", args!["--filter=multi-conn", "file", file(), "multi-conn-mode=disable"]),
        ("one-client", args!["--filter=limit", "file", file(), "limit=2"]),
        ("simple", args!["--no-sr", "file", file()]),
        ("name-only", args!["--no-sr", "--mask-handshake=0", "file", file()]),
        ("slow", args!["--filter=delay", "pattern", "4M", "delay-read=20ms"]),
    ];
    for (volume, arguments) in servers {
        let server = NbdServer::nbdkit(&lab, arguments);
        replicated(&lab, &appliance, &server.uri(""), volume, &["--block-size", "4K"]);
    }
    // Requests that do not keep its sizes are refused by this one; nbdcopy cannot read it.
    let aligned = lab.file("aligned.raw");
    image::mixed(&aligned, 24 * MIB, &mut Rng::new(seed() + 1));
    let sizes =
        ["minimum=64K", "preferred=64K", "maximum=128K", "error-policy=error"].map(|size| format!("blocksize-{size}"));
    let policy = args!["--filter=blocksize-policy", "file", &aligned];
    let server = NbdServer::nbdkit(&lab, policy.into_iter().chain(sizes.map(OsString::from)).collect());
    appliance.replicate_with(Path::new(&server.uri("")), "blocks", &["--block-size", "4K"]);
    appliance.assert_export(&lab, "blocks", &aligned);
    // A second client of this one would wait for ever.
    let server = NbdServer::qemu(&lab, args!["-e", "1", "-f", "raw", "-x", "an export", &raw]);
    appliance.replicate(Path::new(&server.uri("an%20export")), "qemu");
    appliance.assert_export(&lab, "qemu", &raw);
    let outcome = appliance.understudy(args!["verify", server.uri("an%20export"), "qemu"]);
    outcome.expect_code(0).says("identical");
}

#[test]
fn an_appliance_is_a_source_for_another_volume() {
    let lab = Lab::new();
    let appliance = Appliance::start(&lab);
    let raw = lab.file("source.raw");
    image::mixed(&raw, 24 * MIB + 512, &mut Rng::new(seed()));
    appliance.replicate(&raw, "v");
    for (volume, uri) in [("tcp", appliance.uri("v@1")), ("unix", appliance.unix_uri("v"))] {
        let summary = appliance.replicate(Path::new(&uri), volume);
        summary.expect_count("blocks_sent", 0..=0).expect_count("blocks_read", 1..300);
        appliance.assert_export(&lab, volume, &raw);
    }
    appliance.understudy(args!["verify", appliance.uri("v@1"), "tcp"]).expect_code(0).says("identical");
}

#[test]
fn a_stream_of_an_export_is_the_stream_of_its_bytes() {
    let lab = Lab::new();
    let raw = lab.file("source.raw");
    image::mixed(&raw, 8 * MIB, &mut Rng::new(seed()));
    let server = NbdServer::nbdkit(&lab, args!["file", &raw]);
    let appliance = Appliance::start(&lab);
    let stream = lab.file("stream");
    appliance.understudy(args!["emit", server.uri(""), "-o", &stream]).expect_code(0);
    let mut ingest = appliance.upkeep_run(&["ingest", "--volume", "v"]);
    drop(appliance);
    ingest = ingest.stdin(&stream);
    ingest.run().expect_code(0);
    let appliance = Appliance::start(&lab);
    appliance.assert_export(&lab, "v", &raw);
}

#[test]
fn holes_are_not_read_and_what_only_looks_like_one_is() {
    let lab = Lab::new();
    let appliance = Appliance::start(&lab);
    let server = |extents: &str| {
        let pread =
            "pread=if [ $4 -lt 2097152 ]; then head -c $3 /dev/zero | tr '\\0' x; else head -c $3 /dev/zero; fi";
        let extents = format!("extents={extents}");
        NbdServer::nbdkit(&lab, args!["eval", "get_size=echo 4M", pread, "can_extents=exit 0", extents])
    };
    let honest = server("echo 0 2M; echo 2M 2M hole,zero");
    let uri = honest.uri("");
    let summary = appliance.replicate(Path::new(&uri), "honest");
    summary.expect_count("blocks_read", 32..=32).expect_count("blocks_zero", 32..=32);
    // A hole of undefined content is data, and extents that end anywhere do not make blocks of zeros.
    for (volume, extents) in [
        ("undefined", "echo 0 2M hole; echo 2M 2M hole,zero"),
        ("ragged", "echo 0 2097253; echo 2097253 2097051 zero"),
        ("none", "echo 'EIO no extents today' >&2; exit 1"),
    ] {
        let other = server(extents);
        let summary = appliance.replicate(Path::new(&other.uri("")), volume);
        let root = summary.text("root").to_string();
        let verified = appliance.understudy(args!["verify", &uri, volume]);
        verified.expect_code(0).says(&root);
    }
}

#[test]
fn what_cannot_be_opened_is_refused_in_the_servers_words() {
    let lab = Lab::new();
    let appliance = Appliance::start(&lab);
    let server = NbdServer::nbdkit(&lab, args!["--oldstyle", "memory", "1M"]);
    refused(&appliance, &server.uri("")).says("old-style");
    let server = NbdServer::qemu(&lab, args!["-f", "raw", "-x", "disk", lab.write("raw", vec![1; 1 << 20])]);
    refused(&appliance, &server.uri("another")).says("export 'another' not present");
    let gone = server.uri("disk");
    server.kill();
    refused(&appliance, &gone).says("cannot connect");
    refused(&appliance, "nbd://127.0.0.1:1/x").says("cannot connect");
    refused(&appliance, "nbd+unix:///x").says("socket=PATH");
    // Something that is no NBD server at all.
    refused(&appliance, &format!("nbd://{}/x", appliance.address()));
    let tls = NbdServer::nbdkit(&lab, args!["--tls=off", "memory", "1M"]);
    let encrypted = format!("{}&tls-certificates={}", tls.uri("").replace("nbd+", "nbds+"), "none");
    refused(&appliance, &encrypted).says("does not offer TLS");
    let outcome = appliance.try_replicate(&lab.file("raw"), "refused", &["--bitmap", "b0"]);
    outcome.expect_refusal().says("only NBD exports have dirty bitmaps");
}

/// More than any window of a bounded pipeline holds, so that the run has not read to the end when it is held.
const HELD: u64 = 384 * MIB;

/// A run that is held once a mebibyte of its stream is on its way, and goes on after `harm` was done.
#[track_caller]
fn harmed(appliance: &Appliance, uri: &str, harm: impl FnOnce()) -> Outcome {
    let proxy = Proxy::hold_after(appliance.address(), MIB);
    let run: Run = appliance.initiator(Appliance::replicate_args(Path::new(uri), "v"));
    let run: Running = run.env("UNDERSTUDY_APPLIANCE", proxy.address()).start().wait_held(&proxy);
    harm();
    proxy.release();
    run.finish().expect_refusal()
}

#[test]
fn an_export_that_fails_in_the_middle_makes_no_point() {
    let lab = Lab::new();
    let appliance = Appliance::start(&lab);
    let raw = lab.file("source.raw");
    image::random(&raw, HELD, &mut Rng::new(seed()));
    let trigger = lab.file("fails");
    let error = format!("error-file={}", trigger.display());
    let arguments = args!["--filter=error", "file", &raw, "error-pread=EIO", "error-pread-rate=100%", error];
    let server = NbdServer::nbdkit(&lab, arguments);
    let uri = server.uri("");
    let outcome = harmed(&appliance, &uri, || drop(lab.write("fails", "")));
    outcome.says(&format!("source {uri}")).says("bytes at offset").says("EIO");
    appliance.assert_no_point("v");
    std::fs::remove_file(&trigger).expect("the trigger can be removed");
    // The server goes on, and so does the stream.
    let more = [("UNDERSTUDY_RETRIES", "5000"), ("UNDERSTUDY_RETRY_DELAY", "1")];
    let run = appliance.initiator(Appliance::replicate_args(Path::new(&uri), "v"));
    more.iter().fold(run, |run, (key, value)| run.env(key, value)).run().expect_code(0);
    appliance.assert_export(&lab, "v", &raw);
}

#[test]
fn a_server_that_dies_in_the_middle_makes_no_point() {
    let lab = Lab::new();
    let appliance = Appliance::start(&lab);
    let raw = lab.file("source.raw");
    image::random(&raw, HELD, &mut Rng::new(seed()));
    let server = NbdServer::qemu(&lab, args!["-r", "-e", "8", "-f", "raw", &raw]);
    let uri = server.uri("");
    let outcome = harmed(&appliance, &uri, || server.kill());
    outcome.says(&format!("source {uri}")).says("bytes at offset").says("closed the connection");
    appliance.assert_no_point("v");
}

#[test]
fn a_snapshot_in_a_qcow2_image_is_a_source_like_any_other() {
    let lab = Lab::new();
    let appliance = Appliance::start(&lab);
    let disk = Qcow2::new(&lab, 64 * MIB);
    disk.io(&["write -P 7 0 3M", "write -P 8 40M 512"]);
    let server = disk.serve_bare();
    let uri = server.uri("disk");
    let summary = appliance.replicate(Path::new(&uri), "v");
    // 3 MiB, and the cluster around the 512 bytes.
    summary.expect_count("blocks_read", 49..=49);
    server.kill();
    let content = disk.content(&lab);
    appliance.assert_export(&lab, "v", &content);
    compare::assert_same(&appliance.settle("v"), &content, "the secondary is the disk");
}

#[test]
fn an_export_is_read_through_tls_from_whom_the_authority_vouches_for() {
    let lab = Lab::new();
    let appliance = Appliance::start(&lab);
    let raw = lab.file("source.raw");
    image::mixed(&raw, 24 * MIB, &mut Rng::new(seed()));
    let (authority, stranger) = (Authority::new(&lab, "authority"), Authority::new(&lab, "stranger"));
    let (server, client) = (authority.identity(End::Server, "server"), authority.identity(End::Client, "client"));
    let through = |uri: String, dir: &Path| {
        let dir = dir.display().to_string().replace(' ', "%20");
        format!("{}&tls-certificates={dir}", uri.replace("nbd+", "nbds+"))
    };
    let certificates = format!("--tls-certificates={}", server.display());
    let kit = NbdServer::nbdkit(&lab, args!["--tls=require", "--tls-verify-peer", &certificates, "file", &raw]);
    appliance.replicate(Path::new(&through(kit.uri(""), &client)), "nbdkit");
    appliance.assert_export(&lab, "nbdkit", &raw);
    let object = format!("tls-creds-x509,id=t,endpoint=server,verify-peer=no,dir={}", server.display());
    let qemu = NbdServer::qemu(&lab, args!["-r", "-e", "8", "--object", object, "--tls-creds", "t", "-f", "raw", &raw]);
    let verified = appliance.understudy(args!["verify", through(qemu.uri(""), &authority.trust("trust")), "nbdkit"]);
    verified.expect_code(0).says("identical");
    // Who is somebody else, or nobody.
    refused(&appliance, &through(kit.uri(""), &stranger.identity(End::Client, "forged"))).says("TLS: ");
    refused(&appliance, &format!("{}&tls-hostname=elsewhere", through(kit.uri(""), &client))).says("TLS: ");
    refused(&appliance, &kit.uri("")).says("the server wants TLS");
    let outcome = appliance.try_replicate(Path::new(&through(kit.uri(""), &authority.trust("nobody"))), "refused", &[]);
    outcome.expect_refusal();
    appliance.assert_no_point("refused");
}
