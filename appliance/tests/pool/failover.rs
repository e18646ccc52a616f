//! Promoting a volume, and giving it back: nothing that was written is lost, mixed or taken from the side that is not written to.

use crate::model::*;
use crate::moments::{followed, name};
use std::sync::Arc;
use understudy_appliance::error::Result;
use understudy_appliance::failover::Failover;
use understudy_appliance::fold::Folder;
use understudy_appliance::journals::Journals;
use understudy_appliance::overlay::Overlays;
use understudy_appliance::pool::Pool;
use understudy_appliance::secondary::Secondaries;
use understudy_format::follow::Role;
use understudy_format::journal::Position;
use understudy_format::point::Point;
use understudy_format::wire::{Failover as Wire, Message, Tap as Follow};
use understudy_net::export::Export;
use uuid::Uuid;

/// What a daemon has of a pool.
struct Side {
    pool: Arc<Pool>,
    journals: Arc<Journals>,
    overlays: Overlays,
    secondaries: Secondaries,
}

impl Side {
    fn open(pool: Arc<Pool>, journals: Arc<Journals>) -> Self {
        let (overlays, secondaries) = (Overlays::new(pool.clone()), Secondaries::new(pool.clone()));
        Self { pool, journals, overlays, secondaries }
    }

    fn again(lab: &Lab) -> Self {
        let pool = lab.open();
        let journals = Arc::new(Journals::open(&pool).unwrap());
        Self::open(pool, journals)
    }

    fn ask<T>(&self, act: impl FnOnce(&Failover<'_>) -> Result<T>) -> Result<T> {
        let Self { pool, journals, overlays, secondaries } = self;
        act(&Failover { pool, journals, overlays, secondaries, name: &name() })
    }

    fn promote(&self, force: bool) -> Result<(u64, u64)> {
        match self.ask(|failover| failover.promote(force))? {
            Message::Failover(Wire::Promoted { point, generation, .. }) => Ok((point, generation)),
            other => panic!("{}", other.name()),
        }
    }

    /// The points and the generation; `None` when the primary is what is written to already.
    fn fail_back(&self) -> Result<Option<(u64, u64, u64)>> {
        match self.ask(|failover| failover.fail_back())? {
            Message::Failover(Wire::FailingBack { from, to, generation, .. }) => Ok(Some((from, to, generation))),
            Message::Tap(Follow::Following { .. }) => Ok(None),
            other => panic!("{}", other.name()),
        }
    }

    fn write(&self, point: u64, offset: u64, bytes: &[u8]) {
        let entry = self.pool.volume(&name()).unwrap();
        let overlay = self.overlays.open(&entry.volume, entry.point(point).unwrap(), 5).unwrap();
        overlay.write(offset, bytes, true).unwrap();
    }

    fn point(&self, number: u64) -> Point {
        self.pool.volume(&name()).unwrap().point(number).unwrap().clone()
    }

    /// Follows a primary, up to where its journal is here already.
    fn follow(&self, journal: Uuid, primary: &[u8]) -> Result<u64> {
        let follower = self.journals.follow(&name(), journal, primary.len() as u64, "host".into(), 1)?;
        Ok(follower.durable())
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        // Who applies points has the pool, too.
        self.secondaries.stop();
    }
}

/// A volume whose primary wrote, flushed, wrote again, and is gone.
fn orphaned(lab: &Lab) -> (Side, Vec<u8>, Uuid) {
    let (pool, journals, mut tap) = followed(lab);
    tap.write(100, 5, b"flushed");
    tap.mark(200);
    tap.write(300, 9 * BLOCK as u64, b"not flushed, and here");
    let (primary, journal) = (tap.primary.clone(), tap.journal);
    drop(tap);
    (Side::open(pool, journals), primary, journal)
}

fn patched(content: &[u8], offset: usize, bytes: &[u8]) -> Vec<u8> {
    let mut content = content.to_vec();
    content[offset..offset + bytes.len()].copy_from_slice(bytes);
    content
}

#[test]
fn a_promotion_serves_the_end_of_the_journal_and_stays_one() {
    let lab = Lab::quick();
    let (side, primary, _) = orphaned(&lab);
    assert_eq!(side.promote(false).unwrap(), (3, 2));
    assert!(read(&side.pool, 3).unwrap() == primary, "with what came after the last flush");
    side.write(3, 100, b"written here");
    drop(side);
    let side = Side::again(&lab);
    assert_eq!(side.promote(false).unwrap(), (3, 2), "the same again");
    assert_eq!(numbers(&side.pool), [1, 2, 3]);
    assert!(side.overlays.list()[0].status.owned_bytes > 0);
    let folder = Folder { pool: &side.pool, journals: &side.journals, name: &name() };
    assert_eq!(folder.fold(Uuid::from_u128(9), 9).unwrap(), None, "the journal is at its end");
}

#[test]
fn the_old_primary_and_streams_are_refused_while_the_volume_is_promoted() {
    let lab = Lab::quick();
    let (pool, journals, mut tap) = followed(&lab);
    tap.write(100, 5, b"flushed");
    let side = Side::open(pool, journals);
    let error = side.promote(false).unwrap_err().to_string();
    assert!(error.contains("followed by the tap of host") && error.contains("--force"), "{error}");
    assert_eq!(side.journals.state(&name()).role, Role::Following);
    let (journal, primary) = (tap.journal, tap.primary.clone());
    drop(tap);
    side.promote(false).unwrap();
    let error = side.follow(journal, &primary).unwrap_err().to_string();
    assert!(error.contains("was promoted here from point 2 on"), "{error}");
    for generation in [0, 1, 2] {
        let error = side.journals.check_primary(&name(), generation).unwrap_err().to_string();
        assert!(error.contains("generation 2") && error.contains("`understudy failback v VOLUME-PATH`"), "{error}");
    }
    for over in [None, Some(Position { journal, sequence: 0 })] {
        assert!(side.journals.admit(&name(), over.as_ref()).unwrap_err().to_string().contains("was promoted"));
    }
    assert_eq!(numbers(&side.pool), [1, 2]);
}

#[test]
fn what_was_written_here_becomes_a_point_that_the_primary_takes_over() {
    let lab = Lab::quick();
    let (side, primary, journal) = orphaned(&lab);
    side.promote(false).unwrap();
    side.write(3, 4 * BLOCK as u64 + 7, b"written here");
    assert_eq!(side.fail_back().unwrap(), Some((3, 4, 3)));
    let expected = patched(&primary, 4 * BLOCK + 7, b"written here");
    assert!(read(&side.pool, 4).unwrap() == expected);
    let point = side.point(4);
    assert_eq!((point.base, point.changed_blocks), (Some(3), 1));
    assert!(matches!(point.position, Some(Position { journal: own, sequence: 0 }) if own != journal));
    for refused in [side.journals.check_writable(&name(), 3), side.journals.check_discardable(&name(), 3)] {
        assert!(refused.is_err());
    }
    drop(side);
    let side = Side::again(&lab);
    assert_eq!(side.fail_back().unwrap(), Some((3, 4, 3)), "the same again");
    assert!(side.ask(|failover| failover.failed_back(3)).is_err(), "not to that point");
    for _ in 0..2 {
        side.ask(|failover| failover.failed_back(4)).unwrap();
    }
    assert_eq!((side.overlays.list().len(), side.fail_back().unwrap()), (0, None));
    let error = side.journals.check_primary(&name(), 1).unwrap_err().to_string();
    assert!(error.contains("this primary has generation 1") && error.contains("generation 3"), "{error}");
    side.journals.check_primary(&name(), 3).unwrap();
    side.follow(Uuid::from_u128(77), &expected).unwrap();
}

#[test]
fn an_overlay_that_is_used_is_not_taken_away() {
    let lab = Lab::quick();
    let (side, ..) = orphaned(&lab);
    side.promote(false).unwrap();
    let entry = side.pool.volume(&name()).unwrap();
    let used = side.overlays.open(&entry.volume, entry.point(3).unwrap(), 5).unwrap();
    for error in [side.fail_back().unwrap_err(), side.ask(|failover| failover.demote()).unwrap_err()] {
        assert!(error.to_string().contains("v@3+w is used by 1 connections"), "{error}");
    }
    assert_eq!((numbers(&side.pool), side.journals.state(&name()).role), (vec![1, 2, 3], Role::Promoted { point: 3 }));
    drop(used);
    side.fail_back().unwrap().unwrap();
}

#[test]
fn a_promotion_that_is_given_up_leaves_the_primary_where_it_was() {
    let lab = Lab::quick();
    let (pool, journals, mut tap) = followed(&lab);
    tap.write(100, 5, b"flushed");
    let (primary, journal) = (tap.primary.clone(), tap.journal);
    drop(tap);
    let side = Side::open(pool, journals);
    side.promote(false).unwrap();
    side.write(2, 0, b"a test of it");
    side.ask(|failover| failover.demote()).unwrap();
    side.ask(|failover| failover.demote()).unwrap();
    assert!(side.overlays.list().is_empty());
    side.journals.check_primary(&name(), 1).unwrap();
    assert_eq!(side.follow(journal, &primary).unwrap(), 1, "the journal goes on");
    assert!(read(&side.pool, 2).unwrap() == primary);
    side.promote(false).unwrap();
    side.fail_back().unwrap();
    let error = side.ask(|failover| failover.demote()).unwrap_err().to_string();
    assert!(error.contains("is being failed back to point 3"), "{error}");
}

#[test]
fn a_failback_whose_primary_is_lost_as_well_can_be_left() {
    let lab = Lab::quick();
    let (side, primary, _) = orphaned(&lab);
    side.promote(false).unwrap();
    side.write(3, 0, b"here");
    side.fail_back().unwrap();
    assert!(side.promote(false).unwrap_err().to_string().contains("--force"));
    assert_eq!(side.promote(true).unwrap(), (4, 4), "another generation than the primary was to have");
    assert!(side.ask(|failover| failover.failed_back(4)).is_err());
    assert!(read(&side.pool, 4).unwrap() == patched(&primary, 0, b"here"));
}

/// Whatever fails in the middle: asked again, each step does what it was to do, and nothing is lost.
#[test]
fn steps_that_fail_anywhere_are_made_up_for() {
    for n in 1.. {
        let lab = Lab::quick();
        let (side, primary, _) = orphaned(&lab);
        lab.disk.fail_at(n, 28);
        let promoted = side.promote(false);
        let is_over = !lab.disk.failed();
        let told = promoted.is_ok();
        drop(side);
        let side = Side::again(&lab);
        let role = side.journals.state(&name()).role;
        assert!(!told || matches!(role, Role::Promoted { .. }), "operation {n}: told, and {role:?}");
        let (point, generation) = side.promote(false).unwrap();
        assert_eq!(generation, 2, "operation {n}");
        assert!(read(&side.pool, point).unwrap() == primary, "operation {n}");
        if is_over {
            break;
        }
    }
    for n in 1.. {
        let lab = Lab::quick();
        let (side, primary, _) = orphaned(&lab);
        side.promote(false).unwrap();
        side.write(3, 0, b"here");
        lab.disk.fail_at(n, 28);
        let _ = side.fail_back().map(|_| side.ask(|failover| failover.failed_back(4)));
        let is_over = !lab.disk.failed();
        drop(side);
        let side = Side::again(&lab);
        if let Some((_, to, generation)) = side.fail_back().unwrap() {
            assert_eq!(generation, 3, "operation {n}");
            side.ask(|failover| failover.failed_back(to)).unwrap();
        }
        let newest = *numbers(&side.pool).last().unwrap();
        assert!(read(&side.pool, newest).unwrap() == patched(&primary, 0, b"here"), "operation {n}");
        assert_eq!(side.journals.generation(&name()), 3, "operation {n}");
        if is_over {
            break;
        }
    }
}
