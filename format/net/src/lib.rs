//! Placeholder of the skeleton.
pub mod export;
pub mod nbd_server;
