//! Canaries: promises that are broken on purpose, to prove that the simulation notices.

use crate::crash::cut_long_commits;
use std::path::Path;
use understudy_sim::machine::Machine;
use understudy_sim::world::run;

/// Lives in which the breach must show.
const RUNS: u64 = 60;
/// Things that happen in one life.
const ACTIONS: u64 = 400;

/// In how many lives something is found wrong.
fn found(build: impl Fn(u64) -> Machine) -> usize {
    (1..=RUNS).filter(|seed| run(*seed, ACTIONS, &build).is_err()).count()
}

fn lying(lie: fn(&Path) -> bool) -> impl Fn(u64) -> Machine {
    move |seed| {
        let machine = Machine::any(seed);
        machine.disk().lie(lie);
        machine
    }
}

#[test]
fn a_disk_whose_syncs_of_segments_lie_is_caught() {
    let found = found(lying(|path| path.extension().is_some_and(|extension| extension == "seg")));
    assert!(found > 5, "in {found} of {RUNS} lives");
}

#[test]
fn a_disk_whose_syncs_of_directories_lie_is_caught() {
    let found = found(lying(|path| path.ends_with("segments")));
    assert!(found > 5, "in {found} of {RUNS} lives");
}

#[test]
fn a_disk_whose_syncs_of_secondaries_lie_is_caught() {
    let found = found(lying(|path| path.ends_with("secondary.raw")));
    assert!(found > 5, "in {found} of {RUNS} lives");
}

/// With `--features canary` the appliance appends the point record before the blocks are durable.
#[test]
fn an_appliance_that_commits_in_the_wrong_order_is_caught() {
    let wrong = cut_long_commits(40);
    match cfg!(feature = "canary") {
        true => assert!(!wrong.is_empty(), "nothing was noticed"),
        false => assert!(wrong.is_empty(), "{wrong:#?}"),
    }
}
