//! Retention over simulated years: a point every hour, pruned once a day, through every change of the clocks.

use super::tests::{BERLIN, LORD_HOWE, NEW_YORK, ST_JOHNS, UTC, count, kept, ns, point, policy, zone};
use super::*;

const HOUR_NS: i64 = 3_600_000_000_000;
const DAYS: i64 = 3 * 365 + 1;

/// A volume that gets a point every hour and is pruned every 24.
struct Life {
    policy: Policy,
    zone: TimeZone,
    /// What is there.
    points: Vec<Candidate>,
    /// What was there at any time.
    all: Vec<Candidate>,
    now_ns: i64,
    decisions: Vec<Decision>,
}

impl Life {
    fn new(rules: &str, zone_rule: &str) -> Self {
        let (policy, zone) = (policy(rules), zone(zone_rule));
        let now_ns = ns("2024-01-01T00:17:00Z");
        Self { policy, zone, points: Vec::new(), all: Vec::new(), now_ns, decisions: Vec::new() }
    }

    fn live_a_day(&mut self) {
        for _ in 0..24 {
            let new = point(self.all.len() as u64 + 1, self.now_ns);
            self.points.push(new.clone());
            self.all.push(new);
            self.now_ns += HOUR_NS;
        }
        let decisions = plan(&self.points, &self.policy, self.now_ns, &self.zone);
        self.points = kept(&self.points, &decisions);
        self.decisions = decisions.into_iter().filter(|decision| decision.keep).collect();
    }

    fn check(&self, day: i64) {
        assert_eq!(self.points.last(), self.all.last(), "day {day}: the newest is kept");
        for rule in Rule::ALL {
            let (count, number) = (count(&self.decisions, rule), self.policy.number(rule).into());
            assert!(count <= number, "day {day}: {count} {rule}");
        }
        let again = plan(&self.points, &self.policy, self.now_ns, &self.zone);
        assert_eq!(again, self.decisions, "day {day}: planning again");
    }

    /// How many points each rule keeps.
    fn counts(&self) -> [u64; 6] {
        Rule::ALL.map(|rule| count(&self.decisions, rule))
    }
}

#[test]
fn the_counts_are_those_of_the_policy_on_every_day() {
    for zone in [UTC, BERLIN, NEW_YORK, LORD_HOWE, ST_JOHNS] {
        let rules = "keep-last=3 keep-hourly=24 keep-daily=7 keep-weekly=4 keep-monthly=6 keep-yearly=1";
        let mut life = Life::new(rules, zone);
        for day in 1..=DAYS {
            life.live_a_day();
            life.check(day);
            // From these days on there are enough periods behind those that the rules before cover.
            let numbers = [3, 24, 7, 4, 6, 1];
            let enough = [1, 2, 12, 48, 280, 650].iter().take_while(|from| day >= **from).count();
            assert_eq!(life.counts()[..enough], numbers[..enough], "{zone}, day {day}");
        }
    }
}

/// Prunes every day, and compares now and then with pruning once, with everything still there.
#[track_caller]
fn pruning_often_is_pruning_once(rules: &str, zone: &str) {
    let mut life = Life::new(rules, zone);
    for day in 1..=DAYS {
        life.live_a_day();
        if day % 91 == 0 || day == DAYS {
            let once = plan(&life.all, &life.policy, life.now_ns, &life.zone);
            assert_eq!(life.points, kept(&life.all, &once), "{zone}, day {day}");
        }
    }
}

/// Holds where shorter periods fit into longer ones, so not for weeks before months.
#[test]
fn pruning_every_day_keeps_what_pruning_once_would() {
    pruning_often_is_pruning_once("keep-last=2 keep-hourly=30 keep-daily=10 keep-monthly=5 keep-yearly=2", BERLIN);
    pruning_often_is_pruning_once("keep-hourly=5 keep-daily=3 keep-weekly=20", NEW_YORK);
    pruning_often_is_pruning_once("keep-within=1mo2d keep-daily=3 keep-yearly=3 minimum-age=3d", LORD_HOWE);
}

/// Also of the days of 23 and of 25 hours.
#[test]
fn every_day_keeps_its_last_point() {
    let mut life = Life::new("keep-daily=4000", BERLIN);
    (1..=DAYS).for_each(|_| life.live_a_day());
    let local = |point: &Candidate| timestamp(point.created_ns).to_zoned(life.zone.clone());
    let (newest, older) = life.points.split_last().unwrap();
    for point in older {
        assert_eq!(local(point).hour(), 23, "{}", local(point));
    }
    // From 1:17 of the first day to 0:17 of the day after the last: each day has its point, none is skipped.
    assert_eq!(local(newest).hour(), 0);
    assert_eq!(life.points.len() as i64, DAYS + 1);
}

/// The administrator's guide of Proxmox Backup Server says of these numbers, with daily backups: two weeks of days, two
/// full months of weeks, at least a year of months, and ten years in all.
#[test]
fn the_example_of_the_guide_covers_ten_years() {
    let end = ns("2026-07-15T21:00:00Z");
    let daily = (0..12 * 365).rev().map(|day| end - day * 24 * HOUR_NS);
    let points: Vec<_> = daily.zip(1..).map(|(created_ns, number)| point(number, created_ns)).collect();
    let rules = policy("keep-last=3 keep-daily=13 keep-weekly=8 keep-monthly=11 keep-yearly=9");
    let decisions = plan(&points, &rules, end, &TimeZone::UTC);
    assert_eq!(Rule::ALL.map(|rule| count(&decisions, rule)), [3, 0, 13, 8, 11, 9]);
    let oldest = |rule: &str| {
        let found = decisions.iter().zip(&points).find(|(decision, _)| decision.reason.starts_with(rule));
        timestamp(found.unwrap().1.created_ns).to_zoned(TimeZone::UTC).date().to_string()
    };
    // 16 days back, into the week of June 29; the Sundays of the eight weeks before it, from June 28; the last days of
    // the 11 months before May, which the weeks cover; those of the nine years before 2025, which the months cover.
    assert_eq!(oldest("daily"), "2026-06-30");
    assert_eq!(oldest("weekly"), "2026-05-10");
    assert_eq!(oldest("monthly"), "2025-06-30");
    assert_eq!(oldest("yearly"), "2016-12-31");
}
