//! Jobs of agents from outside: what is due is replicated again and again, comes after whatever kept it from running, and whoever is to
//! know of failures and of replication that fell behind is told. Time is compressed: every few seconds is every night.

use std::path::{Path, PathBuf};

use serde_json::Value;
use understudy_tests::certificates::{Authority, End};
use understudy_tests::image::{self, MIB};
use understudy_tests::wait::wait_until;
use understudy_tests::{Appliance, Lab, Rng, Run, Running, UNDERSTUDY, Webhook, args, count, seed, text};

fn config(rest: &str) -> String {
    format!("version: 1\ntime-zone: UTC\n{rest}")
}

/// The agent web1 of an appliance, with the volumes `mail` and `db`, and a bracket that waits while the file `closed` is there.
fn agent(lab: &Lab, appliance: &Appliance) -> Running {
    let gate = lab.write("gate.sh", format!("while [ -e '{}' ]; do sleep 0.1; done\n", lab.file("closed").display()));
    let file = lab.write(
        "agent.yaml",
        format!(
            "version: 1\nname: web1\nappliance: {}\nstate-dir: {}\nreconnect: 1s\nvolumes:\n  mail: {{source: {}}}\n  db: {{source: {}}}\n\
             brackets:\n  gate: {{pre: [/bin/sh, {}], post: [/bin/true]}}\n",
            appliance.address(),
            lab.file("agent-state").display(),
            lab.file("mail.raw").display(),
            lab.file("db.raw").display(),
            gate.display(),
        ),
    );
    Run::ours(UNDERSTUDY).args(args!["agent", "--config", file]).start().wait_line("ready")
}

/// The sources of both volumes.
fn sources(lab: &Lab) -> [PathBuf; 2] {
    let mut rng = Rng::new(seed());
    ["mail.raw", "db.raw"].map(|name| {
        let file = lab.file(name);
        image::random(&file, 4 * MIB, &mut rng);
        file
    })
}

fn all(runs: &[Value], outcome: &str) -> usize {
    runs.iter().filter(|run| run["outcome"] == outcome).count()
}

fn close(lab: &Lab) {
    lab.write("closed", "");
}

fn open(lab: &Lab) {
    std::fs::remove_file(lab.file("closed")).expect("the gate was closed");
}

fn change(source: &Path) {
    image::scribble(source, MIB, MIB / 4, &mut Rng::new(seed()));
}

#[test]
fn volumes_are_replicated_when_they_are_due_full_when_that_is_wanted_and_otherwise_incremental() {
    let lab = Lab::new();
    let [mail, db] = sources(&lab);
    let jobs = "job-templates:\n  web1: {agent: web1, schedule: every 2s, rpo: 1h}\njobs:\n  \
        disks: {template: web1, replicate: [mail, db], full-every: 3}\n  check: {template: web1, verify: [mail, db], schedule: yearly}\n";
    let appliance = Appliance::start_configured(&lab, &config(jobs));
    let _agent = agent(&lab, &appliance);
    let first = appliance.runs("disks", "the first run is done", |runs| all(runs, "done") > 0);
    change(&mail);
    let done = appliance.runs("disks", "five runs are done", |runs| all(runs, "done") > 4);
    let full = |run: &Value| {
        let reasons = run["volumes"].as_array().expect("volumes").iter();
        reasons.map(|volume| volume["full_reason"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert!(full(&first[0]).iter().all(|reason| !reason.is_empty()), "{first:#?}");
    assert_eq!([full(&done[1]), full(&done[2])], [[""; 2]; 2].map(|reasons| reasons.map(String::from).to_vec()));
    assert!(full(&done[3]).iter().all(|reason| reason.contains("full-every: 3")), "{:#?}", done[3]);
    assert_eq!(text(&done[3], "full"), "full-every: 3, and 2 runs since the last full");
    let sent: Vec<u64> =
        first[0]["volumes"].as_array().expect("volumes").iter().map(|v| count(v, "sent_bytes")).collect();
    assert_eq!(sent, [4 * MIB; 2], "{first:#?}");
    appliance.assert_secondary("mail", &mail);
    appliance.assert_secondary("db", &db);
    // It is compared when somebody asks for that; what is shown says how old the newest point is.
    appliance.upkeep(&["run", "check"]).expect_code(0);
    let log = appliance.upkeep(&["jobs", "disks", "--log", "4"]).expect_code(0);
    log.says("run 4 starts (due): replicate mail, db of web1")
        .says("it is to be full: full-every: 3")
        .says("run 4 ends: done");
    appliance.upkeep(&["jobs", "disks", "--log", "4000"]).expect_refusal().says("run 4000 of disks has left no log");
    appliance.upkeep(&["jobs"]).expect_code(0).says("the RPO is 1h").says("schedule  every 2s");
    let listed = appliance.ask(&["jobs"]);
    assert_eq!((text(&listed[1], "job"), listed[1]["is_behind"].as_bool()), ("disks", Some(false)));
    assert_eq!(appliance.ask(&["next", "disks"]).len(), 10);
}

#[test]
fn what_is_due_waits_for_its_agent_and_what_the_agent_lost_is_tried_again() {
    let lab = Lab::new();
    let [mail, _] = sources(&lab);
    let jobs = "jobs:\n  disks: {replicate: [mail], agent: web1, bracket: gate, schedule: every 1s, retry: {count: 50, delay: 1s}}\n";
    let appliance = Appliance::start_configured(&lab, &config(jobs));
    wait_until("the job waits for its agent", || match &appliance.ask(&["jobs"])[0] {
        job if job["waits"] == "agent web1 is not connected" => Ok(()),
        job => Err(job.to_string()),
    });
    appliance.upkeep(&["next"]).expect_code(0).says("waits: agent web1 is not connected");
    close(&lab);
    let first = agent(&lab, &appliance);
    let running = appliance.runs("disks", "it runs", |runs| all(runs, "running") == 1);
    assert_eq!(text(&running[0], "why"), "away", "{running:#?}");
    // Slower from now on, so that a try comes before the next time.
    appliance.reconfigure(&config(&jobs.replace("every 1s", "yearly")), "is in force");
    first.kill();
    open(&lab);
    let _second = agent(&lab, &appliance);
    let after = appliance.runs("disks", "it did well", |runs| all(runs, "done") == 1);
    assert_eq!((text(&after[0], "outcome"), text(&after[1], "why")), ("failed", "retried"), "{after:#?}");
    assert!(after.iter().skip(1).all(|run| count(run, "attempt") > 1), "{after:#?}");
    appliance.assert_secondary("mail", &mail);
}

#[test]
fn a_run_is_cut_by_the_end_of_the_daemon_and_made_up_for() {
    let lab = Lab::new();
    let [mail, _] = sources(&lab);
    let jobs = "jobs:\n  disks: {replicate: [mail], agent: web1, bracket: gate, schedule: every 1s, retry: {count: 50, delay: 1s}}\n";
    let mut appliance = Appliance::start_configured(&lab, &config(jobs));
    close(&lab);
    let _agent = agent(&lab, &appliance);
    appliance.runs("disks", "it runs", |runs| all(runs, "running") == 1);
    appliance.stop();
    open(&lab);
    appliance.restart();
    let after = appliance.runs("disks", "it did well", |runs| all(runs, "done") > 0);
    // The agent goes on without the daemon, and may say how that ended before the job is made up for; it may even have done it.
    let outcome = text(&after[0], "outcome");
    assert!(["cut", "failed", "done"].contains(&outcome), "{after:#?}");
    if outcome != "done" {
        assert!(["missed", "away", "retried"].contains(&text(&after[1], "why")), "{after:#?}");
    }
    appliance.assert_secondary("mail", &mail);
    appliance.stop();
    appliance.assert_pool_sound();
}

/// From now on for so many seconds, as a window is written.
fn window(seconds: u32) -> String {
    let clock = |at: &str| Run::peer("date").args(args!["-u", "-d", at, "+%H:%M:%S"]).run().out().trim().to_owned();
    format!("{}..{}", clock("now"), clock(&format!("now + {seconds} seconds")))
}

#[test]
fn a_run_is_stopped_at_the_end_of_its_window() {
    let lab = Lab::new();
    sources(&lab);
    let jobs = |window: &str| {
        format!(
            "jobs:\n  disks: {{replicate: [mail], agent: web1, bracket: gate, schedule: every 1s, windows: ['{window}']}}\n"
        )
    };
    let appliance = Appliance::start_configured(&lab, &config(&jobs("00:00..24:00")));
    let _agent = agent(&lab, &appliance);
    appliance.runs("disks", "it did well", |runs| all(runs, "done") > 0);
    // What runs keeps the window that it started in: a run that is held has to start in the new one.
    appliance.reconfigure(&config(&jobs(&window(10))), "is in force");
    close(&lab);
    let stopped = appliance.runs("disks", "it is stopped", |runs| all(runs, "closed") == 1);
    assert_eq!(text(stopped.last().expect("runs"), "outcome"), "closed", "{stopped:#?}");
    appliance.upkeep(&["next", "disks", "--count", "1"]).expect_code(0).says("its window opens then");
    // Who asks does not wait for it.
    open(&lab);
    appliance.upkeep(&["run", "disks"]).expect_code(0);
}

/// A command that writes down what it is told, and its configuration.
fn command(lab: &Lab) -> (PathBuf, String) {
    let told = lab.file("told");
    let script = lab.write("tell.sh", format!("cat >> '{0}'; echo >> '{0}'\n", told.display()));
    (told, format!("command: [/bin/sh, {}]", script.display()))
}

#[test]
fn failures_recoveries_and_falling_behind_are_told_by_command_and_webhook() {
    let lab = Lab::new();
    let [mail, _] = sources(&lab);
    let ca = Authority::new(&lab, "ca");
    let certificates = ca.identity(End::Server, "hook");
    let hook = Webhook::start(&lab, "hook", 2, Some(&certificates));
    let token = lab.write("token", "secret\n");
    let (told, command) = command(&lab);
    let notify = format!(
        "notify: {{{command}, webhook: '{}', webhook-token-file: {}, webhook-ca-file: {}, timeout: 20s}}\n",
        hook.url(),
        token.display(),
        certificates.join("ca-cert.pem").display(),
    );
    let jobs = "jobs:\n  disks: {replicate: [mail], agent: web1, schedule: every 1s, rpo: 2s}\n  \
        look: {run: scrub --volume mail, schedule: every 1s}\n";
    let appliance = Appliance::start_configured(&lab, &config(&format!("{notify}{jobs}")));
    let events = |wanted: &[(&str, &str)]| {
        wait_until(&format!("all of {wanted:?} is told"), || {
            let by_command = std::fs::read_to_string(&told).unwrap_or_default();
            let by_command: Vec<Value> =
                by_command.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            let by_hook: Vec<Value> = hook.posts().iter().map(|post| post["body"].clone()).collect();
            let has = |told: &[Value], (event, job): &(&str, &str)| {
                told.iter().any(|told| told["event"] == *event && told["job"] == *job)
            };
            match wanted.iter().all(|wanted| has(&by_command, wanted) && has(&by_hook, wanted)) {
                true => Ok(by_command),
                false => Err(format!("{by_command:?} {by_hook:?}")),
            }
        })
    };
    // There is no volume yet, and nobody who would bring it.
    let before = events(&[("failure", "look"), ("behind", "disks")]);
    let behind = before.iter().find(|told| told["event"] == "behind").expect("it was told");
    assert!(text(behind, "text").contains("mail has no point, and job disks is to keep one within 2s"), "{behind}");
    assert_eq!(text(&behind["lag"], "volume"), "mail");
    let _agent = agent(&lab, &appliance);
    let after = events(&[("recovery", "look"), ("caught-up", "disks")]);
    appliance.assert_secondary("mail", &mail);
    // Each once, though the job failed every second; and the webhook after it had refused twice.
    let failures = after.iter().filter(|told| told["event"] == "failure" && told["job"] == "look").count();
    assert_eq!(failures, 1, "{after:#?}");
    let failure = after.iter().find(|told| told["event"] == "failure").expect("it was told");
    assert!(text(&failure["run"], "detail").contains("there is no volume mail"), "{failure}");
    let posts = hook.posts();
    assert_eq!(posts[0]["body"], posts[2]["body"], "what was refused is posted again");
    let head = &posts[0]["head"];
    assert_eq!(
        (text(head, "path"), text(head, "type"), text(head, "authorization")),
        ("/hook", "application/json", "Bearer secret")
    );
}

#[test]
fn a_webhook_that_nobody_vouches_for_is_told_nothing() {
    let lab = Lab::new();
    let certificates = Authority::new(&lab, "ca").identity(End::Server, "hook");
    let other = Authority::new(&lab, "other").trust("trusted");
    let hook = Webhook::start(&lab, "hook", 0, Some(&certificates));
    let notify = format!(
        "notify: {{webhook: '{}', webhook-ca-file: {}, retries: 0}}\n",
        hook.url(),
        other.join("ca-cert.pem").display()
    );
    let jobs = "jobs:\n  look: {run: scrub --volume absent, schedule: every 1s}\n";
    let appliance = Appliance::start_configured(&lab, &config(&format!("{notify}{jobs}")));
    wait_until("the notice cannot be delivered", || match appliance.log() {
        log if log.contains("a notice could not be delivered way=\"webhook\"") => Ok(()),
        log => Err(log),
    });
    assert!(hook.posts().is_empty());
}
