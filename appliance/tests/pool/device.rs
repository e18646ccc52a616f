//! Secondaries on devices and not at all: switched, refused, grown out of, exchanged, interrupted.

use crate::model::*;
use std::path::PathBuf;
use std::sync::Arc;
use understudy_appliance::error::Error;
use understudy_appliance::pool::Pool;
use understudy_appliance::secondary::{Secondaries, Status};
use understudy_format::Digest;
use understudy_format::catalogue::SecondaryMode;
use understudy_format::point::Volume;

const EIO: u64 = 5;

/// A device of a lab, filled with one byte.
fn device(lab: &Lab, name: &str, size: u64, fill: u8) -> PathBuf {
    let dir = lab.dir.path().join("devices");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join(name), vec![fill; size as usize]).unwrap();
    std::fs::write(dir.join(name).with_extension("identity"), name).unwrap();
    dir.join(name)
}

fn on(path: &std::path::Path) -> SecondaryMode {
    SecondaryMode::Device(path.to_str().unwrap().to_owned())
}

fn v(pool: &Pool) -> Volume {
    pool.volume(&"v".parse().unwrap()).unwrap().volume.clone()
}

fn set(secondaries: &Secondaries, mode: SecondaryMode, force: bool) -> Result<(), String> {
    secondaries.set_mode(&"v".parse().unwrap(), mode, force).map_err(|error| error.to_string())
}

/// A pool with a volume of one point, and its secondaries.
fn scene(bytes: &[u8]) -> (Lab, Arc<Pool>, Secondaries) {
    let lab = Lab::new();
    let pool = lab.open();
    replicate(&pool, None, bytes, 1).unwrap();
    let secondaries = Secondaries::new(pool.clone());
    (lab, pool, secondaries)
}

fn status(pool: &Pool, secondaries: &Secondaries) -> Status {
    let entry = pool.volume(&"v".parse().unwrap()).unwrap();
    secondaries.status(&entry.volume, entry.points.last()).unwrap()
}

/// The device begins with these bytes, and what is behind them is as it was.
#[track_caller]
fn assert_device(path: &std::path::Path, bytes: &[u8], behind: u8) {
    let found = std::fs::read(path).unwrap();
    assert!(found[..bytes.len()] == *bytes, "the device is not the point");
    assert!(found[bytes.len()..].iter().all(|byte| *byte == behind), "bytes behind the volume changed");
}

#[test]
fn a_device_follows_grown_shrunk_and_zeroed_points_and_keeps_what_is_behind_them() {
    let first = volume(&[1, 2, 0, 3]);
    let (lab, pool, secondaries) = scene(&first);
    let path = device(&lab, "device", DEVICE_BYTES, 0xaa);
    set(&secondaries, on(&path), true).unwrap();
    secondaries.settle(&v(&pool)).unwrap();
    assert_device(&path, &first, 0xaa);
    let mut old = first;
    // What a larger point wrote is under the zeros of a later one, and must not come back.
    for (at, seeds) in
        [vec![1, 0, 0, 3, 4, 5, 6, 7], vec![9], vec![9, 0, 0, 0, 0, 0, 0, 0], vec![0; 3], vec![1, 2]].iter().enumerate()
    {
        let new = volume(seeds);
        replicate(&pool, Some(&old), &new, at as u128 + 2).unwrap();
        secondaries.settle(&v(&pool)).unwrap();
        let found = std::fs::read(&path).unwrap();
        assert!(found[..new.len()] == new, "{seeds:?}");
        assert!(found[8 * BLOCK..].iter().all(|byte| *byte == 0xaa), "{seeds:?}");
        old = new;
    }
}

#[test]
fn switching_needs_no_new_point_and_leaves_nothing_behind() {
    let bytes = volume(&[1, 2, 0, 3]);
    let (lab, pool, secondaries) = scene(&bytes);
    let image = lab.dir.path().join("volumes/v/secondary.raw");
    let path = device(&lab, "device", DEVICE_BYTES, 0);
    let settle = || secondaries.settle(&v(&pool)).unwrap();
    settle();
    assert!(std::fs::read(&image).unwrap() == bytes);
    set(&secondaries, SecondaryMode::None, false).unwrap();
    settle();
    assert!(!image.exists());
    assert_eq!(status(&pool, &secondaries), Status { settled_root: Digest::ZERO, behind_blocks: 0 });
    assert!(pool.users(&v(&pool).uuid, 1).is_empty(), "no secondary needs no point");
    set(&secondaries, on(&path), false).unwrap();
    settle();
    assert_device(&path, &bytes, 0);
    assert_eq!(status(&pool, &secondaries), Status { settled_root: map(&bytes).root(), behind_blocks: 0 });
    assert!(lab.disk.used.lock().unwrap().contains(&path), "nobody else can use it meanwhile");
    set(&secondaries, SecondaryMode::Native, false).unwrap();
    settle();
    assert!(std::fs::read(&image).unwrap() == bytes);
    assert_device(&path, &bytes, 0);
    assert!(lab.disk.used.lock().unwrap().is_empty(), "the device is free again");
    assert_eq!(numbers(&pool), [1]);
    let refused = set(&secondaries, on(&path), false).unwrap_err();
    assert!(refused.contains("is not blank") && refused.contains("--force"), "{refused}");
    set(&secondaries, on(&path), true).unwrap();
    settle();
    assert!(!image.exists());
    assert_device(&path, &bytes, 0);
}

#[test]
fn devices_that_cannot_be_used_are_refused_with_the_reason_and_nothing_changes() {
    let bytes = volume(&[1, 2, 0, 3]);
    let (lab, pool, secondaries) = scene(&bytes);
    secondaries.settle(&v(&pool)).unwrap();
    let used = device(&lab, "device-used", DEVICE_BYTES, 0);
    lab.disk.used.lock().unwrap().insert(used.clone());
    let full = device(&lab, "device-full", DEVICE_BYTES, 0xaa);
    let small = device(&lab, "device-small", 3 * BLOCK as u64, 0);
    let file = device(&lab, "file", DEVICE_BYTES, 0);
    let none = file.with_file_name("device-none");
    for (path, reason) in [
        (&used, "is in use"),
        (&full, "is not blank"),
        (&small, "4096 bytes are missing"),
        (&file, "no block device"),
        (&none, "no such device"),
        (&PathBuf::from("device"), "not an absolute path"),
    ] {
        let refused = set(&secondaries, on(path), false).unwrap_err();
        assert!(refused.contains(reason) && refused.contains(path.to_str().unwrap()), "{refused}");
        let forced = set(&secondaries, on(path), true);
        assert_eq!(forced.is_ok(), path == &full, "{forced:?}");
        set(&secondaries, SecondaryMode::Native, false).unwrap();
    }
    assert!(std::fs::read(&small).unwrap() == vec![0; 3 * BLOCK]);
    secondaries.settle(&v(&pool)).unwrap();
    assert!(std::fs::read(lab.dir.path().join("volumes/v/secondary.raw")).unwrap() == bytes);
}

#[test]
fn two_volumes_do_not_share_a_device_by_whatever_path() {
    let bytes = volume(&[1, 2]);
    let (lab, pool, secondaries) = scene(&bytes);
    let (mut sender, mut ingest) = start(&pool, "w", None, &bytes, 2).unwrap();
    feed(&mut sender, &mut ingest, None, &bytes, usize::MAX).unwrap();
    ingest.commit(&sender.commit(map(&bytes).root()).unwrap()).unwrap();
    let path = device(&lab, "device", DEVICE_BYTES, 0);
    let other = path.with_file_name("device-link");
    std::os::unix::fs::symlink(&path, &other).unwrap();
    set(&secondaries, on(&path), false).unwrap();
    for path in [&path, &other] {
        let refused = secondaries.set_mode(&"w".parse().unwrap(), on(path), true).unwrap_err().to_string();
        assert!(refused.contains("the secondary of volume v"), "{refused}");
    }
    // The volume's own device by another path stays what it is.
    secondaries.settle(&v(&pool)).unwrap();
    std::fs::write(other.with_extension("identity"), "device").unwrap();
    set(&secondaries, on(&other), false).unwrap();
    assert_eq!(status(&pool, &secondaries).behind_blocks, 0, "it is not even compared");
}

#[test]
fn a_volume_that_outgrows_its_device_says_what_is_missing_and_goes_on() {
    let bytes = volume(&[1, 2, 0, 3]);
    let (lab, pool, secondaries) = scene(&bytes);
    let path = device(&lab, "device", 5 * BLOCK as u64, 0);
    set(&secondaries, on(&path), false).unwrap();
    secondaries.settle(&v(&pool)).unwrap();
    let grown = volume(&[1, 2, 0, 3, 4, 5, 6]);
    replicate(&pool, Some(&bytes), &grown, 2).unwrap();
    let error = secondaries.settle(&v(&pool)).unwrap_err().to_string();
    assert!(error.contains("8192 bytes are missing"), "{error}");
    assert_device(&path, &bytes, 0);
    let seen = status(&pool, &secondaries);
    assert!(seen.settled_root == map(&bytes).root() && seen.behind_blocks > 0, "{seen:?}");
    assert!(read(&pool, 2).unwrap() == grown);
    let larger = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    larger.set_len(DEVICE_BYTES).unwrap();
    secondaries.settle(&v(&pool)).unwrap();
    assert_device(&path, &grown, 0);
}

/// What is at the path when the pool is opened again, and what must come of it.
#[test]
fn a_device_that_was_exchanged_is_written_to_only_when_that_harms_nobody() {
    let bytes = volume(&[1, 2, 0, 3, 4, 5, 0, 6]);
    let mut scratched = bytes.clone();
    scratched[3 * BLOCK + 7] ^= 1;
    let foreign = volume(&[7, 8, 9, 10, 11, 12, 13, 14]);
    for (content, identity, is_refused) in [
        (&bytes, "device", false),
        (&bytes, "another", false),
        (&scratched, "device", false),
        (&scratched, "another", false),
        (&vec![0; bytes.len()], "another", false),
        (&vec![0; bytes.len()], "device", false),
        (&foreign, "device", true),
        (&foreign, "another", true),
    ] {
        let (lab, pool, secondaries) = scene(&bytes);
        let path = device(&lab, "device", DEVICE_BYTES, 0);
        set(&secondaries, on(&path), false).unwrap();
        secondaries.settle(&v(&pool)).unwrap();
        secondaries.stop();
        drop((pool, secondaries));
        let mut whole = content.clone();
        whole.resize(DEVICE_BYTES as usize, 0);
        std::fs::write(&path, &whole).unwrap();
        std::fs::write(path.with_extension("identity"), identity).unwrap();
        let pool = lab.open();
        let secondaries = Secondaries::new(pool.clone());
        let settled = secondaries.settle(&v(&pool));
        if is_refused {
            let error = settled.unwrap_err().to_string();
            assert!(error.contains("does not hold the secondary of v") && error.contains("--force"), "{error}");
            assert!(std::fs::read(&path).unwrap() == whole, "nothing was written to it");
            assert!(status(&pool, &secondaries).settled_root.is_zero());
            set(&secondaries, on(&path), true).unwrap();
            secondaries.settle(&v(&pool)).unwrap();
        } else {
            settled.unwrap();
        }
        assert!(lab.disk.used.lock().unwrap().contains(&path), "it is held from the first look on");
        assert_device(&path, &bytes, 0);
    }
}

#[test]
fn a_device_that_is_away_keeps_its_points_and_goes_on_when_it_is_back() {
    let bytes = volume(&[1, 2, 0, 3]);
    let (lab, pool, secondaries) = scene(&bytes);
    let path = device(&lab, "device", DEVICE_BYTES, 0);
    set(&secondaries, on(&path), false).unwrap();
    secondaries.settle(&v(&pool)).unwrap();
    secondaries.stop();
    drop((pool, secondaries));
    let away = path.with_file_name("away");
    std::fs::rename(&path, &away).unwrap();
    let pool = lab.open();
    let secondaries = Secondaries::new(pool.clone());
    let new = volume(&[1, 2, 4, 3]);
    replicate(&pool, Some(&bytes), &new, 2).unwrap();
    let error = secondaries.settle(&v(&pool)).unwrap_err().to_string();
    assert!(error.contains("no such device"), "{error}");
    assert!(status(&pool, &secondaries).settled_root.is_zero());
    assert_eq!(pool.users(&v(&pool).uuid, 1), ["the secondary"]);
    std::fs::rename(&away, &path).unwrap();
    secondaries.settle(&v(&pool)).unwrap();
    assert_device(&path, &new, 0);
}

/// Fails at each write and sync of a switch to a device and of two points applied to it; the pool is opened again, and what the
/// settings then say comes to be.
#[test]
fn an_interrupted_switch_or_apply_ends_as_the_settings_say() {
    let versions = [volume(&[1, 2, 3, 4]), volume(&[5, 2, 6, 0, 8, 9]), volume(&[1, 2, 3, 7])];
    for n in 1.. {
        let (lab, pool, secondaries) = scene(&versions[0]);
        let path = device(&lab, "device", DEVICE_BYTES, 0);
        secondaries.settle(&v(&pool)).unwrap();
        replicate(&pool, Some(&versions[0]), &versions[1], 2).unwrap();
        lab.disk.fail_at(n, EIO);
        let switched = set(&secondaries, on(&path), false);
        let settled = secondaries.settle(&v(&pool));
        secondaries.stop();
        let failed = lab.disk.failed();
        drop((pool, secondaries));
        let pool = lab.open();
        replicate(&pool, Some(&versions[1]), &versions[2], 3).unwrap();
        let secondaries = Secondaries::new(pool.clone());
        secondaries.settle(&v(&pool)).unwrap();
        let image = lab.dir.path().join("volumes/v/secondary.raw");
        match pool.known(&"v".parse().unwrap()).unwrap().settings.secondary {
            SecondaryMode::Native => assert!(std::fs::read(&image).unwrap() == versions[2], "interrupted at {n}"),
            _ => {
                assert!(std::fs::read(&path).unwrap()[..versions[2].len()] == versions[2], "interrupted at {n}");
                assert!(!image.exists(), "interrupted at {n}");
            }
        }
        if !failed {
            assert!(switched.is_ok() && settled.is_ok() && n > 5, "{n} writes and syncs were tried");
            return;
        }
    }
}

#[test]
fn an_image_that_another_mode_left_behind_is_removed_when_the_pool_is_opened() {
    let (lab, pool, secondaries) = scene(&volume(&[1, 2]));
    secondaries.settle(&v(&pool)).unwrap();
    let entry = pool.known(&"v".parse().unwrap()).unwrap();
    let settings = understudy_format::catalogue::Settings { secondary: SecondaryMode::None, ..entry.settings.clone() };
    pool.set(&entry.volume.name, |set| *set = settings).unwrap();
    drop((pool, secondaries, entry));
    let pool = lab.open();
    let _secondaries = Secondaries::new(pool.clone());
    assert!(!lab.dir.path().join("volumes/v/secondary.raw").exists());
    assert!(pool.users(&v(&pool).uuid, 1).is_empty());
}

#[test]
fn a_device_is_compared_and_repaired_like_an_image() {
    let bytes = volume(&[1, 2, 0, 3]);
    let (lab, pool, secondaries) = scene(&bytes);
    let path = device(&lab, "device", DEVICE_BYTES, 0);
    set(&secondaries, on(&path), false).unwrap();
    secondaries.settle(&v(&pool)).unwrap();
    use std::os::unix::fs::FileExt;
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(b"scratch", 2 * BLOCK as u64).unwrap();
    file.write_all_at(b"behind the volume", 4 * BLOCK as u64).unwrap();
    let mut step = |_| Ok::<(), Error>(());
    let compared = secondaries.compare(&v(&pool), true, &mut step).unwrap().unwrap();
    assert_eq!((compared.blocks, compared.differing, compared.repaired), (4, 1, 1));
    let found = std::fs::read(&path).unwrap();
    assert!(found[..bytes.len()] == bytes && found[bytes.len()..].starts_with(b"behind the volume"));
}
