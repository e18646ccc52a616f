//! Journals: what was acknowledged is there, whatever happens; what is laid over a point is what was written.

mod keeping;
mod session;
mod tape;

use crate::model::*;
use std::sync::Arc;
use tape::*;
use understudy_appliance::error::Error;
use understudy_appliance::journals::Journals;
use understudy_appliance::pool::Pool;
use understudy_format::ErrorKind;
use understudy_format::follow::{Role, State};

fn files(lab: &Lab) -> Vec<std::path::PathBuf> {
    let dir = lab.dir.path().join("journals/v");
    let all = std::fs::read_dir(dir).map(|all| all.map(|entry| entry.unwrap().path()).collect());
    let mut all: Vec<_> = all.unwrap_or_default();
    all.retain(|path: &std::path::PathBuf| path.extension().is_some_and(|extension| extension == "journal"));
    all.sort();
    all
}

#[test]
fn what_was_acknowledged_is_there_again_and_the_rest_of_what_was_written_is_cut_off() {
    let (lab, mut tape) = (Lab::quick(), Tape::new(1));
    let pool = lab.open();
    let journals = open(&pool);
    let mut follower = follow(&journals, &tape).unwrap();
    assert_eq!(journals.followed_by(&name()), Some((tape.journal, "a test".to_owned())));
    tape.write(0, 100).write(4000, 5000).mark();
    assert_eq!(follower.append(1, &tape.take()).unwrap(), 3);
    assert_eq!(journals.durable(&name(), &tape.journal), 3);
    let whole = std::fs::metadata(&files(&lab)[0]).unwrap().len();
    drop((follower, journals, pool));
    assert!(follow(&open(&lab.open()), &tape).is_ok(), "who was followed is not any more");
    // The start of an entry, and an entry whose bytes never came.
    let next = tape.write(9000, 300).take();
    for cut in [1, 47, 48, 49, next.len() - 1] {
        let path = &files(&lab)[0];
        let mut bytes = std::fs::read(path).unwrap();
        bytes.extend_from_slice(&next[..cut]);
        std::fs::write(path, &bytes).unwrap();
        let pool = lab.open();
        let journals = open(&pool);
        assert_eq!(journals.durable(&name(), &tape.journal), 3, "{cut} bytes of the next entry");
        assert_eq!(std::fs::metadata(path).unwrap().len(), whole);
    }
    let pool = lab.open();
    let journals = open(&pool);
    let mut follower = follow(&journals, &tape).unwrap();
    assert_eq!((follower.durable(), follower.append(4, &next).unwrap()), (3, 4));
    tape.check(&journals, 0, 4);
}

#[test]
fn entries_come_in_order_once_and_whole_or_not_at_all() {
    let (lab, mut tape) = (Lab::quick(), Tape::new(1));
    let pool = lab.open();
    let journals = open(&pool);
    let mut follower = follow(&journals, &tape).unwrap();
    let one = tape.write(0, 700).write(50, 10).take();
    let two = tape.mark().write(100, 70).take();
    let error = follower.append(3, &two).unwrap_err().to_string();
    assert!(error.contains("entries from 3 on cannot be appended") && error.contains("the next one is 1"), "{error}");
    assert_eq!(follower.append(1, &one).unwrap(), 2);
    assert_eq!(follower.append(1, &one).unwrap(), 2, "it was there already");
    let both = [&one[..], &two[..]].concat();
    for at in 0..both.len() {
        let mut bad = both.clone();
        bad[at] ^= 1;
        let error = follower.append(1, &bad).unwrap_err();
        assert!(matches!(error, Error::Format(_)), "byte {at}: {error}");
        assert_eq!(journals.durable(&name(), &tape.journal), 2);
    }
    assert_eq!(follower.append(1, &both).unwrap(), 4, "the first half was there already");
    drop((follower, journals));
    lab.also_reopened(pool, |pool| tape.check(&open(pool), 0, 4));
    let mut longer = Tape::new(1);
    longer.size = SIZE + 4096;
    let error = follow(&open(&lab.open()), &longer).unwrap_err().to_string();
    assert!(error.contains("is of a volume of"), "{error}");
}

#[test]
fn a_volume_has_one_follower_and_a_journal_that_was_closed_does_not_go_on() {
    let lab = Lab::quick();
    let pool = lab.open();
    let journals = open(&pool);
    let (mut one, two) = (Tape::new(1), Tape::new(2));
    let mut first = follow(&journals, &one).unwrap();
    first.append(1, &one.write(0, 10).take()).unwrap();
    let other = journals.follow(&name(), two.journal, SIZE, "another".to_owned(), 0).unwrap_err();
    assert_eq!(other.kind(), ErrorKind::Refused);
    assert!(other.to_string().contains("followed by the tap of a test already"), "{other}");
    assert_eq!(follow(&journals, &two).unwrap_err().kind(), ErrorKind::Retry, "the same client");
    let streamed = journals.admit(&name(), None).unwrap_err();
    assert!(streamed.to_string().contains("is followed by the tap of a test"), "{streamed}");
    let over = |tape: &Tape| journals.admit(&name(), Some(&tape.position(0)));
    assert!(over(&one).is_ok() && over(&two).is_err());
    assert!(journals.remove(&name()).is_err());
    drop(first);
    assert!(journals.admit(&name(), None).is_ok() && over(&one).is_err());
    drop(follow(&journals, &two).unwrap());
    assert!(follow(&journals, &one).is_ok(), "no point comes from the first journal, so it went and may begin anew");
}

#[test]
fn another_primary_than_the_right_one_is_not_followed() {
    let lab = Lab::quick();
    let pool = lab.open();
    let journals = open(&pool);
    let tape = Tape::new(1);
    assert_eq!(journals.generation(&name()), 1);
    drop(follow(&journals, &tape).unwrap());
    assert!(journals.check_primary(&name(), 0).is_ok() && journals.check_primary(&name(), 1).is_ok());
    let error = journals.check_primary(&name(), 2).unwrap_err().to_string();
    assert!(error.contains("has generation 2") && error.contains("appliance has generation 1"), "{error}");
    let state = lab.dir.path().join("journals/v/state");
    let known = State::decode(&std::fs::read(&state).unwrap()).unwrap();
    let promoted = State { role: Role::Promoted { point: 7 }, generation: 2, ..known };
    std::fs::write(&state, promoted.encode()).unwrap();
    let journals = open(&pool);
    assert_eq!(journals.generation(&name()), 2);
    for generation in [0, 1, 2] {
        let error = journals.check_primary(&name(), generation).unwrap_err().to_string();
        assert!(error.contains("was promoted here from point 7 on"), "{error}");
    }
    std::fs::write(&state, [0; 96]).unwrap();
    let journals = open(&pool);
    let error = follow(&journals, &tape).unwrap_err().to_string();
    assert!(error.contains("journals/v/state"), "a generation that is not known is not guessed: {error}");
}

#[test]
fn damage_to_what_was_acknowledged_ends_the_journal_before_it() {
    let (lab, mut tape) = (Lab::quick(), Tape::new(1));
    let pool = lab.open();
    let journals = open(&pool);
    let mut follower = follow(&journals, &tape).unwrap();
    follower.append(1, &tape.write(0, 5000).write(100, 50).write(300, 50).take()).unwrap();
    follower.save().unwrap();
    drop((follower, journals, pool));
    let path = &files(&lab)[0];
    let mut bytes = std::fs::read(path).unwrap();
    let at = bytes.len() - 120;
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
    let pool = lab.open();
    let journals = open(&pool);
    assert_eq!(journals.durable(&name(), &tape.journal), 1);
    assert!(journals.changes(&name(), &tape.journal, 0, 2).is_err());
    assert_eq!(journals.changes(&name(), &tape.journal, 0, 1).unwrap().through(), 1);
}

#[test]
fn damage_inside_is_found_when_it_is_read_and_never_laid_over_anything() {
    let (lab, mut tape) = (Lab::quick(), Tape::new(1));
    let pool = lab.open();
    let journals = open(&pool);
    let mut follower = follow(&journals, &tape).unwrap();
    follower.append(1, &tape.write(0, 5000).write(9000, 50).take()).unwrap();
    let changes = journals.changes(&name(), &tape.journal, 0, 2).unwrap();
    let path = &files(&lab)[0];
    let mut bytes = std::fs::read(path).unwrap();
    bytes[64 + 48 + 4999] ^= 1;
    std::fs::write(path, bytes).unwrap();
    let mut buffer = vec![0; 10];
    let error = changes.apply(0, &mut buffer).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("journals/v/"), "{error}");
    assert_eq!(buffer, [0; 10]);
    assert!(changes.apply(9000, &mut buffer).is_ok());
}

#[test]
fn a_failing_or_full_disk_loses_nothing_and_it_goes_on_later() {
    for (errno, kind) in [(28, ErrorKind::Full), (5, ErrorKind::Bug)] {
        for n in 1.. {
            let (lab, mut tape) = (Lab::quick(), Tape::new(1));
            let pool = lab.open();
            let journals = open(&pool);
            let mut follower = follow(&journals, &tape).unwrap();
            let (one, two) = (tape.write(0, 700).mark().take(), tape.write(60, 10).mark().take());
            lab.disk.fail_at(n, errno);
            let mut failed = false;
            for (first, bytes) in [(1, &one), (3, &two)] {
                while let Err(error) = follower.append(first, bytes) {
                    assert_eq!(error.kind(), kind, "{error}");
                    assert_eq!(journals.durable(&name(), &tape.journal), first - 1);
                    failed = true;
                    drop(follower);
                    follower = follow(&journals, &tape).unwrap();
                }
            }
            let came = lab.disk.failed();
            assert_eq!(failed, came);
            drop((follower, journals));
            lab.also_reopened(pool, |pool| tape.check(&open(pool), 0, 4));
            if !came {
                assert!(n > 3, "{n} writes and syncs were tried");
                break;
            }
        }
    }
    let (lab, mut tape) = (Lab::quick(), Tape::new(1));
    let pool = lab.open();
    let journals = open(&pool);
    let mut follower = follow(&journals, &tape).unwrap();
    lab.disk.free.store(1000, std::sync::atomic::Ordering::SeqCst);
    let bytes = tape.write(0, 700).take();
    assert_eq!(follower.append(1, &bytes).unwrap_err().kind(), ErrorKind::Full);
    assert!(files(&lab).is_empty(), "the reserve is not touched");
    lab.disk.free.store(u64::MAX, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(follower.append(1, &bytes).unwrap(), 1);
}

fn open(pool: &Arc<Pool>) -> Arc<Journals> {
    Arc::new(Journals::open(pool).unwrap())
}

#[test]
fn journals_go_with_their_volume() {
    let lab = Lab::quick();
    let pool = lab.open();
    replicate(&pool, None, &volume(&[1, 2]), 1).unwrap();
    let journals = open(&pool);
    let mut tape = Tape::new(1);
    let mut follower = follow(&journals, &tape).unwrap();
    follower.append(1, &tape.write(0, 100).take()).unwrap();
    follower.save().unwrap();
    drop(follower);
    remove(&pool, "v", [1]).unwrap();
    // The power went before the journals were removed.
    let journals = open(&pool);
    assert!(!lab.dir.path().join("journals/v").exists());
    assert_eq!(journals.durable(&name(), &tape.journal), 0);
    drop(follow(&journals, &tape).unwrap());
    journals.remove(&name()).unwrap();
    assert!(!lab.dir.path().join("journals/v").exists());
    assert_eq!(journals.followed_by(&name()), None);
}
