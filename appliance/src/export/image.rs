//! The secondary as the shorter way to the bytes of its point: nothing to look up, nothing to decompress, nothing to copy.
//!
//! Invariants: no byte is given that was not checked against the digest that its block has in the map of the point, by the whole block or,
//! once that was, by the digests of its parts that made it up. So it does not matter that the secondary becomes a newer point
//! meanwhile, or is damaged: what is not as it should be comes out of the history.

use crate::pool::disk::DiskFile;
use crate::secondary::Secondaries;
use crate::view::PointView;
use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use understudy_format::geometry::BLOCK_SIZE_DEFAULT;
use understudy_format::parts::{PART, PART_DIGEST, PartDigests};
use understudy_format::{BlockId, Digest, Geometry};

/// After so many blocks that are not as they should be, the secondary has moved on: looking there costs more than it helps.
const MISSES_MAX: u32 = 256;
/// Memory for digests of parts, bytes: enough for 2 GiB of blocks that are read here and there.
const PARTS_BYTES: u64 = 16 << 20;

/// The parts of blocks that were read as a whole, whatever the volume.
pub(super) type KnownParts = Cache<Digest, Arc<PartDigests>, ByCount>;

/// Weighs digests of parts by the bytes that they take.
#[derive(Debug, Clone)]
pub(super) struct ByCount;

impl Weighter<Digest, Arc<PartDigests>> for ByCount {
    fn weight(&self, _: &Digest, parts: &Arc<PartDigests>) -> u64 {
        (parts.count() * PART_DIGEST) as u64
    }
}

/// Nothing is known yet.
pub(super) fn known_parts() -> KnownParts {
    let of_a_block = u64::from(BLOCK_SIZE_DEFAULT) / PART as u64 * PART_DIGEST as u64;
    Cache::with_weighter((PARTS_BYTES / of_a_block) as usize, PARTS_BYTES, ByCount)
}

/// How far a read goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    /// To the disk, if need be.
    Disk,
    /// No farther than the memory of this machine.
    Memory,
}

/// The image of the secondary.
#[derive(Debug)]
pub(super) struct Image {
    file: Arc<dyn DiskFile>,
    known: Arc<KnownParts>,
    misses: AtomicU32,
}

impl Image {
    /// That of the volume, if it is the point at present.
    pub(super) fn of(view: &PointView, secondaries: &Secondaries, known: &Arc<KnownParts>) -> Option<Self> {
        let file = secondaries.image(view.volume(), view.point())?;
        Some(Self { file, known: known.clone(), misses: AtomicU32::new(0) })
    }

    /// Fills `target` with a whole block; whether it is that block. If not, `target` holds anything.
    pub(super) fn fill(&self, geometry: &Geometry, block: BlockId, digest: Digest, target: &mut [u8]) -> bool {
        self.read(From::Disk, geometry.offset(block), target, |content| Digest::of_block(content) == digest)
    }

    /// Fills `target` with what a block whose parts are known has from `skip` on; whether it is that. If not, `target` holds anything.
    pub(super) fn fill_part(
        &self,
        from: From,
        geometry: &Geometry,
        block: BlockId,
        digest: Digest,
        skip: usize,
        target: &mut [u8],
    ) -> bool {
        let Some(parts) = self.known.get(&digest) else { return false };
        let (first, end) = (skip / PART, (skip + target.len()).div_ceil(PART));
        let offset = geometry.offset(block) + (first * PART) as u64;
        let are = |bytes: &[u8]| parts.are(first, bytes);
        if skip.is_multiple_of(PART) && target.len().is_multiple_of(PART) {
            return self.read(from, offset, target, are);
        }
        let mut whole = vec![0; (end - first) * PART];
        let is_it = self.read(from, offset, &mut whole, are);
        target.copy_from_slice(&whole[skip - first * PART..][..target.len()]);
        is_it
    }

    /// A block, if it is there; its parts are known from then on.
    pub(super) fn block(&self, geometry: &Geometry, block: BlockId, digest: Digest) -> Option<Bytes> {
        let mut content = vec![0; geometry.block_len(block) as usize];
        let is = |content: &[u8]| match PartDigests::of_block(content) {
            Some((parts, found)) if found == digest => {
                self.known.insert(digest, Arc::new(parts));
                true
            }
            Some(_) => false,
            None => Digest::of_block(content) == digest,
        };
        self.read(From::Disk, geometry.offset(block), &mut content, is).then(|| content.into())
    }

    /// Reads, and asks whether it is what it should be.
    fn read(&self, from: From, offset: u64, target: &mut [u8], is: impl FnOnce(&[u8]) -> bool) -> bool {
        if self.misses.load(Ordering::Relaxed) >= MISSES_MAX {
            return false;
        }
        let is_read = match from {
            From::Disk => self.file.read_at(target, offset).is_ok(),
            From::Memory if !self.file.read_now(target, offset) => return false,
            From::Memory => true,
        };
        let is_it = is_read && is(target);
        if !is_it {
            self.misses.fetch_add(1, Ordering::Relaxed);
        }
        is_it
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::disk::{Access, Disk, RealDisk};
    use std::os::unix::fs::FileExt;

    const BLOCK: usize = 65536;

    struct Scene {
        dir: tempfile::TempDir,
        image: Image,
        geometry: Geometry,
        content: Vec<u8>,
    }

    impl Scene {
        fn new(blocks: usize, tail: usize) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let content: Vec<u8> = (0..blocks * BLOCK + tail).map(|at| (at / 7 + at / 65521 + 1) as u8).collect();
            std::fs::write(dir.path().join("image"), &content).unwrap();
            let file = RealDisk.open(&dir.path().join("image"), Access::Read).unwrap();
            let image = Image { file, known: Arc::new(known_parts()), misses: AtomicU32::new(0) };
            Self { dir, image, geometry: Geometry::from_wire(content.len() as u64, BLOCK as u32).unwrap(), content }
        }

        fn digest(&self, block: usize) -> Digest {
            Digest::of_block(&self.content[block * BLOCK..self.content.len().min((block + 1) * BLOCK)])
        }

        fn damage(&self, at: usize) {
            let file = std::fs::File::options().write(true).open(self.dir.path().join("image")).unwrap();
            file.write_all_at(&[!self.content[at]], at as u64).unwrap();
        }

        /// What is read of a block whose parts may be known.
        fn part(&self, block: usize, skip: usize, length: usize) -> Option<Vec<u8>> {
            let (mut target, id) = (vec![0; length], BlockId(block as u64));
            let is_it = self.image.fill_part(From::Disk, &self.geometry, id, self.digest(block), skip, &mut target);
            is_it.then_some(target)
        }

        fn block(&self, block: usize) -> Option<Bytes> {
            self.image.block(&self.geometry, BlockId(block as u64), self.digest(block))
        }
    }

    #[test]
    fn parts_are_read_alone_once_the_block_was_read() {
        let scene = Scene::new(2, 0);
        assert_eq!(scene.part(1, 0, PART), None);
        assert_eq!(scene.block(1).unwrap(), scene.content[BLOCK..]);
        for (skip, length) in
            [(0, PART), (5 * PART, 2 * PART), (1, 1), (PART - 1, 2), (3 * PART + 512, 9000), (BLOCK - 3, 3)]
        {
            assert_eq!(
                scene.part(1, skip, length).unwrap(),
                scene.content[BLOCK + skip..][..length],
                "{skip}, {length}"
            );
        }
        assert_eq!(scene.part(0, 0, PART), None);
    }

    #[test]
    fn from_memory_comes_what_is_there_and_is_right() {
        let (scene, mut target) = (Scene::new(1, 0), vec![0; 100]);
        let mut fill = |skip| {
            let filled =
                scene.image.fill_part(From::Memory, &scene.geometry, BlockId(0), scene.digest(0), skip, &mut target);
            filled.then(|| target.clone())
        };
        assert_eq!(fill(5), None, "its parts are not known");
        assert!(scene.block(0).is_some());
        assert_eq!(fill(5).unwrap(), scene.content[5..105]);
        scene.damage(50);
        assert_eq!(fill(5), None);
        assert_eq!(fill(PART).unwrap(), scene.content[PART..PART + 100]);
    }

    #[test]
    fn a_part_that_was_damaged_since_is_not_given_and_the_others_are() {
        let scene = Scene::new(1, 0);
        assert!(scene.block(0).is_some());
        scene.damage(3 * PART + 77);
        assert_eq!(scene.part(0, 3 * PART, PART), None);
        assert_eq!(scene.part(0, 2 * PART + 1, 2 * PART), None);
        assert_eq!(scene.part(0, 4 * PART, PART).unwrap(), scene.content[4 * PART..5 * PART]);
    }

    #[test]
    fn of_a_damaged_block_no_parts_become_known() {
        let scene = Scene::new(1, 0);
        scene.damage(BLOCK - 1);
        assert_eq!(scene.block(0), None);
        assert_eq!(scene.part(0, 0, PART), None);
    }

    #[test]
    fn the_shorter_block_at_the_end_is_read_as_a_whole() {
        let scene = Scene::new(1, 3 * PART + 512);
        assert_eq!(scene.block(1).unwrap(), scene.content[BLOCK..]);
        assert_eq!(scene.part(1, 0, PART), None);
    }
}
