//! Retention by hand-made cases and by properties over any times; and what the tests of retention share.

use super::*;
use proptest::prelude::*;

/// Zones whose clocks change, as rules, so that no time zone data has to be installed.
pub(super) const BERLIN: &str = "CET-1CEST,M3.5.0,M10.5.0/3";
pub(super) const NEW_YORK: &str = "EST5EDT,M3.2.0,M11.1.0";
pub(super) const LORD_HOWE: &str = "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0";
/// Where the clocks went back at one minute past midnight, so that a day occurred twice.
pub(super) const ST_JOHNS: &str = "NST3:30NDT,M3.2.0/0:01,M11.1.0/0:01";
pub(super) const UTC: &str = "UTC0";

pub(super) fn zone(rule: &str) -> TimeZone {
    TimeZone::posix(rule).unwrap()
}

pub(super) fn policy(text: &str) -> Policy {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

pub(super) fn ns(time: &str) -> i64 {
    let time: Timestamp = time.parse().unwrap_or_else(|error| panic!("{time}: {error}"));
    time.as_nanosecond().try_into().unwrap()
}

pub(super) fn point(number: u64, created_ns: i64) -> Candidate {
    Candidate { number, created_ns, label: None, protected: false, in_use: None }
}

/// Points 1, 2 and so on at these times in UTC; after a time `p` means protected, `u` in use.
fn points(times: &[&str]) -> Vec<Candidate> {
    let numbered = times.iter().zip(1..);
    let candidate = |(text, number): (&&str, u64)| {
        let (time, flags) = text.split_once(' ').unwrap_or((text, ""));
        let in_use = flags.contains('u').then(|| "attached export".to_owned());
        Candidate { protected: flags.contains('p'), in_use, ..point(number, ns(time)) }
    };
    numbered.map(candidate).collect()
}

/// The reasons of the points, in order, at the newest's time in UTC.
fn reasons(times: &[&str], rules: &str) -> Vec<String> {
    let points = points(times);
    let now_ns = points.iter().map(|point| point.created_ns).max().unwrap();
    plan(&points, &policy(rules), now_ns, &TimeZone::UTC).into_iter().map(|decision| decision.reason).collect()
}

/// `expected` has one word a point: `-` for removed, or the rule that keeps it.
#[track_caller]
fn check(times: &[&str], rules: &str, expected: &str) {
    let strip = |reason: String| {
        let reason = reason.strip_prefix("newest; ").map_or(reason.clone(), str::to_owned);
        if reason == "no rule keeps it" { "-".into() } else { reason.split([' ', ';']).next().unwrap().to_owned() }
    };
    let found: Vec<_> = reasons(times, rules).into_iter().map(strip).collect();
    assert_eq!(found.join(" "), expected, "{rules}");
}

#[test]
fn the_newest_of_each_period_is_kept() {
    let day = ["2026-11-15T09:30Z", "2026-11-15T10:30Z", "2026-11-15T10:59Z", "2026-11-15T11:00Z", "2026-11-15T11:59Z"];
    check(&day, "keep-last=2", "- - - last last");
    check(&day, "keep-last=9", "last last last last last");
    check(&day, "keep-hourly=2", "- - hourly - hourly");
    check(&day, "keep-hourly=9", "hourly - hourly - hourly");
    check(&day, "keep-daily=9", "- - - - daily");
    check(&day, "keep-weekly=9", "- - - - weekly");
    check(&day, "keep-monthly=9", "- - - - monthly");
    check(&day, "keep-yearly=9", "- - - - yearly");
}

#[test]
fn periods_without_points_do_not_count() {
    let sparse = ["2019-02-01T00:00Z", "2023-07-01T00:00Z", "2023-07-09T12:00Z", "2026-11-15T00:00Z"];
    check(&sparse, "keep-hourly=2", "- - hourly hourly");
    check(&sparse, "keep-daily=3", "- daily daily daily");
    check(&sparse, "keep-monthly=2", "- - monthly monthly");
    check(&sparse, "keep-yearly=3", "yearly - yearly yearly");
}

#[test]
fn a_period_that_an_earlier_rule_covers_does_not_count() {
    // Friday, Saturday, Sunday, Monday twice, Tuesday.
    let days = [
        "2026-11-20T12:00Z",
        "2026-11-21T12:00Z",
        "2026-11-22T12:00Z",
        "2026-11-23T06:00Z",
        "2026-11-23T12:00Z",
        "2026-11-24T12:00Z",
    ];
    check(&days, "keep-last=1 keep-daily=1", "- - - - daily last");
    check(&days, "keep-last=2 keep-daily=1", "- - daily - last last");
    check(&days, "keep-daily=1 keep-weekly=1", "- - weekly - - daily");
    check(&days, "keep-daily=3 keep-weekly=1", "- - daily - daily daily");
    check(&days, "keep-last=1 keep-hourly=2 keep-daily=2", "- daily daily hourly hourly last");
    check(&days, "keep-monthly=2 keep-yearly=2", "- - - - - monthly");
}

#[test]
fn the_rest_of_a_week_that_was_kept_is_not_considered_for_its_month() {
    // Week 5 of 2026 goes from Monday, January 26, to Sunday, February 1.
    let times = ["2026-01-20T12:00Z", "2026-01-31T12:00Z", "2026-02-01T12:00Z"];
    check(&times, "keep-weekly=1 keep-monthly=1", "monthly - weekly");
    // A daily rule covers week 5, so its other points are still there for the month.
    check(&times, "keep-daily=1 keep-monthly=1", "- monthly daily");
    check(&times[1..], "keep-daily=1 keep-weekly=1 keep-monthly=1", "monthly daily");
    // The week before has its point, which covers January.
    check(&times, "keep-daily=1 keep-weekly=1 keep-monthly=1", "weekly - daily");
    // So a larger number beside a weekly rule need not keep a superset.
    let times = ["2026-01-31T12:00Z", "2026-02-01T12:00Z", "2026-02-08T12:00Z"];
    check(&times, "keep-weekly=1 keep-monthly=1", "monthly - weekly");
    check(&times, "keep-weekly=2 keep-monthly=1", "- weekly weekly");
}

#[test]
fn weeks_are_iso_weeks() {
    // Week 1 of 2026 goes from Monday, December 29, 2025, to Sunday, January 4.
    let times = ["2025-12-28T12:00Z", "2025-12-29T12:00Z", "2026-01-04T12:00Z", "2026-01-05T12:00Z"];
    check(&times, "keep-weekly=9", "weekly - weekly weekly");
    let reasons = reasons(&times, "keep-weekly=3");
    assert_eq!(reasons[0], "weekly 2025-W52 (3 of 3)");
    assert_eq!(reasons[2], "weekly 2026-W01 (2 of 3)");
}

#[test]
fn protected_points_are_kept_and_neither_count_nor_cover() {
    let times = ["2026-11-15T09:00Z p", "2026-11-15T10:00Z", "2026-11-15T10:10Z", "2026-11-15T10:20Z p"];
    check(&times, "keep-last=1", "protected - last protected");
    check(&times, "keep-hourly=1", "protected - hourly protected");
    check(&times, "keep-daily=2", "protected - daily protected");
    check(&times, "keep-all", "protected the the protected");
}

#[test]
fn points_in_use_are_ordinary_to_the_rules() {
    let times = ["2026-11-15T09:00Z u", "2026-11-15T10:00Z u", "2026-11-15T11:00Z"];
    let expected = ["in use: attached export", "last (2 of 2); in use: attached export", "newest; last (1 of 2)"];
    assert_eq!(reasons(&times, "keep-last=2"), expected);
}

#[test]
fn keep_within_covers_periods_after_last_and_before_hourly() {
    let times =
        ["2026-11-12T12:00Z", "2026-11-13T06:00Z", "2026-11-13T12:00Z", "2026-11-14T06:00Z", "2026-11-15T12:00Z"];
    // A point exactly that old is not younger; the day of the 14th is covered, so the 13th and the 12th are counted.
    check(&times, "keep-within=2d", "- - - within within");
    check(&times, "keep-within=2d keep-daily=2", "daily - daily within within");
    check(&times, "keep-last=1 keep-within=2d keep-daily=1", "- - daily within last");
    check(&times, "keep-within=2d keep-hourly=1", "- - hourly within within");
    assert_eq!(reasons(&times, "keep-within=2d")[3], "within 2d of the newest point");
}

#[test]
fn keep_within_is_seen_from_the_newest_point_but_not_from_the_future() {
    let kept = |now: &str| {
        let points = points(&["2026-11-01T12:00Z", "2026-11-14T12:00Z", "2026-11-15T12:00Z"]);
        let decisions = plan(&points, &policy("keep-within=7d"), ns(now), &TimeZone::UTC);
        decisions.iter().filter(|decision| decision.keep).map(|decision| decision.number).collect::<Vec<_>>()
    };
    assert_eq!(kept("2026-11-15T12:00Z"), [2, 3]);
    assert_eq!(kept("2036-11-15T12:00Z"), [2, 3], "a source that went silent keeps its history");
    assert_eq!(kept("2026-11-02T12:00Z"), [1, 2, 3], "a newest point from the future counts as taken now");
}

#[test]
fn nothing_younger_than_the_minimum_age_is_removed() {
    let times = ["2026-11-13T12:00Z", "2026-11-13T12:00:01Z", "2026-11-15T12:00Z"];
    let expected = [
        "no rule keeps it",
        "younger than the minimum age of 2d",
        "newest; last (1 of 1); younger than the minimum age of 2d",
    ];
    assert_eq!(reasons(&times, "keep-last=1 minimum-age=2d"), expected);
    assert_eq!(reasons(&times, "keep-all minimum-age=2d")[0], "the policy keeps everything");
}

#[test]
fn time_decides_then_the_number_and_the_highest_number_stays_too() {
    // The clock was set back before point 3; points 4 and 5 are of the same moment.
    let times =
        ["2026-11-15T12:00Z", "2026-11-16T12:00Z", "2026-11-10T12:00Z", "2026-11-11T12:00Z", "2026-11-11T12:00Z"];
    let none = "no rule keeps it";
    assert_eq!(reasons(&times, "keep-last=1"), [none, "newest; last (1 of 1)", none, none, "newest by number"]);
    let expected = [
        "daily 2026-11-15 (2 of 4)",
        "newest; daily 2026-11-16 (1 of 4)",
        "daily 2026-11-10 (4 of 4)",
        none,
        "newest by number; daily 2026-11-11 (3 of 4)",
    ];
    assert_eq!(reasons(&times, "keep-daily=4"), expected);
}

#[test]
fn no_points_no_decisions() {
    assert_eq!(plan(&[], &policy("keep-last=1 keep-within=1d"), 0, &TimeZone::UTC), []);
}

/// How many hours of a day of points every 10 minutes a rule finds, from its first to its last in civil time.
fn hours_of_day(zone_rule: &str, first: &str, last: &str) -> Vec<String> {
    let (first, last, zone) = (ns(first), ns(last), zone(zone_rule));
    let times = (first..=last).step_by(600_000_000_000);
    let points: Vec<_> = times.zip(1..).map(|(created_ns, number)| point(number, created_ns)).collect();
    let decisions = plan(&points, &policy("keep-hourly=100"), last, &zone);
    decisions.into_iter().filter(|decision| decision.keep).map(|decision| decision.reason).collect()
}

#[test]
fn an_hour_that_occurs_twice_is_two_and_one_left_out_is_none() {
    let back = hours_of_day(BERLIN, "2026-10-25T00:00+02:00", "2026-10-25T23:50+01:00");
    assert_eq!(back.len(), 25);
    assert_eq!(back[2..4], ["hourly 2026-10-25 02h +02 (23 of 100)", "hourly 2026-10-25 02h +01 (22 of 100)"]);
    assert_eq!(hours_of_day(BERLIN, "2026-03-29T00:00+01:00", "2026-03-29T23:50+02:00").len(), 23);
    // Half an hour back: half of the hour from 1 occurs twice. Half an hour forward: half of the hour from 2 is there.
    let back = hours_of_day(LORD_HOWE, "2026-04-05T00:00+11:00", "2026-04-05T23:50+10:30");
    assert_eq!(back.len(), 25);
    assert_eq!(back[1..3], ["hourly 2026-04-05 01h +11 (24 of 100)", "hourly 2026-04-05 01h +10:30 (23 of 100)"]);
    assert_eq!(hours_of_day(LORD_HOWE, "2026-10-04T00:00+10:30", "2026-10-04T23:50+11:00").len(), 24);
}

#[test]
fn days_are_those_of_the_zone() {
    let points = points(&["2026-11-15T23:30Z", "2026-11-16T00:30Z", "2026-11-16T04:59Z"]);
    let kept = |zone: &TimeZone| {
        let decisions = plan(&points, &policy("keep-daily=9"), points[2].created_ns, zone);
        decisions.iter().filter(|decision| decision.keep).map(|decision| decision.number).collect::<Vec<_>>()
    };
    assert_eq!(kept(&TimeZone::UTC), [1, 3]);
    assert_eq!(kept(&zone(BERLIN)), [3]);
    assert_eq!(kept(&zone(NEW_YORK)), [3]);
}

#[test]
fn a_day_that_is_left_and_entered_again_is_one_day() {
    // At 00:01 on November 1 the clocks go back to 23:01 on October 31.
    let points = points(&["2026-11-01T02:30Z", "2026-11-01T02:40Z", "2026-11-01T03:40Z"]);
    let decisions = plan(&points, &policy("keep-daily=9"), points[2].created_ns, &zone(ST_JOHNS));
    let reasons: Vec<_> = decisions.iter().map(|decision| decision.reason.as_str()).collect();
    assert_eq!(reasons, ["no rule keeps it", "daily 2026-10-31 (2 of 9)", "newest; daily 2026-11-01 (1 of 9)"]);
}

prop_compose! {
    /// Times that are close enough to share periods, and some that are anywhere.
    fn any_time()(
        near in -400_000_i64..400_000, unit in prop::sample::select(vec![1_i64, 60, 3600]), far: i64, which in 0..20,
    ) -> i64 {
        // 2026-11-01T02:31:00Z: when the clocks of St. John's would go back at one minute past midnight.
        let middle = 1_793_500_260;
        if which == 0 { far } else { (middle + near * unit / 4) * 1_000_000_000 }
    }
}

prop_compose! {
    fn any_points()(parts in prop::collection::vec((any_time(), 0..8_u8), 1..60)) -> Vec<Candidate> {
        let candidate = |(number, (created_ns, flags)): (u64, (i64, u8))| {
            let in_use = (flags == 1).then(|| "base of a stream".to_owned());
            Candidate { protected: flags == 0, in_use, ..point(number, created_ns) }
        };
        (1..).zip(parts).map(candidate).collect()
    }
}

prop_compose! {
    fn any_policy()(
        numbers in prop::array::uniform6(0..5_u32),
        ages in prop::array::uniform2(prop::option::of(1..200_u32)),
    ) -> Policy {
        let mut policy = Policy::default();
        Rule::ALL.into_iter().zip(numbers).for_each(|(rule, number)| *policy.number_mut(rule) = number);
        let age = |hours: Option<u32>| hours.map(|hours| format!("{}d{}h", hours / 24, hours).parse().unwrap());
        Policy { keep_within: age(ages[0]), minimum_age: age(ages[1]), ..policy }
    }
}

fn any_zone() -> impl Strategy<Value = TimeZone> {
    prop::sample::select(vec![UTC, BERLIN, NEW_YORK, LORD_HOWE, ST_JOHNS]).prop_map(zone)
}

/// The points that a plan keeps.
pub(super) fn kept(points: &[Candidate], decisions: &[Decision]) -> Vec<Candidate> {
    let pairs = points.iter().zip(decisions);
    pairs.filter(|(_, decision)| decision.keep).map(|(point, _)| point.clone()).collect()
}

/// How many points a rule keeps.
pub(super) fn count(decisions: &[Decision], rule: Rule) -> u64 {
    let by_rule = |decision: &&Decision| {
        let mut reasons = decision.reason.split("; ");
        reasons.any(|reason| reason.starts_with(&format!("{rule} ")))
    };
    decisions.iter().filter(by_rule).count() as u64
}

proptest! {
    #[test]
    fn what_must_stay_stays(points in any_points(), policy in any_policy(), now in any_time(), zone in any_zone()) {
        let decisions = plan(&points, &policy, now, &zone);
        prop_assert_eq!(decisions.len(), points.len());
        let newest = points.iter().max_by_key(|point| (point.created_ns, point.number)).unwrap();
        for (point, decision) in points.iter().zip(&decisions) {
            prop_assert_eq!(point.number, decision.number);
            prop_assert_eq!(decision.keep, decision.reason != "no rule keeps it");
            let young = policy.minimum_age.is_some_and(|age| point.created_ns > age.before(now, &zone));
            let must = point.protected || point.in_use.is_some() || point == newest || young || policy.keeps_all();
            prop_assert!(decision.keep || !must, "{:?}: {}", point, decision.reason);
            prop_assert_eq!(decision.reason.starts_with("protected"), point.protected);
        }
        prop_assert!(decisions.last().unwrap().keep, "the highest number");
        for rule in Rule::ALL {
            prop_assert!(count(&decisions, rule) <= policy.number(rule).into(), "{}", rule);
        }
    }

    #[test]
    fn planning_again_removes_nothing(
        points in any_points(), policy in any_policy(), now in any_time(), zone in any_zone(),
    ) {
        let first: Vec<_> = plan(&points, &policy, now, &zone).into_iter().filter(|decision| decision.keep).collect();
        let kept = kept(&points, &plan(&points, &policy, now, &zone));
        prop_assert_eq!(plan(&kept, &policy, now, &zone), first, "also the reasons stay");
    }

    #[test]
    fn the_order_of_the_points_does_not_matter(
        points in any_points(), policy in any_policy(), now in any_time(), zone in any_zone(),
    ) {
        let reversed: Vec<_> = points.iter().rev().cloned().collect();
        let mut decisions = plan(&reversed, &policy, now, &zone);
        decisions.reverse();
        prop_assert_eq!(decisions, plan(&points, &policy, now, &zone));
    }

    #[test]
    fn a_larger_number_keeps_a_superset(
        points in any_points(), policy in any_policy(), now in any_time(), zone in any_zone(),
        rule in prop::sample::select(Rule::ALL.to_vec()), more in 1..4_u32, weekly: bool,
    ) {
        // Weeks do not fit into months and years: see the case above.
        let mut smaller = match weekly {
            true => Policy { keep_monthly: 0, keep_yearly: 0, ..policy },
            false => Policy { keep_weekly: 0, ..policy },
        };
        let cut = if weekly { [Rule::Monthly, Rule::Yearly].contains(&rule) } else { rule == Rule::Weekly };
        prop_assume!(!cut);
        // From nothing to something is the way from keeping all to keeping some.
        *smaller.number_mut(rule) += 1;
        let mut larger = smaller;
        *larger.number_mut(rule) += more;
        let wide = kept(&points, &plan(&points, &larger, now, &zone));
        for point in kept(&points, &plan(&points, &smaller, now, &zone)) {
            prop_assert!(wide.contains(&point), "{} against {}: {:?}", smaller, larger, point);
        }
    }
}
