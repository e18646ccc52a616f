//! The power goes off, or the disk fails, at every operation of a scripted life of a pool, in turn.

use std::sync::Arc;
use understudy_format::ErrorKind;
use understudy_format::point::VolumeName;
use understudy_sim::disk::SimDisk;
use understudy_sim::disk::fault::{Errno, Fault, Kind, Operation};
use understudy_sim::image::Image;
use understudy_sim::machine::Machine;
use understudy_sim::rng::Rng;
use understudy_sim::script::{Run, Step};

pub fn name(text: &str) -> VolumeName {
    text.parse().unwrap()
}

/// A volume of `count` zero blocks in which some blocks have content.
pub fn sparse(count: usize, content: &[(usize, u64)]) -> Vec<u64> {
    let mut seeds = vec![0; count];
    content.iter().for_each(|(at, seed)| seeds[*at] = *seed);
    seeds
}

fn steps() -> Arc<[Step]> {
    let (a, b) = (name("a"), name("b"));
    let replicate = |name: &VolumeName, seeds: &[u64], missing, incremental| Step::Replicate {
        name: name.clone(),
        image: Image::of(seeds, missing),
        incremental,
    };
    let settle = |name: &VolumeName| Step::Settle(name.clone());
    let first = sparse(300, &[(0, 1), (1, 2), (2, 3), (40, 4), (41, 4), (256, 5), (299, 6)]);
    let second = sparse(300, &[(0, 1), (1, 12), (2, 0), (40, 4), (41, 13), (256, 5), (298, 14), (299, 6)]);
    let third = [&second[..299], &[15, 16, 0, 17]].concat();
    let fourth = [&[1, 2], &third[2..200]].concat();
    vec![
        replicate(&a, &first, 0, false),
        settle(&a),
        replicate(&a, &second, 0, true),
        replicate(&b, &(20..50).collect::<Vec<_>>(), 512, false),
        settle(&a),
        Step::Abandon { name: a.clone(), image: Image::of(&(60..90).collect::<Vec<_>>(), 0), messages: 5 },
        Step::Abandon { name: name("c"), image: Image::of(&(60..70).collect::<Vec<_>>(), 0), messages: 4 },
        replicate(&a, &third, 1024, true),
        settle(&b),
        settle(&a),
        replicate(&a, &fourth, 0, true),
        replicate(&b, &(30..60).collect::<Vec<_>>(), 0, false),
        settle(&a),
        settle(&b),
        Step::Group(vec![
            (a.clone(), Image::of(&[&fourth[..], &[91, 92]].concat(), 0)),
            (b.clone(), Image::of(&(33..64).collect::<Vec<_>>(), 0)),
            (name("d"), Image::of(&(90..97).collect::<Vec<_>>(), 512)),
        ]),
        settle(&name("d")),
        Step::Protect { name: a.clone(), numbers: [1, 3].into(), protected: true },
        Step::Keep { name: a.clone(), last: 3 },
        Step::Remove { name: a.clone(), numbers: [2, 3].into() },
        Step::Collect,
        Step::Protect { name: a.clone(), numbers: [1].into(), protected: false },
        Step::Remove { name: a.clone(), numbers: [1].into() },
        Step::Remove { name: b.clone(), numbers: [1, 2].into() },
        replicate(&a, &third, 0, true),
        Step::Collect,
        replicate(&b, &(40..80).collect::<Vec<_>>(), 0, false),
        settle(&b),
        Step::Collect,
        Step::Scrub,
    ]
    .into()
}

/// The first operation that is the pool's own.
const FIRST: u64 = 3;

/// How many operations a run takes that nothing interrupts.
fn operations() -> u64 {
    let mut run = Run::new(steps(), 0);
    run.go().unwrap();
    let operations = run.machine.disk().operations();
    run.recover().unwrap();
    run.settle_all().unwrap();
    operations
}

fn context(run: &Run, at: u64, seed: u64) -> String {
    let history = run.machine.disk().history();
    let operation = history.get(at as usize - 1).map_or("none".into(), ToString::to_string);
    format!("operation {at} ({operation}), seed {seed}, before {:?}", run.next_step())
}

/// Goes on after an interruption to the end, then loses power once more: what was acknowledged stays.
fn finish(run: &mut Run, rng: &mut Rng) -> Result<(), Box<dyn std::error::Error>> {
    run.recover()?;
    run.settle_all()?;
    run.go()?;
    run.recover()?;
    run.settle_all()?;
    run.machine.lose_power(rng);
    run.recover()?;
    Ok(run.settle_all()?)
}

/// The power goes off again, while the pool is being opened or soon after.
fn interrupt_again(run: &mut Run, rng: &mut Rng) {
    run.machine.disk().cut_at(1 + rng.below(12));
    if run.machine.start().is_ok() {
        let pool = run.machine.pool().unwrap().clone();
        run.model.resolve(&pool);
        let names: Vec<_> = run.model.names().cloned().collect();
        names.iter().for_each(|name| drop(run.machine.settle(name)));
    }
    run.machine.lose_power(rng);
}

#[test]
fn power_lost_at_every_operation_loses_nothing_that_was_acknowledged() {
    let steps = steps();
    for at in FIRST..=operations() {
        for seed in 0..2 {
            let mut rng = Rng::new(at * 1000 + seed);
            let mut run = Run::new(steps.clone(), seed);
            run.machine.disk().cut_at(at);
            let _ = run.go();
            let context = context(&run, at, seed);
            assert!(run.machine.disk().is_off(), "{context}");
            match seed {
                0 if at % 2 == 0 => run.machine.kill(&mut rng),
                0 => run.machine.lose_power(&mut rng),
                _ => {
                    run.machine.lose_power(&mut rng);
                    interrupt_again(&mut run, &mut rng);
                }
            }
            finish(&mut run, &mut rng).unwrap_or_else(|error| panic!("{context}: {error}"));
        }
    }
}

#[test]
fn an_io_error_at_every_operation_loses_nothing_that_was_acknowledged() {
    fail_each(Errno::Io, |run, rng| {
        if run.go().is_err() {
            run.machine.kill(rng);
        }
    });
}

#[test]
fn enospc_at_every_operation_is_survived_without_a_restart() {
    fail_each(Errno::NoSpace, restart_if_names_are_in_doubt);
}

/// A directory whose sync failed is not believed again: where a collection removed names, that takes a restart.
fn restart_if_names_are_in_doubt(run: &mut Run, rng: &mut Rng) {
    if let Err(error) = run.go() {
        let text = error.to_string();
        assert!(text.contains("stopped writing after an error: /pool/segments: No space"), "{text}");
        run.machine.kill(rng);
    }
}

fn fail_each(errno: Errno, go_on: impl Fn(&mut Run, &mut Rng)) {
    let steps = steps();
    for at in FIRST..=operations() {
        let mut rng = Rng::new(at);
        let mut run = Run::new(steps.clone(), at);
        run.machine.disk().fail_at(at, errno);
        let result = run.go();
        let context = context(&run, at, at);
        assert!(run.machine.disk().failed(), "{context}");
        if let Err(error) = result {
            if errno == Errno::NoSpace {
                assert_eq!(error.kind(), ErrorKind::Full, "{context}: {error}");
            }
            go_on(&mut run, &mut rng);
        }
        finish(&mut run, &mut rng).unwrap_or_else(|error| panic!("{context}: {error}"));
    }
}

#[test]
fn a_pool_in_a_new_directory_survives_as_a_whole() {
    for seed in 0..40 {
        let mut run = Run::new(steps(), seed);
        run.machine = Machine::with_disk(SimDisk::new(seed));
        run.go().unwrap();
        run.machine.lose_power(&mut Rng::new(seed));
        run.recover().unwrap();
    }
}

#[test]
fn a_disk_without_any_space_from_each_operation_on_is_survived_once_there_is_space() {
    let steps = steps();
    for at in FIRST..=operations() {
        let mut rng = Rng::new(at);
        let mut run = Run::new(steps.clone(), at);
        run.machine.disk().set_fault(Some(Fault::Stuck(at, Errno::NoSpace)));
        let error = run.go().unwrap_err();
        let context = context(&run, at, at);
        assert_eq!(error.kind(), ErrorKind::Full, "{context}: {error}");
        run.go().unwrap_err();
        run.machine.disk().set_fault(None);
        restart_if_names_are_in_doubt(&mut run, &mut rng);
        finish(&mut run, &mut rng).unwrap_or_else(|error| panic!("{context}: {error}"));
    }
}

/// Streams of many blocks into one segment: a commit is one long write, of which any part may survive.
fn long_commits() -> Arc<[Step]> {
    let replicate =
        |seeds: Vec<u64>, incremental| Step::Replicate { name: name("a"), image: Image::of(&seeds, 0), incremental };
    let first: Vec<u64> = (1..220).collect();
    let second = first.iter().map(|seed| if seed % 3 == 0 { *seed } else { seed + 1000 }).collect();
    vec![replicate(first, false), replicate(second, true), replicate((3000..3090).collect(), true)].into()
}

/// Groups of so many that what commits them is longer than a page: any part of it may survive.
fn large_groups() -> Arc<[Step]> {
    let member = |at: u64, seed: u64| (name(&format!("v{at}")), Image::of(&[seed + at, 7], 0));
    let group = |seed| Step::Group((0..40).map(|at| member(at, seed)).collect());
    vec![group(100), group(200)].into()
}

#[test]
fn power_lost_while_a_large_group_is_committed_leaves_all_of_it_or_nothing() {
    let wrong = cut_each_sync(large_groups(), 12, |_| ());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Cuts the power at every sync of long commits, with many outcomes each, on a disk that was made ready; returns what was found wrong.
pub fn cut_long_commits(outcomes: u64, ready: impl Fn(&SimDisk)) -> Vec<String> {
    cut_each_sync(long_commits(), outcomes, ready)
}

fn cut_each_sync(steps: Arc<[Step]>, outcomes: u64, ready: impl Fn(&SimDisk)) -> Vec<String> {
    let start = || {
        let run = Run::new(steps.clone(), 0).with_segments(2 << 20);
        ready(run.machine.disk());
        run
    };
    let mut whole = start();
    whole.go().unwrap();
    let history = whole.machine.disk().history();
    let is_sync = |operation: &Operation| matches!(operation.kind, Kind::Sync | Kind::SyncDir | Kind::IndexSync);
    let syncs = (1..).zip(&history).skip(FIRST as usize - 1).filter(|(_, operation)| is_sync(operation));
    let mut wrong = Vec::new();
    for (at, operation) in syncs {
        for seed in 0..outcomes {
            let mut run = start();
            run.machine.disk().cut_at(at);
            assert!(run.go().is_err());
            run.machine.lose_power(&mut Rng::new(seed));
            wrong
                .extend(run.recover().err().map(|error| format!("operation {at} ({operation}), seed {seed}: {error}")));
        }
    }
    wrong
}
