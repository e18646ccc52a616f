//! Who is told of what, and how often.

use super::*;
use crate::config::Event;
use std::cell::Cell;

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// What is told at this time, when the newest point of every volume is of `newest`.
fn told(world: &mut World, now: &str, newest: Option<&str>) -> Vec<Event> {
    world.now = at(now);
    let newest = newest.map(at);
    let (notices, _) = world.scheduler.alarms(&|_| newest, DAY, world.now);
    notices.into_iter().map(|notice| notice.event).collect()
}

fn run(world: &mut World, now: &str, ended: Ended) {
    world.now = at(now);
    assert!(world.start().is_some(), "it is due at {now}");
    world.end(ended);
}

#[test]
fn a_failure_is_told_once_then_daily_and_its_end_once() {
    let mut world = World::new("  p: {run: prune, schedule: '*:00'}\n", "2026-11-21T10:10:00Z");
    assert_eq!(told(&mut world, "2026-11-21T10:11:00Z", None), []);
    run(&mut world, "2026-11-21T11:00:00Z", Ended::Done);
    assert_eq!(told(&mut world, "2026-11-21T11:00:00Z", None), [], "all is well, and was");
    run(&mut world, "2026-11-21T12:00:00Z", Ended::Failed);
    let (notices, _) = world.scheduler.alarms(&|_| None, DAY, world.now);
    assert_eq!(notices.len(), 1);
    assert_eq!((notices[0].event, notices[0].run.as_ref().unwrap().number), (Event::Failure, 2));
    world.scheduler.untold(&notices[0]);
    assert_eq!(told(&mut world, "2026-11-21T12:00:00Z", None), [Event::Failure], "nobody was told");
    run(&mut world, "2026-11-21T13:00:00Z", Ended::Damage);
    assert_eq!(told(&mut world, "2026-11-21T13:00:00Z", None), []);
    world.restart("2026-11-22T11:59:59Z");
    assert_eq!(told(&mut world, "2026-11-22T11:59:59Z", None), [], "a restart tells nothing again");
    assert_eq!(told(&mut world, "2026-11-22T12:00:00Z", None), [Event::Failure], "it still fails a day later");
    run(&mut world, "2026-11-22T12:00:00Z", Ended::Cut);
    assert_eq!(told(&mut world, "2026-11-22T12:00:00Z", None), [], "what was cut is neither");
    run(&mut world, "2026-11-22T12:00:00Z", Ended::Warnings);
    let (notices, _) = world.scheduler.alarms(&|_| None, DAY, world.now);
    world.scheduler.untold(&notices[0]);
    assert_eq!(told(&mut world, "2026-11-22T12:00:00Z", None), [Event::Recovery]);
    assert_eq!(told(&mut world, "2026-11-22T12:00:01Z", None), []);
}

#[test]
fn a_failure_is_told_when_it_is_not_tried_again_before_the_next_time() {
    let mut world = World::new(
        "  a: {replicate: [x], agent: web1, schedule: '*:00', retry: {count: 2, delay: 20m}}\n",
        "2026-11-21T10:10:00Z",
    );
    run(&mut world, "2026-11-21T11:00:00Z", Ended::Failed);
    assert_eq!(told(&mut world, "2026-11-21T11:00:00Z", None), []);
    world.now = at("2026-11-21T11:20:00Z");
    assert!(world.start().is_some());
    assert_eq!(told(&mut world, "2026-11-21T11:20:30Z", None), [], "it is being tried again");
    world.end(Ended::Failed);
    // The third attempt would come when the next time comes.
    assert_eq!(told(&mut world, "2026-11-21T11:21:00Z", None), [Event::Failure]);
}

#[test]
fn falling_behind_and_catching_up_are_told_once_each() {
    let mut world =
        World::new("  a: {replicate: [x, y], agent: web1, schedule: '*:00', rpo: 2h}\n", "2026-11-21T10:10:00Z");
    assert_eq!(told(&mut world, "2026-11-21T12:10:00Z", None), []);
    assert_eq!(told(&mut world, "2026-11-21T12:10:01Z", None), [Event::Behind], "it never had a point");
    assert_eq!(told(&mut world, "2026-11-21T12:11:00Z", Some("2026-11-21T12:10:30Z")), [Event::CaughtUp]);
    assert_eq!(told(&mut world, "2026-11-21T14:10:30Z", Some("2026-11-21T12:10:30Z")), []);
    assert_eq!(told(&mut world, "2026-11-21T14:10:31Z", Some("2026-11-21T12:10:30Z")), [Event::Behind]);
    assert_eq!(told(&mut world, "2026-11-22T14:10:30Z", Some("2026-11-21T12:10:30Z")), []);
    assert_eq!(told(&mut world, "2026-11-22T14:10:31Z", Some("2026-11-21T12:10:30Z")), [Event::Behind], "a day later");
    // The volume that is the furthest behind counts, and when that will be is known.
    let asked = Cell::new(0);
    let newest = |volume: &VolumeName| {
        asked.set(asked.get() + 1);
        Some(at(if volume.as_str() == "y" { "2026-11-22T15:00:00Z" } else { "2026-11-22T16:00:00Z" }))
    };
    let (notices, again) = world.scheduler.alarms(&newest, DAY, at("2026-11-22T16:30:00Z"));
    assert_eq!((notices.len(), notices[0].event, asked.get()), (1, Event::CaughtUp, 2));
    assert_eq!(again, Some(at("2026-11-22T17:00:00Z")));
}
