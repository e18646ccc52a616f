//! The pool on the simulated disk, and the simulated disk itself.

mod canary;
mod crash;
mod damage;
mod disk;
mod journals;
mod overlay;
mod tap;
mod world;
