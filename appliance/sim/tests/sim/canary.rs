//! Canaries: promises that are broken on purpose, to prove that the simulation notices.

use crate::crash::cut_long_commits;
use std::collections::HashSet;
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
    let found = found(lying(is_segment));
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

#[test]
fn commits_in_their_order_are_found_right() {
    let wrong = cut_long_commits(40, |_| ());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Every second sync of a segment does nothing: so that of the record that commits is the first to make the blocks durable, as in an
/// appliance that has the order of a commit wrong.
#[test]
fn commits_whose_blocks_are_durable_with_their_record_only_are_caught() {
    let wrong = cut_long_commits(40, |disk| {
        let mut late = HashSet::new();
        disk.lie(move |path| is_segment(path) && (late.insert(path.to_owned()) || !late.remove(path)));
    });
    assert!(!wrong.is_empty(), "nothing was noticed");
}

fn is_segment(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "seg")
}
