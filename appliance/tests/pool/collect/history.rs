//! Random histories of volumes that share blocks, pruned and collected, against plain bytes.

use crate::model::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use understudy_appliance::pool::Pool;

const NAMES: [&str; 3] = ["v", "w", "x"];

#[derive(Debug, Clone)]
enum Step {
    /// A volume gets a point in which these blocks have other content; full or incremental.
    Point {
        volume: usize,
        changes: Vec<(usize, u64)>,
        length: usize,
        full: bool,
    },
    /// Of a volume's points those with these bits go; the newest too when `all`.
    Prune {
        volume: usize,
        bits: u64,
        all: bool,
    },
    Collect,
    Reopen,
    LoseIndex,
}

fn bytes_of(seeds: &[u64]) -> Vec<u8> {
    volume(seeds)
}

fn step() -> impl Strategy<Value = Step> {
    let changes = prop::collection::vec((0..120usize, 0..400u64), 0..60);
    let point = (0..NAMES.len(), changes, 1..120usize, any::<bool>());
    prop_oneof![
        6 => point.prop_map(|(volume, changes, length, full)| Step::Point { volume, changes, length, full }),
        3 => (0..NAMES.len(), any::<u64>(), prop::bool::weighted(0.2))
            .prop_map(|(volume, bits, all)| Step::Prune { volume, bits, all }),
        3 => Just(Step::Collect),
        1 => Just(Step::Reopen),
        1 => Just(Step::LoseIndex),
    ]
}

/// What there must be: the seeds of each block, by volume and point.
#[derive(Default)]
struct Model {
    points: BTreeMap<usize, BTreeMap<u64, Vec<u64>>>,
    streams: u128,
}

impl Model {
    fn point(&mut self, pool: &Arc<Pool>, volume: usize, changes: &[(usize, u64)], length: usize, full: bool) {
        let points = self.points.entry(volume).or_default();
        let newest = points.last_key_value().map(|(_, seeds)| seeds.clone());
        let mut seeds = newest.clone().unwrap_or_default();
        seeds.resize(length, 0);
        changes.iter().filter(|(at, _)| *at < length).for_each(|(at, seed)| seeds[*at] = *seed);
        let old = newest.filter(|_| !full).map(|seeds| bytes_of(&seeds));
        self.streams += 1;
        let new = bytes_of(&seeds);
        let point = replicate_to(pool, NAMES[volume], old.as_deref(), &new, self.streams).unwrap();
        assert!(points.insert(point.number, seeds).is_none());
    }

    fn prune(&mut self, pool: &Pool, volume: usize, bits: u64, all: bool) {
        let Some(points) = self.points.get_mut(&volume) else { return };
        let newest = *points.last_key_value().unwrap().0;
        let goes = |number: &u64| all || (*number != newest && bits >> (number % 64) & 1 == 1);
        remove(pool, NAMES[volume], points.keys().copied().filter(goes)).unwrap();
        points.retain(|number, _| !goes(number));
        if points.is_empty() {
            self.points.remove(&volume);
        }
    }

    fn check(&self, pool: &Arc<Pool>) {
        for (volume, name) in NAMES.iter().enumerate() {
            let points = self.points.get(&volume).cloned().unwrap_or_default();
            assert_eq!(numbers_of(pool, name), points.keys().copied().collect::<Vec<_>>(), "{name}");
            for (number, seeds) in points {
                assert!(read_of(pool, name, number).unwrap() == bytes_of(&seeds), "{name}@{number}");
            }
        }
    }
}

fn reopen(lab: &Lab, pool: Arc<Pool>, without_index: bool) -> Arc<Pool> {
    drop(pool);
    if without_index {
        lab.lose_index();
    }
    lab.open()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_history_loses_a_point(steps in prop::collection::vec(step(), 1..30)) {
        let lab = Lab::quick();
        let (mut pool, mut model) = (lab.open(), Model::default());
        for step in steps {
            match step {
                Step::Point { volume, changes, length, full } => model.point(&pool, volume, &changes, length, full),
                Step::Prune { volume, bits, all } => model.prune(&pool, volume, bits, all),
                Step::Collect => prop_assert_eq!(collect(&pool).left_alone, 0),
                Step::Reopen => pool = reopen(&lab, pool, false),
                Step::LoseIndex => pool = reopen(&lab, pool, true),
            }
            model.check(&pool);
        }
        collect(&pool);
        model.check(&pool);
        pool = reopen(&lab, pool, true);
        model.check(&pool);
        collect(&pool);
        model.check(&pool);
    }

    /// The pool of one point that is left of a history is hardly larger than one that never had another.
    #[test]
    fn what_one_point_needs_is_what_is_left(
        versions in prop::collection::vec((1..600u64, 250..400u64, prop_oneof![Just(0), 3..7u64]), 2..8),
        kept in any::<prop::sample::Index>(),
    ) {
        let versions: Vec<_> = versions.into_iter().map(|(first, length, every)| {
            volume(&(first..first + length).map(|seed| if every > 0 && seed % every == 0 { 0 } else { seed }).collect::<Vec<_>>())
        }).collect();
        let (lab, fresh) = (Lab::quick(), Lab::quick());
        let pool = lab.open();
        for (at, new) in versions.iter().enumerate() {
            let old = at.checked_sub(1).map(|at| &versions[at][..]);
            replicate_to(&pool, NAMES[at % 2], None, new, at as u128 + 100).unwrap();
            replicate_to(&pool, "x", old, new, at as u128 + 1).unwrap();
        }
        let kept = kept.index(versions.len());
        for name in ["v", "w"] {
            remove(&pool, name, numbers_of(&pool, name)).unwrap();
        }
        if kept + 1 < versions.len() {
            replicate_to(&pool, "x", versions.last().map(|last| &last[..]), &versions[kept], 99).unwrap();
        }
        let newest = *numbers_of(&pool, "x").last().unwrap();
        remove(&pool, "x", numbers_of(&pool, "x").into_iter().filter(|number| *number != newest)).unwrap();
        collect(&pool);
        prop_assert!(read_of(&pool, "x", newest).unwrap() == versions[kept]);
        replicate_to(&fresh.open(), "x", None, &versions[kept], 1).unwrap();
        let (left, fresh) = (lab.bytes(), fresh.bytes());
        prop_assert!(left * 100 <= fresh * 115, "{} bytes are left, a fresh pool has {}", left, fresh);
    }
}
