//! The rules of the simulated disk, one by one: what survives, what may be lost, what can never happen.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use understudy_appliance::pool::disk::{Access, Disk, replace};
use understudy_sim::disk::SimDisk;
use understudy_sim::disk::fault::{Errno, Kind};
use understudy_sim::rng::Rng;

const DIR: &str = "/pool";
const FILE: &str = "/pool/file";

/// A disk with a directory and a file of `length` ones in it, all of it durable.
fn disk_with(length: usize) -> SimDisk {
    let disk = SimDisk::new(1);
    disk.make_dir(Path::new(DIR)).unwrap();
    let file = disk.open(Path::new(FILE), Access::Create).unwrap();
    file.write_at(&vec![1; length], 0).unwrap();
    file.sync().unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk.sync_dir(Path::new(DIR)).unwrap();
    disk
}

fn read(disk: &SimDisk) -> Vec<u8> {
    disk.content(Path::new(FILE)).unwrap()
}

/// What 400 losses of power make of a disk, each with a seed of its own.
fn outcomes<T: Ord>(disk: impl Fn() -> SimDisk, look: impl Fn(&SimDisk) -> T) -> BTreeSet<T> {
    (0..400).map(|seed| look(&disk().restart(&mut Rng::new(seed)))).collect()
}

#[test]
fn what_was_synced_survives_every_loss_of_power() {
    assert_eq!(outcomes(|| disk_with(5000), read), BTreeSet::from([vec![1; 5000]]));
}

#[test]
fn an_unsynced_write_is_lost_kept_or_torn_at_sectors_and_damages_nothing_else() {
    let written = || {
        let disk = disk_with(8192);
        disk.open(Path::new(FILE), Access::Write).unwrap().write_at(&[2; 2048], 2048).unwrap();
        assert_eq!(&read(&disk)[2048..4096], &[2; 2048], "a reader sees it at once");
        disk
    };
    let seen = outcomes(written, read);
    assert!(seen.contains(&vec![1; 8192]), "lost");
    let kept = [vec![1; 2048], vec![2; 2048], vec![1; 4096]].concat();
    assert!(seen.contains(&kept), "kept");
    let of = |sector: &[u8], byte| sector.iter().all(|found| *found == byte);
    let torn = |content: &Vec<u8>| content[2048..4096].chunks(512).filter(|sector| of(sector, 2)).count() == 2;
    assert!(seen.iter().any(torn), "torn");
    let garbage = |content: &Vec<u8>| content.chunks(512).any(|sector| !of(sector, 1) && !of(sector, 2));
    assert!(seen.iter().any(garbage), "a sector is not atomic");
    assert!(seen.iter().all(|content| of(&content[..2048], 1) && of(&content[4096..], 1)));
}

#[test]
fn unsynced_writes_may_survive_without_earlier_ones_and_overlap_in_any_order() {
    let written = || {
        let disk = disk_with(1024);
        let file = disk.open(Path::new(FILE), Access::Write).unwrap();
        file.write_at(&[2; 512], 0).unwrap();
        file.write_at(&[3; 512], 512).unwrap();
        file.write_at(&[4; 512], 512).unwrap();
        disk
    };
    let seen = outcomes(written, |disk| (read(disk)[0], read(disk)[512]));
    for expected in [(1, 4), (2, 1), (2, 3), (2, 4), (1, 3)] {
        assert!(seen.contains(&expected), "{expected:?} of {seen:?}");
    }
}

#[test]
fn an_unsynced_length_may_be_lost_or_come_without_its_bytes() {
    let grown = || {
        let disk = disk_with(512);
        disk.open(Path::new(FILE), Access::Write).unwrap().write_at(&[2; 512], 512).unwrap();
        disk
    };
    let seen = outcomes(grown, read);
    assert!(seen.contains(&vec![1; 512]));
    assert!(seen.contains(&[[1; 512], [0; 512]].concat()));
    let cut = || {
        let disk = disk_with(512);
        disk.open(Path::new(FILE), Access::Write).unwrap().resize(100).unwrap();
        disk
    };
    assert_eq!(outcomes(cut, |disk| read(disk).len()), BTreeSet::from([100, 512]));
}

#[test]
fn unsynced_names_are_lost_one_by_one_and_a_rename_is_one_change() {
    let replaced = || {
        let disk = disk_with(512);
        disk.open(Path::new("/pool/other"), Access::Create).unwrap();
        let beside = disk.open(Path::new("/pool/file.new"), Access::Create).unwrap();
        beside.write_at(&[2; 512], 0).unwrap();
        beside.sync().unwrap();
        disk.rename(Path::new("/pool/file.new"), Path::new(FILE)).unwrap();
        disk
    };
    let seen =
        outcomes(replaced, |disk| (read(disk)[0], disk.list(Path::new(DIR)).unwrap().contains(&"other".to_owned())));
    assert_eq!(seen, BTreeSet::from([(1, false), (1, true), (2, false), (2, true)]));
    let synced = || {
        let disk = disk_with(512);
        replace(&disk, Path::new(FILE), &[2; 512]).unwrap();
        disk
    };
    assert_eq!(outcomes(synced, read), BTreeSet::from([vec![2; 512]]));
}

#[test]
fn a_removed_file_may_come_back_until_its_directory_is_synced() {
    let removed = || {
        let disk = disk_with(512);
        disk.remove(Path::new(FILE)).unwrap();
        disk
    };
    let is_there = |disk: &SimDisk| disk.content(Path::new(FILE)).is_some();
    assert_eq!(outcomes(removed, is_there), BTreeSet::from([false, true]));
    let synced = || {
        let disk = removed();
        disk.sync_dir(Path::new(DIR)).unwrap();
        disk
    };
    assert_eq!(outcomes(synced, is_there), BTreeSet::from([false]));
}

#[test]
fn a_file_in_a_directory_that_is_lost_is_lost_however_often_it_was_synced() {
    let made = || {
        let disk = SimDisk::new(1);
        disk.make_dir(Path::new(DIR)).unwrap();
        disk.open(Path::new(FILE), Access::Create).unwrap().sync().unwrap();
        disk.sync_dir(Path::new(DIR)).unwrap();
        disk
    };
    assert_eq!(outcomes(made, |disk| disk.content(Path::new(FILE)).is_some()), BTreeSet::from([false, true]));
}

#[test]
fn a_killed_process_leaves_everything_that_it_wrote_and_it_is_still_not_durable() {
    let killed = || {
        let disk = disk_with(512);
        disk.open(Path::new(FILE), Access::Write).unwrap().write_at(&[2; 512], 0).unwrap();
        let next = disk.kill(&mut Rng::new(1));
        assert!(disk.open(Path::new(FILE), Access::Read).is_err(), "the old process is gone");
        assert_eq!(read(&next), vec![2; 512]);
        next
    };
    assert!(outcomes(killed, read).contains(&vec![1; 512]));
}

#[test]
fn after_the_cut_nothing_works_and_the_error_says_so() {
    let disk = disk_with(512);
    let file = disk.open(Path::new(FILE), Access::Write).unwrap();
    disk.cut_at(disk.operations() + 2);
    file.write_at(&[2; 512], 0).unwrap();
    let off = "the power is off since operation 8";
    assert_eq!(file.sync().unwrap_err().to_string(), off);
    assert_eq!(file.read_at(&mut [0; 1], 0).unwrap_err().to_string(), off);
    assert_eq!(disk.list(Path::new(DIR)).unwrap_err().to_string(), off);
    assert_eq!(disk.operations(), 8, "what comes after the cut is no operation");
    assert_eq!(disk.history()[7].kind, Kind::Sync);
}

#[test]
fn the_write_at_the_cut_is_torn() {
    let lengths: BTreeSet<usize> = (0..200)
        .map(|seed| {
            let disk = SimDisk::new(seed);
            let file = disk.open(Path::new("/file"), Access::Create).unwrap();
            disk.cut_at(2);
            file.write_at(&[2; 2048], 0).unwrap_err();
            disk.kill(&mut Rng::new(seed)).content(Path::new("/file")).unwrap().len()
        })
        .collect();
    assert_eq!(lengths, BTreeSet::from([0, 512, 1024, 1536, 2048]));
}

#[test]
fn a_failure_comes_once_and_a_stuck_disk_keeps_failing() {
    let disk = disk_with(512);
    let file = disk.open(Path::new(FILE), Access::Write).unwrap();
    for (errno, kind) in
        [(Errno::NoSpace, io::ErrorKind::StorageFull), (Errno::Io, io::Error::from_raw_os_error(5).kind())]
    {
        disk.fail_at(disk.operations() + 1, errno);
        assert!(!disk.failed());
        assert_eq!(file.write_at(&[2; 512], 0).unwrap_err().kind(), kind);
        assert!(disk.failed());
        file.write_at(&[2; 512], 0).unwrap();
    }
    disk.set_fault(Some(understudy_sim::disk::fault::Fault::Stuck(disk.operations() + 1, Errno::Io)));
    (0..3).for_each(|_| assert!(file.sync().is_err()));
    disk.set_fault(None);
    file.sync().unwrap();
}

/// PostgreSQL's "fsyncgate": the kernel drops what it could not write and the second fsync knows nothing of it.
#[test]
fn a_failed_sync_forgets_writes_and_the_next_one_succeeds_over_the_loss() {
    let contents: BTreeSet<Vec<u8>> = (0..200)
        .map(|seed| {
            let disk = SimDisk::new(seed);
            let file = disk.open(Path::new("/file"), Access::Create).unwrap();
            disk.sync_dir(Path::new("/")).unwrap();
            (0..2).for_each(|at| file.write_at(&[2; 512], at * 512).unwrap());
            disk.fail_at(disk.operations() + 1, Errno::Io);
            file.sync().unwrap_err();
            file.sync().unwrap();
            let content = disk.content(Path::new("/file")).unwrap();
            assert_eq!(disk.restart(&mut Rng::new(seed)).content(Path::new("/file")).unwrap(), content);
            content
        })
        .collect();
    let expected = [[0, 0], [0, 2], [2, 0], [2, 2]];
    assert_eq!(contents, expected.map(|[a, b]| [[a; 512], [b; 512]].concat()).into());
}

#[test]
fn a_lying_sync_does_nothing() {
    let lied = || {
        let disk = disk_with(512);
        disk.lie(|path| path == Path::new(FILE) || path == Path::new(DIR));
        let file = disk.open(Path::new(FILE), Access::Write).unwrap();
        file.write_at(&[2; 512], 0).unwrap();
        file.sync().unwrap();
        disk.open(Path::new("/pool/other"), Access::Create).unwrap();
        disk.sync_dir(Path::new(DIR)).unwrap();
        disk
    };
    assert!(outcomes(lied, read).contains(&vec![1; 512]));
    let is_there = |disk: &SimDisk| disk.content(Path::new("/pool/other")).is_some();
    assert_eq!(outcomes(lied, is_there), BTreeSet::from([false, true]));
}

#[test]
fn a_flipped_bit_is_on_the_disk_and_in_no_other_place() {
    let disk = disk_with(512);
    assert!(disk.flip(Path::new(FILE), 77, 3));
    assert!(!disk.flip(Path::new(FILE), 512, 0) && !disk.flip(Path::new("/pool/none"), 0, 0));
    let mut expected = vec![1; 512];
    expected[77] ^= 8;
    assert_eq!(read(&disk), expected);
    assert_eq!(read(&disk.restart(&mut Rng::new(1))), expected);
}

#[test]
fn space_is_taken_by_pages_that_were_written_and_given_back() {
    let disk = disk_with(512);
    disk.set_limit(Some(disk.space() + 8192));
    let file = disk.open(Path::new(FILE), Access::Write).unwrap();
    file.resize(1 << 20).unwrap();
    assert_eq!(disk.free(Path::new(DIR)).unwrap(), 8192, "a hole takes nothing");
    file.write_at(&[2; 8192], 4096).unwrap();
    assert_eq!(file.write_at(&[2; 1], 1 << 19).unwrap_err().kind(), io::ErrorKind::StorageFull);
    file.write_at(&[3; 8192], 4096).unwrap();
    file.zero(4096, 4096).unwrap();
    assert_eq!(disk.free(Path::new(DIR)).unwrap(), 4096);
    disk.remove(Path::new(FILE)).unwrap();
    assert_eq!(disk.free(Path::new(DIR)).unwrap(), 8192 + 4096);
}

#[test]
fn the_same_seed_and_operations_give_the_same_disk() {
    let run = |seed| {
        let disk = SimDisk::new(seed);
        let file = disk.open(Path::new("/file"), Access::Create).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        (0..20).for_each(|at| file.write_at(&[at as u8; 1500], at * 700).unwrap());
        disk.restart(&mut Rng::new(seed)).content(Path::new("/file")).unwrap()
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(9));
}

#[test]
fn a_lock_is_held_once_and_free_after_a_restart() {
    let (disk, path) = (disk_with(512), Path::new("/pool/lock"));
    let held = disk.lock(path).unwrap();
    assert_eq!(disk.lock(path).err().unwrap().kind(), io::ErrorKind::WouldBlock);
    drop(held);
    let _held = disk.lock(path).unwrap();
    disk.kill(&mut Rng::new(1)).lock(path).unwrap();
}
