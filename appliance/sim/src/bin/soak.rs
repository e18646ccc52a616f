//! Random lives of a pool, and of a primary with its appliance, in turn, for as long as is asked for: `soak [--minutes N] [--seed N]`.
//!
//! Ends with a failure, its seed and how to replay it as soon as a promise is broken.

use std::process::ExitCode;
use std::time::{Duration, Instant};
use understudy_sim::machine::Machine;
use understudy_sim::tap::life::{self, Breach};
use understudy_sim::world::{ACTIONS, Stats, run};

const USAGE: &str = "usage: soak [--minutes N] [--seed N]";

struct Arguments {
    minutes: u64,
    seed: u64,
}

fn arguments() -> Result<Arguments, String> {
    let mut parsed = Arguments { minutes: 1, seed: 1 };
    let mut all = std::env::args().skip(1);
    while let Some(name) = all.next() {
        let value = all.next().ok_or(USAGE)?;
        let number = value.parse().map_err(|error| format!("{name} {value}: {error}; {USAGE}"))?;
        match name.as_str() {
            "--minutes" => parsed.minutes = number,
            "--seed" => parsed.seed = number,
            _ => return Err(USAGE.into()),
        }
    }
    Ok(parsed)
}

#[expect(clippy::disallowed_methods, reason = "how long this runs is the only thing that time decides")]
fn now() -> Instant {
    Instant::now()
}

fn soak(arguments: &Arguments) -> Result<String, String> {
    let end = now() + Duration::from_secs(arguments.minutes * 60);
    let (mut pools, mut taps, mut seed) = (Stats::default(), life::Stats::default(), arguments.seed);
    while now() < end {
        pools.add(&run(seed, ACTIONS, Machine::any).map_err(|failure| failure.to_string())?);
        taps.add(&life::run(seed, life::ACTIONS, Breach::None).map_err(|failure| failure.to_string())?);
        seed += 1;
    }
    Ok(format!("{} lives of each from seed {}: {pools:?}, {taps:?}", seed - arguments.seed, arguments.seed))
}

fn main() -> ExitCode {
    match arguments().and_then(|arguments| soak(&arguments)) {
        Ok(summary) => {
            println!("{summary}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
