//! Journals that become points, and moments between points: each is what the primary was, to the byte.

use crate::client::{Client, shared};
use crate::model::*;
use std::sync::Arc;
use understudy_appliance::error::{Error, Result};
use understudy_appliance::fold::Folder;
use understudy_appliance::ingest::{Announced, Ingest, Over};
use understudy_appliance::journals::window::Window;
use understudy_appliance::journals::{Follower, Journals};
use understudy_appliance::moments::{self, Opened};
use understudy_appliance::pool::Pool;
use understudy_appliance::view::PointView;
use understudy_format::chunk::Entry;
use understudy_format::journal::{Change, Order, Position};
use understudy_format::point::{Point, VolumeName};
use understudy_format::select::PointName;
use understudy_format::session::Sender;
use understudy_format::stream::Begin;
use understudy_format::wire::{BlockRange, Message, Moment, Tap};
use understudy_net::framed::{Incoming, MessageReader};
use uuid::Uuid;

const BLOCKS: u64 = 12;
const SIZE: u64 = BLOCKS * BLOCK as u64;

/// A primary whose writes are written down, and what it was at each mark.
pub(super) struct Tapped {
    follower: Follower,
    pub(super) journal: Uuid,
    order: Order,
    pub(super) primary: Vec<u8>,
    marks: Vec<(i64, Vec<u8>)>,
}

pub(super) fn name() -> VolumeName {
    "v".parse().unwrap()
}

impl Tapped {
    fn follow(journals: &Arc<Journals>, journal: u128, primary: Vec<u8>) -> Self {
        let journal = Uuid::from_u128(journal);
        let follower = journals.follow(&name(), journal, SIZE, "host".into(), 1).unwrap();
        Self { follower, journal, order: Order::new(SIZE, 1, 0), primary, marks: Vec::new() }
    }

    fn enter(&mut self, time_ns: i64, change: Change, payload: &[u8]) {
        let entry = self.order.make(time_ns, change, payload);
        let durable = self.follower.append(entry.sequence, &[&entry.encode(), payload].concat()).unwrap();
        assert_eq!(durable, entry.sequence);
    }

    pub(super) fn write(&mut self, time_ns: i64, offset: u64, bytes: &[u8]) {
        self.primary[offset as usize..offset as usize + bytes.len()].copy_from_slice(bytes);
        self.enter(time_ns, Change::Write { offset, length: bytes.len() as u64 }, bytes);
    }

    fn zero(&mut self, time_ns: i64, offset: u64, length: u64) {
        self.primary[offset as usize..(offset + length) as usize].fill(0);
        self.enter(time_ns, Change::Zero { offset, length }, &[]);
    }

    pub(super) fn mark(&mut self, time_ns: i64) {
        self.enter(time_ns, Change::Mark, &[]);
        self.marks.push((time_ns, self.primary.clone()));
    }

    fn position(&self, sequence: u64) -> Position {
        Position { journal: self.journal, sequence }
    }

    fn here(&self) -> Position {
        self.position(self.order.next() - 1)
    }
}

/// Brings a stream that was read while a journal was written, and does `meanwhile` before its commit.
fn resynchronise(
    pool: &Arc<Pool>,
    journals: &Arc<Journals>,
    (old, read): (Option<&[u8]>, &[u8]),
    position: Position,
    meanwhile: impl FnOnce(),
) -> Result<Point> {
    let begin: Begin = begin(old, read, 1 + u128::from(pool.volume(&name()).is_some()));
    let over = Some(Over { journals: journals.clone(), position });
    let announced = Announced { over, ..announced("v", 1) };
    let (mut sender, mut ingest) = (Sender::online(begin, 4), Ingest::begin(pool.clone(), announced, begin)?);
    feed(&mut sender, &mut ingest, old, read, usize::MAX)?;
    meanwhile();
    ingest.commit(&sender.commit(map(read).root()).map_err(Error::from)?)
}

/// A pool with a volume that is followed, and its first point.
pub(super) fn followed(lab: &Lab) -> (Arc<Pool>, Arc<Journals>, Tapped) {
    let pool = lab.open();
    let journals = Arc::new(Journals::open(&pool).unwrap());
    let primary = volume(&[1, 2, 3, 4, 0, 6, 7, 8, 9, 10, 11, 12]);
    let tap = Tapped::follow(&journals, 5, primary.clone());
    resynchronise(&pool, &journals, (None, &primary), tap.position(0), || ()).unwrap();
    (pool, journals, tap)
}

fn fold(pool: &Arc<Pool>, journals: &Arc<Journals>, now_ns: i64) -> Result<Option<Point>> {
    let name = name();
    let folded = Folder { pool, journals, name: &name }.fold(Uuid::from_u128(now_ns as u128), now_ns)?;
    Ok(folded.map(|(_, point)| point))
}

fn open(pool: &Arc<Pool>, journals: &Arc<Journals>, at_ns: i64) -> Option<Opened> {
    moments::open(pool, journals, &name(), at_ns).unwrap()
}

fn content(pool: &Arc<Pool>, opened: &Opened) -> Vec<u8> {
    read_view(&PointView::open(pool, &opened.volume, &opened.point, "a test").unwrap()).unwrap()
}

#[test]
fn a_stream_that_was_read_during_writes_becomes_one_moment() {
    let lab = Lab::quick();
    let pool = lab.open();
    let journals = Arc::new(Journals::open(&pool).unwrap());
    let mut tap = Tapped::follow(&journals, 5, volume(&[1, 2, 3, 4, 0, 6, 7, 8, 9, 10, 11, 12]));
    tap.write(100, 10, &[7; 5000]);
    let (position, mut read) = (tap.here(), tap.primary.clone());
    // One half is read before these, and the other one after the first of them.
    tap.write(200, 3 * BLOCK as u64 + 1, &[8; 3 * BLOCK]);
    read[6 * BLOCK..].copy_from_slice(&tap.primary[6 * BLOCK..]);
    let point = resynchronise(&pool, &journals, (None, &read), position, || {
        tap.zero(300, 10 * BLOCK as u64, BLOCK as u64 + 9);
    })
    .unwrap();
    assert!(super::model::read(&pool, 1).unwrap() == tap.primary);
    assert_eq!((point.position, point.created_ns), (Some(tap.here()), 300));
    assert_eq!(point.map, map(&tap.primary));
    drop((tap, journals));
    lab.also_reopened(pool, |pool| assert_eq!(pool.volume(&name()).unwrap().newest(), Some(&point)));
}

#[test]
fn a_stream_over_a_journal_is_taken_only_while_that_is_followed() {
    let lab = Lab::quick();
    let (pool, journals, mut tap) = followed(&lab);
    let (old, new) = (tap.primary.clone(), volume(&[9, 2, 3, 4, 0, 6, 7, 8, 9, 10, 11, 12]));
    let error = |position, tap: Option<Tapped>| {
        resynchronise(&pool, &journals, (Some(&old), &new), position, || drop(tap)).unwrap_err().to_string()
    };
    let other = Position { journal: Uuid::from_u128(6), sequence: 0 };
    assert_eq!(
        error(other, None),
        "volume v is followed by the tap of host, which alone writes to it; stop that tap first"
    );
    let ahead = error(tap.position(3), None);
    assert_eq!(
        ahead,
        format!("the stream was read after entry 3 of journal {}, which is here up to 0 only", tap.journal)
    );
    tap.write(100, 0, b"x");
    let gone = error(tap.position(0), Some(tap));
    assert!(gone.starts_with("volume v is not followed at present"), "{gone}");
    assert_eq!(numbers(&pool), [1]);
}

#[test]
fn a_journal_becomes_a_point_at_its_newest_mark() {
    let lab = Lab::quick();
    let (pool, journals, mut tap) = followed(&lab);
    assert_eq!(fold(&pool, &journals, 1000).unwrap(), None, "nothing was written");
    tap.write(100, 5, b"first");
    tap.mark(200);
    let marked = tap.here();
    tap.write(300, 5, b"later");
    let point = fold(&pool, &journals, 1000).unwrap().unwrap();
    assert!(read(&pool, 2).unwrap() == tap.marks[0].1);
    assert_eq!((point.position, point.created_ns, point.base), (Some(marked), 200, Some(1)));
    assert_eq!(point.changed_blocks, 1);
    let last = fold(&pool, &journals, 1001).unwrap().unwrap();
    assert!(read(&pool, 3).unwrap() == tap.primary, "without a mark it is the end");
    assert_eq!(last.position, Some(tap.here()));
    tap.mark(400);
    assert_eq!(fold(&pool, &journals, 1002).unwrap(), None, "a mark alone changes nothing");
    tap.write(500, 9, b"z");
    assert_eq!(fold(&pool, &journals, 350).unwrap().unwrap().created_ns, 350, "a clock that is ahead hides nothing");
}

#[test]
fn the_rest_of_a_journal_is_folded_when_the_next_one_begins() {
    let lab = Lab::quick();
    let (pool, journals, mut tap) = followed(&lab);
    tap.mark(100);
    tap.write(200, 0, b"after the mark");
    let (end, primary) = (tap.here(), tap.primary.clone());
    drop(tap);
    let next = Tapped::follow(&journals, 6, primary.clone());
    assert_eq!(fold(&pool, &journals, 1000).unwrap().unwrap().position, Some(end));
    assert!(read(&pool, 2).unwrap() == primary);
    resynchronise(&pool, &journals, (Some(&primary), &primary), next.position(0), || ()).unwrap();
    assert_eq!(numbers(&pool), [1, 2, 3]);
}

/// Its tap waits for a point that goes up to there.
#[test]
fn a_journal_that_ended_with_a_mark_is_folded_up_to_that() {
    let lab = Lab::quick();
    let (pool, journals, mut tap) = followed(&lab);
    tap.mark(100);
    let (end, primary) = (tap.here(), tap.primary.clone());
    assert_eq!(fold(&pool, &journals, 1000).unwrap(), None);
    drop(tap);
    let _next = Tapped::follow(&journals, 6, primary.clone());
    assert_eq!(fold(&pool, &journals, 1000).unwrap().unwrap().position, Some(end));
    assert!(read(&pool, 2).unwrap() == primary);
}

#[test]
fn a_state_that_another_stream_brought_is_not_taken_back() {
    let lab = Lab::quick();
    let (pool, journals, mut tap) = followed(&lab);
    tap.write(100, 0, b"never seen");
    tap.mark(200);
    drop(tap);
    let (old, new) = (read(&pool, 1).unwrap(), volume(&[5; 12]));
    replicate(&pool, Some(&old), &new, 300).unwrap();
    assert_eq!(fold(&pool, &journals, 1000).unwrap(), None);
    assert!(read(&pool, 2).unwrap() == new);
}

/// Writes of all sizes, with marks, some of which become points.
fn history(pool: &Arc<Pool>, journals: &Arc<Journals>, tap: &mut Tapped) {
    for step in 0..40_u64 {
        let time = 1000 + step as i64 * 10;
        let (offset, length) = (step * 7919 % (SIZE - 9000), 1 + step * 613 % 9000);
        match step % 5 {
            4 => tap.zero(time, offset, length),
            _ => tap.write(time, offset, &vec![step as u8 + 1; length as usize]),
        }
        if step % 3 == 1 {
            tap.mark(time + 1);
        }
        if step % 12 == 7 {
            fold(pool, journals, time + 2).unwrap().unwrap();
        }
    }
}

#[test]
fn every_mark_can_be_opened_and_is_what_the_primary_was() {
    let lab = Lab::quick();
    let (pool, journals, mut tap) = followed(&lab);
    history(&pool, &journals, &mut tap);
    let points = numbers(&pool);
    let all = moments::list(&pool, &journals, &name(), (i64::MIN, i64::MAX), 100).unwrap();
    assert_eq!(
        all.iter().map(|moment| moment.time_ns).collect::<Vec<_>>(),
        tap.marks.iter().map(|mark| mark.0).collect::<Vec<_>>()
    );
    let check = || {
        for ((time, primary), moment) in tap.marks.iter().zip(&all) {
            for at in [*time, time + 9] {
                let opened = open(&pool, &journals, at).unwrap();
                assert!(content(&pool, &opened) == *primary, "at {at}");
                assert_eq!(opened.point.created_ns, *time);
                assert!(moment.point <= *points.last().unwrap());
            }
        }
    };
    check();
    collect(&pool);
    check();
    assert_eq!(numbers(&pool), points, "nothing was recorded");
    assert_eq!(open(&pool, &journals, i64::MAX).unwrap().point.created_ns, tap.marks.last().unwrap().0);
    let newest = moments::list(&pool, &journals, &name(), (i64::MIN, i64::MAX), 2).unwrap();
    assert_eq!(newest, all[all.len() - 2..]);
    // Without the points between them they are still there.
    remove(&pool, "v", points[1..points.len() - 1].iter().copied()).unwrap();
    check();
}

#[test]
fn marks_after_entries_that_are_gone_are_no_moments() {
    let lab = Lab::quick();
    let (pool, journals, mut tap) = followed(&lab);
    let write = |tap: &mut Tapped, times: std::ops::Range<i64>| {
        for time in times {
            tap.write(time * 10, time as u64 * 17, &vec![time as u8; 9000]);
            tap.mark(time * 10 + 1);
        }
    };
    write(&mut tap, 1..100);
    let folded = fold(&pool, &journals, 1000).unwrap().unwrap();
    write(&mut tap, 100..200);
    let through = fold(&pool, &journals, 2000).unwrap().unwrap().position.unwrap();
    assert!(journals.trim(&name(), through, i64::MAX).unwrap() > 0);
    remove(&pool, "v", [folded.number]).unwrap();
    let first = journals.first(&name(), &tap.journal).unwrap();
    assert!(first > folded.position.unwrap().sequence + 1 && first < through.sequence, "some marks are kept: {first}");
    let listed = moments::list(&pool, &journals, &name(), (i64::MIN, i64::MAX), 1000).unwrap();
    assert_eq!(
        listed.iter().map(|moment| (moment.sequence, moment.point)).collect::<Vec<_>>(),
        [(through.sequence, 3)]
    );
    assert_eq!(open(&pool, &journals, 1990).unwrap().point.number, 1, "the newest that is there");
    assert_eq!(open(&pool, &journals, 1991).unwrap().point.number, 3);
}

#[test]
fn a_moment_that_is_a_point_is_that_point() {
    let lab = Lab::quick();
    let (pool, journals, mut tap) = followed(&lab);
    tap.write(100, 5, b"first");
    tap.mark(200);
    fold(&pool, &journals, 1000).unwrap().unwrap();
    assert_eq!(open(&pool, &journals, 200).unwrap().point.number, 2);
    tap.mark(300);
    assert_eq!(open(&pool, &journals, i64::MAX).unwrap().point.number, 2, "nothing was written between them");
    assert_eq!(open(&pool, &journals, 150).unwrap().point.number, 1, "there was no mark yet");
    assert!(open(&pool, &journals, 0).is_none());
    assert!(moments::open(&pool, &journals, &"w".parse().unwrap(), 200).unwrap().is_none());
}

#[test]
fn an_open_moment_is_found_by_its_time_its_number_and_now() {
    let lab = Lab::quick();
    let (pool, journals, mut tap) = followed(&lab);
    tap.write(1_000_000_100, 5, b"first");
    tap.mark(1_000_000_200);
    let opened = open(&pool, &journals, i64::MAX).unwrap();
    let shown = PointName::of(&opened.volume.name, &opened.point).to_string();
    assert_eq!(shown, "v@1970-01-01T00:00:01.0000002Z");
    for name in [shown, "v@now".into(), format!("v@{}", opened.point.number)] {
        let wanted = PointName::parse(&name, &jiff::tz::TimeZone::UTC).unwrap();
        let found = moments::find(&pool, &journals, &wanted).unwrap().unwrap();
        assert_eq!(found.point, opened.point, "{name}");
    }
    let newest = PointName::parse("v", &jiff::tz::TimeZone::UTC).unwrap();
    assert_eq!(
        moments::find(&pool, &journals, &newest).unwrap().unwrap().point.number,
        1,
        "points alone are the newest"
    );
}

#[test]
fn moments_of_a_journal_stay_when_another_one_has_no_point_yet() {
    let lab = Lab::quick();
    let (pool, journals, mut tap) = followed(&lab);
    tap.write(100, 5, b"first");
    tap.mark(200);
    let (marked, primary) = (tap.primary.clone(), tap.primary.clone());
    drop(tap);
    let mut next = Tapped::follow(&journals, 6, primary);
    next.write(300, 0, b"second");
    next.mark(400);
    let opened = open(&pool, &journals, 500).unwrap();
    assert!(content(&pool, &opened) == marked);
    let all = moments::list(&pool, &journals, &name(), (i64::MIN, i64::MAX), 100).unwrap();
    assert_eq!(
        all.iter().map(|moment| moment.time_ns).collect::<Vec<_>>(),
        [200],
        "of the other nothing can be opened"
    );
}

#[test]
fn the_point_before_the_oldest_moment_that_is_kept_is_known() {
    const HOUR: i64 = 3600 * 1_000_000_000;
    let lab = Lab::quick();
    let (pool, journals, mut tap) = followed(&lab);
    for hour in 1..6 {
        tap.write(hour * HOUR, 0, &[hour as u8; 9]);
        tap.mark(hour * HOUR);
        fold(&pool, &journals, hour * HOUR).unwrap().unwrap();
    }
    let entry = pool.volume(&name()).unwrap();
    let window = Window::of(&entry.settings).unwrap();
    let base = |now: i64| window.oldest_base(&entry.points, now).map(|point| point.number);
    assert_eq!([23, 24, 26, 27, 99].map(|hour| base(hour * HOUR)), [None, None, Some(3), Some(4), Some(6)]);
}

/// Whatever fails in the middle: the points that there are stay, and another try makes the same point.
#[test]
fn a_fold_that_fails_anywhere_is_made_up_for() {
    for n in 1.. {
        let lab = Lab::quick();
        let (pool, journals, mut tap) = followed(&lab);
        tap.write(100, 5, &[9; 5 * BLOCK]);
        tap.mark(200);
        lab.disk.fail_at(n, 28);
        let folded = fold(&pool, &journals, 1000);
        let failed = lab.disk.failed();
        assert_eq!(folded.is_err(), failed && numbers(&pool) == [1], "operation {n}");
        let (primary, journal) = (tap.primary.clone(), tap.journal);
        drop((tap, journals, pool));
        let pool = lab.open();
        let journals = Arc::new(Journals::open(&pool).unwrap());
        let _follower = journals.follow(&name(), journal, SIZE, "host".into(), 1).unwrap();
        fold(&pool, &journals, 1001).unwrap();
        assert_eq!(numbers(&pool), [1, 2], "operation {n}");
        assert!(read(&pool, 2).unwrap() == primary);
        if !failed {
            break;
        }
    }
}

/// The bytes of all blocks that chunks bring, up to the end of the answer.
async fn received(reader: &mut MessageReader<Incoming>) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        match reader.expect("a chunk").await.unwrap() {
            Message::Chunk(chunk) => chunk.head.blocks().for_each(|(_, entry)| match entry {
                Entry::Zero { count } => bytes.resize(bytes.len() + *count as usize * BLOCK, 0),
                entry => bytes.extend_from_slice(&chunk.encoded(entry).unwrap().1),
            }),
            Message::ReadEnd => return bytes,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_session_lists_opens_reads_and_holds_moments_until_it_ends() {
    let lab = Lab::quick();
    let (pool, journals, mut tap) = followed(&lab);
    tap.write(100, 5, b"first");
    tap.mark(200);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let Client { mut reader, mut writer, session } = Client::new(&shared(&pool, &journals)).await;
        writer.send(&Tap::ListMoments { name: name(), from_ns: 0, to_ns: 999, newest: 9 }.into()).await.unwrap();
        let moments = vec![Moment { time_ns: 200, sequence: 2, point: 1 }];
        assert_eq!(reader.expect("Moments").await.unwrap(), Tap::Moments(moments).into());

        writer.send(&Tap::OpenMoment { name: name(), at_ns: 999 }.into()).await.unwrap();
        let Message::Points { volume: Some(_), points, .. } = reader.expect("Points").await.unwrap() else { panic!() };
        let [point] = &points[..] else { panic!("{points:?}") };
        assert_eq!((point.created_ns, point.position), (200, Some(tap.here())));
        collect(&pool);
        let ranges = vec![BlockRange { first: 0, count: BLOCKS }];
        writer.send(&Message::Read { volume: point.volume, point: point.number, ranges }).await.unwrap();
        assert!(received(&mut reader).await == tap.primary);

        writer.send(&Tap::OpenMoment { name: name(), at_ns: -1 }.into()).await.unwrap();
        let Message::Points { volume: Some(_), points: none, .. } = reader.expect("Points").await.unwrap() else {
            panic!()
        };
        assert_eq!(none, []);
        for opened in 1..=64 {
            writer.send(&Tap::OpenMoment { name: name(), at_ns: 999 }.into()).await.unwrap();
            let answer = reader.expect("Points").await;
            assert_eq!(answer.is_err(), opened == 64, "{answer:?}");
        }
        assert!(pool.point(&point.volume, point.number).is_some(), "it is held as long as the session");
        writer.close().await.unwrap();
        session.await.unwrap().unwrap();
        assert!(pool.point(&point.volume, point.number).is_none(), "and no longer");
    });
}
