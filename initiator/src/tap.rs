//! The tap: a volume is served over NBD, and what is written to it follows to the appliance.
//!
//! The way of the data: a write claims its range, becomes the next entry of the journal, and goes to the volume; the journal is shipped in
//! order, and what the appliance has durably is forgotten here. The [`core`] owns where the tap stands: *following*, all that the appliance
//! lacks is in the journal; *catching up*, the blocks that were dirty when the journal began are on their way as a stream beside it;
//! *dirty*, there is no journal, and a bitmap says which blocks may differ from what the appliance has ([`snapshot`], [`bits`]).
//! Whatever goes wrong with journal, state directory, network or appliance ends in the last of these, for a [`reason`] that is told; a
//! write fails only when the volume fails.

pub mod bits;
pub mod core;
pub mod reason;
pub mod snapshot;
