//! Retention: which points of a volume a policy keeps, and why; a pure function of points, policy, time and time zone.
//!
//! The numbers mean what they mean in Proxmox Backup Server (its administrator's guide, "Pruning", and
//! `pbs-datastore/src/prune.rs`), as people who set them expect:
//! - Points are walked newest first. The rules are applied in the order last, hourly, daily, weekly, monthly, yearly;
//!   each keeps the newest point of each of the last N periods that have one. Periods without points do not count.
//! - A period that has a point which an earlier rule kept is covered: it is passed over and does not count.
//! - Points of a period whose newest the same rule has just kept are done with: later rules do not consider them. So
//!   the rest of a week that a weekly rule kept is lost to the monthly one, also where the week spans two months.
//!   That is why a larger number keeps a superset, except beside a weekly rule that a monthly or yearly one follows.
//! - Protected points are kept, do not count, and cover nothing.
//! - A policy that says nothing about what to keep keeps everything. Unlike there, 0 says nothing.
//!
//! What is added:
//! - `keep_within` is applied after last and before hourly, and covers periods like a rule: every point younger than
//!   that, seen from the newest point and not from now. So a source that went silent does not lose its history to time
//!   alone. A newest point from the future (a clock that was wrong) counts as taken now.
//! - Whatever the policy: the newest point, one younger than the minimum age seen from now, and one in use are kept.
//!   They are ordinary points to the rules, so being in use for a while does not change what is kept in the end.
//!
//! Newest is decided by time, among equal times by number. Where a clock was set back, the point with the highest
//! number is another one: it is what the secondary and the next increment build on, and is kept as well.
//!
//! Invariants: planning again over what was kept keeps all of it, at the same time; no time makes it panic. It must not
//! ask for the time, nor know the pool.

pub mod age;
pub mod args;
pub mod policy;
pub mod rule;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use age::Age;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use policy::Policy;
use rule::{Local, Period, Rule};
use std::cmp::Reverse;
use std::collections::HashSet;
use understudy_format::point::Label;

/// A point that retention may decide about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The number of the point in its volume.
    pub number: u64,
    /// Nanoseconds since 1970-01-01T00:00:00Z.
    pub created_ns: i64,
    /// For those who print the plan; no rule looks at it.
    pub label: Option<Label>,
    /// Whether people said that it stays.
    pub protected: bool,
    /// What needs it at the moment, for people: `base of a running stream`.
    pub in_use: Option<String>,
}

/// What becomes of a point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The number of the point in its volume.
    pub number: u64,
    /// Whether it stays.
    pub keep: bool,
    /// Why, for people: `daily 2026-11-20 (3 of 7)`. Of several reasons to keep it all, with `; ` between.
    pub reason: String,
}

/// Decides about all points of a volume: one decision for each of `points`, in their order, which does not matter.
///
/// `now_ns` is in nanoseconds since 1970-01-01T00:00:00Z. Days, weeks and so on are those of `zone`.
pub fn plan(points: &[Candidate], policy: &Policy, now_ns: i64, zone: &TimeZone) -> Vec<Decision> {
    let rules = Walk::new(points, zone).run(policy, now_ns, zone);
    let always = Always::new(points, policy, now_ns, zone);
    let decide = |(point, mark): (&Candidate, Option<Mark>)| {
        let rule = mark.and_then(Mark::reason);
        let reasons: Vec<_> = always.for_good(point).chain(rule).chain(always.for_now(point)).collect();
        let reason = if reasons.is_empty() { "no rule keeps it".to_owned() } else { reasons.join("; ") };
        Decision { number: point.number, keep: !reasons.is_empty(), reason }
    };
    points.iter().zip(rules).map(decide).collect()
}

/// Every `i64` of nanoseconds, 1677 to 2262, is in the range of jiff (to the year 9999).
fn timestamp(ns: i64) -> Timestamp {
    Timestamp::from_nanosecond(ns.into()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// What keeps a point whatever the rules say.
struct Always {
    /// The numbers of the newest point and of that with the highest number.
    newest: [Option<u64>; 2],
    /// The minimum age; points created after the time beside it are younger.
    minimum: Option<(Age, i64)>,
}

impl Always {
    fn new(points: &[Candidate], policy: &Policy, now_ns: i64, zone: &TimeZone) -> Self {
        let newest = points.iter().max_by_key(|point| (point.created_ns, point.number)).map(|point| point.number);
        let highest = points.iter().map(|point| point.number).max();
        let minimum = policy.minimum_age.map(|age| (age, age.before(now_ns, zone)));
        Self { newest: [newest, highest], minimum }
    }

    /// Reasons that stay.
    fn for_good(&self, point: &Candidate) -> impl Iterator<Item = String> + use<> {
        let [newest, highest] = self.newest.map(|number| number == Some(point.number));
        let newest = match (newest, highest) {
            (true, _) => Some("newest"),
            (false, true) => Some("newest by number"),
            (false, false) => None,
        };
        point.protected.then_some("protected").into_iter().chain(newest).map(str::to_owned)
    }

    /// Reasons that pass.
    fn for_now(&self, point: &Candidate) -> impl Iterator<Item = String> + use<> {
        let minimum = self.minimum.filter(|(_, after_ns)| point.created_ns > *after_ns);
        let young = minimum.map(|(age, _)| format!("younger than the minimum age of {age}"));
        young.into_iter().chain(point.in_use.as_ref().map(|by| format!("in use: {by}")))
    }
}

/// What the rules found so far about a point.
#[derive(Debug, Clone)]
enum Mark {
    /// Kept, and why.
    Kept(String),
    /// A newer point of its period was kept by the same rule.
    Done,
}

impl Mark {
    fn reason(self) -> Option<String> {
        if let Self::Kept(reason) = self { Some(reason) } else { None }
    }
}

/// One way through the rules.
struct Walk {
    /// The places of the points that are not protected, and their local times; newest first.
    order: Vec<(usize, i64, Local)>,
    /// For each point, whether protected or not.
    marks: Vec<Option<Mark>>,
    newest_ns: i64,
}

impl Walk {
    fn new(points: &[Candidate], zone: &TimeZone) -> Self {
        let mut order: Vec<_> = points.iter().enumerate().filter(|(_, point)| !point.protected).collect();
        order.sort_by_key(|(_, point)| Reverse((point.created_ns, point.number)));
        let local = |(index, point): (usize, &Candidate)| (index, point.created_ns, Local::new(point.created_ns, zone));
        let order = order.into_iter().map(local).collect();
        let newest_ns = points.iter().map(|point| point.created_ns).max().unwrap_or(0);
        Self { order, marks: vec![None; points.len()], newest_ns }
    }

    /// The marks of the points, in their order.
    fn run(mut self, policy: &Policy, now_ns: i64, zone: &TimeZone) -> Vec<Option<Mark>> {
        if policy.keeps_all() {
            self.keep_after(None, "the policy keeps everything");
        }
        for rule in Rule::ALL {
            self.apply(rule, policy.number(rule));
            if let (Rule::Last, Some(age)) = (rule, policy.keep_within) {
                let after_ns = age.before(self.newest_ns.min(now_ns), zone);
                self.keep_after(Some(after_ns), &format!("within {age} of the newest point"));
            }
        }
        self.marks
    }

    /// Keeps what is not decided about and younger than `after_ns`; or all of it.
    fn keep_after(&mut self, after_ns: Option<i64>, reason: &str) {
        for (index, created_ns, _) in &self.order {
            if after_ns.is_none_or(|after_ns| *created_ns > after_ns) {
                self.marks[*index].get_or_insert_with(|| Mark::Kept(reason.to_owned()));
            }
        }
    }

    /// Keeps the newest of each of the last `number` periods that no earlier rule covers.
    fn apply(&mut self, rule: Rule, number: u32) {
        let covered = self.covered(rule);
        let mut kept = HashSet::new();
        for (index, _, local) in &self.order {
            let period = rule.period(*index, local);
            if self.marks[*index].is_some() || covered.contains(&period) {
                continue;
            }
            if kept.contains(&period) {
                self.marks[*index] = Some(Mark::Done);
                continue;
            }
            if kept.len() as u64 >= number.into() {
                break;
            }
            kept.insert(period);
            self.marks[*index] = Some(Mark::Kept(format!("{rule}{period} ({} of {number})", kept.len())));
        }
    }

    /// The periods with a point that an earlier rule kept.
    fn covered(&self, rule: Rule) -> HashSet<Period> {
        let kept = self.order.iter().filter(|(index, ..)| matches!(self.marks[*index], Some(Mark::Kept(_))));
        kept.map(|(index, _, local)| rule.period(*index, local)).collect()
    }
}
