//! A full or failing disk: a clear error, earlier points intact, and freeing space is enough to go on.

use crate::model::*;
use std::sync::atomic::Ordering;
use understudy_format::ErrorKind;

const ENOSPC: u64 = 28;
const EIO: u64 = 5;

#[test]
fn out_of_space_fails_the_stream_and_freeing_space_is_enough() {
    let lab = Lab::new();
    let pool = lab.open();
    let (one, two) = (volume(&[1, 2, 3]), volume(&(1..900).collect::<Vec<_>>()));
    replicate(&pool, None, &one, 1).unwrap();
    lab.disk.free.store(1000, Ordering::SeqCst);
    let error = replicate(&pool, Some(&one), &two, 2).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full);
    assert!(error.to_string().contains("no space left in the pool"), "{error}");
    assert!(read(&pool, 1).unwrap() == one);
    lab.disk.free.store(u64::MAX, Ordering::SeqCst);
    replicate(&pool, Some(&one), &two, 3).unwrap();
    drop(pool);
    let pool = lab.open();
    assert!(read(&pool, 1).unwrap() == one && read(&pool, 2).unwrap() == two);
}

/// The loop of SQLite and redb: fail each write and sync in turn, until a run needs no more of them.
fn fail_each(errno: u64, check: impl Fn(&Lab, understudy_appliance::error::Error, &[u8], &[u8])) {
    let (one, two) = (volume(&(1..300).collect::<Vec<_>>()), volume(&(200..800).collect::<Vec<_>>()));
    for n in 1.. {
        let lab = Lab::new();
        let pool = lab.open();
        replicate(&pool, None, &one, 1).unwrap();
        lab.disk.fail_at(n, errno);
        let result = replicate(&pool, Some(&one), &two, 2);
        let failed = lab.disk.failed();
        drop(pool);
        match result {
            Ok(_) if !failed => return assert!(n > 4, "{n} writes and syncs were tried"),
            Ok(_) => panic!("failure {n} was not noticed"),
            Err(error) => check(&lab, error, &one, &two),
        }
    }
}

/// rustic #1731: disk full left the repository unusable.
#[test]
fn rustic_1731_enospc_at_every_write_keeps_earlier_points() {
    fail_each(ENOSPC, |lab, error, one, two| {
        assert_eq!(error.kind(), ErrorKind::Full, "{error}");
        let pool = lab.open();
        assert!(read(&pool, 1).unwrap() == one);
        // A failed sync may have written all the same: then the point is there, and whole.
        replicate(&pool, Some(one), two, 3).unwrap();
        for number in numbers(&pool).into_iter().skip(1) {
            assert!(read(&pool, number).unwrap() == two);
        }
    });
}

#[test]
fn enospc_is_survived_without_reopening() {
    let (one, two) = (volume(&(1..300).collect::<Vec<_>>()), volume(&(200..800).collect::<Vec<_>>()));
    let lab = Lab::new();
    let pool = lab.open();
    replicate(&pool, None, &one, 1).unwrap();
    for n in 1.. {
        lab.disk.fail_at(n, ENOSPC);
        let result = replicate(&pool, Some(&one), &two, n.into());
        if !lab.disk.failed() {
            result.unwrap();
            break;
        }
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Full);
        assert!(read(&pool, 1).unwrap() == one, "after failure {n}");
    }
    assert!(read(&pool, 2).unwrap() == two);
    drop(pool);
    std::fs::remove_dir_all(lab.dir.path().join("index")).unwrap();
    let pool = lab.open();
    assert!(read(&pool, 1).unwrap() == one && read(&pool, 2).unwrap() == two);
}

#[test]
fn after_an_io_error_nothing_is_written_until_the_pool_is_reopened() {
    fail_each(EIO, |lab, error, one, two| {
        assert_eq!(error.kind(), ErrorKind::Bug, "{error}");
        assert!(error.to_string().contains("stopped writing"), "{error}");
        let pool = lab.open();
        assert!(read(&pool, 1).unwrap() == one);
        replicate(&pool, Some(one), two, 3).unwrap();
        for number in numbers(&pool).into_iter().skip(1) {
            assert!(read(&pool, number).unwrap() == two);
        }
    });
    let lab = Lab::new();
    let pool = lab.open();
    lab.disk.fail_at(1, EIO);
    replicate(&pool, None, &volume(&[1]), 1).unwrap_err();
    let error = replicate(&pool, None, &volume(&[1]), 2).unwrap_err();
    assert!(error.to_string().contains("stopped writing"), "a failed sync is not tried again: {error}");
}
