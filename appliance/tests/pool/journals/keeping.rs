//! Journals of several files: found by number and by time, and removed when they are old.

use super::tape::*;
use super::{files, open};
use crate::model::*;
use understudy_appliance::journals::Mark;
use understudy_format::ErrorKind;
use understudy_format::journal::Change;

/// 30 times 40 KiB and a mark: a file of 256 KiB has seven of them.
fn fill(lab: &Lab, tape: &mut Tape) {
    let pool = lab.open();
    let journals = open(&pool);
    let mut follower = follow(&journals, tape).unwrap();
    for round in 0..30 {
        let first = round * 2 + 1;
        assert_eq!(follower.append(first, &tape.write(round * 100, 40 << 10).mark().take()).unwrap(), first + 1);
        assert_eq!(journals.newest_mark(&name(), &tape.journal), Some(mark(first + 1)));
    }
}

fn mark(sequence: u64) -> Mark {
    Mark { sequence, time_ns: sequence as i64 * 1000 }
}

#[test]
fn moments_are_found_by_time_in_whatever_file_they_are() {
    let (lab, mut tape) = (Lab::quick(), Tape::new(1));
    fill(&lab, &mut tape);
    assert_eq!(files(&lab).len(), 5);
    let journal = tape.journal;
    lab.also_reopened(lab.open(), |pool| {
        let journals = open(pool);
        assert_eq!(journals.newest_mark(&name(), &journal), Some(mark(60)));
        for at in 0..62_000 {
            let expected = (at / 2000 * 2).min(60) as u64;
            let expected = (expected > 0).then(|| (journal, mark(expected)));
            if at % 1000 < 2 || at % 1000 == 999 {
                assert_eq!(journals.mark_at(&name(), at).unwrap(), expected, "at {at}");
            }
        }
        let numbers = |from, to, newest| -> Vec<u64> {
            journals.marks(&name(), from, to, newest).unwrap().iter().map(|(_, mark)| mark.sequence).collect()
        };
        assert_eq!(numbers(i64::MIN, i64::MAX, 100), (1..=30).map(|at| at * 2).collect::<Vec<_>>());
        assert_eq!(numbers(i64::MIN, i64::MAX, 3), [56, 58, 60]);
        assert_eq!(numbers(12_000, 21_999, 100), [12, 14, 16, 18, 20]);
        assert_eq!(numbers(12_000, 21_999, 2), [18, 20]);
        assert!(numbers(60_001, i64::MAX, 9).is_empty() && numbers(0, 1999, 9).is_empty());
    });
}

#[test]
fn any_run_of_entries_is_what_was_written() {
    let (lab, mut tape) = (Lab::quick(), Tape::new(1));
    fill(&lab, &mut tape);
    let journals = open(&lab.open());
    for (after, through) in [(0, 60), (0, 1), (13, 14), (13, 37), (14, 42), (59, 60)] {
        tape.check(&journals, after, through);
    }
    assert_eq!(journals.changes(&name(), &tape.journal, 7, 7).unwrap().extents().count(), 0);
    let error = journals.changes(&name(), &tape.journal, 0, 61).err().unwrap();
    assert!(error.to_string().contains("it is durable up to 60"), "{error}");
}

/// Many small writes, zeroes and trims that meet in every way.
#[test]
fn the_later_of_writes_that_meet_counts() {
    let (lab, mut tape) = (Lab::quick(), Tape::new(1));
    let mut state = 7u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for _ in 0..400 {
        let offset = random(SIZE - 1);
        let most = if random(4) == 0 { SIZE } else { 900 };
        let length = 1 + random((SIZE - offset).min(most));
        tape.add(match random(5) {
            0 => Change::Zero { offset, length },
            1 => Change::Trim { offset, length },
            _ => Change::Write { offset, length },
        });
    }
    let pool = lab.open();
    let journals = open(&pool);
    let mut follower = follow(&journals, &tape).unwrap();
    follower.append(1, &tape.take()).unwrap();
    for (after, through) in [(0, 400), (0, 3), (100, 300), (390, 400)] {
        tape.check(&journals, after, through);
    }
}

#[test]
fn only_what_is_in_a_point_and_old_is_removed_and_who_reads_it_reads_on() {
    let (lab, mut tape) = (Lab::quick(), Tape::new(1));
    fill(&lab, &mut tape);
    let pool = lab.open();
    let journals = open(&pool);
    let all = files(&lab);
    let trim = |sequence, keep_from_ns| journals.trim(&name(), tape.position(sequence), keep_from_ns).unwrap();
    assert_eq!((trim(60, i64::MIN), trim(0, i64::MAX), trim(13, i64::MAX)), (0, 0, 0));
    let reading = journals.changes(&name(), &tape.journal, 0, 14).unwrap();
    let other = Tape::new(2);
    assert_eq!(journals.trim(&name(), other.position(99), i64::MAX).unwrap(), 0, "of another journal");
    assert_eq!(trim(14, 14_000), 0, "not old enough");
    let bytes = std::fs::metadata(&all[0]).unwrap().len();
    assert_eq!(trim(14, 20_000), bytes);
    assert_eq!(files(&lab), all[1..]);
    let mut volume = vec![0; SIZE as usize];
    reading.apply(0, &mut volume).unwrap();
    let mut expected = vec![0; SIZE as usize];
    tape.replay(0, 14, &mut expected);
    assert!(volume == expected);
    let error = journals.changes(&name(), &tape.journal, 0, 20).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("entries 1 to 14"), "{error}");
    tape.check(&journals, 14, 60);
    trim(60, i64::MAX);
    assert_eq!(files(&lab), all[4..], "the last file says where the journal goes on");
    drop(journals);
    lab.also_reopened(pool, |pool| assert_eq!(open(pool).durable(&name(), &tape.journal), 60));
}
