//! Placeholder of the skeleton.
pub mod nbd;
