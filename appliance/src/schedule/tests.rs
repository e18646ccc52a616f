//! Schedules against the examples of systemd.time(7), against cron's manual, and over years with changes of the clock.

use super::*;
use jiff::civil::DateTime;
use proptest::prelude::*;

fn zone_named(name: &str) -> TimeZone {
    TimeZone::get(name).expect("a time zone")
}

fn utc(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

/// The next moments, as the wall clock of the zone shows them.
#[track_caller]
fn next(text: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
    let zone = zone_named(zone);
    let schedule = Schedule::parse(text, &zone).unwrap_or_else(|error| panic!("{error}"));
    let mut after = utc(after);
    let step = |after: &mut Timestamp| {
        *after = schedule.next(*after)?;
        Some(after.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S%:z").to_string())
    };
    std::iter::from_fn(|| step(&mut after)).take(count).collect()
}

#[track_caller]
fn check(text: &str, after: &str, expected: &[&str]) {
    let times = next(text, "UTC", after, expected.len().max(1));
    let times: Vec<_> = times.iter().map(|time| time.trim_end_matches("+00:00")).collect();
    assert_eq!(times, expected, "{text}");
}

#[track_caller]
fn refused(text: &str, at: usize, reason: &str) {
    let error = Schedule::parse(text, &TimeZone::UTC).expect_err(text);
    assert_eq!((error.text.as_str(), error.at), (text, at), "{error}");
    assert!(error.reason.contains(reason), "{error}");
}

/// Both mean the same, from several times on.
#[track_caller]
fn same(left: &str, right: &str) {
    for after in ["2012-01-01T00:00:00Z", "2026-11-21T17:17:17Z", "2027-02-27T23:59:59.5Z"] {
        assert_eq!(next(left, "UTC", after, 20), next(right, "UTC", after, 20), "{left} and {right}");
    }
}

#[test]
fn the_examples_of_the_manual_mean_what_it_says() {
    for (short, long) in [
        ("Sat,Thu,Mon..Wed,Sat..Sun", "Mon..Thu,Sat,Sun *-*-* 00:00:00"),
        ("Mon,Sun 12-*-* 2,1:23", "Mon,Sun 2012-*-* 01,02:23:00"),
        ("Wed *-1", "Wed *-*-01 00:00:00"),
        ("Wed..Wed,Wed *-1", "Wed *-*-01 00:00:00"),
        ("Wed, 17:48", "Wed *-*-* 17:48:00"),
        ("Wed..Sat,Tue 12-10-15 1:2:3", "Tue..Sat 2012-10-15 01:02:03"),
        ("*-*-7 0:0:0", "*-*-07 00:00:00"),
        ("10-15", "*-10-15 00:00:00"),
        ("monday *-12-* 17:00", "Mon *-12-* 17:00:00"),
        ("Mon,Fri *-*-3,1,2 *:30:45", "Mon,Fri *-*-01,02,03 *:30:45"),
        ("12,14,13,12:20,10,30", "*-*-* 12,13,14:10,20,30:00"),
        ("12..14:10,20,30", "*-*-* 12,13,14:10,20,30:00"),
        ("mon,fri *-1/2-1,3 *:30:45", "Mon,Fri *-01/2-01,03 *:30:45"),
        ("03-05 08:05:40", "*-03-05 08:05:40"),
        ("05:40", "*-*-* 05:40:00"),
        ("Sat,Sun 12-05 08:05:40", "Sat,Sun *-12-05 08:05:40"),
        ("2003-02..04-05", "2003-02,03,04-05 00:00:00"),
        ("2053-03-05 05:40 UTC", "2053-03-05 05:40:00"),
        ("hourly", "*-*-* *:00:00"),
        ("daily UTC", "*-*-* 00:00:00"),
        ("Weekly", "Mon *-*-* 00:00:00"),
        ("quarterly", "*-01,04,07,10-01 00:00:00"),
        ("semiannually", "*-01,07-01 00:00:00"),
        ("annually", "*-01-01 00:00:00"),
        ("*:2/3", "*-*-* *:02/3:00"),
    ] {
        same(short, long);
    }
}

#[test]
fn calendar_expressions_name_days_times_and_repetitions() {
    let after = "2026-11-21T17:17:00Z";
    check("*-02~03", after, &["2027-02-26 00:00:00", "2028-02-27 00:00:00"]);
    check("Mon *-05~07/1", after, &["2027-05-31 00:00:00", "2028-05-29 00:00:00"]);
    check(
        "*-*~1..3 12:00",
        "2027-02-01T00:00:00Z",
        &["2027-02-26 12:00:00", "2027-02-27 12:00:00", "2027-02-28 12:00:00"],
    );
    check(
        "*-*~4..13/7",
        "2026-11-01T00:00:00Z",
        &["2026-11-20 00:00:00", "2026-11-27 00:00:00", "2026-12-21 00:00:00"],
    );
    check("*-*~26/10", "2026-11-01T00:00:00Z", &["2026-11-05 00:00:00", "2026-11-15 00:00:00", "2026-11-25 00:00:00"]);
    check("*-*~01", after, &["2026-11-30 00:00:00", "2026-12-31 00:00:00", "2027-01-31 00:00:00"]);
    check("Thu,Fri 2012-*-1,5 11:12:13", "2012-01-01T00:00:00Z", &["2012-01-05 11:12:13", "2012-03-01 11:12:13"]);
    check("2026-11-21 17:17", "2026-11-21T17:16:59Z", &["2026-11-21 17:17:00"]);
    check("2026-11-21 17:17", after, &[]);
    check("2026-02-30", "2020-01-01T00:00:00Z", &[]);
    check("Mon *-02-29", after, &["2044-02-29 00:00:00", "2072-02-29 00:00:00"]);
    check("*:*:0/20", "2026-11-21T17:16:20Z", &["2026-11-21 17:16:40", "2026-11-21 17:17:00"]);
    check("weekly Pacific/Auckland", after, &["2026-11-22 11:00:00", "2026-11-29 11:00:00"]);
    let fine = next("05:40:23.4200004/3.1700005", "UTC", "2026-11-21T05:40:23.42Z", 1);
    assert_eq!(fine, ["2026-11-21 05:40:26+00:00"]);
}

#[test]
fn cron_reads_as_vixies_does() {
    let after = "2026-11-21T17:17:00Z";
    check("30 2 * * *", after, &["2026-11-22 02:30:00", "2026-11-23 02:30:00"]);
    check("*/20 8-9 * * mon-fri", after, &["2026-11-23 08:00:00", "2026-11-23 08:20:00", "2026-11-23 08:40:00"]);
    // Either day will do, unless one of them starts with a star.
    check(
        "0 0 13 * 5",
        after,
        &["2026-11-27 00:00:00", "2026-12-04 00:00:00", "2026-12-11 00:00:00", "2026-12-13 00:00:00"],
    );
    check("0 0 */2 * 0,6", "2024-09-24T13:06:52Z", &["2024-09-29 00:00:00", "2024-10-05 00:00:00"]);
    check("0 0 31 12 *", after, &["2026-12-31 00:00:00", "2027-12-31 00:00:00"]);
    check("0 0 30 2 *", after, &[]);
    check("0 0 29 2 */7", "2090-01-01T00:00:00Z", &["2128-02-29 00:00:00"]);
    for (name, fields) in [("@daily", "0 0 * * *"), ("@hourly", "0 * * * *"), ("@weekly UTC", "0 0 * * sun")] {
        same(name, fields);
    }
    for (cron, calendar) in [
        ("5 4 * * 7", "Sun 04:05"),
        ("0 22 * jan,JUL 1-5", "Mon..Fri *-1,7-* 22:00"),
        ("23 0-23/2 * * *", "0/2:23"),
        ("*/7 * 1-31/10 * *", "*-*-1/10 *:0/7"),
        ("0 0 1 */3 *", "quarterly"),
    ] {
        same(cron, calendar);
    }
    let berlin = next("0 12 * * * Europe/Berlin", "UTC", after, 1);
    assert_eq!(berlin, ["2026-11-22 11:00:00+00:00"]);
}

#[test]
fn intervals_are_counted_from_a_fixed_moment() {
    check("every 15m", "2026-11-21T17:17:00Z", &["2026-11-21 17:30:00", "2026-11-21 17:45:00"]);
    check("every 1h30m", "2026-11-21T17:17:00Z", &["2026-11-21 18:00:00", "2026-11-21 19:30:00"]);
    check("every 10s", "1969-12-31T23:59:59.5Z", &["1970-01-01 00:00:00", "1970-01-01 00:00:10"]);
    check("every 10s", "1969-12-31T23:59:50Z", &["1970-01-01 00:00:00"]);
    check("every 10s", "1969-12-31T23:59:49.999Z", &["1969-12-31 23:59:50"]);
}

#[test]
fn errors_say_where_and_what_is_expected() {
    refused("", 1, "expected a calendar expression");
    refused("Mno 02:00", 1, "weekday such as Mon");
    refused("fortnightly", 1, "daily, weekly");
    refused("Fri..Mon", 1, "Sat,Sun,Mon");
    refused("Mon 25:00", 5, "hours are 0 to 23");
    refused("12:60", 4, "minutes are 0 to 59");
    refused("12:00:60", 7, "seconds are 0 to 59");
    refused("*-13-1", 3, "months are 1 to 12");
    refused("*-*-32", 5, "days are 1 to 31");
    refused("*-*~29", 5, "days from the end of a month are 1 to 28");
    refused("1969-*-*", 1, "years are 1970 to 2199");
    refused("*-*-*/2", 6, "expected a blank");
    refused("5..3:00", 2, "upwards");
    refused("0/0:00", 2, "at least 1");
    refused("12", 3, "expected : and minutes");
    refused("12:00 Mars/Olympus", 7, "no time zone");
    refused("12:00x", 6, "expected the end");
    refused("12:05/60", 4, "never repeats");
    refused("*-9~10/12", 5, "never repeats");
    refused("60 * * * *", 1, "minutes are 0 to 59");
    refused("0  24 * * *", 4, "hours are 0 to 23");
    refused("0 2 L * *", 5, "expected a number, a name");
    refused("0 2 * * 5#3", 9, "expected a number, a name");
    refused("0 2 * * fri-mon", 9, "ranges go upwards");
    refused("0 2 * * * UTC x", 15, "at most a time zone");
    refused("0 2 * *", 8, "expected five fields");
    refused("@reboot", 1, "@daily");
    refused("every 15", 7, "expected a length");
    refused("every  0s", 8, "expected a length");
    refused("every 1d", 7, "daily");
}

/// What becomes of 02:30 and of every half hour in Berlin, where 02:00 to 03:00 is left out in March and repeated in October.
#[test]
fn named_times_come_once_and_intervals_go_on_when_clocks_change() {
    let (spring, autumn) = ("2026-03-28T12:00:00Z", "2026-10-24T12:00:00Z");
    for text in ["02:30", "30 2 * * *"] {
        let expected = ["2026-03-29 03:00:00+02:00", "2026-03-30 02:30:00+02:00"];
        assert_eq!(next(text, "Europe/Berlin", spring, 2), expected, "{text}");
        let expected = ["2026-10-25 02:30:00+02:00", "2026-10-26 02:30:00+01:00"];
        assert_eq!(next(text, "Europe/Berlin", autumn, 2), expected, "{text}");
    }
    for text in ["*:0/30", "*/30 * * * *", "every 30m"] {
        let expected = ["01:00:00+01:00", "01:30:00+01:00", "03:00:00+02:00", "03:30:00+02:00"];
        let expected = expected.map(|time| format!("2026-03-29 {time}"));
        assert_eq!(next(text, "Europe/Berlin", "2026-03-28T23:59:00Z", 4), expected, "{text}");
        let expected = ["02:00:00+02:00", "02:30:00+02:00", "02:00:00+01:00", "02:30:00+01:00", "03:00:00+01:00"];
        let expected = expected.map(|time| format!("2026-10-25 {time}"));
        assert_eq!(next(text, "Europe/Berlin", "2026-10-24T23:59:00Z", 5), expected, "{text}");
    }
    // A gap at midnight, and one of half an hour.
    assert_eq!(next("daily", "Africa/Cairo", "2026-04-23T12:00:00Z", 1), ["2026-04-24 01:00:00+03:00"]);
    assert_eq!(next("02:10", "Australia/Lord_Howe", "2026-10-03T12:00:00Z", 1), ["2026-10-04 02:30:00+11:00"]);
}

#[test]
fn of_all_that_was_missed_the_last_counts() {
    let missed = |text: &str, last: &str, now: &str| {
        let schedule = Schedule::parse(text, &TimeZone::UTC).unwrap();
        schedule.missed(utc(last), utc(now)).map(|time| time.to_string())
    };
    assert_eq!(missed("daily", "2026-11-20T00:00:00Z", "2026-11-20T23:59:59Z"), None);
    assert_eq!(missed("daily", "2026-11-20T00:00:00Z", "2026-11-21T00:00:00Z").unwrap(), "2026-11-21T00:00:00Z");
    assert_eq!(missed("daily", "2020-01-01T00:00:00Z", "2026-11-21T17:00:00Z").unwrap(), "2026-11-21T00:00:00Z");
    assert_eq!(missed("*:*:*", "1990-01-01T00:00:00Z", "2026-11-21T17:00:00.5Z").unwrap(), "2026-11-21T17:00:00Z");
    assert_eq!(missed("2026-02-03", "2020-01-01T00:00:00Z", "2026-11-21T17:00:00Z").unwrap(), "2026-02-03T00:00:00Z");
    assert_eq!(missed("2026-02-30", "2020-01-01T00:00:00Z", "2026-11-21T17:00:00Z"), None);
}

#[test]
fn a_delay_follows_from_the_seed_the_job_and_the_moment() {
    let max = SignedDuration::from_mins(30);
    let at = |seed: &[u8], job: &str, minute: i64| delay(max, seed, job, Timestamp::from_second(minute * 60).unwrap());
    assert_eq!(at(b"a", "prune", 1), at(b"a", "prune", 1));
    let others = [at(b"b", "prune", 1), at(b"a", "scrub", 1), at(b"a", "prune", 2)];
    assert!(others.iter().all(|other| *other != at(b"a", "prune", 1)), "{others:?}");
    let delays: Vec<_> = (0..1000).map(|minute| at(b"a", "prune", minute)).collect();
    assert!(delays.iter().all(|delay| (SignedDuration::ZERO..max).contains(delay)));
    let late = delays.iter().filter(|delay| **delay > max / 2).count();
    assert!((400..600).contains(&late), "spread over all of the time: {late} of 1000 in its second half");
    assert_eq!(delay(SignedDuration::ZERO, b"a", "prune", Timestamp::UNIX_EPOCH), SignedDuration::ZERO);
}

/// Zones whose clocks change by an hour, by half an hour, at midnight, in the south, and not at all.
fn zones() -> impl Strategy<Value = TimeZone> {
    let names =
        ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "America/Santiago", "Asia/Tokyo"];
    proptest::sample::select(names.to_vec()).prop_map(zone_named)
}

fn field(max: u32) -> impl Strategy<Value = String> {
    prop_oneof![
        2 => Just("*".to_owned()),
        4 => (0..=max).prop_map(|n| n.to_string()),
        1 => (0..max / 2, 1..max / 2).prop_map(|(n, step)| format!("{n}/{step}")),
        1 => (0..=max / 2, max / 2..=max).prop_map(|(from, to)| format!("{from}..{to}")),
    ]
}

fn expressions() -> impl Strategy<Value = String> {
    let days = proptest::sample::select(vec!["", "Mon ", "Sat,Sun ", "Mon..Fri ", "*-*-1 ", "*-*~1..4 ", "*-3/7-* "]);
    (days, field(23), field(59)).prop_map(|(days, hour, minute)| format!("{days}{hour}:{minute}"))
}

/// Whether the wall clock may show this at a moment of the schedule: asked of each component by itself.
fn shows(calendar: &Calendar, time: DateTime) -> bool {
    calendar.at_least(time) == Some(time)
}

/// When a window opens and closes next, as the wall clock of the zone shows it.
#[track_caller]
fn opens(text: &str, zone: &str, from: &str) -> [String; 2] {
    let zone = zone_named(zone);
    let windows = Windows(vec![Window::parse(text, &zone).unwrap_or_else(|error| panic!("{error}"))]);
    let opens = windows.opens(utc(from)).unwrap();
    let closes = windows.closes(opens).unwrap();
    [opens, closes].map(|time| time.to_zoned(zone.clone()).strftime("%a %m-%d %H:%M:%S%:z").to_string())
}

#[test]
fn windows_open_and_close_by_the_wall_clock() {
    let berlin = |text, from| opens(text, "Europe/Berlin", from);
    assert_eq!(
        berlin("Mon..Fri 08:00..18:00", "2026-11-20T17:00:00Z"),
        ["Mon 11-23 08:00:00+01:00", "Mon 11-23 18:00:00+01:00"]
    );
    // It is open: from now on, to its end.
    assert_eq!(
        berlin("Mon..Fri 08:00..18:00", "2026-11-20T16:59:59Z"),
        ["Fri 11-20 17:59:59+01:00", "Fri 11-20 18:00:00+01:00"]
    );
    assert_eq!(
        berlin("Fri 22:00..06:00", "2026-11-21T03:00:00Z"),
        ["Sat 11-21 04:00:00+01:00", "Sat 11-21 06:00:00+01:00"]
    );
    assert_eq!(berlin("Sat,Sun", "2026-11-20T03:00:00Z"), ["Sat 11-21 00:00:00+01:00", "Mon 11-23 00:00:00+01:00"]);
    assert_eq!(
        berlin("08:00..18:00 UTC", "2026-11-20T03:00:00Z"),
        ["Fri 11-20 09:00:00+01:00", "Fri 11-20 19:00:00+01:00"]
    );
    // The clocks go forward from 2 to 3, and back from 3 to 2.
    assert_eq!(
        berlin("01:00..02:30", "2026-03-28T23:30:00Z"),
        ["Sun 03-29 01:00:00+01:00", "Sun 03-29 03:00:00+02:00"]
    );
    assert_eq!(
        berlin("02:15..02:45", "2026-03-29T00:30:00Z"),
        ["Mon 03-30 02:15:00+02:00", "Mon 03-30 02:45:00+02:00"]
    );
    assert_eq!(
        berlin("02:00..04:00", "2026-10-24T22:00:00Z"),
        ["Sun 10-25 02:00:00+02:00", "Sun 10-25 04:00:00+01:00"]
    );
    assert_eq!(
        berlin("02:15..02:45", "2026-10-25T00:45:00Z"),
        ["Sun 10-25 02:15:00+01:00", "Sun 10-25 02:45:00+01:00"]
    );
    let all = Windows(vec![Window::parse("00:00..24:00", &TimeZone::UTC).unwrap()]);
    assert_eq!((all.is_open(utc("2026-11-20T03:00:00Z")), all.closes(utc("2026-11-20T03:00:00Z"))), (true, None));
    let none = Windows::default();
    assert_eq!(
        (none.opens(Timestamp::UNIX_EPOCH), none.closes(Timestamp::UNIX_EPOCH)),
        (Some(Timestamp::UNIX_EPOCH), None)
    );
}

#[test]
fn what_is_no_window_is_refused_with_its_place() {
    for (text, at, reason) in [
        ("Mno 08:00..18:00", 1, "expected a weekday"),
        ("08:00", 6, "expected a start and an end such as 08:00..18:00"),
        ("Mon 08:00..25:00", 12, "\"25:00\" is no time of day"),
        ("08:61..09:00", 1, "\"08:61\" is no time of day"),
        ("08:00..08:00", 8, "write 00:00..24:00 for a whole day"),
        ("24:00..08:00", 1, "a window starts before 24:00"),
        ("08:00..09:00 Mars", 14, "no time zone \"Mars\""),
    ] {
        let error = Window::parse(text, &TimeZone::UTC).expect_err(text);
        assert!(error.at == at && error.reason.contains(reason), "{text}: {error}");
        assert!(error.to_string().contains("is no window, at character"), "{error}");
    }
}

proptest! {
    /// A window is open from where it opens to where it closes, and nowhere in between otherwise: looked at minute by minute.
    #[test]
    fn windows_are_open_between_their_ends(
        start in 0u32..96, length in 1u32..96, days in 0usize..4, day in 0i64..800,
        zone in prop::sample::select(vec!["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"]),
    ) {
        let clock = |quarter: u32| format!("{:02}:{:02}", quarter / 4 % 24, quarter % 4 * 15);
        let text = format!("{} {}..{}", ["", "Sun", "Mon..Fri", "Sat,Sun"][days], clock(start), clock(start + length));
        let window = Windows(vec![Window::parse(text.trim(), &zone_named(zone)).unwrap()]);
        let mut at = utc("2026-01-01T00:00:00Z") + SignedDuration::from_hours(24 * day);
        let end = at + SignedDuration::from_hours(24 * 9);
        let (mut opens, mut closes) = (window.opens(at).unwrap(), at);
        while at < end {
            if at >= opens && closes <= opens {
                closes = window.closes(opens).unwrap();
            }
            if at >= closes && closes > opens {
                opens = window.opens(at).unwrap();
            }
            prop_assert_eq!(window.is_open(at), opens <= at && at < closes, "{} at {}", &text, at);
            at += SignedDuration::from_mins(5);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Over days around every change of the clock in a year: an interval has exactly the moments at which the clock shows one of its
    /// times; what is named comes as often as the calendar has it, in order, each at its time or right after a gap.
    #[test]
    fn no_moment_is_lost_or_made_up_in_any_zone(text in expressions(), zone in zones(), year in 2024i16..2034) {
        let schedule = Schedule::parse(&text, &zone).unwrap();
        let (calendar, _) = parse::calendar(&text).unwrap();
        let start = jiff::civil::date(year, 1, 1).to_zoned(zone.clone()).unwrap().timestamp();
        let end = start.checked_add(SignedDuration::from_hours(24 * 366)).unwrap();
        for change in zone.following(start).map(|change| change.timestamp()).take_while(|change| *change < end) {
            let from = change.checked_sub(SignedDuration::from_hours(26)).unwrap();
            let to = change.checked_add(SignedDuration::from_hours(26)).unwrap();
            let mut found = Vec::new();
            let mut after = from;
            while let Some(next) = schedule.next(after).filter(|next| *next < to) {
                prop_assert!(next > after);
                found.push(next);
                after = next;
            }
            let minutes = (from.as_second() + 60..to.as_second()).step_by(60).map(|s| Timestamp::from_second(s).unwrap());
            let shown: Vec<_> = minutes.filter(|minute| shows(&calendar, zone.to_datetime(*minute))).collect();
            if calendar.is_interval() {
                prop_assert_eq!(&found, &shown, "{}", text);
            } else {
                let times: std::collections::BTreeSet<_> = shown.iter().map(|minute| zone.to_datetime(*minute)).collect();
                let in_gap: Vec<_> = found.iter().filter(|moment| !shows(&calendar, zone.to_datetime(**moment))).collect();
                prop_assert!(in_gap.iter().all(|moment| **moment == change), "{}: {:?}", text, in_gap);
                prop_assert_eq!(found.len() - in_gap.len(), times.len(), "{}", text);
            }
        }
    }

    /// What was missed is the last of what would have come, one after the other.
    #[test]
    fn what_was_missed_is_the_last_of_all(text in expressions(), zone in zones(), from in 0i64..400_000_000, hours in 0i64..2000) {
        let schedule = Schedule::parse(&text, &zone).unwrap();
        let last = Timestamp::from_second(1_700_000_000 + from).unwrap();
        let now = last.checked_add(SignedDuration::from_hours(hours)).unwrap();
        let mut all = None;
        while let Some(next) = schedule.next(all.unwrap_or(last)).filter(|next| *next <= now) {
            all = Some(next);
        }
        prop_assert_eq!(schedule.missed(last, now), all);
    }

    /// No text makes it panic, and what it refuses it can point at.
    #[test]
    fn any_text_is_read_or_refused(text in "[ -~äé]{0,24}") {
        if let Err(error) = Schedule::parse(&text, &TimeZone::UTC) {
            prop_assert!((1..=text.chars().count() + 1).contains(&error.at), "{}", error);
        }
    }
}
