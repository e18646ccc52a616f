//! One value for every message of a control session: what the golden vectors hold.
//!
//! Invariant: as for the other samples, none is ever changed once its vector was released.

use crate::samples::{point, uuid, volume};
use understudy_format::agent::{
    Announcement, Assignment, Offer, Progress, Replicate, Report, VolumeFigures, VolumeReport, Work,
};
use understudy_format::error::ErrorKind;
use understudy_format::wire::{Control, Message};

/// Every message of a control session, by the name of its vector.
pub fn messages() -> Vec<(&'static str, Message)> {
    let run = uuid(5);
    let assign = |work| Control::Assign(Assignment { run, work });
    let controls = vec![
        ("announce", announce(announcement())),
        ("announce-nothing", announce(Announcement::default())),
        ("assign-replicate", assign(Work::Replicate(group()))),
        ("assign-replicate-plainly", assign(Work::Replicate(plainly()))),
        ("assign-verify", assign(Work::Verify { volume: volume().name, point: 0 })),
        ("assign-restore", assign(restore())),
        ("decline", Control::Decline { run, kind: ErrorKind::Retry, text: "größer".into() }),
        ("run-progress", Control::Progress(progress())),
        ("report", Control::Report(report())),
        ("report-failed", Control::Report(Report { run, code: 1, text: "no such device".into(), volumes: vec![] })),
        ("taken", Control::Taken { run }),
        ("cancel", Control::Cancel { run }),
        ("ping", Control::Ping),
        ("pong", Control::Pong),
    ];
    controls.into_iter().map(|(name, control)| (name, control.into())).collect()
}

fn announce(announcement: Announcement) -> Control {
    Control::Announce { name: "host-1.example".parse().unwrap(), silence_ms: 30_000, announcement }
}

fn announcement() -> Announcement {
    let offer = |name: &str, size, source: &str| Offer { name: name.parse().unwrap(), size, source: source.into() };
    Announcement {
        volumes: vec![offer("mail", 1 << 40, "/dev/vg/mail"), offer("db", 0, "nbd://db.example/db")],
        targets: vec!["spare".parse().unwrap()],
        brackets: vec!["freeze".parse().unwrap()],
        under_way: vec![Assignment { run: uuid(6), work: restore() }],
    }
}

fn group() -> Replicate {
    Replicate {
        volumes: vec!["mail".parse().unwrap(), "db".parse().unwrap()],
        group: true,
        full: Some("it is the first of the month".into()),
        label: point().label,
        bytes_per_second: 50 << 20,
        bracket: Some("freeze".parse().unwrap()),
    }
}

fn plainly() -> Replicate {
    Replicate {
        volumes: vec![volume().name],
        group: false,
        full: None,
        label: None,
        bytes_per_second: 0,
        bracket: None,
    }
}

fn restore() -> Work {
    Work::Restore { volume: volume().name, point: 7, target: "spare".parse().unwrap() }
}

fn progress() -> Progress {
    Progress { run: uuid(5), volume: volume().name, done: 1 << 30, total: 1 << 40, text: "full: first point".into() }
}

fn report() -> Report {
    let figures = VolumeFigures {
        point: 8,
        read_bytes: 4096,
        changed_bytes: 3072,
        sent_bytes: 2048,
        deduplicated_bytes: 1024,
        wire_bytes: 900,
        duration_ms: 1500,
        code: 3,
        reserved: [0; 7],
    };
    let (full_reason, text) = ("first point of this volume".into(), "the map is not kept".into());
    let volumes = vec![VolumeReport { volume: volume().name, figures, full_reason, text }];
    Report { run: uuid(5), code: 3, text: "done with warnings".into(), volumes }
}
