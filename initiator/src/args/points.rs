//! The arguments of `points`.

use super::ApplianceArguments;
use clap::Args;
use jiff::tz::TimeZone;
use understudy_format::point::VolumeName;
use understudy_format::select::Selector;
use understudy_format::wire::MOMENTS_MAX;

/// `understudy points`.
#[derive(Debug, Clone, Args)]
pub struct Points {
    /// The volume
    pub name: VolumeName,
    /// List the moments of the tap's journal instead: what was flushed, to be named as NAME@TIME wherever a point is
    #[arg(long)]
    pub moments: bool,
    /// Only moments not before this time, such as 2026-11-21T10:00
    #[arg(long, value_name = "TIME", requires = "moments", value_parser = first_ns)]
    pub since: Option<i64>,
    /// Only moments not after this time
    #[arg(long, value_name = "TIME", requires = "moments", value_parser = last_ns)]
    pub until: Option<i64>,
    /// At most so many, the newest [default: all points, or 100 moments]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MOMENTS_MAX)))]
    pub newest: Option<u32>,
    /// Which appliance.
    #[command(flatten)]
    pub appliance: ApplianceArguments,
    /// Print a JSON array
    #[arg(long)]
    pub json: bool,
}

fn first_ns(text: &str) -> Result<i64, String> {
    match Selector::parse(text, &TimeZone::system()) {
        Ok(Selector::AtOrBefore(ns, _)) => Ok(ns),
        _ => Err("expected a time such as 2026-11-21T10:00".to_owned()),
    }
}

fn last_ns(text: &str) -> Result<i64, String> {
    let selector = Selector::parse(text, &TimeZone::system());
    let ns = selector.ok().and_then(|selector| selector.at_or_before());
    ns.ok_or_else(|| "expected a time such as 2026-11-21T10:00, or now".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Arguments, Command};
    use clap::Parser;

    fn parse(line: &str) -> Result<Points, clap::Error> {
        let arguments = Arguments::try_parse_from(["understudy"].into_iter().chain(line.split(' ')))?;
        let Command::Points(points) = arguments.command else { panic!("another command") };
        Ok(points)
    }

    #[test]
    fn a_span_of_time_has_all_of_its_last_second() {
        let args =
            parse("points v --moments --since 2026-11-21T10:00:03Z --until 2026-11-21T10:00:03Z --newest 7").unwrap();
        let second = 1_795_255_203_000_000_000;
        assert_eq!((args.since, args.until, args.newest), (Some(second), Some(second + 999_999_999), Some(7)));
        let all = parse("points v --moments").unwrap();
        assert_eq!((all.since, all.until, all.newest), (None, None, None));
    }

    #[test]
    fn misuse_is_refused() {
        for line in [
            "points v --since 2026-11-21",
            "points v --moments --since 7",
            "points v --moments --since now",
            "points v --moments --until latest",
            "points v --moments --newest 0",
            "points v --moments --newest 65537",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }
}
