//! The bodies of the messages that are no stream records: what stands between frame header and CRC-32.
//!
//! Invariant: [`Message::put_body`] and [`Message::read_body`] name the same fields in the same order; a body has no
//! version of its own, the session has one.

use super::tap::{put_position, read_position};
use super::{
    ACCEPT, BlockRange, Control, DISCARD, ENROL, FAIL, Failover, GET_PAGES, HELLO, IDENTITY, KEEP, LIST_OVERLAYS,
    LIST_POINTS, LIST_VOLUMES, Message, NEED, NEED_MAX, OVERLAYS, OVERLAYS_MAX, OverlayInfo, PAGES, PAGES_MAX, POINTS,
    POINTS_MAX, PUSH, RANGES_MAX, READ, READ_END, RENEW, STORED, TEXT_MAX, Tap, VOLUMES, VOLUMES_MAX, VolumeInfo,
    WAITING, WELCOME, access,
};
use crate::error::{ErrorKind, Result};
use crate::group::{Group, MEMBERS_MAX};
use crate::layout::{Field, Layout, Reader, check_range, put_record, put_text};
use crate::map::{LEVEL_MAX, PAGE_SIZE};
use crate::point::{Label, Point, Volume, VolumeName};
use crate::session::Cursor;
use bytes::Bytes;

impl Message {
    pub(super) fn put_body(&self, out: &mut Vec<u8>) {
        match self {
            Self::Hello { version, software } => {
                version.put(out);
                put_text(out, software);
            }
            Self::Welcome { version, pool, software, nbd } => {
                version.put(out);
                pool.put(out);
                put_text(out, software);
                put_text(out, nbd);
            }
            Self::Fail { kind, text } => {
                (*kind as u8).put(out);
                put_text(out, shortened(text, TEXT_MAX));
            }
            Self::Volumes(volumes) => put_list(out, volumes, put_volume),
            Self::ListPoints { name, newest } => {
                put_text(out, name.as_str());
                newest.put(out);
            }
            Self::Points { volume, points, protected } => {
                put_list(out, volume.as_slice(), put_volume);
                put_list(out, points, |out, point| put_record(out, &point.encode()));
                put_list(out, protected, |out, number| number.put(out));
            }
            Self::GetPages { volume, point, level, indexes } => {
                volume.put(out);
                point.put(out);
                level.put(out);
                put_list(out, indexes, |out, index| index.put(out));
            }
            Self::Pages(pages) => out.extend_from_slice(pages),
            Self::Read { volume, point, ranges } => {
                volume.put(out);
                point.put(out);
                put_ranges(out, ranges);
            }
            Self::Push { name, label, group, over } => {
                put_new_point(out, name, label.as_ref());
                Group::put(group.as_ref(), out);
                put_list(out, over.as_slice(), put_position);
            }
            Self::Accept { window, cursor, again } => {
                window.put(out);
                cursor.put(out);
                put_ranges(out, again);
            }
            Self::Need { sequence, wanted } => {
                sequence.put(out);
                put_list(out, wanted, |out, wanted| u8::from(*wanted).put(out));
            }
            Self::Waiting { ready, members, lacking } => {
                ready.put(out);
                members.put(out);
                put_text(out, shortened(lacking, TEXT_MAX));
            }
            Self::Stored(point) => out.extend_from_slice(&point.encode()),
            Self::Overlays(overlays) => put_list(out, overlays, put_overlay),
            Self::Keep { volume, point, name, label } => {
                volume.put(out);
                point.put(out);
                put_new_point(out, name, label.as_ref());
            }
            Self::Discard { volume, point, force } => {
                volume.put(out);
                point.put(out);
                u8::from(*force).put(out);
            }
            Self::Enrol { .. } | Self::Renew { .. } | Self::Identity(_) => access::put(self, out),
            Self::ListVolumes | Self::ReadEnd | Self::ListOverlays => {}
            Self::Control(control) => control.put_body(out),
            Self::Tap(tap) => tap.put_body(out),
            Self::Failover(failover) => failover.put_body(out),
            Self::Begin(_) | Self::Offer(_) | Self::Chunk(_) | Self::Commit(_) => {
                unreachable!("stream records are encoded by their own modules")
            }
        }
    }

    pub(super) fn read_body(tag: [u8; 4], r: &mut Reader<'_>, body: &Bytes) -> Result<Self> {
        Ok(match tag {
            HELLO => Self::Hello { version: r.field()?, software: r.text("software", TEXT_MAX)? },
            WELCOME => Self::Welcome {
                version: r.field()?,
                pool: r.field()?,
                software: r.text("software", TEXT_MAX)?,
                nbd: r.text("nbd", TEXT_MAX)?,
            },
            FAIL => Self::Fail { kind: ErrorKind::from_wire(r.field()?)?, text: r.text("text", TEXT_MAX)? },
            LIST_VOLUMES => Self::ListVolumes,
            VOLUMES => Self::Volumes(r.list("volumes", VOLUMES_MAX, read_volume)?),
            LIST_POINTS => Self::ListPoints { name: read_name(r)?, newest: r.field()? },
            POINTS => Self::Points {
                volume: r.list("volume", 1, read_volume)?.pop(),
                points: r.list("points", POINTS_MAX, |r| Point::decode(r.record()?))?,
                protected: r.list("protected", POINTS_MAX, Reader::field)?,
            },
            GET_PAGES => Self::GetPages {
                volume: r.field()?,
                point: r.field()?,
                level: read_level(r)?,
                indexes: r.list("pages", PAGES_MAX, Reader::field)?,
            },
            PAGES => {
                let pages = body.slice_ref(r.take(body.len())?);
                let left_over = (pages.len() % PAGE_SIZE) as u64;
                check_range("Pages", "bytes after the last page", left_over, 0, 0)?;
                Self::Pages(pages)
            }
            READ => Self::Read { volume: r.field()?, point: r.field()?, ranges: read_ranges("Read", r)? },
            READ_END => Self::ReadEnd,
            PUSH => Self::Push {
                name: read_name(r)?,
                label: read_label(r)?,
                group: Group::read("Push", r)?,
                over: r.list("over", 1, read_position)?.pop(),
            },
            ACCEPT => Self::Accept {
                window: r.field()?,
                cursor: Cursor::read("Accept", r)?,
                again: read_ranges("Accept", r)?,
            },
            NEED => Self::Need {
                sequence: r.field()?,
                wanted: r.list("entries", NEED_MAX, |r| read_bool("Need", "wanted", r))?,
            },
            WAITING => read_waiting(r)?,
            STORED => Self::Stored(Point::decode(r.take(body.len())?)?),
            LIST_OVERLAYS => Self::ListOverlays,
            OVERLAYS => Self::Overlays(r.list("overlays", OVERLAYS_MAX, read_overlay)?),
            KEEP => Self::Keep { volume: r.field()?, point: r.field()?, name: read_name(r)?, label: read_label(r)? },
            DISCARD => {
                Self::Discard { volume: r.field()?, point: r.field()?, force: read_bool("Discard", "force", r)? }
            }
            ENROL | RENEW | IDENTITY => access::read(tag, r)?,
            _ => read_other(tag, r, body)?.expect("the caller looked the tag up"),
        })
    }
}

/// The body of a message that belongs to one kind of session.
fn read_other(tag: [u8; 4], r: &mut Reader<'_>, body: &Bytes) -> Result<Option<Message>> {
    if let Some(control) = Control::read_body(tag, r)? {
        return Ok(Some(Message::Control(control)));
    }
    if let Some(tap) = Tap::read_body(tag, r, body)? {
        return Ok(Some(Message::Tap(tap)));
    }
    Ok(Failover::read_body(tag, r)?.map(Message::Failover))
}

pub(super) fn put_list<T>(out: &mut Vec<u8>, items: &[T], put: impl Fn(&mut Vec<u8>, &T)) {
    (items.len() as u32).put(out);
    items.iter().for_each(|item| put(out, item));
}

fn put_ranges(out: &mut Vec<u8>, ranges: &[BlockRange]) {
    put_list(out, ranges, |out, range| {
        range.first.put(out);
        range.count.put(out);
    });
}

fn put_volume(out: &mut Vec<u8>, info: &VolumeInfo) {
    info.status.put(out);
    put_record(out, &info.volume.encode());
}

fn read_volume(r: &mut Reader<'_>) -> Result<VolumeInfo> {
    Ok(VolumeInfo { status: r.layout()?, volume: Volume::decode(r.record()?)? })
}

/// The volume and the label of a point that is to be.
fn put_new_point(out: &mut Vec<u8>, name: &VolumeName, label: Option<&Label>) {
    put_text(out, name.as_str());
    put_optional(out, label, Label::as_str);
}

/// A text that may be missing: then it is empty.
pub(super) fn put_optional<T>(out: &mut Vec<u8>, value: Option<&T>, text: impl Fn(&T) -> &str) {
    put_text(out, value.map_or("", text));
}

fn put_overlay(out: &mut Vec<u8>, info: &OverlayInfo) {
    info.status.put(out);
    put_text(out, info.name.as_str());
}

fn read_overlay(r: &mut Reader<'_>) -> Result<OverlayInfo> {
    Ok(OverlayInfo { status: r.layout()?, name: read_name(r)? })
}

pub(super) fn read_name(r: &mut Reader<'_>) -> Result<VolumeName> {
    r.text("name", crate::point::NAME_MAX)?.parse()
}

pub(super) fn read_label(r: &mut Reader<'_>) -> Result<Option<Label>> {
    let label = r.text("label", crate::point::LABEL_MAX)?;
    if label.is_empty() { Ok(None) } else { label.parse().map(Some) }
}

fn read_waiting(r: &mut Reader<'_>) -> Result<Message> {
    let (ready, members) = (r.field::<u16>()?, r.field::<u16>()?);
    check_range("Waiting", "members", members.into(), 0, MEMBERS_MAX.into())?;
    check_range("Waiting", "ready members", ready.into(), 0, members.into())?;
    Ok(Message::Waiting { ready, members, lacking: r.text("lacking", TEXT_MAX)? })
}

pub(super) fn read_bool(what: &'static str, field: &'static str, r: &mut Reader<'_>) -> Result<bool> {
    let number = r.field::<u8>()?;
    check_range(what, field, number.into(), 0, 1)?;
    Ok(number == 1)
}

fn read_level(r: &mut Reader<'_>) -> Result<u8> {
    let level = r.field::<u8>()?;
    check_range("GetPages", "level", level.into(), 0, LEVEL_MAX.into())?;
    Ok(level)
}

/// Ranges that ascend and do not overlap, so that their ends can be computed and nothing is asked for twice.
fn read_ranges(what: &'static str, r: &mut Reader<'_>) -> Result<Vec<BlockRange>> {
    let ranges = r.list("ranges", RANGES_MAX, |r| Ok(BlockRange { first: r.field()?, count: r.field()? }))?;
    let mut end = 0;
    for range in &ranges {
        check_range(what, "first block", range.first, end, u64::MAX)?;
        check_range(what, "block count", range.count, 1, u64::MAX - range.first)?;
        end = range.first + range.count;
    }
    Ok(ranges)
}

/// At most `max` bytes of a text, cut between characters.
pub(super) fn shortened(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}
