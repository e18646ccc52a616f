//! `understudy verify`: is a source, or what an export serves, identical to a point?
//!
//! Invariants: identical is said only when the root of what was read is the point's; a difference is named
//! by block and offset; the map of the point is descended only where it differs.

use crate::args::{Compared, Verify};
use crate::connection::Appliance;
use crate::descend::{Descent, Finding, blocks_under};
use crate::digest_map::MapFile;
use crate::outcome::Outcome;
use crate::over_nbd;
use crate::report::{Lines, Report};
use crate::scan_map::scan_map;
use crate::source;
use crate::text;
use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use understudy_format::point::Point;
use understudy_format::select::PointName;
use understudy_format::{BlockId, Digest};

/// Why a point is not read by a client that is not ours.
const OVER_TLS: &str = "the appliance exports through TLS, which the NBD client that is not ours has not: leave out --over-nbd, or read the \
                        export with nbdcopy and compare the copy";

/// Runs the command.
pub async fn run(args: &Verify, compared: Compared, name: &PointName) -> Result<Outcome> {
    let mut appliance = Appliance::connect(&args.appliance).await?;
    let point = appliance.find(name).await?;
    match compared {
        Compared::Source(source) => {
            // Reading the source may take hours: the appliance is asked again when it is done.
            drop(appliance);
            verify_source(args, &source, name, &point).await
        }
        Compared::OverNbd(address) => {
            ensure!(appliance.certificates.as_os_str().is_empty(), OVER_TLS);
            let address = address.map_or_else(|| nbd_address(&appliance.nbd, &appliance.address), Ok)?;
            let export = PointName::of(&name.volume, &point).to_string();
            let report = Report::new(args.json, Lines::Output);
            // A thread of its own: the client blocks.
            tokio::task::spawn_blocking(move || over_nbd::verify(&address, &export, &point, report)).await?
        }
    }
}

async fn verify_source(args: &Verify, name: &str, point_name: &PointName, point: &Point) -> Result<Outcome> {
    let mut report = Report::new(args.json, Lines::Output);
    let source = source::open(name, None)?;
    let what = PointName::of(&point_name.volume, point).to_string();
    let (own, expected) = (source.size(), point.map.geometry.volume_size());
    if own != expected {
        let line = format!("not identical: the sizes differ: {name} has {own} bytes, {what} has {expected}");
        let event = json!({"event": "different", "source": name, "point": what, "size": own, "point_size": expected});
        report.tell(event, &line);
        return Ok(Outcome::Different);
    }
    report.begin("reading", own);
    source.capture(None)?;
    let scanned = scan_map(source.clone(), point.map.geometry, &args.state.directory(), &mut report);
    let (map, _file) = source::released(&*source, scanned)?;
    source.doubt()?.inspect(|doubt| report.warn(doubt));
    if map.id().root == point.map.root() {
        let seconds = report.elapsed().as_secs_f64();
        let line =
            format!("identical: {name} and {what}, {}, {seconds:.1} s\nroot:   {}", text::bytes(own), map.id().root);
        let root = map.id().root.to_string();
        report.tell(json!({"event": "identical", "source": name, "point": what, "size": own, "root": root}), &line);
        return Ok(if report.warnings() > 0 { Outcome::Warnings } else { Outcome::Done });
    }
    let mut appliance = Appliance::connect(&args.appliance).await?.limited(args.rate.bandwidth);
    let point = appliance.find_again(&point_name.volume, point).await?;
    let found = differences(&mut appliance, &point, &map).await?;
    let first = found.first.context("the roots differ and no block does (a fault of this program)")?;
    let line = format!(
        "not identical: {name} and {what}: {} of {} blocks differ, the first is block {first} at offset {}",
        found.count,
        point.map.geometry.block_count(),
        point.map.geometry.offset(BlockId(first))
    );
    let event = json!({
        "event": "different", "source": name, "point": what, "size": own, "blocks": found.count, "first_block": first,
        "offset": point.map.geometry.offset(BlockId(first)),
    });
    report.tell(event, &line);
    Ok(Outcome::Different)
}

/// Where a map differs from a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Differences {
    /// The first block.
    pub first: Option<u64>,
    /// Number of blocks.
    pub count: u64,
}

/// Descends the point's map where it differs from `map`, which has the same geometry.
async fn differences(appliance: &mut Appliance, point: &Point, map: &MapFile) -> Result<Differences> {
    let mut found = Differences::default();
    let mut visit = |finding: Finding<'_>| {
        each_difference(&finding, map, |block, _| {
            found.first = Some(found.first.map_or(block, |first| first.min(block)));
            found.count += 1;
        });
        Ok(())
    };
    let mut descent = Descent::new(point, Some(map));
    descent.start(&mut visit)?;
    while descent.step(appliance, &mut visit).await? {}
    Ok(found)
}

/// Tells the blocks of a finding that differ from the map, with the digests they have in the point.
pub fn each_difference(finding: &Finding<'_>, map: &MapFile, mut tell: impl FnMut(u64, Digest)) {
    match finding {
        Finding::Page { level: 0, index, page } => {
            for block in blocks_under(map.shape(), 1, *index) {
                let expected = page.get((block % 256) as usize);
                if map.node(0, block) != expected {
                    tell(block, expected);
                }
            }
        }
        Finding::Zero { level, index } => {
            let mut blocks = blocks_under(map.shape(), *level, *index);
            while !blocks.is_empty() {
                let (zero, count) = map.run(blocks.start, blocks.end - blocks.start);
                if !zero {
                    (blocks.start..blocks.start + count).for_each(|block| tell(block, Digest::ZERO));
                }
                blocks.start += count;
            }
        }
        _ => {}
    }
}

/// Where the export is: what the appliance said, at the appliance's host when it listens on all.
pub fn nbd_address(said: &str, appliance: &str) -> Result<String> {
    let Some((host, port)) = said.rsplit_once(':') else {
        bail!("appliance {appliance}: it does not serve NBD; start understudyd with --nbd, or name an address")
    };
    let own = appliance.rsplit_once(':').map_or(appliance, |(host, _)| host);
    // A loopback address is one of the appliance's machine: it leads nowhere else from any other, unless that forwards the port.
    let is_its_own = matches!(host, "" | "0.0.0.0" | "[::]" | "*" | "[::1]" | "localhost") || host.starts_with("127.");
    Ok(format!("{}:{port}", if is_its_own { own } else { host }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unspecified_host_is_the_appliances() {
        assert_eq!(nbd_address("0.0.0.0:10809", "box:7410").unwrap(), "box:10809");
        assert_eq!(nbd_address("[::]:10809", "[::1]:7410").unwrap(), "[::1]:10809");
        assert_eq!(nbd_address("127.0.0.1:10809", "box:7410").unwrap(), "box:10809");
        assert_eq!(nbd_address("127.0.0.1:10809", "127.0.0.1:7410").unwrap(), "127.0.0.1:10809");
        assert_eq!(nbd_address("10.0.0.1:1", "box:7410").unwrap(), "10.0.0.1:1");
        assert!(nbd_address("", "box:7410").unwrap_err().to_string().contains("does not serve NBD"));
    }
}
