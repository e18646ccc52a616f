//! Random lives of a pool, a bounded number of them; more with `UNDERSTUDY_SIM_RUNS`, from `UNDERSTUDY_SIM_SEED` on.

use understudy_sim::machine::Machine;
use understudy_sim::world::{ACTIONS, Stats, run};

pub fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn random_lives_break_no_promise() {
    let (first, runs) = (number("UNDERSTUDY_SIM_SEED", 1), number("UNDERSTUDY_SIM_RUNS", 40));
    let mut all = Stats::default();
    for seed in first..first + runs {
        all.add(&run(seed, ACTIONS, Machine::any).unwrap_or_else(|failure| panic!("{failure}")));
    }
    println!("{runs} lives: {all:?}");
}

/// Two runs of one seed do the same, operation by operation.
#[test]
fn a_seed_gives_the_same_life_again() {
    let once = run(4, ACTIONS, Machine::any).unwrap();
    assert_eq!(once, run(4, ACTIONS, Machine::any).unwrap());
}
