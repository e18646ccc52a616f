//! Folding what was written over a point, and moments, which are points that are not recorded.

use crate::damage::damage;
use crate::model::*;
use proptest::prelude::*;
use std::ops::Range;
use std::sync::Arc;
use understudy_appliance::error::Result;
use understudy_appliance::fold::{Folded, Overwrites, fold};
use understudy_appliance::overlay::Overlays;
use understudy_appliance::pool::Pool;
use understudy_appliance::pool::live::Lease;
use understudy_appliance::view::PointView;
use understudy_format::ErrorKind;
use understudy_format::journal::Position;
use understudy_format::point::Point;
use uuid::Uuid;

/// Bytes that were written at an offset, none of which meet or touch.
#[derive(Debug, Clone)]
struct Writes(Vec<(u64, Vec<u8>)>);

impl Writes {
    fn over(&self, volume: &[u8]) -> Vec<u8> {
        let mut bytes = volume.to_vec();
        self.apply(0, &mut bytes).unwrap();
        bytes
    }
}

impl Overwrites for Writes {
    fn extents(&self) -> impl Iterator<Item = Range<u64>> {
        self.0.iter().map(|(at, bytes)| *at..at + bytes.len() as u64)
    }

    fn apply(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let end = offset + buffer.len() as u64;
        for (at, bytes) in &self.0 {
            let (from, to) = (offset.max(*at), end.min(at + bytes.len() as u64));
            if from < to {
                buffer[(from - offset) as usize..(to - offset) as usize]
                    .copy_from_slice(&bytes[(from - at) as usize..(to - at) as usize]);
            }
        }
        Ok(())
    }
}

fn folded(pool: &Arc<Pool>, base: &Point, writes: &Writes) -> Result<Folded> {
    let guard = pool.begin_stream(&"v".parse().unwrap(), Uuid::nil())?;
    fold(pool, &guard, base.map, writes)
}

fn writes(size: usize) -> impl Strategy<Value = Writes> {
    prop::collection::vec((0..size, 1..3 * BLOCK, any::<u8>()), 0..8).prop_map(move |runs| {
        let mut bytes: Vec<Option<u8>> = vec![None; size];
        for (start, length, content) in runs {
            bytes[start..(start + length).min(size)].fill(Some(content % 3));
        }
        let mut writes: Vec<(u64, Vec<u8>)> = Vec::new();
        let mut open = false;
        for (at, byte) in bytes.into_iter().enumerate() {
            match (byte, open) {
                (Some(byte), true) => writes.last_mut().unwrap().1.push(byte),
                (Some(byte), false) => writes.push((at as u64, vec![byte])),
                (None, _) => {}
            }
            open = byte.is_some();
        }
        Writes(writes)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_was_written_over_a_point_is_in_the_map(writes in writes(9 * BLOCK)) {
        let (lab, old) = (Lab::quick(), volume(&[1, 0, 3, 4, 0, 6, 7, 1, 9]));
        let pool = lab.open();
        let base = replicate(&pool, None, &old, 1).unwrap();
        let folded = folded(&pool, &base, &writes).unwrap();
        prop_assert_eq!(folded.map, map(&writes.over(&old)));
        let touched = |block: &usize| writes.extents().any(|extent| {
            extent.start < ((block + 1) * BLOCK) as u64 && extent.end > (block * BLOCK) as u64
        });
        prop_assert_eq!(folded.changed_blocks, (0..9).filter(touched).count() as u64);
    }
}

#[test]
fn a_block_that_was_overwritten_as_a_whole_is_not_read_before() {
    let lab = Lab::quick();
    let pool = lab.open();
    let old = volume(&[1, 2, 3]);
    let base = replicate(&pool, None, &old, 1).unwrap();
    damage(&lab, &block(2));
    let error = folded(&pool, &base, &Writes(vec![(BLOCK as u64 + 1, vec![7; 9])])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    let whole = Writes(vec![(BLOCK as u64, block(7))]);
    assert_eq!(folded(&pool, &base, &whole).unwrap().map, map(&whole.over(&old)));
}

#[test]
fn what_lies_outside_of_the_volume_is_refused() {
    let lab = Lab::quick();
    let pool = lab.open();
    let base = replicate(&pool, None, &volume(&[1, 2]), 1).unwrap();
    let error = folded(&pool, &base, &Writes(vec![(2 * BLOCK as u64 - 1, vec![7; 2])])).unwrap_err();
    assert_eq!(error.to_string(), "bytes 8191 to 8193 were written to a volume that has 8192 bytes");
}

/// A moment after the newest point of `v`: at this place in this journal.
fn moment(pool: &Arc<Pool>, journal: u128, sequence: u64, writes: &Writes) -> (Point, Lease) {
    let entry = pool.volume(&"v".parse().unwrap()).unwrap();
    let base = entry.newest().unwrap();
    let held = pool.begin_moment(&entry.volume.uuid, base.number).unwrap();
    let map = fold(pool, &held.0, base.map, writes).unwrap().map;
    let position = Some(Position { journal: Uuid::from_u128(journal), sequence });
    let point = Point { map, position, base: Some(base.number), ..base.clone() };
    pool.open_moment(held, entry.volume.clone(), point, "a test").unwrap()
}

fn read_moment(pool: &Arc<Pool>, point: &Point) -> Vec<u8> {
    let (volume, found) = pool.point(&point.volume, point.number).expect("it is open");
    assert_eq!(found, *point);
    read_view(&PointView::open(pool, &volume, point, "a test").unwrap()).unwrap()
}

#[test]
fn a_moment_is_there_as_long_as_it_is_looked_at() {
    let lab = Lab::quick();
    let pool = lab.open();
    let old = volume(&[1, 2, 3, 0]);
    replicate(&pool, None, &old, 1).unwrap();
    let written = Writes(vec![(5, vec![9; 3 * BLOCK])]);
    let (point, held) = moment(&pool, 5, 17, &written);
    assert!(point.is_moment() && point.number & u64::from(u32::MAX) == 17);
    assert!(read_moment(&pool, &point) == written.over(&old));
    assert_eq!(numbers(&pool), [1], "nobody sees it who does not ask for it");
    let again = moment(&pool, 5, 17, &Writes(Vec::new()));
    assert_eq!(again.0, point, "the same moment is here once");
    let other = moment(&pool, 6, 17, &Writes(Vec::new()));
    assert_ne!(other.0.number, point.number, "the same number in another journal is another moment");
    drop((held, other));
    assert!(read_moment(&pool, &point) == written.over(&old), "somebody still has it");
    drop(again);
    assert!(pool.point(&point.volume, point.number).is_none());
    assert!(pool.lease(&point.volume, point.number, "a test").is_none());
}

#[test]
fn what_a_moment_needs_is_neither_removed_nor_collected_while_it_is_open() {
    let lab = Lab::quick();
    let pool = lab.open();
    let (one, two) = (volume(&(1..80).collect::<Vec<_>>()), volume(&(101..180).collect::<Vec<_>>()));
    replicate(&pool, None, &one, 1).unwrap();
    let written = Writes((0..20).map(|at| (at * 3 * BLOCK as u64, block(1000 + at))).collect());
    let (point, held) = moment(&pool, 5, 17, &written);
    replicate(&pool, Some(&one), &two, 2).unwrap();
    let error = remove(&pool, "v", [1]).unwrap_err();
    let expected = "v@1 is in use by a moment after it that is looked at; try again when it is done";
    assert_eq!((error.kind(), error.to_string()), (ErrorKind::Retry, expected.to_owned()));
    collect(&pool);
    collect(&pool);
    assert!(read_moment(&pool, &point) == written.over(&one));
    drop(held);
    remove(&pool, "v", [1]).unwrap();
    let before = lab.bytes();
    collect(&pool);
    assert!(lab.bytes() < before / 2 + before / 10, "{before} bytes before, {} after", lab.bytes());
    assert!(read(&pool, 2).unwrap() == two);
}

#[test]
fn a_collection_that_began_before_a_moment_keeps_what_it_needs() {
    let lab = Lab::quick();
    let pool = lab.open();
    let old = volume(&(1..80).collect::<Vec<_>>());
    replicate(&pool, None, &old, 1).unwrap();
    replicate_to(&pool, "w", None, &volume(&(500..560).collect::<Vec<_>>()), 2).unwrap();
    remove(&pool, "w", [1]).unwrap();
    // What it writes is what a volume had that is gone: the records are there, and nobody else needs them.
    let written = Writes((0..20).map(|at| (at * 2 * BLOCK as u64, block(500 + at))).collect());
    let (sender, opened) = std::sync::mpsc::channel();
    let (inside, content, own) = (pool.clone(), written.over(&old), written.clone());
    lab.disk.on_read(move || sender.send(moment(&inside, 5, 17, &own)).unwrap());
    collect(&pool);
    let (point, _held) = opened.recv().unwrap();
    assert!(read_moment(&pool, &point) == content);
}

#[test]
fn nothing_is_written_over_a_moment() {
    let lab = Lab::quick();
    let pool = lab.open();
    replicate(&pool, None, &volume(&[1, 2]), 1).unwrap();
    let (point, _held) = moment(&pool, 5, 17, &Writes(Vec::new()));
    let (volume, _) = pool.point(&point.volume, point.number).unwrap();
    let error = Overlays::new(pool.clone()).open(&volume, &point, 9).unwrap_err();
    assert_eq!(
        error.to_string(),
        "that is a moment between two points of v: attach it read-only, or make a point of now with `understudyd fold v` and attach that"
    );
}
