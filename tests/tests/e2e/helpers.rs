//! The tests' own tools do what the tests rely on: a helper that lies makes every promise look kept.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use understudy_tests::image::{self, Filesystem, MIB, WITNESS, md5};
use understudy_tests::wait::wait_until;
use understudy_tests::{Lab, Loop, NbdFuse, Proxy, Rng, Run, args, compare, have_root};

#[test]
fn the_relay_lets_exactly_its_limit_pass() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let target = listener.local_addr().expect("an address").to_string();
    let counting = thread::spawn(move || {
        let (mut socket, _) = listener.accept().expect("a connection");
        let mut got = Vec::new();
        socket.read_to_end(&mut got).expect("everything up to the cut");
        got.len()
    });
    let proxy = Proxy::hold_after(&target, 100_001);
    let mut socket = TcpStream::connect(proxy.address()).expect("the relay");
    thread::spawn(move || socket.write_all(&[7; 1 << 20]));
    wait_until("the relay holds", || if proxy.held() { Ok(()) } else { Err(proxy.passed().to_string()) });
    assert_eq!(proxy.passed(), 100_001);
    proxy.cut();
    assert!(counting.join().expect("the counting thread") <= 100_001);
}

#[test]
fn a_running_command_is_seen_to_end_before_the_relay_holds() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let proxy = Proxy::hold_after(&listener.local_addr().expect("an address").to_string(), 1000);
    let mut run = Run::peer("echo").args(args!["one line"]).start().wait_line("one");
    assert!(!run.is_held(&proxy));
    assert_eq!(run.finish().expect_code(0).out(), "one line\n");
}

#[test]
fn comparison_sees_one_byte_and_ignores_holes() {
    let lab = Lab::new();
    let (hole, zeros) = (lab.file("hole"), lab.write("zeros", vec![0; 3 << 20]));
    image::hole(&hole, 3 * MIB);
    compare::assert_same(&hole, &zeros, "a hole is zeros");
    compare::assert_sparse(&hole, 4096);
    image::patch(&hole, 2 * MIB + 5, &[1]);
    let difference = compare::difference(&hole, &zeros).expect("one byte differs");
    assert!(difference.contains("byte 2097157"), "{difference}");
    image::resize(&zeros, 3 * MIB - 1);
    image::patch(&hole, 2 * MIB + 5, &[0]);
    assert!(compare::difference(&hole, &zeros).is_some(), "one byte less is another volume");
}

#[test]
fn a_day_changes_every_filesystem_and_leaves_it_sound() {
    if !have_root("a kernel mount") {
        return;
    }
    for filesystem in [Filesystem::Ext4, Filesystem::Xfs, Filesystem::Btrfs] {
        let lab = Lab::new();
        let mut rng = Rng::new(1);
        let image = lab.file("source.img");
        filesystem.make(&image, lab.path(), &mut rng);
        let before = image::keep(&image, &lab.file("before.img"));
        let mut witnesses = Vec::new();
        for day in 1..=3 {
            let mount = filesystem.mount(&image, &lab.file("mount"));
            image::change(mount.path(), day, &mut rng);
            mount.unmount();
            filesystem.check(&image);
            let mount = filesystem.mount_to_read(&image, &lab.file("mount"));
            witnesses.push(md5(&mount.path().join(WITNESS)));
            mount.unmount();
        }
        assert!(compare::difference(&before, &image).is_some(), "{filesystem:?} changed");
        assert!(compare::allocated(&image) < filesystem.size(), "{filesystem:?} is sparse");
        witnesses.dedup();
        assert_eq!(witnesses.len(), 3, "{filesystem:?}: the witness is another one every day");
    }
}

#[test]
fn an_export_of_another_server_attaches_and_mounts() {
    if !have_root("a kernel mount") {
        return;
    }
    let lab = Lab::new();
    let image = lab.file("source.img");
    Filesystem::Ext4.make(&image, lab.path(), &mut Rng::new(1));
    let socket = lab.file("nbd.sock");
    let server = Run::peer("nbdkit").args(args!["-f", "-r", "-U", &socket, "file", &image]).start();
    wait_until("nbdkit listens", || if socket.exists() { Ok(()) } else { Err("no socket".to_string()) });
    let uri = format!("nbd+unix:///?socket={}", socket.display()).replace(' ', "%20");
    let disk = NbdFuse::new(&uri, &lab.file("attached"));
    compare::assert_same(&disk.disk(), &image, "the export is the file");
    let mount = Filesystem::Ext4.mount_to_read(&disk.disk(), &lab.file("mount"));
    assert_eq!(md5(&mount.path().join(WITNESS)).len(), 32);
    mount.unmount();
    drop(disk);
    server.kill();
    let device = Loop::new(&image);
    assert_eq!(Run::peer("cmp").args(args![device.path(), &image]).run().code, Some(0));
}

#[test]
#[should_panic(expected = "still running after 1 s")]
fn a_command_that_hangs_is_a_failure() {
    Run::peer("sleep").args(args!["60"]).limit(1).run();
}
