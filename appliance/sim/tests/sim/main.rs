//! The pool on the simulated disk, and the simulated disk itself.

mod crash;
mod disk;
mod world;
