//! The arguments of `attach`, `detach` and `attached`.

use super::{ApplianceArguments, StateArguments, point, usage};
use clap::{Args, Subcommand};
use std::path::PathBuf;
use understudy_format::point::{Label, VolumeName};
use understudy_format::select::PointName;

/// `understudy attach`.
#[derive(Debug, Clone, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    override_usage = "understudy attach [OPTIONS] <NAME[@POINT]>\n       \
                      understudy attach overlays [OPTIONS]\n       \
                      understudy attach keep [OPTIONS] <NAME[@POINT]> --as <NEWVOLUME>\n       \
                      understudy attach discard [OPTIONS] <NAME[@POINT]>"
)]
pub struct Attach {
    /// NAME, NAME@3, NAME@label, NAME@2026-11-21T10:00, NAME@now
    #[arg(value_name = "NAME[@POINT]", value_parser = point)]
    point: Option<PointName>,
    /// Writable: what is written goes to a scratch overlay at the appliance, the point stays as it is
    #[arg(long)]
    pub rw: bool,
    /// Attach as this device of the kernel's NBD client [default: a free one, or a file through nbdfuse]
    #[arg(long, value_name = "/dev/nbdN")]
    pub device: Option<PathBuf>,
    /// Mount the filesystem here; the directory is created when it does not exist
    #[arg(long, value_name = "DIR")]
    pub mount: Option<PathBuf>,
    /// Mount this partition
    #[arg(long, value_name = "N", requires = "mount")]
    pub partition: Option<u32>,
    /// Which appliance.
    #[command(flatten)]
    pub appliance: ApplianceArguments,
    /// Where state is kept.
    #[command(flatten)]
    pub state: StateArguments,
    /// Tell what was done as a JSON object
    #[arg(long)]
    pub json: bool,
    #[command(subcommand)]
    scratch: Option<Scratch>,
}

#[derive(Debug, Clone, Subcommand)]
enum Scratch {
    /// List the scratch overlays of the appliance
    Overlays(Overlays),
    /// Make what a scratch overlay shows the first point of a new volume
    Keep(Keep),
    /// Discard a scratch overlay
    Discard(Discard),
    /// Carry a device of the kernel
    #[command(hide = true)]
    Hold(Hold),
}

/// What `attach` is asked for.
#[derive(Debug, Clone, Copy)]
pub enum Attaching<'a> {
    /// To attach a point.
    Point(&'a PointName),
    /// To list overlays.
    Overlays(&'a Overlays),
    /// To keep one.
    Keep(&'a Keep),
    /// To discard one.
    Discard(&'a Discard),
    /// To carry a device of the kernel, in the background.
    Hold(&'a Hold),
}

impl Attach {
    /// What is asked for.
    pub fn what(&self) -> Result<Attaching<'_>, clap::Error> {
        match (&self.scratch, &self.point) {
            (Some(Scratch::Overlays(args)), _) => Ok(Attaching::Overlays(args)),
            (Some(Scratch::Keep(args)), _) => Ok(Attaching::Keep(args)),
            (Some(Scratch::Discard(args)), _) => Ok(Attaching::Discard(args)),
            (Some(Scratch::Hold(args)), _) => Ok(Attaching::Hold(args)),
            (None, Some(point)) => Ok(Attaching::Point(point)),
            (None, None) => Err(usage("expected NAME[@POINT], overlays, keep or discard; see --help")),
        }
    }
}

/// `understudy attach overlays`.
#[derive(Debug, Clone, Args)]
pub struct Overlays {
    /// Which appliance.
    #[command(flatten)]
    pub appliance: ApplianceArguments,
    /// Print a JSON array
    #[arg(long)]
    pub json: bool,
}

/// `understudy attach keep`.
#[derive(Debug, Clone, Args)]
pub struct Keep {
    /// The point that the overlay is over
    #[arg(value_name = "NAME[@POINT]", value_parser = scratch_point)]
    pub point: PointName,
    /// The new volume
    #[arg(long = "as", value_name = "NEWVOLUME")]
    pub name: VolumeName,
    /// A name for its first point
    #[arg(long, value_name = "TEXT")]
    pub label: Option<Label>,
    /// Which appliance.
    #[command(flatten)]
    pub appliance: ApplianceArguments,
    /// Tell what was done as a JSON object
    #[arg(long)]
    pub json: bool,
}

/// `understudy attach discard`.
#[derive(Debug, Clone, Args)]
pub struct Discard {
    /// The point that the overlay is over
    #[arg(value_name = "NAME[@POINT]", value_parser = scratch_point)]
    pub point: PointName,
    /// Also when something was written to it, or somebody uses it
    #[arg(long)]
    pub force: bool,
    /// Which appliance.
    #[command(flatten)]
    pub appliance: ApplianceArguments,
    /// Tell what was done as a JSON object
    #[arg(long)]
    pub json: bool,
}

/// `understudy attach hold`: what `attach` starts for itself.
#[derive(Debug, Clone, Args)]
pub struct Hold {
    /// The NBD server, HOST:PORT
    #[arg(long)]
    pub server: String,
    /// The export
    #[arg(long)]
    pub export: String,
    /// The device
    #[arg(long)]
    pub device: PathBuf,
    /// What tells that the device is this attachment's
    #[arg(long)]
    pub mark: String,
}

/// `understudy detach`.
#[derive(Debug, Clone, Args)]
pub struct Detach {
    /// What was attached: the export (NAME@3, NAME@3+w), the volume, the mount or the device
    #[arg(value_name = "NAME|DIR|DEVICE")]
    pub name: String,
    /// Where state is kept.
    #[command(flatten)]
    pub state: StateArguments,
    /// Tell what was done as a JSON object
    #[arg(long)]
    pub json: bool,
}

/// `understudy attached`.
#[derive(Debug, Clone, Args)]
pub struct Attached {
    /// Where state is kept.
    #[command(flatten)]
    pub state: StateArguments,
    /// Print a JSON array
    #[arg(long)]
    pub json: bool,
}

/// A point whose overlay is meant, which may be named as its export is.
fn scratch_point(text: &str) -> Result<PointName, String> {
    point(text.strip_suffix("+w").unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Arguments, Command};
    use clap::Parser;

    fn parse(line: &str) -> Result<Attach, clap::Error> {
        let arguments = Arguments::try_parse_from(["understudy"].into_iter().chain(line.split(' ')))?;
        let Command::Attach(attach) = arguments.command else { panic!("another command") };
        Ok(attach)
    }

    #[test]
    fn a_point_is_attached_and_an_overlay_is_kept_or_discarded() {
        let attach = parse("attach v@3 --rw --mount /mnt --partition 2").unwrap();
        assert!(matches!(attach.what(), Ok(Attaching::Point(point)) if point.to_string() == "v@3"));
        assert!((attach.rw, attach.partition) == (true, Some(2)));
        let attach = parse("attach keep v@3+w --as w --label after").unwrap();
        assert!(matches!(attach.what(), Ok(Attaching::Keep(keep)) if keep.point.to_string() == "v@3"));
        let attach = parse("attach discard v --force").unwrap();
        assert!(matches!(attach.what(), Ok(Attaching::Discard(discard)) if discard.force));
        assert!(matches!(parse("attach overlays").unwrap().what(), Ok(Attaching::Overlays(_))));
    }

    #[test]
    fn misuse_is_refused() {
        for line in ["attach v --partition 1", "attach v keep w --as x", "attach keep v", "attach v@a/b"] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
        assert!(parse("attach --rw").unwrap().what().is_err());
    }
}
