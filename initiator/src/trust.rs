//! Whether what a dirty bitmap calls clean is as in the base: a pure function of what was seen with the base.
//!
//! Invariant: a bitmap is believed only when it is known to have been recording before the base was read, and nothing
//! happened since that it may not have recorded. Whatever is in doubt is compared, and the doubt is told.

use crate::text;
use understudy_format::bitmap::{Bitmap, SeenBitmap};
use understudy_format::point::Point;
use uuid::Uuid;

/// `Ok` when the bitmap is believed against `base`, of which a point is made of `size` bytes; else why everything is compared.
///
/// `seen` is what was recorded when the last point was made from here.
pub fn judge(
    bitmap: &Bitmap,
    seen: Result<Option<SeenBitmap>, String>,
    pool: Uuid,
    base: Option<&Point>,
    size: u64,
) -> Result<(), String> {
    let base = judge_size(base, size)?;
    let seen = seen?.ok_or("it is not known since when it has been recording: no point was made with it from here")?;
    if seen.bitmap.name != bitmap.name {
        return Err(format!("point {} was made with bitmap {}", seen.point, seen.bitmap.name));
    }
    if seen.bitmap.export != bitmap.export {
        return Err(format!("point {} was made from another export, {}", seen.point, seen.bitmap.export));
    }
    if (seen.pool, seen.volume, seen.root) != (pool, base.volume, base.map.root()) {
        return Err(format!(
            "it is known to have been recording since point {} was read, and the newest is point {}, made by another",
            seen.point, base.number
        ));
    }
    Ok(())
}

/// What is compared with, when a bitmap can be of any use with it: a point of the same size.
pub fn judge_size(base: Option<&Point>, size: u64) -> Result<&Point, String> {
    let base = base.ok_or("nothing is there to compare with")?;
    match base.map.geometry.volume_size() {
        had if had == size => Ok(base),
        had => Err(format!("the volume has {} now, it had {}", text::bytes(size), text::bytes(had))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::point;

    const POOL: Uuid = Uuid::from_u128(1);
    const SIZE: u64 = 1 << 20;

    fn bitmap(export: &str, name: &str) -> Bitmap {
        Bitmap { export: export.into(), name: name.into() }
    }

    fn seen(point: &Point, bitmap: Bitmap) -> SeenBitmap {
        SeenBitmap { pool: POOL, volume: point.volume, point: point.number, root: point.map.root(), bitmap }
    }

    #[test]
    fn only_what_was_seen_with_the_base_is_believed() {
        let (three, four, own) = (point(3, SIZE), point(4, SIZE), bitmap("nbd://h/e", "b0"));
        let at_three = seen(&three, own.clone());
        let judge = |seen: &SeenBitmap, base: &Point, size| judge(&own, Ok(Some(seen.clone())), POOL, Some(base), size);
        assert_eq!(judge(&at_three, &three, SIZE), Ok(()));
        // The same content under another number: what was recorded since it was read is what matters.
        assert_eq!(judge(&at_three, &Point { number: 9, ..three.clone() }, SIZE), Ok(()));
        let refused = |seen: &SeenBitmap, base: &Point, size, why: &str| {
            let reason = judge(seen, base, size).unwrap_err();
            assert!(reason.contains(why), "{reason}");
        };
        refused(&at_three, &four, SIZE, "since point 3 was read, and the newest is point 4");
        refused(&seen(&three, bitmap("nbd://h/e", "b1")), &three, SIZE, "made with bitmap b1");
        refused(&seen(&three, bitmap("nbd://h/f", "b0")), &three, SIZE, "another export, nbd://h/f");
        refused(&at_three, &three, 2 * SIZE, "the volume has 2.1 MB now, it had 1.0 MB");
        refused(&SeenBitmap { pool: Uuid::nil(), ..at_three.clone() }, &three, SIZE, "made by another");
        refused(&SeenBitmap { volume: Uuid::nil(), ..at_three.clone() }, &three, SIZE, "made by another");
    }

    #[test]
    fn what_is_not_known_is_compared() {
        let (three, own) = (point(3, SIZE), bitmap("e", "b0"));
        let none = judge(&own, Ok(None), POOL, Some(&three), SIZE).unwrap_err();
        assert!(none.contains("no point was made with it from here"), "{none}");
        assert_eq!(judge(&own, Err("damaged".into()), POOL, Some(&three), SIZE), Err("damaged".into()));
        let full = judge(&own, Ok(Some(seen(&three, own.clone()))), POOL, None, SIZE).unwrap_err();
        assert_eq!(full, "nothing is there to compare with");
    }
}
