//! Overlays that are kept while others want them.

use crate::model::*;
use std::sync::mpsc::channel;
use std::sync::{Arc, mpsc::Receiver};
use understudy_appliance::error::{Error, Result};
use understudy_appliance::overlay::{Kept, Overlays};
use understudy_format::point::{Point, Volume};
use understudy_net::export::Export;
use uuid::Uuid;

/// What `attempt` comes to while the overlay is being kept.
fn during_a_keep<T: Send + 'static>(
    attempt: impl FnOnce(&Overlays, &Volume, &Point) -> Result<T> + Send + 'static,
) -> Receiver<Result<T>> {
    let lab = Lab::new();
    let pool = lab.open();
    replicate(&pool, None, &volume(&[1, 2, 3]), 1).unwrap();
    let entry = pool.volume(&"v".parse().unwrap()).unwrap();
    let overlays = Arc::new(Overlays::new(pool));
    overlays.open(&entry.volume, &entry.points[0], 5).unwrap().write(0, &[7; 100], true).unwrap();
    let (told, came) = channel();
    let (others, of) = (overlays.clone(), entry.clone());
    lab.disk.on_sync(move || {
        assert_eq!(others.list()[0].status.connections, 0, "who keeps it is no connection");
        told.send(attempt(&others, &of.volume, &of.points[0])).unwrap();
    });
    let (uuid, stream) = (Uuid::from_u128(5), Uuid::from_u128(6));
    let kept = Kept { name: "kept".parse().unwrap(), label: None, uuid, stream, now_ns: 9 };
    overlays.keep(&entry.volume.uuid, 1, kept).unwrap();
    let [info] = &overlays.list()[..] else { panic!("one overlay") };
    assert_eq!(info.status.connections, 0);
    // It is anybody's again.
    overlays.open(&entry.volume, &entry.points[0], 5).unwrap();
    overlays.discard(&entry.volume.uuid, 1, true).unwrap();
    came
}

#[track_caller]
fn assert_busy<T>(came: &Receiver<Result<T>>) {
    match came.recv().unwrap() {
        Err(Error::Busy(text)) => assert!(text.contains("v@1+w is being kept"), "{text}"),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("somebody else had it as well"),
    }
}

#[test]
fn an_overlay_that_is_being_kept_is_not_opened() {
    // A client that could write to it would wait, and with it all that its thread serves.
    assert_busy(&during_a_keep(|overlays, volume, point| overlays.open(volume, point, 6)));
}

#[test]
fn an_overlay_that_is_being_kept_is_not_discarded() {
    assert_busy(&during_a_keep(|overlays, volume, _| overlays.discard(&volume.uuid, 1, true)));
}
