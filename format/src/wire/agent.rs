//! The messages of a control session, which an announcement opens and in which both sides speak at any time.
//!
//! Invariant: [`Control::put_body`] and [`Control::read_body`] name the same fields in the same order. Texts for people are
//! cut to their maximum when they are encoded; names never are.

use super::body::{put_list, put_optional, read_bool, read_label, read_name, shortened};
use super::{Message, TEXT_MAX};
use crate::access::{CLIENT_NAME_MAX, ClientName};
use crate::agent::{
    Announcement, Assignment, BRACKETS_MAX, CODE_MAX, LocalName, OFFERS_MAX, Offer, Progress, REASON_MAX,
    RUN_VOLUMES_MAX, Replicate, Report, SILENCE_MS_MAX, SILENCE_MS_MIN, SOURCE_MAX, TARGETS_MAX, UNDER_WAY_MAX,
    VolumeFigures, VolumeReport, Work,
};
use crate::error::{ErrorKind, Result};
use crate::layout::{Field, Layout, Reader, check_range, put_text};
use crate::point::{Label, NAME_MAX, VolumeName};
use uuid::Uuid;

/// One message of a control session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// Opens the session, or replaces what was announced in it.
    Announce {
        /// Who the agent is.
        name: ClientName,
        /// How long the session may be silent before it counts as lost, milliseconds.
        silence_ms: u32,
        /// What it offers and does.
        announcement: Announcement,
    },
    /// The agent is to do this.
    Assign(Assignment),
    /// The agent does not do it.
    Decline {
        /// The run.
        run: Uuid,
        /// What to do about it.
        kind: ErrorKind,
        /// For people.
        text: String,
    },
    /// How far a run is.
    Progress(Progress),
    /// How a run ended; said again in later sessions until it is taken.
    Report(Report),
    /// The report of this run is taken.
    Taken {
        /// The run.
        run: Uuid,
    },
    /// This run is to end early.
    Cancel {
        /// The run.
        run: Uuid,
    },
    /// Asks for a sign of life.
    Ping,
    /// Gives it.
    Pong,
}

const ANNOUNCE: [u8; 4] = *b"ANNC";
const ASSIGN: [u8; 4] = *b"ASGN";
const DECLINE: [u8; 4] = *b"DECL";
const PROGRESS: [u8; 4] = *b"PRGR";
const REPORT: [u8; 4] = *b"RPRT";
const TAKEN: [u8; 4] = *b"TAKN";
const CANCEL: [u8; 4] = *b"CNCL";
const PING: [u8; 4] = *b"PING";
const PONG: [u8; 4] = *b"PONG";

/// Every tag of a control session, with what it is for.
pub(super) const TAGS: [([u8; 4], &str); 9] = [
    (ANNOUNCE, "Announce"),
    (ASSIGN, "Assign"),
    (DECLINE, "Decline"),
    (PROGRESS, "Progress"),
    (REPORT, "Report"),
    (TAKEN, "Taken"),
    (CANCEL, "Cancel"),
    (PING, "Ping"),
    (PONG, "Pong"),
];

impl From<Control> for Message {
    fn from(control: Control) -> Self {
        Self::Control(control)
    }
}

impl Control {
    pub(super) fn tag(&self) -> [u8; 4] {
        match self {
            Self::Announce { .. } => ANNOUNCE,
            Self::Assign(_) => ASSIGN,
            Self::Decline { .. } => DECLINE,
            Self::Progress(_) => PROGRESS,
            Self::Report(_) => REPORT,
            Self::Taken { .. } => TAKEN,
            Self::Cancel { .. } => CANCEL,
            Self::Ping => PING,
            Self::Pong => PONG,
        }
    }

    pub(super) fn put_body(&self, out: &mut Vec<u8>) {
        match self {
            Self::Announce { name, silence_ms, announcement } => {
                put_text(out, name.as_str());
                silence_ms.put(out);
                put_announcement(out, announcement);
            }
            Self::Assign(assignment) => put_assignment(out, assignment),
            Self::Decline { run, kind, text } => {
                run.put(out);
                (*kind as u8).put(out);
                put_text(out, shortened(text, TEXT_MAX));
            }
            Self::Progress(progress) => put_progress(out, progress),
            Self::Report(report) => put_report(out, report),
            Self::Taken { run } | Self::Cancel { run } => run.put(out),
            Self::Ping | Self::Pong => {}
        }
    }

    /// The body that this tag has; `None` for a tag of another kind of session.
    pub(super) fn read_body(tag: [u8; 4], r: &mut Reader<'_>) -> Result<Option<Self>> {
        Ok(Some(match tag {
            ANNOUNCE => Self::Announce {
                name: r.text("name", CLIENT_NAME_MAX)?.parse()?,
                silence_ms: read_silence(r)?,
                announcement: read_announcement(r)?,
            },
            ASSIGN => Self::Assign(read_assignment(r)?),
            DECLINE => Self::Decline {
                run: r.field()?,
                kind: ErrorKind::from_wire(r.field()?)?,
                text: r.text("text", TEXT_MAX)?,
            },
            PROGRESS => Self::Progress(read_progress(r)?),
            REPORT => Self::Report(read_report(r)?),
            TAKEN => Self::Taken { run: r.field()? },
            CANCEL => Self::Cancel { run: r.field()? },
            PING => Self::Ping,
            PONG => Self::Pong,
            _ => return Ok(None),
        }))
    }
}

fn read_silence(r: &mut Reader<'_>) -> Result<u32> {
    let silence_ms = r.field::<u32>()?;
    check_range("Announce", "silence", silence_ms.into(), SILENCE_MS_MIN.into(), SILENCE_MS_MAX.into())?;
    Ok(silence_ms)
}

fn put_announcement(out: &mut Vec<u8>, announcement: &Announcement) {
    put_list(out, &announcement.volumes, |out, offer| {
        put_text(out, offer.name.as_str());
        offer.size.put(out);
        put_text(out, shortened(&offer.source, SOURCE_MAX));
    });
    put_list(out, &announcement.targets, |out, name| put_text(out, name.as_str()));
    put_list(out, &announcement.brackets, |out, name| put_text(out, name.as_str()));
    put_list(out, &announcement.under_way, put_assignment);
}

fn read_announcement(r: &mut Reader<'_>) -> Result<Announcement> {
    let offer =
        |r: &mut Reader<'_>| Ok(Offer { name: read_name(r)?, size: r.field()?, source: r.text("source", SOURCE_MAX)? });
    Ok(Announcement {
        volumes: r.list("volumes", OFFERS_MAX, offer)?,
        targets: r.list("targets", TARGETS_MAX, read_local)?,
        brackets: r.list("brackets", BRACKETS_MAX, read_local)?,
        under_way: r.list("runs under way", UNDER_WAY_MAX, read_assignment)?,
    })
}

fn read_local(r: &mut Reader<'_>) -> Result<LocalName> {
    r.text("name", NAME_MAX)?.parse()
}

const REPLICATE: u8 = 1;
const VERIFY: u8 = 2;
const RESTORE: u8 = 3;

fn put_assignment(out: &mut Vec<u8>, assignment: &Assignment) {
    assignment.run.put(out);
    match &assignment.work {
        Work::Replicate(replicate) => {
            REPLICATE.put(out);
            put_replicate(out, replicate);
        }
        Work::Verify { volume, point } => {
            VERIFY.put(out);
            put_text(out, volume.as_str());
            point.put(out);
        }
        Work::Restore { volume, point, target } => {
            RESTORE.put(out);
            put_text(out, volume.as_str());
            point.put(out);
            put_text(out, target.as_str());
        }
    }
}

fn read_assignment(r: &mut Reader<'_>) -> Result<Assignment> {
    let run = r.field()?;
    let kind = r.field::<u8>()?;
    check_range("Assign", "kind", kind.into(), REPLICATE.into(), RESTORE.into())?;
    let work = match kind {
        REPLICATE => Work::Replicate(read_replicate(r)?),
        VERIFY => Work::Verify { volume: read_name(r)?, point: r.field()? },
        _ => Work::Restore { volume: read_name(r)?, point: r.field()?, target: read_local(r)? },
    };
    Ok(Assignment { run, work })
}

fn put_replicate(out: &mut Vec<u8>, replicate: &Replicate) {
    put_list(out, &replicate.volumes, |out, name| put_text(out, name.as_str()));
    u8::from(replicate.group).put(out);
    put_text(out, shortened(replicate.full.as_deref().unwrap_or_default(), REASON_MAX));
    put_optional(out, replicate.label.as_ref(), Label::as_str);
    replicate.bytes_per_second.put(out);
    put_optional(out, replicate.bracket.as_ref(), LocalName::as_str);
}

fn read_replicate(r: &mut Reader<'_>) -> Result<Replicate> {
    let volumes: Vec<VolumeName> = r.list("volumes", RUN_VOLUMES_MAX, read_name)?;
    check_range("Assign", "volumes", volumes.len() as u64, 1, RUN_VOLUMES_MAX.into())?;
    Ok(Replicate {
        volumes,
        group: read_bool("Assign", "group", r)?,
        full: Some(r.text("reason", REASON_MAX)?).filter(|reason| !reason.is_empty()),
        label: read_label(r)?,
        bytes_per_second: r.field()?,
        bracket: match r.text("bracket", NAME_MAX)? {
            none if none.is_empty() => None,
            name => Some(name.parse()?),
        },
    })
}

fn put_progress(out: &mut Vec<u8>, progress: &Progress) {
    progress.run.put(out);
    put_text(out, progress.volume.as_str());
    progress.done.put(out);
    progress.total.put(out);
    put_text(out, shortened(&progress.text, TEXT_MAX));
}

fn read_progress(r: &mut Reader<'_>) -> Result<Progress> {
    let (run, volume, done, total) = (r.field()?, read_name(r)?, r.field()?, r.field()?);
    Ok(Progress { run, volume, done, total, text: r.text("text", TEXT_MAX)? })
}

fn put_report(out: &mut Vec<u8>, report: &Report) {
    report.run.put(out);
    report.code.put(out);
    put_text(out, shortened(&report.text, TEXT_MAX));
    put_list(out, &report.volumes, |out, volume| {
        volume.figures.put(out);
        put_text(out, volume.volume.as_str());
        put_text(out, shortened(&volume.full_reason, REASON_MAX));
        put_text(out, shortened(&volume.text, TEXT_MAX));
    });
}

fn read_report(r: &mut Reader<'_>) -> Result<Report> {
    let (run, code, text) = (r.field()?, r.field()?, r.text("text", TEXT_MAX)?);
    check_code(code)?;
    Ok(Report { run, code, text, volumes: r.list("volumes", RUN_VOLUMES_MAX, read_volume_report)? })
}

fn check_code(code: u8) -> Result<()> {
    check_range("Report", "code", code.into(), 0, CODE_MAX.into())
}

fn read_volume_report(r: &mut Reader<'_>) -> Result<VolumeReport> {
    let figures: VolumeFigures = r.layout()?;
    check_code(figures.code)?;
    let volume = read_name(r)?;
    Ok(VolumeReport { volume, figures, full_reason: r.text("reason", REASON_MAX)?, text: r.text("text", TEXT_MAX)? })
}
