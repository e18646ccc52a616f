//! A retention policy as arguments of a command, to be flattened into those that take one.

use super::age::Age;
use super::policy::Policy;
use clap::Args;

/// Which points to keep. Rules are applied in the order shown; a period that an earlier one covers does not count.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Retention")]
pub struct RetentionArgs {
    /// Keep the last N points.
    #[arg(long, value_name = "N")]
    pub keep_last: Option<u32>,
    /// Keep every point that is younger than this, seen from the newest (7d, 36h, 1y6mo, P1Y6M).
    #[arg(long, value_name = "AGE")]
    pub keep_within: Option<Age>,
    /// Keep the newest point of each of the last N hours that have one.
    #[arg(long, value_name = "N")]
    pub keep_hourly: Option<u32>,
    /// Keep the newest point of each of the last N days that have one.
    #[arg(long, value_name = "N")]
    pub keep_daily: Option<u32>,
    /// Keep the newest point of each of the last N weeks (Monday to Sunday) that have one.
    #[arg(long, value_name = "N")]
    pub keep_weekly: Option<u32>,
    /// Keep the newest point of each of the last N months that have one.
    #[arg(long, value_name = "N")]
    pub keep_monthly: Option<u32>,
    /// Keep the newest point of each of the last N years that have one.
    #[arg(long, value_name = "N")]
    pub keep_yearly: Option<u32>,
    /// Remove nothing that is younger than this, seen from now.
    #[arg(long, value_name = "AGE")]
    pub minimum_age: Option<Age>,
}

impl RetentionArgs {
    /// The policy that the arguments say; with none of them, one that keeps everything.
    pub fn policy(&self) -> Policy {
        Policy {
            keep_last: self.keep_last.unwrap_or(0),
            keep_hourly: self.keep_hourly.unwrap_or(0),
            keep_daily: self.keep_daily.unwrap_or(0),
            keep_weekly: self.keep_weekly.unwrap_or(0),
            keep_monthly: self.keep_monthly.unwrap_or(0),
            keep_yearly: self.keep_yearly.unwrap_or(0),
            keep_within: self.keep_within,
            minimum_age: self.minimum_age,
        }
    }

    /// Whether any was given; so that `--keep-last 0`, which keeps everything, is told from having said nothing.
    pub fn given(&self) -> bool {
        let numbers = [self.keep_last, self.keep_hourly, self.keep_daily];
        let more = [self.keep_weekly, self.keep_monthly, self.keep_yearly];
        let number = numbers.into_iter().chain(more).flatten().next().is_some();
        number || self.keep_within.is_some() || self.minimum_age.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        retention: RetentionArgs,
    }

    fn parse(line: &str) -> Result<RetentionArgs, clap::Error> {
        Cli::try_parse_from(line.split(' ').filter(|word| !word.is_empty())).map(|cli| cli.retention)
    }

    #[test]
    fn the_command_line_says_the_same_as_the_text_of_a_policy() {
        let args = "prune --keep-last 1 --keep-hourly 2 --keep-daily 3 --keep-weekly 4 --keep-monthly 5 \
                    --keep-yearly 6 --keep-within 1y6m --minimum-age 36h";
        let text = "keep-last=1 keep-hourly=2 keep-daily=3 keep-weekly=4 keep-monthly=5 keep-yearly=6 \
                    keep-within=1y6mo minimum-age=36h";
        assert_eq!(parse(args).unwrap().policy().to_string(), text);
    }

    #[test]
    fn saying_nothing_is_told_from_keeping_all() {
        let (none, zero) = (parse("prune").unwrap(), parse("prune --keep-yearly 0").unwrap());
        assert_eq!((none.policy(), zero.policy()), (Policy::default(), Policy::default()));
        assert!(!none.given() && zero.given());
        assert!(parse("prune --keep-within 1d").unwrap().given());
        assert!(parse("prune --minimum-age 1d").unwrap().given());
    }

    #[test]
    fn a_bad_value_is_a_usage_error_that_says_what_is_accepted() {
        let error = parse("prune --minimum-age 30m").unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("m means months and only beside y, w or d"), "{error}");
        assert_eq!(parse("prune --keep-last -1").unwrap_err().exit_code(), 2);
    }
}
