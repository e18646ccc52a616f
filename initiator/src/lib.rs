//! The initiator: everything that runs where the primary volume is.
//!
//! The way of the data: a [`source`] is cut into pieces and holes ([`cutter`]); worker threads read,
//! digest and compare them with the [`base`], whose [`digest_map`] is a file, and pack what must travel ([`scan`], [`piece`], [`pack`],
//! [`buffers`]); the [`engine`] puts what they did into order, gathers it into chunks, and is told what the appliance
//! needs; it is driven over a connection ([`online`], by [`replicate`]) or into a file ([`emit`]). What is replicated against what is
//! decided by [`plan`]; whether a source's dirty bitmap spares reading what did not change by [`trust`], and a [`sample`] is read
//! all the same. The other way, [`descend`] walks a point's map at the appliance only where it
//! differs from one here: to fetch a map ([`fetch_map`]), to [`verify`] and to [`restore`]. To [`attach`] a point is to
//! have the kernel, or a program that is not ours, read it over NBD. A [`tap`] serves a volume itself, so that it can send whatever is written to it. An [`agent`] does all that when an appliance says so, by running
//! the same commands. Who this host is to an appliance is an [`identity`], which [`login`] gets.
//!
//! Memory is the buffers, 1 MiB each: 24 + 2 for each of the 2 to 8 worker threads, so 28 to 40 MiB, touched only as far
//! as the appliance lags behind; plus one buffer for each worker. It does not depend on the size of the volume. Digest
//! maps are files, mapped into memory where they are compared.
//!
//! This crate knows no pool and keeps nothing that could not be fetched again.

pub mod agent;
pub mod apply;
pub mod args;
pub mod attach;
pub mod base;
pub mod buffers;
pub mod clock;
pub mod connection;
pub mod cutter;
pub mod descend;
pub mod digest_map;
pub mod emit;
pub mod engine;
pub mod failover;
pub mod fetch_map;
pub mod flight;
pub mod identity;
pub mod list;
pub mod login;
pub mod manual;
pub mod map_writer;
pub mod online;
pub mod outcome;
pub mod over_nbd;
pub mod pack;
pub mod piece;
pub mod plan;
pub mod qemu;
pub mod replicate;
pub mod report;
pub mod restore;
pub mod retry;
pub mod sample;
pub mod scan;
pub mod scan_map;
pub mod source;
pub mod state;
pub mod status;
pub mod tap;
pub mod target;
pub mod text;
pub mod trust;
pub mod verify;

use anyhow::Result;
use args::{Attaching, Command};
use outcome::Outcome;

/// Runs a command to its end.
pub fn run(command: &Command) -> Result<Outcome> {
    agent::end_with_parent()?;
    let runtime = match command {
        // Whoever uses the volume does not wait for what travels to the appliance.
        Command::Tap(_) => tokio::runtime::Builder::new_multi_thread().enable_all().build()?,
        // One thread for the connection: the work is done by threads of their own.
        _ => tokio::runtime::Builder::new_current_thread().enable_all().build()?,
    };
    let outcome = runtime.block_on(dispatch(command));
    // A blocking read that was abandoned must not hold up the end.
    runtime.shutdown_background();
    outcome
}

async fn dispatch(command: &Command) -> Result<Outcome> {
    match command {
        Command::Replicate(args) => replicate::run(args).await,
        Command::Login(args) => login::run(args).await,
        Command::Volumes(args) => list::volumes(args).await,
        Command::Points(args) => list::points(args).await,
        Command::Restore(args) => restore::run(args).await,
        Command::Verify(args) => {
            let (compared, name) = args.operands()?;
            verify::run(args, compared, &name).await
        }
        Command::Emit(args) => emit::run(args, args.base()?).await,
        Command::Attach(args) => match args.what()? {
            Attaching::Point(name) => attach::run(args, name).await,
            Attaching::Overlays(args) => attach::scratch::list(args).await,
            Attaching::Keep(args) => attach::scratch::keep(args).await,
            Attaching::Discard(args) => attach::scratch::discard(args).await,
            Attaching::Hold(args) => attach::hold::run(args).await.map(|()| Outcome::Done),
        },
        Command::Detach(args) => attach::detach::run(args).await,
        Command::Attached(args) => attach::detach::list(args),
        Command::Tap(args) => tap::run::run(args).await,
        Command::Promote(args) => failover::promote(args).await,
        Command::Failback(args) => tap::failback::run(args).await,
        Command::Demote(args) => failover::demote(args).await,
        Command::Agent(args) => agent::run(args).await,
        Command::Status(args) => status::run(args).await,
        Command::Completions { shell } => Ok(manual::completions(*shell).map(|()| Outcome::Done)?),
        Command::Man { dir } => Ok(manual::man(dir).map(|()| Outcome::Done)?),
    }
}
