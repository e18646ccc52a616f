//! Configurations as people write them: what they mean, and what is said of those that are wrong.

use super::*;
use crate::args::Serve;
use crate::nbd_terms::{NbdTerms, NbdTls};
use crate::retention::policy::Policy;
use understudy_format::catalogue::SecondaryMode;

/// A directory with these files; the first is the one that is read.
struct Files(tempfile::TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Self(dir)
    }

    fn read(&self) -> Result<Config, ConfigError> {
        read(&self.0.path().join("a.yaml"))
    }
}

fn right(text: &str) -> Config {
    Files::new(&[("a.yaml", &format!("version: 1\n{text}"))]).read().unwrap_or_else(|error| panic!("{error}"))
}

/// What is said of several files, without the directory; `name:line:column: ...`.
#[track_caller]
fn said(files: &[(&str, &str)]) -> String {
    let files = Files::new(files);
    let error = files.read().expect_err("it is wrong").to_string();
    error.replace(&format!("{}/", files.0.path().display()), "")
}

/// Each text is wrong at the place, and for the reason, that stands beside it.
#[track_caller]
fn wrong(cases: &[(&str, &str)]) {
    let said = |text: &str| said(&[("a.yaml", &format!("version: 1\n{text}"))]);
    let said: Vec<String> = cases.iter().map(|(text, _)| said(text)).collect();
    let expected: Vec<String> = cases.iter().map(|(_, expected)| format!("a.yaml:{expected}")).collect();
    assert_eq!(said.join("\n"), expected.join("\n"));
}

fn no_flags() -> Serve {
    let nbd_terms = NbdTerms::default();
    Serve { config: None, pool: None, listen: None, nbd: None, nbd_socket: None, nbd_terms, secondary: None, tls: None }
}

#[test]
fn all_keys_have_their_meaning() {
    let config = right(
        "pool: /srv/pool\nlisten: 0.0.0.0:1\nnbd: '[::1]:2'\nnbd-socket: /run/nbd\nnbd-tls: require\nnbd-tls-certificates: /etc/c\ntime-zone: Europe/Berlin\n\
         log: {level: debug, format: json}\nlimits: {sessions: 3, nbd-connections: 4, nbd-connections-per-export: 2}\n\
         jobs:\n  p: {run: prune --collect, schedule: '02:30', random-delay: 1h30m, catch-up: false}\n",
    );
    let (flags, other) = (no_flags(), NbdTerms { nbd_tls: Some(NbdTls::Off), ..NbdTerms::default() });
    let fixed = Fixed::of(&flags, &config.fixed).unwrap();
    assert_eq!(
        (fixed.pool.to_str(), fixed.nbd_socket.as_ref().unwrap().to_str()),
        (Some("/srv/pool"), Some("/run/nbd"))
    );
    assert_eq!((fixed.listen.as_str(), fixed.nbd.as_str()), ("0.0.0.0:1", "[::1]:2"));
    assert_eq!((fixed.sessions, fixed.log_format), (3, understudy_config::log::LogFormat::Json));
    let (terms, limits) = (&fixed.nbd_terms, fixed.nbd_terms.limits());
    assert_eq!((limits.connections, limits.connections_per_export), (4, 2));
    assert_eq!(terms.nbd_tls_certificates.as_ref().unwrap().to_str(), Some("/etc/c"));
    assert_eq!((terms.nbd_tls, other.or(terms).nbd_tls), (Some(NbdTls::Require), Some(NbdTls::Off)));
    assert_eq!((fixed.zone.iana_name(), config.log_level.as_deref()), (Some("Europe/Berlin"), Some("debug")));
    let job = &config.jobs[0];
    assert_eq!((job.name.as_str(), job.task.to_string().as_str(), job.catch_up), ("p", "prune --collect", false));
    assert_eq!(job.delay_max, jiff::SignedDuration::from_mins(90));
    let next = job.schedule.next("2026-07-01T00:00:00Z".parse().unwrap()).unwrap();
    assert_eq!(next.to_string(), "2026-07-01T00:30:00Z", "in the time zone of the configuration");
    // Flags come first.
    let flags = Serve { pool: Some("/other".into()), listen: Some("h:9".into()), ..flags };
    let flagged = Fixed::of(&flags, &config.fixed).unwrap();
    assert_eq!(
        (flagged.pool.to_str(), flagged.listen.as_str(), flagged.nbd.as_str()),
        (Some("/other"), "h:9", "[::1]:2")
    );
    assert_eq!(fixed.changed(&flagged), ["pool", "listen"]);
    assert_eq!(fixed.changed(&fixed), [""; 0]);
}

#[test]
fn a_volume_is_what_it_says_then_what_its_template_says() {
    let volumes = right(
        "templates:\n  default: {secondary: none, retention: keep-last=3}\n  vm: {retention: keep-daily=7}\n\
         volumes:\n  a: {}\n  b: {template: vm}\n  c: {template: vm, secondary: /dev/vg/c, retention: keep-all}\n  d: {secondary: native}\n",
    )
    .volumes;
    let wanted = |name: &str| volumes.of(&name.parse().unwrap()).clone();
    let policy = |text: &str| Some(text.parse::<Policy>().unwrap());
    let last = policy("keep-last=3");
    assert_eq!(wanted("a"), Wanted { secondary: Some(SecondaryMode::None), retention: last, ..Wanted::default() });
    assert_eq!(wanted("unnamed"), wanted("a"));
    assert_eq!(wanted("b"), Wanted { retention: policy("keep-daily=7"), ..Wanted::default() });
    let device = Some(SecondaryMode::Device("/dev/vg/c".into()));
    assert_eq!(wanted("c"), Wanted { secondary: device, retention: policy("keep-all"), ..Wanted::default() });
    assert_eq!(wanted("d"), Wanted { secondary: Some(SecondaryMode::Native), retention: last, ..Wanted::default() });
    let new = |name: &str| wanted(name).new_settings(SecondaryMode::Native);
    assert_eq!((new("a").secondary, new("a").keep[0]), (SecondaryMode::None, 3));
    assert_eq!((new("b").secondary, new("c").secondary), (SecondaryMode::Native, SecondaryMode::None));
}

#[test]
fn unknown_keys_are_told_with_the_nearest_known_one() {
    wrong(&[
        (
            "lisen: 1",
            "2:1: unknown key \"lisen\"; did you mean \"listen\"? Accepted here: version, include, pool, listen, nbd, tls, tls-names, append-only, nbd-socket, nbd-tls, nbd-tls-certificates, time-zone, log, limits, templates, volumes, job-templates, jobs, notify",
        ),
        (
            "volumes:\n  db:\n    retension: keep-all",
            "4:5: volumes.db: unknown key \"retension\"; did you mean \"retention\"? Accepted here: template, secondary, retention, keep-journal, fold-every",
        ),
        (
            "limits: {connections: 3}",
            "2:10: limits: unknown key \"connections\"; did you mean \"nbd-connections\"? Accepted here: sessions, nbd-connections, nbd-connections-per-export, jobs, jobs-per-agent",
        ),
        ("log: {lvl: info}", "2:7: log: unknown key \"lvl\"; accepted here: level, format"),
        (
            "jobs:\n  p: {schedule: daily, run: prune, delay: 1m}",
            "3:36: jobs.p: unknown key \"delay\"; accepted here: template, run, replicate, verify, agent, group, bracket, schedule, random-delay, catch-up, windows, full-every, full-schedule, bandwidth, bandwidth-windows, retry, rpo",
        ),
    ]);
}

#[test]
fn wrong_values_are_told_with_their_place_and_what_is_accepted() {
    wrong(&[
        ("pool: pool", "2:7: pool: \"pool\" is no absolute path: expected one that starts with /"),
        ("listen: 7410", "2:9: listen: \"7410\" is no address: expected HOST:PORT, such as 127.0.0.1:7410"),
        ("nbd: localhost", "2:6: nbd: \"localhost\" is no address: expected HOST:PORT, such as 127.0.0.1:7410"),
        ("tls: maybe", "2:6: tls: \"maybe\" is not known: expected one of off, on"),
        (
            "tls-names: ['a b']",
            "2:12: tls-names: \"a b\" is no name: expected names of hosts and addresses, such as backup.example.org",
        ),
        (
            "time-zone: Mars",
            "2:12: time-zone: no time zone \"Mars\" is known here: expected a name such as Europe/Berlin or UTC",
        ),
        ("limits:\n  sessions: 0", "3:13: limits.sessions: 0 is no limit: expected 1 to 65536"),
        ("limits:\n  sessions: many", "3:13: limits.sessions: invalid type: string \"many\", expected a whole number"),
        (
            "log:\n  level: loud",
            "3:10: log.level: \"loud\" is not known: expected one of error, warn, info, debug, trace",
        ),
        (
            "volumes:\n  a/b: {}",
            "3:8: volumes.a/b: volume name: \"a/b\": expected 1 to 128 of letters, digits, '.', '_', '-', starting with a letter or digit",
        ),
        (
            "volumes:\n  v: {secondary: raw}",
            "3:18: volumes.v.secondary: \"raw\" is no secondary: expected native, none, or the absolute path of a block device such as /dev/vg0/copy",
        ),
        (
            "templates:\n  vms: {}\nvolumes:\n  v: {template: vm}",
            "5:17: volumes.v.template: there is no template \"vm\"; did you mean \"vms\"? (there is: vms)",
        ),
        ("volumes:\n  v: {}\n  w: {}\n  v: {}", "5:3: volumes: \"v\" is there twice"),
        ("volumes:\n  v: {secondary: none, secondary: none}", "3:35: volumes.v: repeated key `secondary`"),
        ("pool: /a\npool: /b", "3:7: repeated key `pool`"),
        ("jobs:\n  p: {run: prune}", "3:6: jobs.p: missing key \"schedule\": add one such as `schedule: every 15m`"),
        (
            "jobs:\n  p: {run: replicate, schedule: daily}",
            "3:12: jobs.p.run: \"replicate\" is nothing that a job runs: expected prune, collect or scrub with their options, as in `scrub --older-than 7d`",
        ),
        (
            "jobs:\n  p: {run: scrub --older-then 7d, schedule: daily}",
            "3:12: jobs.p.run: \"scrub --older-then 7d\" is no command: unexpected argument '--older-then' found tip: a similar argument exists: '--older-than'",
        ),
        (
            "jobs:\n  p: {run: prune, schedule: Mon 25:00}",
            "3:29: jobs.p.schedule: \"Mon 25:00\" is no schedule, at character 5: hours are 0 to 23",
        ),
        (
            "jobs:\n  p: {run: prune, schedule: daily, random-delay: soon}",
            "3:50: jobs.p.random-delay: \"soon\" is no delay: expected a length such as 30m or 1h30m (units: h, m, s), at most 744 h",
        ),
        (
            "jobs:\n  p: {run: prune, schedule: daily, catch-up: maybe}",
            "3:46: jobs.p.catch-up: invalid type: string \"maybe\", expected true or false",
        ),
        (
            "jobs:\n  'a b': {run: prune, schedule: daily}",
            "3:10: jobs.a b: \"a b\" is no name of a job: expected 1 to 64 letters, digits, '.', '_' and '-'",
        ),
        ("pool: a: b", "2:8: mapping values are not allowed in this context"),
    ]);
    let error = said(&[("a.yaml", "version: 1\nvolumes:\n  v: {retention: keep-dayly=1}\n")]);
    assert!(error.starts_with("a.yaml:3:18: volumes.v.retention: \"keep-dayly=1\" is no retention policy"), "{error}");
}

#[test]
fn jobs_of_agents_are_read_with_their_templates() {
    let config = right(
        "limits: {jobs: 5, jobs-per-agent: 1}\ntime-zone: UTC\n\
         notify: {on: [failure], webhook: 'https://h/x', webhook-token-file: /t, timeout: 2s, retries: 0, repeat: 1h}\n\
         job-templates:\n  web: {agent: web1, schedule: every 15m, rpo: 1h, bandwidth: 50M, retry: {count: 7}}\n\
         jobs:\n  a: {template: web, replicate: [mail, db], group: true, bracket: lvm, full-every: 30, bandwidth: 1M, windows: ['22:00..06:00']}\n  \
         b: {template: web, verify: [mail], schedule: weekly}\n  \
         c: {template: web, run: prune}\n  \
         d: {replicate: [db], agent: web2, schedule: daily, full-schedule: monthly, bandwidth-windows: [{when: Sat, limit: 2K}]}\n",
    );
    assert_eq!((config.job_limits.jobs, config.job_limits.per_agent), (5, 1));
    let notify = &config.notify;
    assert_eq!((&notify.on[..], notify.webhook.as_deref()), (&[Event::Failure][..], Some("https://h/x")));
    let missing: Vec<_> = config.warnings.iter().map(|warning| warning.reason.as_str()).collect();
    assert_eq!(missing, ["notify.webhook-token-file: /t: No such file or directory (os error 2)"]);
    assert_eq!((notify.timeout.as_secs(), notify.retries, notify.repeat.as_hours()), (2, 0, 1));
    let tasks: Vec<String> = config.jobs.iter().map(|job| job.task.to_string()).collect();
    assert_eq!(tasks, ["replicate together mail, db of web1", "verify mail of web1", "prune", "replicate db of web2"]);
    let [a, b, c, d] = &config.jobs[..] else { panic!("there are four") };
    let schedules = [a, b, c, d].map(|job| job.schedule.to_string());
    assert_eq!(schedules, ["every 15m", "weekly", "every 15m", "daily"]);
    let rpo = |job: &Job| job.rpo.map(|rpo| rpo.as_secs());
    assert_eq!([a, b, c, d].map(|job| rpo(job)), [Some(3600), None, None, None], "it is for what replicates");
    let replicate = |job: &Job| match &job.task {
        Task::Replicate(replicate) => {
            (replicate.full.every, replicate.bandwidth.usual, replicate.bandwidth.windows.len())
        }
        _ => panic!("it replicates"),
    };
    assert_eq!((replicate(a), replicate(d)), ((Some(30), 1 << 20, 0), (None, 0, 1)));
    assert_eq!([a, c, d].map(|job| job.retry.count), [7, 7, 3], "what agents do is tried again unless told otherwise");
    assert_eq!(right("jobs:\n  p: {run: prune, schedule: daily}").jobs[0].retry.count, 0);
}

#[test]
fn wrong_jobs_of_agents_are_told_with_their_place() {
    wrong(&[
        ("jobs:\n  a: {schedule: daily}", "3:6: jobs.a: a job has one of the keys run, replicate and verify"),
        (
            "jobs:\n  a: {replicate: [m], schedule: daily}",
            "3:6: jobs.a: missing key \"agent\": the name of the agent that has the volumes",
        ),
        (
            "jobs:\n  a: {replicate: [], agent: w, schedule: daily}",
            "3:18: jobs.a.replicate: expected at least one volume",
        ),
        ("jobs:\n  a: {verify: [m, m], agent: w, schedule: daily}", "3:15: jobs.a.verify: a volume is there twice"),
        (
            "jobs:\n  a: {run: prune, agent: w, schedule: daily}",
            "3:26: jobs.a.agent: is for jobs of agents: those with replicate or verify",
        ),
        (
            "jobs:\n  a: {verify: [m], agent: w, schedule: daily, rpo: 1h}",
            "3:52: jobs.a.rpo: is for jobs that replicate",
        ),
        ("job-templates:\n  t: {run: prune}", "3:12: job-templates.t.run: is said by each job, not by a template"),
        (
            "job-templates:\n  t: {agent: w, bandwidth: fast}\njobs:\n  a: {template: t, replicate: [m], schedule: daily}",
            "3:28: job-templates.t.bandwidth: \"fast\": expected a number of bytes such as 4096, 50M or 1G (units K, M, G, T)",
        ),
        (
            "jobs:\n  a: {template: t, run: prune, schedule: daily}",
            "3:17: jobs.a.template: there is no template \"t\" (there is: none)",
        ),
        (
            "jobs:\n  a: {run: prune, schedule: daily, windows: ['Mon 8..9']}",
            "3:45: jobs.a.windows: \"Mon 8..9\" is no window, at character 5: \"8\" is no time of day: expected one such as 08:00, up to 24:00",
        ),
        (
            "jobs:\n  a: {run: prune, schedule: daily, retry: {count: 500}}",
            "3:43: jobs.a.retry: count: 500 is too many: expected 0 to 100",
        ),
        (
            "jobs:\n  a: {replicate: [m], agent: w, schedule: daily, full-every: 0}",
            "3:62: jobs.a.full-every: 0 is no number of runs: expected 1 or more; leave it out for no fulls by number",
        ),
        (
            "notify:\n  webhook: example.org",
            "3:12: notify.webhook: \"example.org\" is no address of a webhook: expected https://HOST/PATH or http://HOST/PATH",
        ),
        (
            "notify:\n  command: [mail]",
            "3:12: notify.command: expected a list: a program by its absolute path, then its arguments; there is no shell",
        ),
        (
            "notify:\n  on: [fail]",
            "3:7: notify.on: \"fail\" is not known: expected some of failure, recovery, behind, caught-up",
        ),
        (
            "notify:\n  on: [failure]",
            "3:7: notify.on: nobody would be told: expected notify.command, notify.webhook or both as well",
        ),
        ("notify:\n  repeat: 0s", "3:11: notify.repeat: \"0s\" is out of range: expected 1s to 2678400s"),
    ]);
    let files = Files::new(&[("a.yaml", "version: 1\njob-templates:\n  t: {}\nnotify: {webhook-ca-file: /ca}\n")]);
    let warnings: Vec<_> = files.read().unwrap().warnings.into_iter().map(|w| w.reason).collect();
    assert_eq!(
        warnings,
        ["job-templates.t: no job names it", "notify: the token and the CA are those of a webhook, and there is none"]
    );
}

#[test]
fn a_version_must_be_there_and_known() {
    assert_eq!(said(&[("a.yaml", "pool: /p\n")]), "a.yaml:1:1: missing key \"version\": add `version: 1`");
    assert_eq!(said(&[("a.yaml", "version: 2\n")]), "a.yaml:1:10: version: 2 is not known to this program: expected 1");
    assert!(said(&[]).starts_with("a.yaml: cannot be read: No such file"));
}

#[test]
fn included_files_add_up_and_contradict_nobody() {
    let main = ("a.yaml", "version: 1\ninclude: [conf.d]\nvolumes:\n  a: {template: t}\n");
    let one = ("conf.d/1.yaml", "templates:\n  t: {retention: keep-last=1}\nvolumes:\n  b: {template: t}\n");
    let files =
        Files::new(&[main, ("conf.d/2.yaml", "pool: /p\n"), one, ("conf.d/3.yml", "nonsense"), ("conf.d/x.yaml~", "")]);
    let config = files.read().unwrap();
    let names: Vec<_> = config.files.iter().map(|file| file.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["a.yaml", "1.yaml", "2.yaml"]);
    let keeps = |name: &str| config.volumes.of(&name.parse().unwrap()).retention.unwrap().keep_last;
    assert_eq!((keeps("a"), keeps("b"), config.warnings), (1, 1, vec![]));
    let main_and = |text| said(&[main, one, ("conf.d/4.yaml", text)]);
    let error = main_and("volumes:\n  b: {}\n");
    assert!(error.starts_with("conf.d/4.yaml:2:6: volumes.b: is set in conf.d/1.yaml, line 4 as well"), "{error}");
    assert_eq!(main_and("include: [x]"), "conf.d/4.yaml:1:10: include: only the first file may include others");
    assert!(main_and("pol: /p").starts_with("conf.d/4.yaml:1:1: unknown key \"pol\"; did you mean \"pool\"?"));
    let twice = said(&[main, one, ("conf.d/4.yaml", "pool: /p\n"), ("conf.d/5.yaml", "\npool: /p\n")]);
    assert_eq!(twice, "conf.d/5.yaml:2:7: pool: is set in conf.d/4.yaml, line 1 as well; say it once");
}

#[test]
fn what_is_probably_not_meant_is_a_warning() {
    let text = "version: 1\ninclude: [conf.d]\ntemplates:\n  default: {}\n  unused: {}\njobs:\n  p: {run: prune, schedule: '*-02-30'}\n";
    let files = Files::new(&[("a.yaml", text)]);
    let warnings: Vec<_> = files.read().unwrap().warnings.into_iter().map(|w| (w.place.unwrap(), w.reason)).collect();
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert_eq!(warnings[0].0, (2, 11));
    assert!(
        warnings[0].1.contains("conf.d: No such file or directory")
            && warnings[0].1.ends_with("nothing is included from there"),
        "{warnings:?}"
    );
    assert_eq!(warnings[1], ((5, 11), "templates.unused: no volume names it".to_owned()));
    assert_eq!(warnings[2], ((7, 29), "jobs.p.schedule: \"*-02-30\" never comes: no such day exists".to_owned()));
}

#[test]
fn jobs_and_members_of_a_group_are_no_more_than_can_be_kept() {
    let said = |text: &str| said(&[("a.yaml", &format!("version: 1\njobs:\n{text}"))]);
    let volumes: String = (0..65).map(|number| format!("v{number},")).collect();
    let group = format!("  a: {{replicate: [{volumes}], group: true, agent: w, schedule: daily}}\n");
    assert_eq!(said(&group), "a.yaml:3:18: jobs.a.replicate: 65 volumes are too many for a group: at most 64");
    let jobs: String = (0..1025).map(|number| format!("  j{number}: {{run: prune, schedule: daily}}\n")).collect();
    assert_eq!(said(&jobs), "a.yaml:1:1: jobs: 1025 are too many: expected at most 1024");
}
