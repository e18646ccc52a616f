//! What a replication will be: a pure function of what is known here, what the appliance has, and what was asked.
//!
//! Invariants: a full is made only of a volume without points or when it was asked for, and always
//! has a reason; a volume that has points is otherwise replicated against its newest one, whatever happened
//! to the local map. No I/O, no clock.

use crate::connection::Listing;
use anyhow::{Result, bail};
use understudy_format::mapfile::MapFileId;
use understudy_format::point::{Point, Volume};
use understudy_format::stream::Begin;
use understudy_format::{BlockSize, Geometry};
use uuid::Uuid;

/// What the appliance has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Existing {
    /// The volume.
    pub volume: Volume,
    /// Its newest point.
    pub newest: Option<Point>,
}

impl From<Listing> for Existing {
    fn from(mut found: Listing) -> Self {
        Self { volume: found.volume, newest: found.points.pop() }
    }
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// `--full`.
    pub full: bool,
    /// `--block-size`, when it was given.
    pub block_size: Option<BlockSize>,
    /// Size of the source, bytes.
    pub size: u64,
}

/// What will be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Of the new point.
    pub geometry: Geometry,
    /// The volume, when it exists.
    pub volume: Option<Uuid>,
    /// Full or incremental.
    pub kind: Kind,
    /// Why it is that, for people.
    pub reason: String,
}

/// Full or incremental.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Every block is compared with nothing.
    Full,
    /// Against this point.
    Incremental(Box<Point>, MapFrom),
}

/// Where the map of the base comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapFrom {
    /// The local map stands for the base.
    Local,
    /// The local map stands for something else: what differs is fetched.
    Refresh,
    /// There is no local map: all is fetched.
    Fetch,
}

/// Plans a replication to the pool.
///
/// `local` is what the local map stands for, or why there is none that can be used.
pub fn plan(pool: Uuid, local: Result<&MapFileId, &str>, existing: Option<&Existing>, wish: Wish) -> Result<Plan> {
    let geometry = Geometry::new(wish.size, block_size(existing, wish)?)?;
    let volume = existing.map(|existing| existing.volume.uuid);
    let make = |kind, reason: String| Plan { geometry, volume, kind, reason };
    let Some(base) = existing.and_then(|existing| existing.newest.as_ref()) else {
        return Ok(make(Kind::Full, "first point of this volume".into()));
    };
    if wish.full {
        return Ok(make(Kind::Full, "asked for with --full".into()));
    }
    let (from, map) = map_from(pool, local, base);
    Ok(make(Kind::Incremental(Box::new(base.clone()), from), format!("point {} is the newest; {map}", base.number)))
}

/// Why a stream that was not finished is not what this replication would be; `Ok` when it goes on.
pub fn goes_on(begin: &Begin, existing: Option<&Existing>, wish: Wish) -> Result<(), String> {
    let newest = existing.and_then(|existing| existing.newest.as_ref());
    let (size, had) = (wish.size, begin.geometry.volume_size());
    if let Some(point) = newest.filter(|point| point.stream == begin.stream) {
        return Err(format!("it is stored as point {}", point.number));
    }
    if size != had {
        return Err(format!("the source has {size} bytes now, it had {had}"));
    }
    if existing.is_some_and(|existing| existing.volume.uuid != begin.volume) {
        return Err("the volume at the appliance is another one now".into());
    }
    let block_size = existing.map(|existing| existing.volume.block_size).or(wish.block_size);
    if block_size.is_some_and(|block_size| block_size != begin.geometry.block_size()) {
        return Err(format!("its blocks have {}, others are wanted now", begin.geometry.block_size()));
    }
    match (begin.base, newest) {
        (Some(_), _) if wish.full => Err("it is incremental, a full was asked for".into()),
        (None, Some(_)) if !wish.full => Err("it is a full, and the volume has points by now".into()),
        (None, _) => Ok(()),
        (Some(base), Some(newest)) if newest.map.root() == base.root => Ok(()),
        (Some(_), Some(newest)) => {
            Err(format!("its base is not the newest point any more, which is {}", newest.number))
        }
        (Some(_), None) => Err("its base is gone: the volume has no points".into()),
    }
}

/// The block size of a volume is fixed by its first point.
fn block_size(existing: Option<&Existing>, wish: Wish) -> Result<BlockSize> {
    let Some(Existing { volume, .. }) = existing else { return Ok(wish.block_size.unwrap_or_default()) };
    match wish.block_size {
        Some(asked) if asked != volume.block_size => bail!(
            "volume {} has blocks of {}, {asked} was asked for: a volume keeps its block size; \
             leave out --block-size or name another volume",
            volume.name,
            volume.block_size
        ),
        _ => Ok(volume.block_size),
    }
}

fn map_from(pool: Uuid, local: Result<&MapFileId, &str>, base: &Point) -> (MapFrom, String) {
    let id = match local {
        Ok(id) => id,
        Err(why) => return (MapFrom::Fetch, format!("its map is fetched: {why}")),
    };
    if (id.pool, id.volume) != (pool, base.volume) {
        return (MapFrom::Fetch, "its map is fetched: the local one is of another volume".into());
    }
    if id.geometry.block_size() != base.map.geometry.block_size() {
        return (MapFrom::Fetch, "its map is fetched: the local one has another block size".into());
    }
    match id.root == base.map.root() {
        true => (MapFrom::Local, "the local map is up to date".into()),
        false => (MapFrom::Refresh, format!("the local map is of point {} and is refreshed", id.point)),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use understudy_format::Digest;
    use understudy_format::map::Map;
    use understudy_format::stream::Base;

    const POOL: Uuid = Uuid::from_u128(1);
    const VOLUME: Uuid = Uuid::from_u128(2);

    /// A point whose content follows from its number.
    pub(crate) fn point(number: u64, size: u64) -> Point {
        let map = Map { geometry: Geometry::from_wire(size, 65536).unwrap(), top: Digest([number as u8; 32]) };
        Point {
            volume: VOLUME,
            number,
            base: None,
            created_ns: 0,
            map,
            stream: Uuid::nil(),
            changed_blocks: 0,
            stored_bytes: 0,
            new_bytes: 0,
            label: None,
            position: None,
        }
    }

    fn existing(newest: Option<Point>) -> Existing {
        let volume =
            Volume { uuid: VOLUME, name: "data".parse().unwrap(), block_size: BlockSize::default(), created_ns: 0 };
        Existing { volume, newest }
    }

    fn id(of: &Point) -> MapFileId {
        MapFileId { pool: POOL, volume: VOLUME, point: of.number, geometry: of.map.geometry, root: of.map.root() }
    }

    const WISH: Wish = Wish { full: false, block_size: None, size: 1 << 20 };

    fn check(local: Result<&MapFileId, &str>, existing: Option<&Existing>, wish: Wish, expected: (&str, &str)) {
        let plan = plan(POOL, local, existing, wish).unwrap();
        let kind = match plan.kind {
            Kind::Full => "full".to_owned(),
            Kind::Incremental(base, from) => format!("{from:?} {}", base.number),
        };
        assert_eq!((kind.as_str(), plan.reason.as_str()), expected);
        assert_eq!(plan.geometry.volume_size(), wish.size);
    }

    #[test]
    fn what_is_planned() {
        let (old, new) = (point(2, 1 << 20), point(3, 1 << 20));
        let at_three = existing(Some(new.clone()));
        let none = Err("there is no digest map here");
        let full = Wish { full: true, ..WISH };
        let grown = Wish { size: 2 << 20, ..WISH };
        let alien = MapFileId { pool: Uuid::from_u128(9), ..id(&new) };
        check(none, None, WISH, ("full", "first point of this volume"));
        check(Ok(&id(&old)), Some(&existing(None)), WISH, ("full", "first point of this volume"));
        check(Ok(&id(&new)), Some(&at_three), full, ("full", "asked for with --full"));
        check(Ok(&id(&new)), Some(&at_three), WISH, ("Local 3", "point 3 is the newest; the local map is up to date"));
        check(Ok(&id(&new)), Some(&at_three), grown, ("Local 3", "point 3 is the newest; the local map is up to date"));
        let refreshed = "point 3 is the newest; the local map is of point 2 and is refreshed";
        check(Ok(&id(&old)), Some(&at_three), WISH, ("Refresh 3", refreshed));
        let fetched = "point 3 is the newest; its map is fetched: there is no digest map here";
        check(none, Some(&at_three), WISH, ("Fetch 3", fetched));
        let other = "point 3 is the newest; its map is fetched: the local one is of another volume";
        check(Ok(&alien), Some(&at_three), WISH, ("Fetch 3", other));
    }

    #[test]
    fn a_volume_keeps_its_block_size() {
        let at_three = existing(Some(point(3, 1 << 20)));
        let asked = Wish { block_size: Some(BlockSize::new(4096).unwrap()), ..WISH };
        let text = plan(POOL, Err("none"), Some(&at_three), asked).unwrap_err().to_string();
        assert!(text.starts_with("volume data has blocks of 64K, 4K was asked for"), "{text}");
        let plan = plan(POOL, Err("none"), None, asked).unwrap();
        assert_eq!((plan.geometry.block_size().bytes(), plan.volume), (4096, None));
    }

    #[test]
    fn what_goes_on_and_what_does_not() {
        let (old, new) = (point(2, 1 << 20), point(3, 1 << 20));
        let base = |point: &Point| Some(Base { root: point.map.root(), size: point.map.geometry.volume_size() });
        let begin = |base| Begin {
            volume: VOLUME,
            stream: Uuid::from_u128(5),
            geometry: new.map.geometry,
            base,
            created_ns: 0,
        };
        let (full, incremental) = (begin(None), begin(base(&new)));
        let at_three = existing(Some(new.clone()));
        let check = |begin: &Begin, existing: Option<&Existing>, wish, expected: &str| {
            assert_eq!(goes_on(begin, existing, wish).err().unwrap_or_default(), expected);
        };
        let asked = Wish { full: true, ..WISH };
        check(&full, None, WISH, "");
        check(&full, Some(&existing(None)), WISH, "");
        check(&full, Some(&at_three), asked, "");
        check(&full, Some(&at_three), WISH, "it is a full, and the volume has points by now");
        check(&incremental, Some(&at_three), WISH, "");
        check(&incremental, Some(&at_three), asked, "it is incremental, a full was asked for");
        check(&incremental, None, WISH, "its base is gone: the volume has no points");
        let stale = "its base is not the newest point any more, which is 3";
        check(&begin(base(&old)), Some(&at_three), WISH, stale);
        let grown = "the source has 2097152 bytes now, it had 1048576";
        check(&incremental, Some(&at_three), Wish { size: 2 << 20, ..WISH }, grown);
        let alien = Begin { volume: Uuid::from_u128(9), ..full };
        check(&alien, Some(&existing(None)), WISH, "the volume at the appliance is another one now");
        let small = Some(BlockSize::new(4096).unwrap());
        check(&full, None, Wish { block_size: small, ..WISH }, "its blocks have 64K, others are wanted now");
        let stored = existing(Some(Point { stream: full.stream, ..new.clone() }));
        check(&full, Some(&stored), WISH, "it is stored as point 3");
    }

    #[test]
    fn sources_without_whole_sectors_are_refused() {
        let odd = Wish { size: 1000, ..WISH };
        assert!(plan(POOL, Err("none"), None, odd).unwrap_err().to_string().contains("not a multiple of 512"));
    }
}
