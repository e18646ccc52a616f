//! A point is had without a daemon: `pool extract` reads the segments alone, from a pool that may be read-only or
//! damaged, and what it cannot have it names exactly.

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::Value;
use understudy_tests::image::{self, Filesystem, MIB};
use understudy_tests::{
    Appliance, Lab, Loop, Mount, Outcome, Rng, Run, TOOLS, args, compare, count, have_root, seed, tool,
};

const BLOCK: u64 = 65536;

/// `understudy-tools pool extract`, with more arguments.
fn extract(pool: &Path, point: &str, out: &Path, more: &[&str]) -> Outcome {
    let mut arguments = args!["pool", "extract", pool, point, out];
    arguments.extend(more.iter().map(std::ffi::OsString::from));
    Run::ours(TOOLS).args(arguments).run()
}

/// Extracts a point to a file beside the pool, which must be all right.
#[track_caller]
fn assert_extracts(lab: &Lab, pool: &Path, point: &str, expected: &Path) {
    let out = lab.file("extracted.raw");
    let _ = fs::remove_file(&out);
    extract(pool, point, &out, &[]).expect_code(0).says("the root are right");
    compare::assert_same(&out, expected, &format!("{point} is extracted as it was"));
    compare::assert_sparse(&out, compare::allocated(expected) + 4 * MIB);
}

/// A stopped appliance with volume `v` of random bytes: block 7 is another one in each of two points.
fn random_scene(lab: &Lab) -> (Appliance, [PathBuf; 2]) {
    let mut rng = Rng::new(seed());
    let source = lab.file("source.raw");
    image::random(&source, 4 * MIB, &mut rng);
    let mut appliance = Appliance::start(lab);
    let mut versions = Vec::new();
    for version in 1..=2 {
        image::scribble(&source, 7 * BLOCK, BLOCK, &mut rng);
        appliance.replicate(&source, "v");
        versions.push(image::keep(&source, &lab.file(&format!("v{version}.raw"))));
    }
    appliance.settle("v");
    appliance.stop();
    (appliance, versions.try_into().expect("two versions"))
}

/// Every file and directory of a pool with its size, MD5 and time of change.
fn fingerprint(pool: &Path) -> String {
    let listing = tool("find", args![pool, "-printf", "%p %y %s %T@ %C@\n"]).out();
    let sums = tool("find", args![pool, "-type", "f", "-exec", "md5sum", "{}", "+"]).out();
    let mut lines: Vec<&str> = listing.lines().chain(sums.lines()).collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// Where the stored bytes of a random block of a volume are: the segment and the offset of the record's header.
fn find_block(pool: &Path, volume: &Path, block: u64) -> (PathBuf, u64) {
    let mut needle = [0; 64];
    File::open(volume).and_then(|file| file.read_exact_at(&mut needle, block * BLOCK)).expect("a block");
    for path in fs::read_dir(pool.join("segments")).expect("segments").map(|entry| entry.expect("an entry").path()) {
        let bytes = fs::read(&path).expect("a segment");
        if let Some(at) = bytes.windows(needle.len()).position(|window| window == needle) {
            return (path, at as u64 - 64);
        }
    }
    panic!("block {block} of {} is stored nowhere as it is", volume.display())
}

/// The source without these blocks.
fn without(source: &Path, copy: &Path, blocks: &[u64]) -> PathBuf {
    image::keep(source, copy);
    blocks.iter().for_each(|block| image::patch(copy, block * BLOCK, &vec![0; BLOCK as usize]));
    copy.to_path_buf()
}

#[test]
fn every_point_of_a_real_filesystem_is_extracted_byte_for_byte() {
    if !have_root("mounting the source") {
        return;
    }
    let (lab, mut rng) = (Lab::new(), Rng::new(seed()));
    let (source, filesystem) = (lab.file("disk.raw"), Filesystem::Ext4);
    filesystem.make(&source, lab.path(), &mut rng);
    let mut appliance = Appliance::start(&lab);
    let mut kept = Vec::new();
    for day in 1..=3 {
        let mount = filesystem.mount(&source, &lab.file("mnt"));
        image::change(mount.path(), day, &mut rng);
        mount.unmount();
        appliance.replicate_with(&source, "disk", &["--label", &format!("day-{day}")]);
        kept.push(image::keep(&source, &lab.file(&format!("day {day}.raw"))));
    }
    // Beside the running daemon, and without it.
    assert_extracts(&lab, appliance.pool(), "disk@2", &kept[1]);
    appliance.settle("disk");
    appliance.stop();
    let before = fingerprint(appliance.pool());
    for (point, expected) in [("disk", 2), ("disk@1", 0), ("disk@day-2", 1), ("disk@latest", 2)] {
        assert_extracts(&lab, appliance.pool(), point, &kept[expected]);
        filesystem.check(&lab.file("extracted.raw"));
    }
    assert_eq!(fingerprint(appliance.pool()), before, "extracting leaves no trace in the pool");
}

#[test]
fn a_pool_on_a_read_only_mount_will_do() {
    if !have_root("a read-only bind mount") {
        return;
    }
    let lab = Lab::new();
    let (appliance, versions) = random_scene(&lab);
    let frozen = lab.dir("frozen");
    let mount = Mount::new(appliance.pool(), &frozen, "bind");
    tool("mount", args!["-o", "remount,bind,ro", &frozen]);
    assert!(fs::write(frozen.join("probe"), "x").is_err(), "the mount is read-only");
    assert_extracts(&lab, mount.path(), "v@1", &versions[0]);
    Run::ours(TOOLS)
        .args(args!["pool", "rebuild", &frozen, "--dry-run"])
        .run()
        .expect_code(0)
        .says("nothing was touched");
    mount.unmount();
}

#[test]
fn a_pool_that_may_only_be_read_will_do() {
    if !have_root("becoming somebody else") {
        return;
    }
    let lab = Lab::new();
    let (appliance, versions) = random_scene(&lab);
    let out = lab.dir("anybody").join("out.raw");
    fs::set_permissions(lab.path(), fs::Permissions::from_mode(0o755)).expect("the lab is opened");
    fs::set_permissions(lab.file("anybody"), fs::Permissions::from_mode(0o777)).expect("a place for anybody");
    tool("chmod", args!["-R", "a+rX,a-w", appliance.pool()]);
    let tools = lab.file("tools");
    fs::copy(understudy_tests::binary(TOOLS), &tools).expect("a copy that anybody may run");
    let nobody = args!["--reuid=65534", "--regid=65534", "--clear-groups", "--"];
    let command = args![&tools, "pool", "extract", appliance.pool(), "v@2", &out];
    Run::peer("setpriv").args(nobody.into_iter().chain(command)).run().expect_code(0);
    compare::assert_same(&out, &versions[1], "the point is extracted by somebody who may only read");
}

#[test]
fn flipped_bits_cost_their_blocks_and_nothing_else() {
    let lab = Lab::new();
    let (appliance, versions) = random_scene(&lab);
    let hurt = [3, 4, 40];
    let mut expected = Vec::new();
    for block in hurt {
        let (segment, at) = find_block(appliance.pool(), &versions[1], block);
        let mut byte = [0];
        File::open(&segment).and_then(|file| file.read_exact_at(&mut byte, at + 64 + 999)).expect("a stored byte");
        image::patch(&segment, at + 64 + 999, &[byte[0] ^ 0x20]);
        expected.push(format!(
            "missing: v@2: block {block} (offset {}, {BLOCK} bytes): damaged in segment 1 at {at}: ",
            block * BLOCK
        ));
    }
    let out = lab.file("out.raw");
    let before = fingerprint(appliance.pool());
    let outcome = extract(appliance.pool(), "v@2", &out, &[]).expect_code(3).says("3 blocks in 3 ranges");
    let told: Vec<String> =
        outcome.out().lines().filter(|line| line.starts_with("missing: ")).map(String::from).collect();
    assert_eq!(told.len(), hurt.len(), "{outcome}");
    assert!(
        told.iter().zip(&expected).all(|(line, start)| line.starts_with(start)),
        "expected {expected:#?}: {outcome}"
    );
    compare::assert_same(&out, &without(&versions[1], &lab.file("expected.raw"), &hurt), "all else is right");
    assert_eq!(fingerprint(appliance.pool()), before, "extracting leaves no trace in a damaged pool");
    // The settled secondary still has them.
    let json = extract(appliance.pool(), "v@1", &lab.file("json.raw"), &["--json"]).expect_code(3);
    json.summary().expect_count("blocks_missing", 3..=3).expect_count("bytes_missing", 3 * BLOCK..=3 * BLOCK);
}

/// The first bytes of everything that starts where a record's content may start.
fn stored_starts(pool: &Path) -> HashSet<[u8; 32]> {
    let mut starts = HashSet::new();
    for path in fs::read_dir(pool.join("segments")).expect("segments").map(|entry| entry.expect("an entry").path()) {
        let bytes = fs::read(path).expect("a segment");
        starts.extend(bytes.chunks(64).filter_map(|chunk| chunk.first_chunk::<32>().copied()));
    }
    starts
}

#[test]
fn a_lost_segment_costs_what_was_in_it_and_nothing_else() {
    let (lab, mut rng) = (Lab::new(), Rng::new(seed()));
    let source = lab.file("source.raw");
    image::random(&source, 272 * MIB, &mut rng);
    let mut appliance = Appliance::start(&lab);
    appliance.replicate(&source, "v");
    appliance.settle("v");
    appliance.stop();
    // The first segment is full, and has the record of the volume as well; the second has the point.
    let lost = appliance.pool().join("segments/0000000000000001.seg");
    assert!(compare::size(&lost) > 250 * MIB, "the first segment is full");
    fs::remove_file(&lost).expect("a segment can be lost");
    let (there, bytes) = (stored_starts(appliance.pool()), fs::read(&source).expect("the source"));
    let blocks = bytes.chunks(BLOCK as usize).enumerate();
    let is_lost = |block: &[u8]| !there.contains(block.first_chunk().expect("a block"));
    let expected: Vec<u64> = blocks.filter(|(_, block)| is_lost(block)).map(|(at, _)| at as u64).collect();
    assert!(!expected.is_empty() && expected.len() < 272 * 16, "{} blocks are lost", expected.len());
    let out = lab.file("out.raw");
    let outcome = extract(appliance.pool(), "v@1", &out, &["--json"]).expect_code(3);
    let ranges = outcome.events().into_iter().filter(|event| event["event"] == "missing");
    let told: Vec<u64> = ranges.flat_map(|event| range(&event)).collect();
    assert!(told == expected, "{} blocks are told, {} are lost: {outcome}", told.len(), expected.len());
    compare::assert_same(&out, &without(&source, &lab.file("expected.raw"), &expected), "all else is right");
}

/// The blocks of a `missing` event.
fn range(event: &Value) -> std::ops::Range<u64> {
    let (first, blocks) = (count(event, "block"), count(event, "blocks"));
    assert_eq!((count(event, "offset"), count(event, "length")), (first * BLOCK, blocks * BLOCK), "{event}");
    first..first + blocks
}

#[test]
fn a_device_takes_a_point_with_force_and_no_old_byte_is_left() {
    if !have_root("loop devices") {
        return;
    }
    let (lab, mut rng) = (Lab::new(), Rng::new(seed()));
    let source = lab.file("source.raw");
    image::mixed(&source, 4 * MIB, &mut rng);
    let mut appliance = Appliance::start(&lab);
    appliance.replicate(&source, "v");
    appliance.stop();
    for (size, fits) in [(4 * MIB, true), (3 * MIB, false)] {
        let backing = lab.file(&format!("backing {size}"));
        image::random(&backing, size, &mut rng);
        let device = Loop::new(&backing);
        extract(appliance.pool(), "v", device.path(), &[]).expect_refusal().says("--force");
        let forced = extract(appliance.pool(), "v", device.path(), &["--force"]);
        match fits {
            true => drop(forced.expect_code(0)),
            false => drop(forced.expect_refusal().says("too small")),
        }
        tool("blockdev", args!["--flushbufs", device.path()]);
        drop(device);
        if fits {
            compare::assert_same(&backing, &source, "the device holds the point");
        }
    }
}

#[test]
fn a_pipe_takes_a_point() {
    let lab = Lab::new();
    let (appliance, versions) = random_scene(&lab);
    let outcome = extract(appliance.pool(), "v@1", Path::new("-"), &[]).expect_code(0);
    assert!(outcome.stdout == fs::read(&versions[0]).expect("the source"), "standard output is the point");
    assert!(outcome.stderr.contains("v@1 is in standard output"), "{}", outcome.stderr);
}

/// A filesystem in the lab, with a stopped appliance's pool on it, and what its volume was at each of two points.
struct Shelf {
    mount: Mount,
    appliance: Appliance,
    versions: [PathBuf; 2],
}

/// Blocks that differ between the two points.
const CHANGED: u64 = 80;

impl Shelf {
    fn new(lab: &Lab, mkfs: &[&str]) -> Shelf {
        let (disk, source) = (lab.file("shelf.img"), lab.file("source.raw"));
        image::hole(&disk, 700 * MIB);
        let arguments = mkfs[1..].iter().map(std::ffi::OsString::from).chain(args![&disk]);
        tool(mkfs[0], arguments.collect());
        let mount = Mount::new(&disk, &lab.file("shelf"), "loop");
        let mut rng = Rng::new(seed());
        image::mixed(&source, 64 * MIB, &mut rng);
        // What does not compress stands in the segments as it is.
        image::scribble(&source, 12 * BLOCK, 100 * BLOCK, &mut rng);
        let mut appliance = Appliance::start_on(lab, &mount.path().join("pool"));
        appliance.replicate(&source, "v");
        let old = image::keep(&source, &lab.file("v1.raw"));
        image::scribble(&source, 12 * BLOCK, (CHANGED - 4) * BLOCK, &mut rng);
        image::patch(&source, 100 * BLOCK, &vec![0; 4 * BLOCK as usize]);
        appliance.replicate(&source, "v");
        appliance.settle("v");
        appliance.stop();
        Shelf { mount, appliance, versions: [old, source] }
    }

    /// Bytes that the filesystem has given away.
    fn used(&self) -> u64 {
        tool("sync", args!["--file-system", self.mount.path()]);
        let stat = rustix::fs::statvfs(self.mount.path()).expect("the filesystem can be asked");
        (stat.f_blocks - stat.f_bfree) * stat.f_frsize
    }

    /// Extracts by sharing; the bytes that it took from the filesystem.
    #[track_caller]
    fn shares(&self, version: usize, more: &[&str]) -> u64 {
        let out = self.mount.path().join("out.raw");
        let _ = fs::remove_file(&out);
        let before = self.used();
        let arguments = [&["--reflink"], more].concat();
        extract(self.appliance.pool(), &format!("v@{version}"), &out, &arguments).expect_code(0).says("shared");
        let taken = self.used().saturating_sub(before);
        compare::assert_same(&out, &self.versions[version - 1], "what is shared is the point");
        taken
    }

    #[track_caller]
    fn assert_shares(&self) {
        const CHANGE: u64 = 2 * MIB;
        const { assert!(CHANGE < CHANGED * BLOCK / 2) };
        assert_eq!(compare::size(&self.versions[1]), 64 * MIB);
        for more in [&[][..], &["--no-verify"]] {
            let newest = self.shares(2, more);
            assert!(newest <= CHANGE, "the newest point costs {newest} bytes of data ({more:?})");
            let older = self.shares(1, more);
            assert!(older <= CHANGE, "an older point costs {older} bytes ({more:?})");
        }
        // A wrong byte in the secondary is found, and the block comes from the segments: shared, unless it is compressed there.
        let byte = image_byte(&self.versions[1], 125 * BLOCK);
        image::patch(&self.appliance.secondary("v"), 125 * BLOCK, &[byte ^ 1]);
        let out = self.mount.path().join("healed.raw");
        let healed = extract(self.appliance.pool(), "v", &out, &["--reflink", "--json"]).expect_code(0).summary();
        healed.expect_count("blocks_written", 0..=1);
        compare::assert_same(&out, &self.versions[1], "a wrong byte of the secondary is not shared");
        // One on its way to another point is not used.
        fs::remove_file(self.appliance.pool().join("volumes/v/state")).expect("a state can be lost");
        let fresh = self.mount.path().join("fresh.raw");
        extract(self.appliance.pool(), "v", &fresh, &["--reflink"]).expect_refusal().says("leave out --reflink");
        assert!(!fresh.exists(), "nothing is written");
    }
}

fn image_byte(path: &Path, at: u64) -> u8 {
    let mut byte = [0];
    File::open(path).and_then(|file| file.read_exact_at(&mut byte, at)).expect("a byte of the image");
    byte[0]
}

#[test]
fn on_xfs_the_newest_point_is_a_plain_file_for_no_data() {
    if have_root("mounting XFS") {
        Shelf::new(&Lab::new(), &["mkfs.xfs", "-q", "-m", "reflink=1"]).assert_shares();
    }
}

#[test]
fn on_btrfs_the_newest_point_is_a_plain_file_for_no_data() {
    if have_root("mounting btrfs") {
        Shelf::new(&Lab::new(), &["mkfs.btrfs", "-q"]).assert_shares();
    }
}

#[test]
fn where_nothing_can_be_shared_reflink_is_refused() {
    if !have_root("mounting ext4") {
        return;
    }
    let lab = Lab::new();
    let shelf = Shelf::new(&lab, &["mke2fs", "-q", "-t", "ext4"]);
    let (pool, kept) = (shelf.appliance.pool(), shelf.mount.path().join("kept.raw"));
    fs::write(&kept, "kept").expect("a file");
    for out in [shelf.mount.path().join("out.raw"), lab.file("out.raw"), kept.clone()] {
        let refused = extract(pool, "v", &out, &["--reflink", "--force"]).expect_refusal();
        refused.says("shares extents").says("leave out --reflink");
        assert!(out == kept || !out.exists(), "{} is not left behind", out.display());
    }
    assert_eq!(fs::read(&kept).expect("the file"), b"kept", "what could not be overwritten is as it was");
}
