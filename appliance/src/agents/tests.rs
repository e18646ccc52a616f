//! The registry without sockets: agents that arrive, say something and leave while somebody waits.

use super::session::Seat;
use super::{Agents, Arrival};
use crate::error::{Error, Result};
use crate::upkeep::Told;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use tokio::sync::mpsc::Receiver;
use understudy_format::ErrorKind;
use understudy_format::access::ClientName;
use understudy_format::agent::{Announcement, Assignment, Offer, Progress, Report, VolumeFigures, VolumeReport, Work};
use understudy_format::layout::Layout;
use understudy_format::wire::Control;
use uuid::Uuid;

fn name(name: &str) -> ClientName {
    name.parse().unwrap()
}

fn work() -> Work {
    Work::Verify { volume: "mail".parse().unwrap(), point: 0 }
}

fn announcement(under_way: Vec<Assignment>) -> Announcement {
    let offer = Offer { name: "mail".parse().unwrap(), size: 0, source: "/dev/mail".into() };
    Announcement { volumes: vec![offer], under_way, ..Announcement::default() }
}

fn arrive(agents: &Arc<Agents>, agent: &str, under_way: Vec<Assignment>) -> (Seat, Receiver<Control>) {
    let (software, announcement) = ("test".into(), announcement(under_way));
    Seat::take(agents, Arrival { name: name(agent), software, silence_ms: 1000, announcement }).unwrap()
}

/// Somebody who waits for a run of agent `a`.
struct Waiting {
    stop: Arc<AtomicBool>,
    told: mpsc::Receiver<Told>,
    end: thread::JoinHandle<Result<Report>>,
}

fn wait(agents: &Arc<Agents>) -> Waiting {
    let (agents, stop, (tell, told)) = (agents.clone(), Arc::<AtomicBool>::default(), mpsc::channel());
    let own = stop.clone();
    let carry_out = move || agents.carry_out(&name("a"), work(), &own, &mut |told| tell.send(told).unwrap());
    Waiting { stop, told, end: thread::spawn(carry_out) }
}

fn assigned(outgoing: &mut Receiver<Control>) -> Assignment {
    match outgoing.blocking_recv() {
        Some(Control::Assign(assignment)) => assignment,
        other => panic!("expected an assignment, found {other:?}"),
    }
}

fn report(run: Uuid) -> Report {
    Report { run, code: 0, text: "identical".into(), volumes: vec![] }
}

#[test]
fn a_run_is_told_of_and_reported() {
    let agents = Arc::new(Agents::default());
    let (seat, mut outgoing) = arrive(&agents, "a", vec![]);
    let waiting = wait(&agents);
    let Assignment { run, work: given } = assigned(&mut outgoing);
    assert_eq!(given, work());
    let volume: understudy_format::point::VolumeName = "mail".parse().unwrap();
    let progress = Progress { run, volume: volume.clone(), done: 5, total: 9, text: String::new() };
    assert_eq!(seat.hear(Control::Progress(progress)).unwrap(), None);
    assert_eq!(waiting.told.recv().unwrap().text, "mail: 5 B of 9 B");
    assert_eq!(agents.list()[0].runs[0].progress[&volume], (5, 9));
    assert_eq!(seat.hear(Control::Report(report(run))).unwrap(), Some(Control::Taken { run }));
    assert_eq!(waiting.end.join().unwrap().unwrap(), report(run));
    assert!(agents.list()[0].runs.is_empty());
    assert_eq!(seat.hear(Control::Ping).unwrap(), Some(Control::Pong));
}

#[test]
fn an_agent_tells_only_of_the_volumes_of_its_run_and_commands_no_terminal() {
    let agents = Arc::new(Agents::default());
    let (seat, mut outgoing) = arrive(&agents, "a", vec![]);
    let waiting = wait(&agents);
    let run = assigned(&mut outgoing).run;
    let progress = Progress { run, volume: "db".parse().unwrap(), done: 5, total: 9, text: String::new() };
    seat.hear(Control::Progress(progress)).unwrap();
    assert!(agents.list()[0].runs[0].progress.is_empty());
    let figures = VolumeFigures::get(&[0; VolumeFigures::SIZE]).unwrap();
    let of = |volume: &str| VolumeReport {
        volume: volume.parse().unwrap(),
        figures,
        full_reason: "\x07".into(),
        text: "\x1b[2J".into(),
    };
    let said = Report { text: "a\nb\r".into(), volumes: vec![of("db"), of("mail")], ..report(run) };
    seat.hear(Control::Report(said)).unwrap();
    let heard = waiting.end.join().unwrap().unwrap();
    let mail = VolumeReport { full_reason: "\u{fffd}".into(), text: "\u{fffd}[2J".into(), ..of("mail") };
    assert_eq!((heard.text.as_str(), &heard.volumes[..]), ("a\nb\u{fffd}", &[mail][..]));
}

#[test]
fn a_lost_session_ends_no_run_that_the_agent_still_has() {
    let agents = Arc::new(Agents::default());
    let (seat, mut outgoing) = arrive(&agents, "a", vec![]);
    let waiting = wait(&agents);
    let assignment = assigned(&mut outgoing);
    drop(seat);
    assert!(!agents.list()[0].connected);
    let (seat, _outgoing) = arrive(&agents, "a", vec![assignment.clone()]);
    assert!(agents.list()[0].connected && !waiting.end.is_finished());
    seat.hear(Control::Report(report(assignment.run))).unwrap();
    assert_eq!(waiting.end.join().unwrap().unwrap(), report(assignment.run));
}

#[test]
fn a_run_that_an_agent_comes_back_without_is_lost() {
    let agents = Arc::new(Agents::default());
    let (first, mut outgoing) = arrive(&agents, "a", vec![]);
    let waiting = wait(&agents);
    assigned(&mut outgoing);
    let (_second, _outgoing) = arrive(&agents, "a", vec![]);
    let error = waiting.end.join().unwrap().unwrap_err();
    assert!(matches!(&error, Error::Busy(text) if text.contains("restarted")), "{error}");
    assert!(outgoing.blocking_recv().is_none(), "the earlier session is over");
    drop(first);
    assert!(agents.list()[0].connected, "the end of the earlier session is not that of the later one");
}

#[test]
fn a_run_that_the_appliance_does_not_know_is_listed_until_its_report_is_taken() {
    let agents = Arc::new(Agents::default());
    let run = Uuid::from_u128(7);
    let (seat, _outgoing) = arrive(&agents, "a", vec![Assignment { run, work: work() }]);
    assert_eq!(agents.list()[0].runs[0].work, work());
    assert_eq!(agents.present(), [(name("a"), ["mail".parse().unwrap()].into())].into());
    assert_eq!(seat.hear(Control::Report(report(run))).unwrap(), Some(Control::Taken { run }));
    assert!(agents.list()[0].runs.is_empty());
    assert_eq!(agents.present(), [(name("a"), [].into())].into());
    let [late] = &agents.late()[..] else { panic!("it is kept for who asks") };
    assert_eq!((&late.agent, &late.work, &late.report), (&name("a"), &work(), &report(run)));
    assert!(agents.late().is_empty(), "once");
}

#[test]
fn a_refusal_says_whether_to_try_again() {
    let agents = Arc::new(Agents::default());
    let (seat, mut outgoing) = arrive(&agents, "a", vec![]);
    for (kind, busy) in [(ErrorKind::Retry, true), (ErrorKind::Refused, false)] {
        let waiting = wait(&agents);
        let run = assigned(&mut outgoing).run;
        seat.hear(Control::Decline { run, kind, text: "no".into() }).unwrap();
        let error = waiting.end.join().unwrap().unwrap_err();
        assert_eq!((matches!(error, Error::Busy(_)), error.to_string()), (busy, "no".to_owned()));
    }
}

#[test]
fn who_is_not_there_cannot_be_told() {
    let agents = Arc::new(Agents::default());
    let never = wait(&agents).end.join().unwrap().unwrap_err();
    assert_eq!(never.to_string(), "no agent a was here; there is: none");
    drop(arrive(&agents, "a", vec![]));
    let gone = wait(&agents).end.join().unwrap().unwrap_err();
    assert!(matches!(&gone, Error::Busy(text) if text.starts_with("agent a is not connected since ")), "{gone}");
}

#[test]
fn a_run_that_is_stopped_is_cancelled_and_its_report_waited_for() {
    let agents = Arc::new(Agents::default());
    let (seat, mut outgoing) = arrive(&agents, "a", vec![]);
    let waiting = wait(&agents);
    let run = assigned(&mut outgoing).run;
    waiting.stop.store(true, Ordering::SeqCst);
    assert_eq!(outgoing.blocking_recv(), Some(Control::Cancel { run }));
    let ended = Report { code: 1, ..report(run) };
    seat.hear(Control::Report(ended.clone())).unwrap();
    assert_eq!(waiting.end.join().unwrap().unwrap(), ended);
}

#[test]
fn a_daemon_that_ends_leaves_runs_to_their_agents() {
    let agents = Arc::new(Agents::default());
    let (_seat, mut outgoing) = arrive(&agents, "a", vec![]);
    let waiting = wait(&agents);
    assigned(&mut outgoing);
    agents.close();
    assert!(matches!(waiting.end.join().unwrap(), Err(Error::Closing)));
    assert!(outgoing.try_recv().is_err(), "nothing is cancelled");
}

#[test]
fn a_later_announcement_replaces_what_is_offered_and_no_run() {
    let agents = Arc::new(Agents::default());
    let (seat, mut outgoing) = arrive(&agents, "a", vec![]);
    assert_eq!(agents.offering(&["mail".parse().unwrap()]).unwrap(), name("a"));
    let waiting = wait(&agents);
    let run = assigned(&mut outgoing).run;
    let announcement = Announcement::default();
    let announce =
        |agent| Control::Announce { name: name(agent), silence_ms: 1000, announcement: announcement.clone() };
    seat.hear(announce("a")).unwrap();
    assert!(agents.offering(&["mail".parse().unwrap()]).is_err());
    assert!(seat.hear(announce("b")).is_err(), "an agent announces for itself");
    seat.hear(Control::Report(report(run))).unwrap();
    waiting.end.join().unwrap().unwrap();
}

#[test]
fn two_agents_that_offer_a_volume_are_told_apart_by_name() {
    let agents = Arc::new(Agents::default());
    let _both = (arrive(&agents, "a", vec![]), arrive(&agents, "b", vec![]));
    let error = agents.offering(&["mail".parse().unwrap()]).unwrap_err();
    assert_eq!(error.to_string(), "mail are offered by agents a, b: name one");
}
