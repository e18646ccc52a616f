//! The kernel's own NBD client, in a guest: it attaches points over two connections each, mounts them, and outlives the daemon.

use understudy_tests::guest::{Guest, HOST};
use understudy_tests::image::{Filesystem, WITNESS, md5};
use understudy_tests::{Appliance, Lab, Rng, have_root, seed};

/// Replicates a volume with a filesystem; the checksum of a file in it.
fn stage(lab: &Lab, appliance: &Appliance, filesystem: Filesystem, volume: &str) -> String {
    let image = lab.file(volume);
    filesystem.make(&image, lab.path(), &mut Rng::new(seed()));
    appliance.replicate(&image, volume);
    let mount = filesystem.mount_to_read(&image, &lab.file("mount"));
    let sum = md5(&mount.path().join(WITNESS));
    mount.unmount();
    sum
}

#[test]
fn a_kernel_mounts_points_and_reads_on_after_the_daemon_was_killed_and_restarted() {
    if !have_root("a mount of the expected content") {
        return;
    }
    let lab = Lab::new();
    let mut appliance = Appliance::start(&lab);
    let (ext4, xfs) =
        (stage(&lab, &appliance, Filesystem::Ext4, "ext4"), stage(&lab, &appliance, Filesystem::Xfs, "xfs"));
    let port = appliance.nbd_address().rsplit_once(':').expect("HOST:PORT").1.to_owned();
    let script = format!(
        r#"
  attach() {{ nbd-client -N $1 -C 2 -b 512 {HOST} {port} $2; }}
  check() {{ echo "$1  $2/{WITNESS}" | md5sum -c; }}
  attach ext4@1 /dev/nbd0
  attach xfs@1 /dev/nbd1
  test $(cat /sys/block/nbd0/ro) = 1
  test $(cat /sys/block/nbd1/queue/logical_block_size) = 512
  mkdir /mnt/ext4 /mnt/xfs
  mount -t ext4 -o ro,noload /dev/nbd0 /mnt/ext4
  mount -t xfs -o ro,norecovery /dev/nbd1 /mnt/xfs
  check {ext4} /mnt/ext4
  check {xfs} /mnt/xfs
  cue mounted
  echo 3 > /proc/sys/vm/drop_caches
  if md5sum /mnt/ext4/{WITNESS}; then exit 1; fi
  umount /mnt/ext4
  nbd-client -d /dev/nbd0
  attach ext4@1 /dev/nbd0
  mount -t ext4 -o ro,noload /dev/nbd0 /mnt/ext4
  check {ext4} /mnt/ext4
  umount /mnt/ext4
  nbd-client -d /dev/nbd0
"#
    );
    let mut guest = Guest::new(&lab).peer("nbd-client").module("nbd").module("xfs").play(&script);
    guest.wait_cue("mounted");
    appliance.kill();
    appliance.restart();
    guest.go_on();
    guest.finish();
}
