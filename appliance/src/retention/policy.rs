//! Which points of a volume are worth keeping, as numbers and ages; and as one line of text.
//!
//! The text is `keep-last=3 keep-daily=7 keep-within=2d minimum-age=12h`, without what is not set; a policy with
//! nothing set is `keep-all`. What is printed reads back as the same policy.

use super::age::Age;
use super::rule::Rule;
use crate::error::{Error, Result};
use std::fmt;
use std::str::FromStr;
use understudy_format::catalogue::Settings;

/// The text of a policy with nothing set.
const KEEP_ALL: &str = "keep-all";

/// Which points are kept. 0 and nothing mean that a rule is not used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Policy {
    /// The newest points.
    pub keep_last: u32,
    /// The newest point of each of the last hours that have one.
    pub keep_hourly: u32,
    /// The newest point of each of the last days that have one.
    pub keep_daily: u32,
    /// The newest point of each of the last ISO weeks that have one.
    pub keep_weekly: u32,
    /// The newest point of each of the last months that have one.
    pub keep_monthly: u32,
    /// The newest point of each of the last years that have one.
    pub keep_yearly: u32,
    /// Every point that is younger than this, seen from the newest.
    pub keep_within: Option<Age>,
    /// Nothing that is younger than this, seen from now, is removed.
    pub minimum_age: Option<Age>,
}

impl Policy {
    /// How many periods a rule keeps.
    pub fn number(&self, rule: Rule) -> u32 {
        match rule {
            Rule::Last => self.keep_last,
            Rule::Hourly => self.keep_hourly,
            Rule::Daily => self.keep_daily,
            Rule::Weekly => self.keep_weekly,
            Rule::Monthly => self.keep_monthly,
            Rule::Yearly => self.keep_yearly,
        }
    }

    /// The number of a rule, to be set.
    pub fn number_mut(&mut self, rule: Rule) -> &mut u32 {
        match rule {
            Rule::Last => &mut self.keep_last,
            Rule::Hourly => &mut self.keep_hourly,
            Rule::Daily => &mut self.keep_daily,
            Rule::Weekly => &mut self.keep_weekly,
            Rule::Monthly => &mut self.keep_monthly,
            Rule::Yearly => &mut self.keep_yearly,
        }
    }

    /// Whether no rule says what to keep, so that everything is; a minimum age alone says nothing about old points.
    pub fn keeps_all(&self) -> bool {
        self.keep_within.is_none() && Rule::ALL.into_iter().all(|rule| self.number(rule) == 0)
    }

    /// The policy that is set for a volume.
    pub fn of(settings: &Settings) -> Result<Self> {
        let age = |text: &str| if text.is_empty() { Ok(None) } else { text.parse().map(Some) };
        let (keep_within, minimum_age) = (age(&settings.keep_within)?, age(&settings.minimum_age)?);
        let mut policy = Self { keep_within, minimum_age, ..Self::default() };
        Rule::ALL.into_iter().zip(settings.keep).for_each(|(rule, number)| *policy.number_mut(rule) = number);
        Ok(policy)
    }

    /// Sets this policy for a volume, and leaves what else is set.
    pub fn store(&self, settings: &mut Settings) {
        let age = |age: Option<Age>| age.map_or(String::new(), |age| age.iso());
        settings.keep = Rule::ALL.map(|rule| self.number(rule));
        settings.keep_within = age(self.keep_within);
        settings.minimum_age = age(self.minimum_age);
    }

    /// Sets what `keep-daily=7` or the like says; nothing if it says nothing that is known.
    fn set(&mut self, name: &str, value: &str) -> Result<Option<()>> {
        match name {
            "keep-within" => self.keep_within = Some(value.parse()?),
            "minimum-age" => self.minimum_age = Some(value.parse()?),
            _ => {
                let rule = Rule::ALL.into_iter().find(|rule| name.strip_prefix("keep-") == Some(&rule.to_string()));
                let (Some(rule), Ok(number)) = (rule, value.parse()) else { return Ok(None) };
                *self.number_mut(rule) = number;
            }
        }
        Ok(Some(()))
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let used = Rule::ALL.into_iter().filter(|rule| self.number(*rule) != 0);
        let mut parts: Vec<_> = used.map(|rule| format!("keep-{rule}={}", self.number(rule))).collect();
        parts.extend(self.keep_within.map(|age| format!("keep-within={age}")));
        if self.keeps_all() {
            parts.push(KEEP_ALL.to_owned());
        }
        parts.extend(self.minimum_age.map(|age| format!("minimum-age={age}")));
        f.write_str(&parts.join(" "))
    }
}

impl FromStr for Policy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut policy = Self::default();
        let mut seen = Vec::new();
        for part in text.split_whitespace() {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let known = if part == KEEP_ALL { Some(()) } else { policy.set(name, value)? };
            known.filter(|()| !seen.contains(&name)).ok_or_else(|| refusal(text, part))?;
            seen.push(name);
        }
        let contradiction = seen.contains(&KEEP_ALL) && !policy.keeps_all();
        if seen.is_empty() || contradiction { Err(refusal(text, KEEP_ALL)) } else { Ok(policy) }
    }
}

fn refusal(text: &str, part: &str) -> Error {
    Error::refused(format!(
        "{text:?} is no retention policy, at {part:?}: expected {KEEP_ALL}, or each at most once keep-last=N, \
         keep-hourly=N, keep-daily=N, keep-weekly=N, keep-monthly=N, keep-yearly=N, keep-within=AGE, minimum-age=AGE, \
         with blanks between"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use understudy_format::catalogue::SecondaryMode;

    #[track_caller]
    fn reads(text: &str, policy: Policy) {
        let mut settings = Settings { secondary: SecondaryMode::None, keep: [9; 6], ..Settings::default() };
        policy.store(&mut settings);
        assert_eq!(Policy::of(&settings).unwrap(), policy, "{settings:?}");
        assert_eq!(settings.secondary, SecondaryMode::None);
        assert_eq!(text.parse::<Policy>().unwrap(), policy);
        assert_eq!(policy.to_string(), text);
    }

    #[test]
    fn reads_back_what_it_prints() {
        let all = "keep-last=1 keep-hourly=2 keep-daily=3 keep-weekly=4 keep-monthly=5 keep-yearly=6 \
                   keep-within=1y6mo minimum-age=36h";
        let numbers = Policy { keep_last: 1, keep_hourly: 2, keep_daily: 3, ..Policy::default() };
        let numbers = Policy { keep_weekly: 4, keep_monthly: 5, keep_yearly: 6, ..numbers };
        reads(all, Policy { keep_within: "P1Y6M".parse().ok(), minimum_age: "36h".parse().ok(), ..numbers });
        reads("keep-all", Policy::default());
        reads("keep-all minimum-age=2d", Policy { minimum_age: "2d".parse().ok(), ..Policy::default() });
        reads("keep-within=2d", Policy { keep_within: "2d".parse().ok(), ..Policy::default() });
    }

    #[test]
    fn settings_hold_the_rules_in_order_and_ages_as_iso_durations() {
        let mut settings = Settings::default();
        "keep-last=1 keep-yearly=6 keep-within=1y6m minimum-age=36h".parse::<Policy>().unwrap().store(&mut settings);
        let expected = Settings { keep: [1, 0, 0, 0, 0, 6], keep_within: "P1Y6M".into(), ..Settings::default() };
        assert_eq!(settings, Settings { minimum_age: "PT36H".into(), ..expected });
        let error = Policy::of(&Settings { minimum_age: "soon".into(), ..settings }).unwrap_err();
        assert!(error.to_string().starts_with("\"soon\" is no length of time"), "{error}");
    }

    #[test]
    fn refuses_the_unknown_the_repeated_and_the_contradictory() {
        for (text, at) in [
            ("", "keep-all"),
            ("keep-all keep-last=1", "keep-all"),
            ("keep-last", "keep-last"),
            ("keep-last=-1", "keep-last=-1"),
            ("keep-last=4294967296", "keep-last=4294967296"),
            ("keep-last=1 keep-last=2", "keep-last=2"),
            ("keep-all keep-all", "keep-all"),
            ("keep-minutely=1", "keep-minutely=1"),
            ("daily=1", "daily=1"),
        ] {
            let error = text.parse::<Policy>().expect_err(text).to_string();
            let start = format!("{text:?} is no retention policy, at {at:?}: expected keep-all, or each at most once");
            assert!(error.starts_with(&start), "{error}");
        }
        let error = "keep-within=30m".parse::<Policy>().unwrap_err().to_string();
        assert!(error.starts_with("\"30m\" is no length of time"), "{error}");
    }
}
