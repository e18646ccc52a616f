//! Scratch overlays against plain bytes, with the power going off, or the disk failing, at every operation in turn.
//!
//! What a flush acknowledged is there afterwards; what was written since may be there, in part or not, but no sector
//! that nobody wrote to since changes. The point below is what it was, always.

use crate::crash::{name, sparse};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use understudy_appliance::error::Result;
use understudy_appliance::overlay::{Kept, Overlay, Overlays};
use understudy_appliance::pool::Pool;
use understudy_format::nbd::{Errno as NbdErrno, Failure, Span};
use understudy_format::point::{Point, Volume};
use understudy_net::export::{Content, Export, Zeroing};
use understudy_sim::disk::fault::{Errno, Fault};
use understudy_sim::image::Image;
use understudy_sim::machine::Machine;
use understudy_sim::rng::Rng;
use understudy_sim::script::{Run, Step};
use uuid::Uuid;

const SECTOR: u64 = 512;
const STEPS: usize = 40;

/// A point with data, holes and a short end; and the machine that has it.
fn scene(seed: u64) -> (Machine, Arc<Image>) {
    let data: Vec<(usize, u64)> = (0..64).filter(|at| at % 16 < 12).map(|at| (at, at as u64 + 1)).collect();
    let image = Image::of(&sparse(64, &[&data[..], &[(63, 99)]].concat()), 1536);
    let step = Step::Replicate { name: name("v"), image: image.clone(), incremental: false };
    let mut run = Run::new([step].into(), seed);
    run.go().unwrap();
    (run.machine, image)
}

fn point(pool: &Pool) -> (Volume, Point) {
    let entry = pool.volume(&name("v")).expect("the volume");
    (entry.volume.clone(), entry.points[0].clone())
}

fn open(overlays: &Overlays, pool: &Pool) -> Result<Arc<Overlay>> {
    let (volume, point) = point(pool);
    overlays.open(&volume, &point, 5)
}

fn read(export: &dyn Export, range: Range<u64>) -> Vec<u8> {
    let mut bytes = vec![0xEE; (range.end - range.start) as usize];
    if export.read(range.start, &mut bytes).expect("the power is on") == Content::Zeroes {
        bytes.fill(0);
    }
    bytes
}

/// What an overlay is to be.
#[derive(Clone)]
struct Model {
    flushed: Vec<u8>,
    now: Vec<u8>,
    /// Sectors that were written to since the last flush.
    doubtful: BTreeSet<u64>,
}

impl Model {
    fn new(image: &Image) -> Self {
        Self { flushed: image.bytes().to_vec(), now: image.bytes().to_vec(), doubtful: BTreeSet::new() }
    }

    fn doubt(&mut self, range: &Range<u64>) {
        self.doubtful.extend(range.start / SECTOR..range.end.div_ceil(SECTOR));
    }

    fn write(&mut self, range: &Range<u64>, bytes: &[u8]) {
        self.now[range.start as usize..range.end as usize].copy_from_slice(bytes);
    }

    fn flush(&mut self) {
        self.flushed.clone_from(&self.now);
        self.doubtful.clear();
    }

    fn check_after_a_crash(&self, found: &[u8], what: &str) {
        for (sector, (found, flushed)) in (0..).zip(found.chunks(512).zip(self.flushed.chunks(512))) {
            assert!(found == flushed || self.doubtful.contains(&sector), "{what}: sector {sector} changed");
        }
    }
}

/// A range of the export: of any alignment, or of whole granules, or up to its end.
fn any_range(rng: &mut Rng, size: u64) -> Range<u64> {
    let (start, length) = (rng.below(size - 1), 1 + rng.below(5 * 4096));
    let end = (start + length).min(size);
    match rng.below(4) {
        0 => start / 4096 * 4096..end.next_multiple_of(4096).min(size),
        1 => start / 512 * 512..end.next_multiple_of(512).min(size),
        2 if rng.chance(30) => start..size,
        _ => start..end,
    }
}

/// One step of a client, and what it makes of the model.
fn step(export: &dyn Export, model: &mut Model, rng: &mut Rng) -> Result<(), Failure> {
    let range = any_range(rng, model.now.len() as u64);
    let span = Span { offset: range.start, length: range.end - range.start };
    let fua = rng.chance(10);
    match rng.below(10) {
        0 => {
            export.flush()?;
            model.flush();
            return Ok(());
        }
        1 | 2 => {
            model.doubt(&range);
            export.trim(span, fua)?;
            let found = read(export, range.clone());
            let was = &model.now[range.start as usize..range.end as usize];
            assert!(found.iter().zip(was).all(|(found, was)| found == was || *found == 0), "a trim made something up");
            model.write(&range, &found);
        }
        3 | 4 => {
            model.doubt(&range);
            export.write_zeroes(span, Zeroing { fua, no_hole: rng.chance(30), fast: false })?;
            model.write(&range, &vec![0; span.length as usize]);
        }
        _ => {
            model.doubt(&range);
            let byte = 1 + rng.below(255) as u8;
            let bytes = vec![byte; span.length as usize];
            export.write(range.start, &bytes, fua)?;
            model.write(&range, &bytes);
        }
    }
    if fua {
        model.flush();
    }
    Ok(())
}

/// The extents of the whole export: what they call zero reads as zeros.
fn check_extents(export: &dyn Export, model: &Model) {
    let (size, mut from) = (model.now.len() as u64, 0);
    while from < size {
        let span = Span { offset: from, length: size - from };
        for extent in export.extents("base:allocation", span, false).unwrap() {
            let end = (from + extent.length).min(size);
            let is_zero = model.now[from as usize..end as usize].iter().all(|byte| *byte == 0);
            assert!(extent.length > 0 && (extent.flags == 0 || is_zero), "{from}..{end} is told to be zero");
            from = end;
        }
    }
}

fn check_point(pool: &Arc<Pool>, image: &Image) {
    let (volume, point) = point(pool);
    assert_eq!(point.map.root(), image.root());
    let view = understudy_appliance::view::PointView::open(pool, &volume, &point, "a test").unwrap();
    let mut lookup = view.lookup();
    for block in 0..image.geometry().block_count() {
        let block = understudy_format::BlockId(block);
        let content = view.block(&mut lookup, block).unwrap();
        let expected = image.block(block);
        assert!(content.map_or(expected.iter().all(|byte| *byte == 0), |content| content == expected));
    }
}

/// A life of an overlay, until something fails; and whether it was there.
fn life(machine: &mut Machine, model: &mut Model, rng: &mut Rng) -> Result<(), Failure> {
    let pool = machine.start().expect("nothing failed yet").clone();
    let overlays = Overlays::new(pool.clone());
    let overlay = open(&overlays, &pool).map_err(|error| Failure::new(NbdErrno::Io, error.to_string()))?;
    for _ in 0..STEPS {
        step(&*overlay, model, rng)?;
        assert!(read(&*overlay, 0..model.now.len() as u64) == model.now, "what was written is what is read");
        check_extents(&*overlay, model);
    }
    Ok(())
}

fn found(machine: &mut Machine) -> Vec<u8> {
    let pool = machine.start().unwrap().clone();
    let overlays = Overlays::new(pool.clone());
    let overlay = open(&overlays, &pool).unwrap();
    read(&*overlay, 0..overlay.geometry().size)
}

#[test]
fn an_overlay_is_plain_bytes_and_survives_restarts() {
    for seed in 0..20 {
        let (mut machine, image) = scene(seed);
        let (mut model, mut rng) = (Model::new(&image), Rng::new(seed));
        for _ in 0..4 {
            life(&mut machine, &mut model, &mut rng).unwrap();
            let pool = machine.start().unwrap().clone();
            check_point(&pool, &image);
            drop(pool);
            // Not all of it was flushed: a killed daemon loses nothing of it, only a loss of power does.
            machine.kill(&mut rng);
            assert!(found(&mut machine) == model.now, "seed {seed}: what was acknowledged is there");
            if rng.chance(50) {
                machine.lose_power(&mut rng);
                let found = found(&mut machine);
                model.check_after_a_crash(&found, &format!("seed {seed}"));
                (model.now, model.flushed) = (found.clone(), found);
                model.doubtful.clear();
            }
        }
    }
}

#[test]
fn power_cuts_at_every_operation_lose_nothing_that_was_flushed() {
    for seed in 0..5 {
        for cut in 1.. {
            let (mut machine, image) = scene(seed);
            let (mut model, mut rng) = (Model::new(&image), Rng::new(seed));
            let before = machine.disk().operations();
            machine.disk().cut_at(before + cut);
            let result = life(&mut machine, &mut model, &mut rng);
            machine.lose_power(&mut Rng::new(seed + 1000 * cut));
            let found = found(&mut machine);
            model.check_after_a_crash(&found, &format!("seed {seed}, cut {cut}"));
            check_point(machine.start().unwrap(), &image);
            if result.is_ok() {
                assert!(cut > 40, "{cut} operations were tried");
                break;
            }
        }
    }
}

/// A write that failed changes nothing but what it was to write; after a sync that failed the overlay must be opened again.
#[test]
fn failures_at_every_operation_are_told_and_leave_the_rest() {
    for (errno, expected) in [(Errno::NoSpace, NbdErrno::NoSpace), (Errno::Io, NbdErrno::Io)] {
        for at in 1.. {
            let (mut machine, image) = scene(7);
            let pool = machine.start().unwrap().clone();
            let overlays = Overlays::new(pool.clone());
            let overlay = open(&overlays, &pool).unwrap();
            let (mut model, mut rng) = (Model::new(&image), Rng::new(at));
            machine.disk().set_fault(Some(Fault::Fail(machine.disk().operations() + at, errno)));
            let failure = (0..STEPS).find_map(|_| step(&*overlay, &mut model, &mut rng).err());
            machine.disk().set_fault(None);
            let failed = failure.is_some();
            if let Some(failure) = failure {
                assert_eq!(failure.errno, expected, "{failure}");
            }
            if overlay.is_broken() {
                assert_eq!(overlay.read(0, &mut [0]).unwrap_err().errno, NbdErrno::Io);
                drop(overlay);
                let overlay = open(&overlays, &pool).unwrap();
                model.check_after_a_crash(&read(&*overlay, 0..image.bytes().len() as u64), &format!("operation {at}"));
                overlay.write(0, &[1], true).unwrap();
            } else {
                model.flushed.clone_from(&model.now);
                model.check_after_a_crash(&read(&*overlay, 0..image.bytes().len() as u64), &format!("operation {at}"));
                overlay.write(0, &[1], true).unwrap();
            }
            check_point(&pool, &image);
            if !failed {
                assert!(at > 20, "{at} operations were tried");
                break;
            }
        }
    }
}

/// The system goes on showing what a failed sync forgot: a later flush must not acknowledge that.
#[test]
fn what_is_flushed_after_a_sync_that_failed_is_durable() {
    let mut broken = 0;
    for (seed, at) in (0..20).flat_map(|seed| (1..60).map(move |at| (seed, at))) {
        let (mut machine, image) = scene(seed);
        let pool = machine.start().unwrap().clone();
        let overlays = Overlays::new(pool.clone());
        let overlay = open(&overlays, &pool).unwrap();
        let (mut model, mut rng) = (Model::new(&image), Rng::new(seed));
        machine.disk().set_caches(true);
        machine.disk().fail_at(machine.disk().operations() + at, Errno::Io);
        let _ = (0..STEPS).find_map(|_| step(&*overlay, &mut model, &mut rng).err());
        if !overlay.is_broken() {
            continue;
        }
        broken += 1;
        machine.disk().set_fault(None);
        drop(overlay);
        let overlay = open(&overlays, &pool).unwrap();
        let shown = read(&*overlay, 0..image.bytes().len() as u64);
        model.check_after_a_crash(&shown, &format!("seed {seed}, operation {at}"));
        overlay.flush().unwrap();
        drop((overlay, overlays, pool));
        machine.lose_power(&mut rng);
        assert!(found(&mut machine) == shown, "seed {seed}, operation {at}: flushed, and not there");
    }
    assert!(broken > 20, "{broken} syncs failed");
}

#[test]
fn a_full_disk_is_told_as_such_and_keeps_its_reserve() {
    let (mut machine, image) = scene(1);
    let pool = machine.start().unwrap().clone();
    let overlays = Overlays::new(pool.clone());
    let overlay = open(&overlays, &pool).unwrap();
    overlay.write(4096, &[9; 4096], true).unwrap();
    machine.disk().set_limit(Some(machine.disk().space() + 4096));
    let failure = overlay.write(8192, &[8; 4096], false).unwrap_err();
    assert_eq!(failure.errno, NbdErrno::NoSpace);
    assert!(failure.text.contains("kept in reserve"), "{failure}");
    assert_eq!(read(&*overlay, 4096..8192), vec![9; 4096]);
    assert_eq!(read(&*overlay, 8192..12288), image.bytes()[8192..12288]);
    machine.disk().set_limit(None);
    overlay.write(8192, &[8; 4096], true).unwrap();
}

#[test]
fn keeping_at_any_interruption_gives_the_whole_volume_or_none() {
    for cut in 1.. {
        let (mut machine, image) = scene(3);
        let (mut model, mut rng) = (Model::new(&image), Rng::new(3));
        life(&mut machine, &mut model, &mut rng).unwrap();
        let pool = machine.start().unwrap().clone();
        let overlays = Overlays::new(pool.clone());
        let overlay = open(&overlays, &pool).unwrap();
        let now = read(&*overlay, 0..model.now.len() as u64);
        machine.disk().cut_at(machine.disk().operations() + cut);
        let new =
            Kept { name: name("kept"), label: None, uuid: Uuid::from_u128(5), stream: Uuid::from_u128(6), now_ns: 9 };
        let result = overlays.keep(&point(&pool).0.uuid, 1, new);
        drop((pool, overlay, overlays));
        machine.lose_power(&mut Rng::new(cut));
        let pool = machine.start().unwrap().clone();
        let kept = pool.volume(&name("kept"));
        assert!(result.is_err() || kept.is_some(), "an acknowledged volume is there");
        if let Some(entry) = kept {
            let view = understudy_appliance::view::PointView::open(&pool, &entry.volume, &entry.points[0], "a test");
            let view = view.unwrap();
            let mut lookup = view.lookup();
            for (block, expected) in (0..).zip(now.chunks(4096)) {
                let content = view.block(&mut lookup, understudy_format::BlockId(block)).unwrap();
                assert!(content.map_or(expected.iter().all(|byte| *byte == 0), |content| content == expected));
            }
        }
        check_point(&pool, &image);
        if result.is_ok() {
            return assert!(cut > 3, "{cut} operations were tried");
        }
    }
}

#[test]
fn a_point_with_an_overlay_stays_until_that_is_discarded() {
    let (mut machine, _) = scene(2);
    let pool = machine.start().unwrap().clone();
    let (volume, _) = point(&pool);
    let remove = |pool: &Arc<Pool>| pool.remove_points(&name("v"), &[1].into(), 9);
    {
        let overlays = Overlays::new(pool.clone());
        let overlay = open(&overlays, &pool).unwrap();
        overlay.write(0, &[1; 100], true).unwrap();
    }
    let overlays = Overlays::new(pool.clone());
    let refused = remove(&pool).unwrap_err().to_string();
    assert!(refused.contains("a scratch overlay; `understudy attach discard v@1`"), "{refused}");
    let [info] = &overlays.list()[..] else { panic!("one overlay") };
    assert_eq!((info.status.owned_bytes, info.status.connections, info.status.damaged), (4096, 0, 0));
    let refused = overlays.discard(&volume.uuid, 1, false).unwrap_err().to_string();
    assert!(refused.contains("4096 bytes of it were written"), "{refused}");
    let user = open(&overlays, &pool).unwrap();
    let refused = overlays.discard(&volume.uuid, 1, false).unwrap_err().to_string();
    assert!(refused.contains("1 connections use it"), "{refused}");
    overlays.discard(&volume.uuid, 1, true).unwrap();
    assert_eq!(user.read(0, &mut [0; 9]).unwrap_err().errno, NbdErrno::Shutdown);
    assert!(overlays.list().is_empty());
    drop(user);
    remove(&pool).unwrap();
}

#[test]
fn an_overlay_that_cannot_be_opened_keeps_its_point_and_can_be_given_up() {
    let (mut machine, _) = scene(2);
    {
        let pool = machine.start().unwrap().clone();
        open(&Overlays::new(pool.clone()), &pool).unwrap().write(0, &[1], true).unwrap();
    }
    assert!(machine.disk().flip(std::path::Path::new("/pool/overlays/v@1/header"), 60, 1));
    let pool = machine.start().unwrap().clone();
    let overlays = Overlays::new(pool.clone());
    let refused = open(&overlays, &pool).unwrap_err().to_string();
    assert!(refused.contains("discard v@1 --force"), "{refused}");
    assert!(pool.remove_points(&name("v"), &[1].into(), 9).is_err());
    let volume = point(&pool).0.uuid;
    assert!(overlays.discard(&volume, 1, false).is_err());
    overlays.discard(&volume, 1, true).unwrap();
    open(&overlays, &pool).unwrap();
}

#[test]
fn bits_that_cannot_be_read_are_told_and_can_be_given_up() {
    let (mut machine, _) = scene(2);
    let pool = machine.start().unwrap().clone();
    open(&Overlays::new(pool.clone()), &pool).unwrap().write(0, &[1], true).unwrap();
    let owned = std::path::Path::new("/pool/overlays/v@1/owned");
    for slot in 0..2 {
        machine.disk().flip(owned, slot * 4096 + 60, 1);
    }
    // Of the slot that was never written, too.
    let length = machine.disk().content(owned).unwrap().len();
    assert!(length == 4096 || length == 8192, "{length}");
    let overlays = Overlays::new(pool.clone());
    let [info] = &overlays.list()[..] else { panic!("one overlay") };
    assert_eq!((info.status.owned_bytes, info.status.damaged), (0, 1));
    let volume = point(&pool).0.uuid;
    let refused = overlays.discard(&volume, 1, false).unwrap_err().to_string();
    assert!(refused.contains("opened or read"), "{refused}");
    overlays.discard(&volume, 1, true).unwrap();
    open(&overlays, &pool).unwrap();
}
