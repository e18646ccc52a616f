//! A primary and its appliance, each on disks of its own, and the journal between them.
//!
//! A [`primary`] is a host with a volume and the core of a tap on it, through which all is written; [`disks`] are what both stand on
//! there. What a volume was at each entry of each journal is remembered as [`content`] in the [`past`], which nobody under test ever
//! sees. A [`line`] is the session in which entries travel, a [`resync`] the stream beside it, both without I/O. A [`life`] is
//! a random one, from a seed; a [`course`] a fixed one, to be interrupted at each of its operations in turn.
//!
//! What must not happen here: a write that is told to have failed though its volume did not; a moment or a point that is
//! anything but what the volume was at that entry; less at the appliance than was promised to whoever flushed.

pub mod content;
pub mod disks;
pub mod life;
pub mod line;
pub mod past;
pub mod primary;
pub mod resync;
