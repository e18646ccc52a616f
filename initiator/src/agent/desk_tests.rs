//! Assignments as an appliance gives them, honest or not, and what the agent would run for them.

use super::*;
use crate::agent::config::Volume;
use std::path::PathBuf;
use std::time::Duration;
use understudy_config::log::LogFormat;

fn config() -> Config {
    let volume = |source: &str| Volume { source: source.into(), bitmap: None, block_size: None, size: 0 };
    let second = Duration::from_secs(1);
    let bracket =
        |word: &str| Bracket { pre: vec![word.into()], pre_timeout: second, post: vec![], post_timeout: second };
    Config {
        files: vec![],
        appliance: "backup:7410".into(),
        name: "host".parse().unwrap(),
        state_dir: "/srv/state".into(),
        keep_alive: second,
        reconnect: second,
        runs_max: 2,
        log_level: None,
        log_format: LogFormat::Human,
        identity: None,
        volumes: [("mail", "/dev/mail"), ("db", "nbd://db/x"), ("www", "/dev/www")]
            .map(|(name, source)| (name.parse().unwrap(), volume(source)))
            .into(),
        targets: [("spare".parse().unwrap(), Target { path: PathBuf::from("/dev/spare"), overwrite: true })].into(),
        brackets: [("freeze".parse().unwrap(), bracket("/bin/freeze"))].into(),
        warnings: vec![],
    }
}

fn desk() -> Desk {
    Desk::new(Arc::new(config()))
}

fn replicate(volumes: &[&str]) -> Replicate {
    let volumes = volumes.iter().map(|name| name.parse().unwrap()).collect();
    Replicate { volumes, group: false, full: None, label: None, bytes_per_second: 0, bracket: None }
}

fn given(desk: &mut Desk, run: u128, work: Work) -> Result<Option<Order>, Refusal> {
    desk.assign(Assignment { run: Uuid::from_u128(run), work })
}

fn shown(task: &Task) -> String {
    task.words.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ")
}

#[test]
fn what_is_run_is_what_the_configuration_says() {
    let mut desk = desk();
    let full = Some("it is Sunday".to_owned());
    let label = Some("night".parse().unwrap());
    let bracket = Some("freeze".parse().unwrap());
    let group =
        Replicate { group: true, full, label, bytes_per_second: 1 << 20, bracket, ..replicate(&["mail", "db"]) };
    let order = given(&mut desk, 1, Work::Replicate(group)).unwrap().unwrap();
    assert!(order.together);
    assert_eq!(order.bracket.unwrap().1.pre, ["/bin/freeze"]);
    let uuid = "00000000-0000-0000-0000-000000000001";
    let common = "--to backup:7410 --state-dir /srv/state";
    assert_eq!(
        order.tasks.iter().map(shown).collect::<Vec<_>>(),
        [
            format!(
                "replicate {common} --json --volume mail --label=night --bandwidth=524288 --group={uuid}:2 --full -- /dev/mail"
            ),
            format!(
                "replicate {common} --json --volume db --label=night --bandwidth=524288 --group={uuid}:2 --full -- nbd://db/x"
            ),
        ]
    );
    let verify = Work::Verify { volume: "www".parse().unwrap(), point: 0 };
    let order = given(&mut desk, 2, verify).unwrap().unwrap();
    assert_eq!(shown(&order.tasks[0]), format!("verify {common} -- /dev/www www@latest"));
}

#[test]
fn a_restore_goes_to_a_named_target_alone() {
    let mut desk = desk();
    let restore =
        |target: &str| Work::Restore { volume: "other".parse().unwrap(), point: 7, target: target.parse().unwrap() };
    let order = given(&mut desk, 1, restore("spare")).unwrap().unwrap();
    assert_eq!(shown(&order.tasks[0]), "restore --to backup:7410 --state-dir /srv/state --json -- other@7 /dev/spare");
    assert_eq!(order.tasks[0].target, Some(Target { path: "/dev/spare".into(), overwrite: true }));
    let error = given(&mut desk, 2, restore("mail")).unwrap_err();
    assert_eq!(error.text, "the configuration of this agent allows no target mail; it allows: spare");
}

#[test]
fn what_is_not_allowed_is_refused_and_leaves_nothing() {
    let mut desk = desk();
    let bracket = Some("rm".parse().unwrap());
    for (work, text) in [
        (Work::Replicate(replicate(&["etc"])), "allows no volume etc; it allows: db, mail, www"),
        (Work::Replicate(replicate(&["mail", "etc"])), "allows no volume etc"),
        (Work::Replicate(Replicate { bracket, ..replicate(&["mail"]) }), "allows no bracket rm; it allows: freeze"),
        (Work::Replicate(replicate(&["mail", "mail"])), "volume mail is named twice"),
        (Work::Verify { volume: "passwd".parse().unwrap(), point: 1 }, "allows no volume passwd"),
    ] {
        let refusal = given(&mut desk, 1, work).unwrap_err();
        assert!(refusal.kind == ErrorKind::Refused && refusal.text.contains(text), "{refusal:?}");
    }
    assert!(desk.announcement().under_way.is_empty());
}

#[test]
fn a_volume_has_one_run_and_all_have_a_limit() {
    let mut desk = desk();
    given(&mut desk, 1, Work::Replicate(replicate(&["mail"]))).unwrap().unwrap();
    let again = given(&mut desk, 2, Work::Verify { volume: "mail".parse().unwrap(), point: 0 }).unwrap_err();
    assert!(again.kind == ErrorKind::Retry && again.text.contains("volume mail is in use"), "{again:?}");
    assert_eq!(given(&mut desk, 1, Work::Replicate(replicate(&["mail"]))), Ok(None), "a run that is known");
    given(&mut desk, 3, Work::Replicate(replicate(&["db"]))).unwrap().unwrap();
    let many = given(&mut desk, 4, Work::Replicate(replicate(&["www"]))).unwrap_err();
    assert!(many.kind == ErrorKind::Retry && many.text.contains("2 runs are under way"), "{many:?}");
    desk.reported(Report { run: Uuid::from_u128(1), code: 0, text: String::new(), volumes: vec![] });
    given(&mut desk, 5, Work::Replicate(replicate(&["mail"]))).unwrap().unwrap();
}

#[test]
fn a_report_is_kept_and_announced_until_it_is_taken() {
    let mut desk = desk();
    let run = Uuid::from_u128(1);
    given(&mut desk, 1, Work::Replicate(replicate(&["mail"]))).unwrap().unwrap();
    assert!(!desk.taken(run), "it is under way");
    desk.reported(Report { run, code: 0, text: "done".into(), volumes: vec![] });
    assert_eq!((desk.reports().count(), desk.announcement().under_way.len()), (1, 1));
    assert!(desk.taken(run) && !desk.taken(run));
    assert_eq!((desk.reports().count(), desk.announcement().under_way.len()), (0, 0));
}

#[test]
fn a_new_configuration_counts_for_what_comes_and_not_for_what_is_under_way() {
    let mut desk = desk();
    given(&mut desk, 1, Work::Replicate(replicate(&["mail"]))).unwrap().unwrap();
    desk.configure(Arc::new(Config { volumes: BTreeMap::new(), ..config() }));
    assert_eq!(desk.under_way().count(), 1);
    given(&mut desk, 2, Work::Replicate(replicate(&["db"]))).unwrap_err();
    assert!(desk.announcement().volumes.is_empty());
}
