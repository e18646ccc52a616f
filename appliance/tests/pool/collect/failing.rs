//! Collections on failing and full disks: interrupted anywhere, the pool is whole and the next one finishes.

use crate::model::*;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use understudy_appliance::pool::Pool;
use understudy_appliance::pool::collect::Options;
use understudy_format::ErrorKind;

const ENOSPC: u64 = 28;
const EIO: u64 = 5;

struct Versions {
    all: Vec<Vec<u8>>,
}

impl Versions {
    /// Three points that overlap, of which the second goes, and another volume that goes as a whole.
    fn make(lab: &Lab) -> (Self, Arc<Pool>) {
        let pool = lab.open();
        let all: Vec<_> = (0..3).map(|at| volume(&(at * 40 + 1..at * 40 + 61).collect::<Vec<_>>())).collect();
        for (at, new) in all.iter().enumerate() {
            replicate(&pool, at.checked_sub(1).map(|at| &all[at][..]), new, at as u128 + 1).unwrap();
            replicate_to(&pool, "w", None, &volume(&[at as u64 + 900; 1]), at as u128 + 50).unwrap();
        }
        pool.protect(&"v".parse().unwrap(), &[1].into(), true).unwrap();
        remove(&pool, "v", [2]).unwrap();
        remove(&pool, "w", [1, 2, 3]).unwrap();
        (Self { all }, pool)
    }

    fn check(&self, pool: &Arc<Pool>, when: &str) {
        assert_eq!(numbers(pool), [1, 3], "{when}");
        assert!(pool.volume(&"w".parse().unwrap()).is_none(), "{when}");
        assert_eq!(pool.volume(&"v".parse().unwrap()).unwrap().protected, [1].into(), "{when}");
        for number in [1, 3] {
            let read = read(pool, number).unwrap_or_else(|error| panic!("{when}: {error}"));
            assert!(read == self.all[number as usize - 1], "{when}: point {number}");
        }
    }
}

fn fail_each(errno: u64, kind: ErrorKind, after: impl Fn(&Lab, Arc<Pool>, &Versions, &str)) {
    let clean = clean();
    for n in 1.. {
        let lab = Lab::quick();
        let (versions, pool) = Versions::make(&lab);
        lab.disk.fail_at(n, errno);
        let result = pool.collect(Options::default(), &AtomicBool::new(false));
        let (failed, when) = (lab.disk.failed(), format!("failure {n}"));
        match result {
            Ok(_) if !failed => return assert!(n > 10, "{n} operations were tried"),
            Ok(_) => panic!("{when} was not noticed"),
            Err(error) => assert!(failed && error.kind() == kind, "{when}: {error}"),
        }
        versions.check(&pool, &when);
        after(&lab, pool, &versions, &when);
        assert!(lab.bytes() <= clean + clean / 8, "{when}: {} bytes, {clean} without a failure", lab.bytes());
    }
}

/// Reopened, once with the index and once without, the collection is finished by another.
fn reopen(lab: &Lab, pool: Arc<Pool>, versions: &Versions, when: &str) {
    drop(pool);
    let pool = lab.open();
    versions.check(&pool, when);
    drop(pool);
    lab.lose_index();
    let pool = lab.open();
    versions.check(&pool, when);
    finish(lab, pool, versions, when);
}

fn finish(lab: &Lab, pool: Arc<Pool>, versions: &Versions, when: &str) {
    assert_eq!(collect(&pool).missing, 0, "{when}");
    lab.also_reopened(pool, |pool| versions.check(pool, when));
    lab.lose_index();
    let pool = lab.open();
    versions.check(&pool, when);
    collect(&pool);
    replicate_to(&pool, "w", None, &versions.all[1], 70).unwrap();
    assert!(read_of(&pool, "w", 1).unwrap() == versions.all[1], "{when}");
    remove(&pool, "w", [1]).unwrap();
    collect(&pool);
    versions.check(&pool, when);
}

/// Bytes of the pool after a collection that did not fail.
fn clean() -> u64 {
    let lab = Lab::quick();
    collect(&Versions::make(&lab).1);
    lab.bytes()
}

#[test]
fn a_collection_that_failed_anywhere_is_finished_after_reopening() {
    fail_each(EIO, ErrorKind::Bug, reopen);
}

#[test]
fn a_collection_that_ran_out_of_space_is_finished_without_reopening() {
    fail_each(ENOSPC, ErrorKind::Full, finish);
}

/// A directory that could not be synced may give back what was unlinked.
#[test]
fn after_a_failed_sync_of_the_directory_nothing_is_written() {
    let lab = Lab::quick();
    let (versions, pool) = Versions::make(&lab);
    lab.disk.fail_dir_sync();
    let error = pool.collect(Options::default(), &AtomicBool::new(false)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Bug, "{error}");
    let error = replicate(&pool, None, &versions.all[0], 60).unwrap_err();
    assert!(error.to_string().contains("stopped writing"), "{error}");
    reopen(&lab, pool, &versions, "a failed sync of the directory");
}
