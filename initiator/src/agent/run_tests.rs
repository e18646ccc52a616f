//! Brackets that fail, hang and are cut, with commands of the system around nothing to read.

use super::*;
use std::path::PathBuf;

/// A bracket whose hooks append to a file what they are told, and then do this.
struct Stage {
    dir: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    fn hook(&self, rest: &str) -> Vec<String> {
        let line = "$UNDERSTUDY_PHASE $UNDERSTUDY_BRACKET [$UNDERSTUDY_VOLUMES] ${UNDERSTUDY_CODE-}";
        let script = format!("echo \"{line}\" >> {}; {rest}", self.log().display());
        vec!["/bin/sh".into(), "-c".into(), script]
    }

    /// Runs an order without volumes to read; the report, and what the hooks wrote.
    async fn run(&self, pre: &str, post: &str, cancelled: bool) -> (Report, String) {
        let limit = Duration::from_millis(300);
        let bracket = Bracket { pre: self.hook(pre), pre_timeout: limit, post: self.hook(post), post_timeout: limit };
        let bracket = Some(("freeze".parse().unwrap(), bracket));
        let order = Order { run: Uuid::from_u128(1), tasks: vec![], together: false, bracket, full: None };
        let (tell, mut told) = mpsc::channel(9);
        let (_cancel, cancel) = watch::channel(cancelled);
        carry_out(order, cancel, tell).await;
        let Some(Told::Ended(report)) = told.recv().await else { panic!("no report") };
        (report, std::fs::read_to_string(self.log()).unwrap_or_default())
    }
}

#[tokio::test]
async fn both_hooks_run_and_are_told_for_what() {
    let (report, log) = Stage::new().run("true", "true", false).await;
    assert_eq!((report.code, log.as_str()), (0, "pre freeze [] \npost freeze [] 0\n"));
}

#[tokio::test]
async fn a_pre_that_fails_fails_the_run_and_post_runs_all_the_same() {
    let (report, log) = Stage::new().run("echo no space >&2; exit 9", "true", false).await;
    assert_eq!(report.code, FAILED);
    assert_eq!(report.text, "pre of bracket freeze: /bin/sh: exit status: 9: no space; nothing was read");
    assert_eq!(log, "pre freeze [] \npost freeze [] 1\n");
}

#[tokio::test]
async fn a_pre_that_hangs_is_ended_and_post_runs_all_the_same() {
    let (report, log) = Stage::new().run("sleep 1000", "true", false).await;
    assert!(report.code == FAILED && report.text.contains("not done after 300ms, and was ended"), "{report:?}");
    assert!(log.ends_with("post freeze [] 1\n"), "{log}");
}

#[tokio::test]
async fn a_post_that_fails_or_hangs_fails_the_run() {
    for post in ["exit 3", "sleep 1000"] {
        let (report, _) = Stage::new().run("true", post, false).await;
        assert!(report.code == FAILED && report.text.starts_with("post of bracket freeze"), "{report:?}");
        assert!(report.text.ends_with("before that: done"), "{report:?}");
    }
}

#[tokio::test]
async fn a_cancellation_ends_pre_and_not_post() {
    let (report, log) = Stage::new().run("sleep 1000", "true", true).await;
    assert!(report.text.contains("ended early, as it was told to"), "{report:?}");
    // The shell may have been ended before it wrote its line.
    assert!(log.ends_with("post freeze [] 1\n"), "{log}");
}

#[tokio::test]
async fn an_agent_that_comes_back_makes_up_for_what_was_open() {
    let stage = Stage::new();
    let limit = Duration::from_secs(10);
    let bracket = Bracket { pre: vec![], pre_timeout: limit, post: stage.hook("true"), post_timeout: limit };
    let (tell, mut told) = mpsc::channel(9);
    let volumes = vec!["mail".parse().unwrap(), "db".parse().unwrap()];
    make_up(Uuid::from_u128(1), volumes, Some(("freeze".parse().unwrap(), bracket)), tell).await;
    let Some(Told::Ended(report)) = told.recv().await else { panic!("no report") };
    assert_eq!((report.code, report.text.as_str()), (FAILED, "the agent ended before the run did"));
    assert_eq!(std::fs::read_to_string(stage.log()).unwrap(), "post freeze [mail db] 1\n");
}

#[test]
fn the_worst_decides_and_is_told() {
    let volume = |name: &str, code| Heard::new(name.parse().unwrap()).report(code, format!("code {code}"));
    assert_eq!(judged(&[volume("a", 0)], false), (0, "done".into()));
    assert_eq!(judged(&[volume("a", 0), volume("b", 3)], false), (3, "b: code 3".into()));
    assert_eq!(judged(&[volume("a", 4), volume("b", 1)], true), (1, "cancelled; a: code 4; b: code 1".into()));
}

#[test]
fn a_target_with_content_is_written_only_where_that_is_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let target = |name: &str, overwrite| Target { path: dir.path().join(name), overwrite };
    assert_eq!(force(&target("new", false)), Ok(None));
    std::fs::write(dir.path().join("empty"), "").unwrap();
    assert_eq!(force(&target("empty", false)), Ok(Some("--force".into())));
    std::fs::write(dir.path().join("full"), "content").unwrap();
    assert_eq!(force(&target("full", true)), Ok(None));
    assert!(force(&target("full", false)).unwrap_err().contains("does not say `overwrite: true`"));
    assert!(force(&Target { path: "/dev/null".into(), overwrite: false }).is_err(), "a device has content");
}
