//! Random lives of a primary and its appliance, a bounded number of them; more with `UNDERSTUDY_SIM_RUNS`, from `UNDERSTUDY_SIM_SEED` on.
//! And canaries: promises that are broken on purpose, to prove that these lives notice.

use crate::world::number;
use understudy_sim::tap::life::{ACTIONS, Breach, Stats, run};

/// Lives in which a breach must show.
const RUNS: u64 = 40;

#[test]
fn random_lives_break_no_promise() {
    let (first, runs) = (number("UNDERSTUDY_SIM_SEED", 1), number("UNDERSTUDY_SIM_RUNS", 25));
    let mut all = Stats::default();
    for seed in first..first + runs {
        all.add(&run(seed, ACTIONS, Breach::None).unwrap_or_else(|failure| panic!("{failure}")));
    }
    println!("{runs} lives: {all:?}");
}

/// Two runs of one seed do the same, operation by operation.
#[test]
fn a_seed_gives_the_same_life_again() {
    let once = run(4, ACTIONS, Breach::None).unwrap();
    assert_eq!(once, run(4, ACTIONS, Breach::None).unwrap());
}

fn check_caught(breach: Breach) {
    let found = (1..=RUNS).filter(|seed| run(*seed, ACTIONS, breach).is_err()).count();
    assert!(found > 2, "{breach:?} in {found} of {RUNS} lives");
}

#[test]
fn a_disk_whose_syncs_of_active_extents_lie_is_caught() {
    check_caught(Breach::LyingExtents);
}

#[test]
fn a_disk_whose_syncs_of_the_appliances_journals_lie_is_caught() {
    check_caught(Breach::LyingAppliance);
}

#[test]
fn an_appliance_that_answers_before_it_syncs_is_caught() {
    check_caught(Breach::HastyAppliance);
}

mod course {
    use understudy_sim::disk::fault::{Errno, Fault};
    use understudy_sim::tap::life::{Breach, Place, Step, course, operations};

    const EXTENT: u64 = 4 << 20;

    /// A baseline under writes, folds, an appliance that is away until the journal is given up, restarts of both.
    fn steps() -> Vec<Step> {
        use Step::*;
        let written = |extent: u64| extent * EXTENT..extent * EXTENT + 20_000 / 512 * 512;
        vec![
            Write(written(0)),
            Arrive,
            Write(EXTENT - 8192..EXTENT + 8192),
            Flush,
            Arrive,
            Look,
            Wait(11),
            Write(written(2)),
            Flush,
            Arrive,
            Fold,
            Settle,
            RestartTap,
            Zero(0..4096),
            Flush,
            Arrive,
            RestartSite,
            Away(true),
            Write(written(1)),
            Flush,
            Wait(11),
            Trim(EXTENT..EXTENT + 8192),
            Flush,
            Wait(11),
            Flush,
            Away(false),
            Arrive,
            Fold,
            Prune,
            Look,
        ]
    }

    /// A file of the journal is full and gone, and nothing of the next one was ever written.
    fn short_files() -> Vec<Step> {
        use Step::*;
        let written = |extent: u64| extent * EXTENT..extent * EXTENT + 40 * 1024;
        let quiet = [Flush, Wait(11), Flush, Wait(11), Flush, Wait(11)];
        let first = [Write(written(0)), Arrive, Write(written(1))].into_iter();
        first.chain(quiet).chain([Write(written(0)), Arrive, Write(0..512), Flush]).collect()
    }

    /// Something goes wrong at each operation of a disk, in turn.
    fn check_each(place: Place, fault: impl Fn(u64) -> Fault) {
        check_each_of(&steps(), place, &fault);
        // To the appliance the files of the tap are nothing.
        if place != Place::Appliance {
            check_each_of(&short_files(), place, &fault);
        }
    }

    fn check_each_of(steps: &[Step], place: Place, fault: &impl Fn(u64) -> Fault) {
        let all = operations(steps, place);
        for (at, operation) in (1..).zip(&all) {
            let run = course(steps, at, Some((place, fault(at))), Breach::None);
            run.unwrap_or_else(|failure| panic!("{place:?}, operation {at} of {} ({operation}): {failure}", all.len()));
        }
    }

    /// What only the journal says was written, and the power goes off: in how many outcomes of that too little is read again.
    fn found_wrong(breach: Breach) -> usize {
        use Step::*;
        let quiet = [Flush, Wait(11), Flush, Wait(11), Flush, Wait(11)];
        let first = [Write(0..4096), Arrive, Away(true), Write(EXTENT..EXTENT + 4096)].into_iter();
        let steps: Vec<Step> = first.chain(quiet).chain([Write(0..512), Flush, Away(false), Arrive]).collect();
        let last = operations(&steps[..steps.len() - 2], Place::Volume).len() as u64;
        let fault = Some((Place::Volume, Fault::Cut(last)));
        (1..=20).filter(|seed| course(&steps, *seed, fault, breach).is_err()).count()
    }

    #[test]
    fn a_disk_whose_syncs_of_the_taps_journal_lie_is_caught() {
        assert_eq!(found_wrong(Breach::None), 0);
        let found = found_wrong(Breach::LyingJournal);
        assert!(found > 2, "in {found} of 20 outcomes");
    }

    #[test]
    fn nothing_goes_wrong() {
        for steps in [steps(), short_files()] {
            course(&steps, 0, None, Breach::None).unwrap_or_else(|failure| panic!("{failure}"));
        }
    }

    #[test]
    fn power_can_be_lost_at_each_operation_of_the_volume() {
        check_each(Place::Volume, Fault::Cut);
    }

    #[test]
    fn power_can_be_lost_at_each_operation_of_the_taps_state() {
        check_each(Place::State, Fault::Cut);
    }

    #[test]
    fn power_can_be_lost_at_each_operation_of_the_appliance() {
        check_each(Place::Appliance, Fault::Cut);
    }

    #[test]
    fn each_operation_of_the_volume_can_fail() {
        check_each(Place::Volume, |at| Fault::Fail(at, Errno::Io));
    }

    #[test]
    fn each_operation_of_the_taps_state_can_fail() {
        check_each(Place::State, |at| Fault::Fail(at, Errno::Io));
    }

    #[test]
    fn each_operation_of_the_appliance_can_fail() {
        check_each(Place::Appliance, |at| Fault::Fail(at, Errno::NoSpace));
    }
}
