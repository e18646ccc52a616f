//! The configuration from outside: errors as users make them, what changes while a stream runs, and jobs that are run when they are due,
//! once, whatever happened to the daemon meanwhile. Schedules are compared with systemd's own reading of them.

use std::path::{Path, PathBuf};

use serde_json::Value;
use understudy_tests::image::{self, MIB};
use understudy_tests::wait::wait_until;
use understudy_tests::{
    Appliance, Lab, Loop, Outcome, Proxy, Rng, Run, UNDERSTUDYD, args, compare, count, have_root, seed, text,
};

const IN_FORCE: &str = "the configuration was read again and is in force";

fn check(file: &Path, more: &[&str]) -> Outcome {
    Run::ours(UNDERSTUDYD).args(args!["check-config", file]).args(more.iter().map(|word| word.into())).run()
}

/// The runs of a job, oldest first, once there are so many that ended.
#[track_caller]
fn runs(appliance: &Appliance, job: &str, ended: usize) -> Vec<Value> {
    let has_ended = |run: &&Value| run["outcome"] != "running";
    appliance.runs(job, &format!("{job} ran {ended} times"), |runs| runs.iter().filter(has_ended).count() >= ended)
}

/// A source of a megabyte.
fn source(lab: &Lab) -> PathBuf {
    let source = lab.file("source.raw");
    image::random(&source, 8 * MIB, &mut Rng::new(seed()));
    source
}

fn config(rest: &str) -> String {
    format!("version: 1\ntime-zone: UTC\n{rest}")
}

#[test]
fn the_example_in_images_is_right() {
    let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("../images");
    let checked = check(&images.join("appliance.yaml"), &["--json"]).expect_code(0).events();
    let jobs: Vec<&str> = checked[0]["jobs"].as_array().expect("jobs").iter().filter_map(Value::as_str).collect();
    assert_eq!(jobs, ["collect", "prune", "scrub"]);
    let unit = std::fs::read_to_string(images.join("understudyd.service")).expect("the unit");
    assert!(unit.contains("serve --config /etc/understudy/appliance.yaml\n"), "{unit}");
}

#[test]
fn mistakes_are_told_with_file_line_column_and_what_is_accepted() {
    let lab = Lab::new();
    let file = lab.write("appliance.yaml", "version: 1\nvolumes:\n  db:\n    retension: keep-daily=7\n");
    let place = format!("{}:4:5: volumes.db: unknown key \"retension\"; did you mean \"retention\"?", file.display());
    check(&file, &[]).expect_refusal().says(&place).says("Accepted here: template, secondary, retention");
    lab.write("appliance.yaml", config("jobs:\n  night:\n    run: prune\n    schedule: Mno 02:00\n"));
    check(&file, &[]).expect_refusal().says(":6:15: jobs.night.schedule:").says("expected a weekday such as Mon");
    lab.write("appliance.yaml", config("jobs:\n  night: {run: prune, schedule: '*-02-30'}\n"));
    let warned = check(&file, &[]).expect_code(3).says("can be used");
    warned.says(":4:33: jobs.night.schedule: \"*-02-30\" never comes");
    lab.write("appliance.yaml", config("pool: /srv/pool\n"));
    check(&file, &[]).expect_code(0).says("is right");
    // The daemon refuses the same, before it touches anything.
    lab.write("appliance.yaml", config("pol: /srv/pool\n"));
    let serve = Run::ours(UNDERSTUDYD).args(args!["serve", "--config", &file, "--pool", lab.file("pool")]).run();
    serve.expect_refusal().says(":3:1: unknown key \"pol\"; did you mean \"pool\"?");
    assert!(!lab.file("pool").exists());
    lab.write("appliance.yaml", config(""));
    let serve = Run::ours(UNDERSTUDYD).args(args!["serve", "--config", &file]).run();
    serve.expect_refusal().says("no pool is named");
}

#[test]
fn a_stream_goes_on_while_the_configuration_changes() {
    let lab = Lab::new();
    let first = config("templates:\n  default: {retention: keep-last=5}\n");
    let mut appliance = Appliance::start_configured(&lab, &first);
    let source = source(&lab);
    let proxy = Proxy::hold_after(appliance.address(), 2 * MIB);
    let stream = appliance.initiator(Appliance::replicate_args(&source, "v"));
    let stream = stream.env("UNDERSTUDY_APPLIANCE", proxy.address()).start().wait_held(&proxy);
    let second =
        "templates:\n  default: {retention: keep-last=2, secondary: none}\nlisten: 127.0.0.1:1\nlog: {level: debug}\n";
    appliance.reconfigure(&config(second), IN_FORCE);
    assert!(!appliance.log().contains("key=\"listen\""), "a flag comes before the file, so nothing changed");
    let third = format!("{second}limits: {{sessions: 7}}\ntime-zone: Asia/Tokyo\n").replace("debug", "info");
    appliance.reconfigure(&format!("version: 1\n{third}"), IN_FORCE);
    for key in ["limits.sessions", "time-zone"] {
        assert!(appliance.log().contains(&format!("key=\"{key}\"")), "{}", appliance.log());
    }
    // A broken file changes nothing, and the daemon says so.
    appliance.reconfigure("version: 1\nvolumes: 3\n", "the configuration is wrong: what was in force still is");
    assert!(appliance.log().contains("appliance.yaml:2:10: volumes: invalid type: integer"), "{}", appliance.log());
    proxy.release();
    stream.finish().expect_code(0).summary().expect_kind("full");
    // The volume came to be by what is in force, and a command does not change what the file governs.
    appliance.upkeep(&["set", "v"]).expect_code(0).says("v: secondary none, retention keep-last=2");
    let refused = appliance.upkeep(&["set", "v", "--keep-last", "9"]).expect_refusal();
    refused.says("the retention of v is set by the daemon's configuration").says("appliance.yaml").says("SIGHUP");
    // What the file says of a volume that is there takes effect as well.
    appliance.reconfigure(
        &config("volumes:\n  v: {retention: keep-daily=3, secondary: native}\n"),
        "as the configuration says",
    );
    appliance.assert_secondary("v", &source);
    appliance.upkeep(&["set", "v"]).expect_code(0).says("v: secondary native, retention keep-daily=3");
    appliance.upkeep(&["set", "w"]).expect_refusal();
    appliance.stop();
    appliance.assert_pool_sound();
}

#[test]
fn a_device_that_the_file_names_becomes_the_secondary_and_one_that_cannot_is_told_once() {
    if !have_root("a loop device") {
        return;
    }
    let lab = Lab::new();
    let image = lab.file("device.img");
    image::hole(&image, 8 * MIB);
    let device = Loop::new(&image);
    let volumes =
        format!("volumes:\n  v: {{secondary: {}}}\n  w: {{secondary: /dev/absent}}\n", device.path().display());
    let mut appliance = Appliance::start_configured(&lab, &config(&volumes));
    let source = source(&lab);
    appliance.replicate(&source, "v");
    appliance.replicate(&source, "w");
    appliance.reconfigure(&config(&volumes), "cannot be; SIGHUP tries again volume=w");
    appliance.settle("v");
    appliance.upkeep(&["set", "v"]).expect_code(0).says(&format!("v: secondary {}", device.path().display()));
    appliance.upkeep(&["set", "w"]).expect_code(0).says("w: secondary none");
    appliance.stop();
    drop(device);
    compare::assert_same(&image, &source, "the device is the source");
}

#[test]
fn a_job_that_is_due_runs_and_tells_what_came_of_it() {
    let lab = Lab::new();
    let jobs = "jobs:\n  sweep: {run: prune --collect, schedule: every 1s}\n  look: {run: scrub, schedule: yearly, random-delay: 1h}\n";
    let retention = "templates:\n  default: {retention: keep-last=1}\n";
    let appliance = Appliance::start_configured(&lab, &config(&format!("{retention}{jobs}")));
    let source = source(&lab);
    for _ in 0..3 {
        image::scribble(&source, MIB, MIB / 4, &mut Rng::new(seed()));
        appliance.replicate(&source, "v");
    }
    appliance.settle("v");
    wait_until("prune and collect ran", || match appliance.point_numbers("v") {
        points if points == [3] => Ok(()),
        points => Err(format!("{points:?}")),
    });
    let run = runs(&appliance, "sweep", 1).remove(0);
    assert_eq!((text(&run, "why"), text(&run, "outcome")), ("due", "done"), "{run}");
    assert!(text(&run, "detail").contains("given back"), "{run}");
    // The other one is not due, but can be asked for.
    appliance.upkeep(&["jobs", "look"]).expect_code(0).says("it has not run yet");
    let scrubbed = appliance.upkeep(&["run", "look"]).expect_code(0).says("nothing is damaged");
    assert!(scrubbed.out().contains("segments checked"), "{scrubbed}");
    let asked = runs(&appliance, "look", 1);
    assert_eq!((asked.len(), text(&asked[0], "why"), text(&asked[0], "outcome")), (1, "asked", "done"));
    let listed = appliance.ask(&["jobs"]);
    let names: Vec<&str> = listed.iter().map(|job| text(job, "job")).collect();
    assert_eq!(names, ["look", "sweep"]);
    assert_eq!((count(&listed[0], "random_delay_s"), text(&listed[0]["last"], "why")), (3600, "asked"));
    let next = appliance.ask(&["next", "look"]);
    assert_eq!(next.len(), 10);
    assert!(next.iter().all(|due| text(due, "nominal").ends_with("-01-01T00:00:00Z")), "{next:?}");
    assert!(next.windows(2).all(|pair| text(&pair[0], "at") < text(&pair[1], "at")), "{next:?}");
    assert_eq!(appliance.ask(&["next", "--count", "3"]).len(), 3);
    for words in [["run", "lok"], ["next", "lok"], ["jobs", "lok"]] {
        appliance.upkeep(&words).expect_refusal().says("there is no job \"lok\"").says("look, sweep");
    }
}

#[test]
fn a_restart_makes_up_once_for_what_was_missed() {
    let lab = Lab::new();
    let mut appliance =
        Appliance::start_configured(&lab, &config("jobs:\n  sweep: {run: collect, schedule: every 2s}\n"));
    runs(&appliance, "sweep", 1);
    let missed = text(&appliance.ask(&["next", "sweep", "--count", "3"])[2], "at").to_owned();
    appliance.kill();
    // No daemon: no jobs, and the command says whose they are.
    appliance.upkeep(&["jobs"]).expect_refusal().says("no daemon").says("serve --config");
    wait_until("three runs are missed", || {
        let now = Run::peer("date").args(args!["-u", "+%Y-%m-%dT%H:%M:%SZ"]).run().out();
        if now.trim() > missed.as_str() { Ok(()) } else { Err(now) }
    });
    appliance.restart();
    let all = runs(&appliance, "sweep", 3);
    let missed: Vec<&Value> = all.iter().filter(|run| run["why"] == "missed").collect();
    assert_eq!(missed.len(), 1, "one run for all that was missed: {all:?}");
    let nominal: Vec<&str> =
        all.iter().filter(|run| run["outcome"] == "done").map(|run| text(run, "nominal")).collect();
    assert!(nominal.windows(2).all(|pair| pair[0] < pair[1]), "no time twice: {all:?}");
    appliance.stop();
    appliance.assert_pool_sound();
}

#[test]
fn a_run_that_was_cut_is_run_again() {
    let lab = Lab::new();
    let jobs = "jobs:\n  slow: {run: scrub --rate 64K, schedule: yearly, catch-up: false}\n  look: {run: scrub --rate 64K, schedule: every 1h}\n";
    let mut appliance = Appliance::start_configured(&lab, &config(jobs));
    appliance.replicate(&source(&lab), "v");
    // Soon, so that it need not be waited for.
    appliance.reconfigure(&config(&jobs.replace("1h", "1s")), IN_FORCE);
    let started = |appliance: &Appliance, runs: usize| {
        wait_until(&format!("run {runs} of look has started"), || {
            let all = appliance.ask(&["jobs", "look"]);
            let last = all.last().is_some_and(|run| run["outcome"] == "running");
            // It is in the history on the disk when this is said, and not before.
            let recorded = appliance.log().contains(&format!("a job starts job=\"look\" run={runs}"));
            if all.len() == runs && last && recorded { Ok(all) } else { Err(format!("{all:?}")) }
        })
    };
    started(&appliance, 1);
    appliance.kill();
    appliance.restart();
    let after_kill = started(&appliance, 2);
    assert_eq!((text(&after_kill[0], "outcome"), text(&after_kill[1], "why")), ("cut", "missed"), "{after_kill:?}");
    // What is asked for waits for what runs; the end of the daemon cuts that at once, and says so.
    let asked = appliance.upkeep_run(&["run", "slow"]).start();
    wait_until("slow waits", || {
        let listed = appliance.ask(&["jobs"]);
        if listed.iter().any(|job| job["job"] == "slow" && job["asked"] == true) {
            Ok(())
        } else {
            Err(format!("{listed:?}"))
        }
    });
    appliance.stop();
    assert_ne!(asked.finish().code, Some(0), "it was not run");
    appliance.restart();
    let after_stop = started(&appliance, 3);
    assert_eq!((text(&after_stop[1], "outcome"), text(&after_stop[2], "why")), ("cut", "missed"), "{after_stop:?}");
    assert_eq!(text(&after_stop[1], "detail"), "it was stopped");
}

/// The next times of a schedule as this program reads it, in UTC; nothing when it is refused.
fn ours(schedule: &str, after: &str, iterations: u16) -> Option<Vec<String>> {
    let count = iterations.to_string();
    let words = args!["calendar", schedule, "--after", after, "--count", count, "--time-zone", "UTC"];
    let outcome = Run::ours(UNDERSTUDYD).args(words).run().expect_codes(&[0, 1]);
    let is_time = |line: &&str| line.ends_with("+00:00");
    (outcome.code == Some(0))
        .then(|| outcome.out().lines().filter(is_time).map(|line| line.trim_end_matches("+00:00").to_owned()).collect())
}

/// The same as systemd reads it.
fn theirs(schedule: &str, after: &str, iterations: u16) -> Option<Vec<String>> {
    let after = after.replace('T', " ").replace('Z', " UTC");
    let words = args!["calendar", format!("--base-time={after}"), format!("--iterations={iterations}"), schedule];
    let outcome = Run::peer("systemd-analyze").args(words).env("TZ", "UTC").run();
    let time = |line: &str| Some(line.split_once(": ")?.1.strip_suffix(" UTC")?.to_owned());
    let times =
        |out: String| out.lines().filter(|l| l.contains("elapse") || l.contains("Iter.")).filter_map(time).collect();
    (outcome.code == Some(0)).then(|| times(outcome.out()))
}

/// Whether both are the same, as far as both go. Januaries are left out: systemd 252 to 258 passes over the first days of a year that
/// a repetition of days names (systemd issue 40260). It refuses some lists of days from the end of a month and ranges of one second, and
/// accepts the same values written otherwise: those may be read here.
fn is_same(text: &str, ours: Option<&[String]>, theirs: Option<&[String]>) -> bool {
    let (Some(ours), Some(theirs)) = (ours, theirs) else {
        let is_odd = text.contains("..") || (text.contains('~') && text.contains(','));
        return theirs.is_none() && (ours.is_none() || is_odd);
    };
    let known = |times: &[String]| times.iter().filter(|time| !time.contains("-01-")).cloned().collect::<Vec<_>>();
    let ends = ours.len() < 12 && theirs.len() < 12;
    let (ours, theirs) = (known(ours), known(theirs));
    let common = if ends { usize::MAX } else { ours.len().min(theirs.len()) };
    ours.iter().take(common).eq(theirs.iter().take(common))
}

fn number(rng: &mut Rng, max: u64) -> String {
    match rng.below(8) {
        0 | 1 => "*".to_owned(),
        2 => format!("{}/{}", rng.below(max), 1 + rng.below(max)),
        3 => format!("{}..{}", rng.below(max), rng.below(max + 2)),
        4 => format!("{}..{}/{}", rng.below(max), rng.below(max), 1 + rng.below(max)),
        5 => format!("{},{}", rng.below(max), rng.below(max)),
        _ => rng.below(max + 1).to_string(),
    }
}

fn expression(rng: &mut Rng) -> String {
    let weekdays = ["", "", "", "Mon ", "Sat,Sun ", "Tue..Fri ", "mon,Wed..thursday ", "Fri..Mon ", "Wed, "];
    let mut text = weekdays[rng.below(weekdays.len() as u64) as usize].to_owned();
    let from_end = ["-", "-", "~"][rng.below(3) as usize];
    match rng.below(4) {
        0 => {}
        1 => text += &format!("{}{from_end}{} ", number(rng, 12), number(rng, 31)),
        2 => text += &format!("*-{}{from_end}{} ", number(rng, 12), number(rng, 28)),
        _ => text += &format!("{}-{}{from_end}{} ", 2020 + rng.below(12), number(rng, 12), number(rng, 31)),
    }
    match rng.below(4) {
        0 => {}
        1 => text += &format!("{}:{}:{}", number(rng, 23), number(rng, 59), number(rng, 59)),
        _ => text += &format!("{}:{}", number(rng, 23), number(rng, 59)),
    }
    text.trim_end().to_owned()
}

#[test]
fn calendar_expressions_mean_what_systemd_makes_of_them() {
    let mut rng = Rng::new(seed());
    let (mut accepted, mut wrong) = (0, Vec::new());
    for _ in 0..400 {
        let text = expression(&mut rng);
        let after = format!("20{}-0{}-17T11:22:33Z", 18 + rng.below(14), 1 + rng.below(9));
        let (ours, theirs) = (ours(&text, &after, 12), theirs(&text, &after, 12));
        accepted += usize::from(ours.is_some() && !text.is_empty());
        if !is_same(&text, ours.as_deref(), theirs.as_deref()) && !text.is_empty() {
            wrong.push(format!("{text:?} after {after}: {ours:?}, systemd says {theirs:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of 400 differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(accepted > 150, "only {accepted} of 400 were right");
}
