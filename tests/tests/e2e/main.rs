//! The product from outside: what its command lines promise, held against real filesystems and real NBD clients.
//!
//! Each module is one promise; each test is one way in which it could be broken. Tests named `incident_...` are what
//! happened to users of other projects. A single one runs with `cargo test -p understudy-tests --test e2e NAME`.

mod access;
mod agent;
mod agent_brackets;
mod agent_hostile;
mod api;
mod attach;
mod attach_kernel;
mod collection;
mod config;
mod crash;
mod damage;
mod extract;
mod failover;
mod filesystems;
mod fleet;
mod frames;
mod full_disk;
mod geometry;
mod group;
mod helpers;
mod hostile;
mod images;
mod jobs;
mod kernel;
mod kill_loop;
mod manual;
mod many;
mod nbd;
mod nbd_bitmap;
mod nbd_source;
mod network;
mod offline;
mod output;
mod qemu;
mod rebuild;
mod refusals;
mod restore;
mod resume;
mod scale;
mod scratch;
mod scrub;
mod secondary;
mod selectors;
mod since;
mod source;
mod state;
mod status;
mod tap;
mod tls;
mod upkeep;
mod verify;
mod zero;
