//! A flipped bit in every page of every segment: nothing wrong is ever returned, and damage costs what it hits.

use crate::crash::{name, sparse};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use understudy_appliance::error::Error;
use understudy_appliance::pool::Pool;
use understudy_appliance::pool::disk::Disk;
use understudy_format::{Digest, ErrorKind};
use understudy_sim::image::{BLOCK, Image};
use understudy_sim::machine::{Machine, POOL};
use understudy_sim::model::{Damage, Model, damage};
use understudy_sim::rng::Rng;
use understudy_sim::script::{Run, Step};

fn steps() -> Arc<[Step]> {
    let replicate = |volume: &str, seeds: &[u64], incremental| Step::Replicate {
        name: name(volume),
        image: Image::of(seeds, 512),
        incremental,
    };
    let first = sparse(300, &[(0, 1), (1, 2), (2, 3), (40, 4), (256, 5), (299, 6)]);
    let second = sparse(300, &[(0, 1), (1, 12), (40, 4), (41, 13), (256, 5), (299, 14)]);
    let many: Vec<u64> = (100..220).collect();
    vec![
        replicate("a", &first, false),
        replicate("b", &many, false),
        replicate("a", &second, true),
        replicate("b", &many[20..], false),
    ]
    .into()
}

/// A page of a segment, and a bit of it.
struct Flip {
    path: PathBuf,
    offset: u64,
    bit: u8,
}

impl Flip {
    fn apply(&self, machine: &Machine) {
        assert!(machine.disk().flip(&self.path, self.offset, self.bit));
    }
}

/// One bit of each page of each segment.
fn flips(machine: &Machine) -> Vec<Flip> {
    let mut rng = Rng::new(7);
    let segments = Path::new(POOL).join("segments");
    let mut flips = Vec::new();
    for name in machine.disk().list(&segments).unwrap() {
        let path = segments.join(name);
        let length = machine.disk().content(&path).unwrap().len() as u64;
        let flip = |page| Flip { path: path.clone(), offset: page * 4096 + rng.below(4096), bit: rng.below(8) as u8 };
        flips.extend((0..length / 4096).map(flip));
    }
    assert!(flips.len() > 60, "{} pages", flips.len());
    flips
}

/// Reads every point that is there; the digests of the records that are damaged.
fn read(model: &Model, pool: &Arc<Pool>) -> BTreeSet<[u8; 32]> {
    let mut damaged = BTreeSet::new();
    for entry in pool.volumes() {
        for point in &entry.points {
            let kept = model.points(&entry.volume.name).iter().find(|kept| kept.number == point.number);
            let found = damage(pool, &entry.volume, point, &*kept.expect("only what was acknowledged").image).unwrap();
            let digests = found.iter().map(|damage| named(damage, entry.volume.name.as_str(), point.number).0);
            damaged.extend(digests);
        }
    }
    damaged
}

/// The digest of the record that is damaged; the error names the place for people.
fn named(damage: &Damage, name: &str, number: u64) -> Digest {
    let Error::At { volume, point, block, offset, source } = &damage.error else { panic!("{}", damage.error) };
    let place = (volume.as_str(), *point, *block, *offset);
    assert_eq!(place, (name, number, damage.block.0, damage.block.0 * BLOCK), "{}", damage.error);
    assert_eq!(source.kind(), ErrorKind::Corrupt, "{}", damage.error);
    match &**source {
        Error::Damaged { digest, .. } | Error::Missing { digest, .. } => *digest,
        other => panic!("{other}"),
    }
}

#[test]
fn a_flipped_bit_damages_one_record_and_says_where() {
    let mut run = Run::new(steps(), 0);
    run.go().unwrap();
    let mut hits = 0;
    for flip in flips(&run.machine) {
        run.machine.stop();
        flip.apply(&run.machine);
        let pool = run.machine.start().unwrap().clone();
        let found = read(&run.model, &pool).len();
        assert!(found <= 1, "{} at {}: {found} records", flip.path.display(), flip.offset);
        hits += found;
        assert_eq!(pool.volumes().iter().map(|entry| entry.points.len()).sum::<usize>(), 4);
        drop(pool);
        flip.apply(&run.machine);
    }
    assert!(hits > 50, "{hits} flips hit a block or page");
    run.machine.stop();
    run.recover().unwrap();
}

#[test]
fn a_flipped_bit_without_an_index_never_brings_wrong_bytes() {
    let mut run = Run::new(steps(), 0);
    run.go().unwrap();
    let mut whole = 0;
    for flip in flips(&run.machine) {
        let mut machine = Machine::with_disk(run.machine.disk().copy());
        flip.apply(&machine);
        let pool = machine.start().unwrap().clone();
        let found = read(&run.model, &pool).len();
        assert!(found <= 1, "{} at {}: {found} records", flip.path.display(), flip.offset);
        whole += usize::from(pool.volumes().iter().map(|entry| entry.points.len()).sum::<usize>() == 4);
    }
    assert!(whole > 50, "{whole} flips left all points");
}
