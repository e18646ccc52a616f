//! What only threads that meet can show of an overlay.

use super::files;
use super::scratch::Overlay;
use crate::pool::disk::RealDisk;
use crate::pool::space::Space;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use understudy_format::Digest;
use understudy_format::nbd::{Failure, Geometry};
use understudy_format::overlay::Header;
use understudy_net::export::{Content, Export};
use uuid::Uuid;

const SIZE: u64 = 64 << 10;
const WRITERS: usize = 4;

/// An export full of one byte, which is slow enough for all writers to meet in it.
#[derive(Default)]
struct Slow {
    started: AtomicUsize,
    inside: AtomicUsize,
    most: AtomicUsize,
}

impl Export for Slow {
    fn name(&self) -> String {
        "v@1".into()
    }

    fn geometry(&self) -> Geometry {
        Geometry::read_only(SIZE)
    }

    fn read(&self, _: u64, buffer: &mut [u8]) -> Result<Content, Failure> {
        self.most.fetch_max(self.inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        while self.started.load(Ordering::SeqCst) < WRITERS {
            std::thread::yield_now();
        }
        // Whoever is not kept out comes in now.
        (0..1000).for_each(|_| std::thread::yield_now());
        buffer.fill(0xB5);
        self.inside.fetch_sub(1, Ordering::SeqCst);
        Ok(Content::Data)
    }
}

#[test]
fn writers_of_one_granule_wait_for_each_other_and_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let header = Header {
        pool: Uuid::nil(),
        volume: Uuid::nil(),
        point: 1,
        volume_size: SIZE,
        root: Digest([1; 32]),
        created_ns: 1,
    };
    let files = files::create(&RealDisk, &dir.path().join("v@1"), &header).unwrap();
    let (base, space) = (Arc::new(Slow::default()), Space::of(Arc::new(RealDisk), dir.path(), 1 << 20));
    let overlay = Overlay::new(base.clone(), files, space, Uuid::nil());
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (overlay, base) = (&overlay, &base);
            scope.spawn(move || {
                base.started.fetch_add(1, Ordering::SeqCst);
                overlay.write(4096 + writer as u64 * 512, &[writer as u8; 512], false).unwrap();
            });
        }
    });
    assert_eq!(base.most.load(Ordering::SeqCst), 1, "one at a time takes the rest of a granule from below");
    let mut granule = [0xEE; 4096];
    assert_eq!(overlay.read(4096, &mut granule).unwrap(), Content::Data);
    let expected = |at: usize| if at / 512 < WRITERS { (at / 512) as u8 } else { 0xB5 };
    assert!(granule.iter().enumerate().all(|(at, byte)| *byte == expected(at)));
}
