//! `understudy attach` where the kernel has an NBD client: a device and mounts that wait for a daemon that is killed and started
//! again, and lose nothing by it.

use understudy_tests::guest::{Guest, HOST};
use understudy_tests::image::{Filesystem, WITNESS, md5};
use understudy_tests::{Appliance, Lab, NbdFuse, Rng, UNDERSTUDY, binary, have_root, seed};

fn port(address: &str) -> &str {
    address.rsplit_once(':').expect("HOST:PORT").1
}

#[test]
fn mounts_outlive_the_daemon_and_lose_nothing() {
    if !have_root("a mount of the expected content") {
        return;
    }
    let lab = Lab::new();
    let mut appliance = Appliance::start(&lab);
    let (ext4, xfs) = (lab.file("ext4.img"), lab.file("xfs.img"));
    Filesystem::Ext4.make(&ext4, lab.path(), &mut Rng::new(seed()));
    Filesystem::Xfs.make(&xfs, lab.path(), &mut Rng::new(seed()));
    appliance.replicate(&ext4, "ext4");
    appliance.replicate(&xfs, "xfs");
    let mount = Filesystem::Ext4.mount_to_read(&ext4, &lab.file("mount"));
    let witness = md5(&mount.path().join(WITNESS));
    mount.unmount();
    let appliance_port = port(appliance.address()).to_owned();
    let script = format!(
        r#"
  export UNDERSTUDY_APPLIANCE={HOST}:{appliance_port} UNDERSTUDY_STATE_DIR=/state UNDERSTUDY_PLAIN=true
  understudy attach ext4 --mount /mnt/ro
  echo "{witness}  /mnt/ro/{WITNESS}" > /tmp/sum
  md5sum -c /tmp/sum
  cue reading
  echo 3 > /proc/sys/vm/drop_caches
  md5sum -c /tmp/sum
  understudy detach /mnt/ro
  test ! -e /sys/block/nbd0/pid
  understudy attach ext4
  cp "/state/attached/ext4@1.json" /tmp/record
  understudy detach ext4
  understudy attach xfs --state-dir /other
  cp /tmp/record "/state/attached/ext4@1.json"
  understudy attached | grep "/dev/nbd0 .* gone"
  understudy detach ext4
  test -e /sys/block/nbd0/pid
  understudy attach ext4 &
  understudy attach ext4 --state-dir /third
  wait $!
  test "$(cat /state/attached/ext4@1.json /other/attached/*.json /third/attached/*.json | grep '"disk"' | sort -u | wc -l)" = 3
  understudy detach ext4 --state-dir /third
  understudy detach ext4
  test -e /sys/block/nbd0/pid
  understudy detach xfs --state-dir /other
  test ! -e /sys/block/nbd0/pid
  understudy attach ext4 --rw --device /dev/nbd3 --mount /mnt/rw
  understudy attached | grep "/dev/nbd3  */mnt/rw  *ext4 rw .* attached"
  understudy attach xfs --rw --device /dev/nbd4
  if understudy attach ext4 --device /dev/nbd4; then exit 1; fi
  test $(cat /sys/block/nbd4/queue/logical_block_size) = 512
  echo "written before" > /mnt/rw/before
  dd if=/dev/urandom of=/tmp/block bs=4096 count=16
  dd if=/tmp/block of=/dev/nbd4 bs=4096 seek=40000 oflag=direct conv=notrunc
  cue writing
  cat /proc/version > /mnt/rw/after
  dd if=/dev/urandom of=/mnt/rw/large bs=1M count=6
  sync
  dd if=/dev/nbd4 of=/tmp/again bs=4096 skip=40000 count=16 iflag=direct
  cmp /tmp/block /tmp/again
  md5sum /mnt/rw/large | sed 's/^/large /'
  understudy detach xfs
  understudy detach ext4
  understudy attached | grep -c nbd | grep 0
"#
    );
    let guest = Guest::new(&lab).program(&binary(UNDERSTUDY)).peer("mount").peer("umount").peer("blkid");
    let mut guest = guest.module("nbd").module("xfs").play(&script);
    for cue in ["reading", "writing"] {
        guest.wait_cue(cue);
        appliance.kill();
        guest.go_on();
        appliance.restart();
    }
    let console = guest.finish();
    let disk = NbdFuse::new(&appliance.uri("ext4@1+w"), &lab.file("disk"));
    Filesystem::Ext4.check(&disk.disk());
    let mount = Filesystem::Ext4.mount_to_read(&disk.disk(), &lab.file("mount"));
    assert_eq!(std::fs::read(mount.path().join("before")).expect("a file"), b"written before\n");
    let large = md5(&mount.path().join("large"));
    assert!(console.contains(&format!("large {large}")), "{console}");
    mount.unmount();
}
