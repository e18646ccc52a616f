//! `pool extract`: writes one point to a file, out of the segments alone.
//!
//! The way: a [`survey`] of the segments; the point that is meant; its map, page by page in block order; each block
//! from whichever copy is good. What cannot be had is told and is zeros in the output. Invariants: nothing is written
//! into the pool and no lock is taken, so a read-only pool will do and a daemon may run; nothing is written at all
//! unless the top of the point's map is there; every byte was checked against its digest, and the root is computed from
//! what was written. Memory: the table of [`super::places`], a page of the map a level, one block.

mod missing;
mod output;
mod share;

use super::catalogue::Entry;
use super::content::{Content, Reader};
use super::survey::{Survey, survey};
use crate::args::Extract;
use crate::outcome::Outcome;
use crate::stream::Forget;
use crate::text::{bytes, plural};
use anyhow::{Result, anyhow, bail};
use indicatif::{ProgressBar, ProgressStyle};
use missing::Missing;
use output::Output;
use serde_json::json;
use std::cell::RefCell;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use understudy_format::map::{Builder, Change, FANOUT, Map, Page, PageStore, diff, span};
use understudy_format::point::Point;
use understudy_format::secondary::State;
use understudy_format::select::PointName;
use understudy_format::{BlockId, Digest};

/// Runs the command.
pub fn run(args: &Extract, out: &mut impl Write) -> Result<Outcome> {
    match args.out.as_os_str() == "-" {
        true => extract(args, &mut std::io::stderr()),
        false => extract(args, out),
    }
}

/// Extracts, and tells `out` about it.
pub fn extract(args: &Extract, out: &mut impl Write) -> Result<Outcome> {
    let Survey { contents, places, warnings, changed, .. } = survey(&args.dir, true)?;
    let (entry, point) = find(&args.dir, contents.entries, &contents.orphans, &args.point)?;
    let mut reader = Reader::new(&args.dir, places, changed, point.clone());
    check_top(&mut reader, &args.point, &point)?;
    for warning in &warnings {
        tell(out, args.json, &json!({"event": "warning", "text": warning}), &format!("warning: {warning}"));
    }
    let geometry = point.map.geometry;
    let target = Output::open(&args.out, &args.dir, geometry.volume_size(), args.force)?;
    let shared = if args.reflink { Some(share::share(&args.dir, &entry, &target)?) } else { None };
    if shared.is_none() {
        target.clear()?;
    }
    let name = format!("{}@{}", entry.volume.name, point.number);
    let missing = Missing { out, json: args.json, point: name, geometry, open: None, ranges: 0, blocks: 0, bytes: 0 };
    let settled = shared.filter(|_| args.no_verify);
    let work = Work {
        reader: Rc::new(RefCell::new(reader)),
        target,
        missing,
        builder: settled.is_none().then(|| Builder::new(geometry, None)),
        bar: bar(geometry.volume_size()),
        is_shared: shared.is_some(),
        hole: (0, 0),
        counts: Counts::default(),
    };
    match settled {
        Some(settled) => work.differences(&settled, &point),
        None => work.all(&point),
    }
}

fn tell(out: &mut impl Write, json: bool, event: &serde_json::Value, line: &str) {
    let _ = if json { writeln!(out, "{event}") } else { writeln!(out, "{line}") };
}

/// The volume and the point that is meant.
fn find(dir: &Path, entries: Vec<Entry>, orphans: &[Point], wanted: &PointName) -> Result<(Entry, Point)> {
    let names: Vec<String> = entries.iter().map(|entry| entry.volume.name.to_string()).collect();
    let own = entries.into_iter().find(|entry| entry.volume.name == wanted.volume);
    let Some(entry) = own.or_else(|| adopted(dir, orphans, wanted)) else {
        let there = if names.is_empty() { "no volume".into() } else { names.join(", ") };
        bail!("the segments of {} have no volume {}; they have {there}", dir.display(), wanted.volume);
    };
    let points: Vec<Point> = entry.points.iter().map(|held| held.point.clone()).collect();
    let Some(point) = wanted.selector.find(&points) else {
        let numbers: Vec<String> = points.iter().map(|point| format!("@{}", point.number)).collect();
        let there = if numbers.is_empty() { "no point".into() } else { numbers.join(", ") };
        bail!("the segments of {} have no point {wanted}; of {} they have {there}", dir.display(), wanted.volume);
    };
    Ok((entry, point.clone()))
}

/// A volume whose own record is lost: the state of its secondary still says which one had the name.
fn adopted(dir: &Path, orphans: &[Point], wanted: &PointName) -> Option<Entry> {
    let path = dir.join("volumes").join(wanted.volume.as_str()).join("state");
    let state = State::decode(&std::fs::read(path).ok()?).ok()?;
    let points: Vec<Point> = orphans.iter().filter(|point| point.volume == state.volume).cloned().collect();
    (!points.is_empty()).then(|| Entry::of_orphans(wanted.volume.clone(), points))
}

/// Without the top of its map nothing of a point can be had.
fn check_top(reader: &mut Reader, wanted: &PointName, point: &Point) -> Result<()> {
    let Map { top, .. } = point.map;
    if top.is_zero() {
        return Ok(());
    }
    let page = reader.page(top)?;
    let number = point.number;
    page.map(drop)
        .map_err(|why| anyhow!("{}@{number}: the top of its map is {why}; nothing was written", wanted.volume))
}

fn bar(size: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = "extracting {wide_bar} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} {eta} left";
    ProgressBar::new(size).with_style(ProgressStyle::with_template(template).expect("the template is well-formed"))
}

/// What was done, in blocks, and in bytes written.
#[derive(Debug, Default)]
struct Counts {
    written: u64,
    zero: u64,
    shared: u64,
    bytes: u64,
}

/// Pages for a difference whose blocks are read from the same segments.
struct Pages(Rc<RefCell<Reader>>);

impl PageStore for Pages {
    type Error = anyhow::Error;

    fn load(&mut self, digest: Digest) -> Result<Arc<Page>> {
        let page = self.0.borrow_mut().page(digest)?;
        page.map(Arc::new).map_err(|why| anyhow!("map page {digest} is {why}: leave out --no-verify"))
    }

    fn store(&mut self, _: Digest, _: &Page) -> Result<()> {
        Ok(())
    }
}

/// One extraction on its way.
struct Work<'a, W> {
    reader: Rc<RefCell<Reader>>,
    target: Output,
    missing: Missing<'a, W>,
    /// Of what is in the output, when all of it goes by.
    builder: Option<Builder>,
    bar: ProgressBar,
    /// Whether the output began as the secondary.
    is_shared: bool,
    /// A hole of the output, from and to: not looked for again at each block.
    hole: (u64, u64),
    counts: Counts,
}

impl<W: Write> Work<'_, W> {
    /// Goes over every block.
    fn all(mut self, point: &Point) -> Result<Outcome> {
        self.node(point.map.top_level(), 0, point.map.top)?;
        self.missing.tell();
        let built = self.builder.take().map(|builder| builder.finish(&mut Forget));
        let is_whole = self.missing.blocks == 0;
        let (expected, found) = (point.map.root(), built.map(|Ok(map)| map.root()));
        if let Some(found) = found.filter(|found| is_whole && *found != expected) {
            bail!("the root of what was written is {found}, not {expected}: this is a fault of the program");
        }
        self.finish(point, if is_whole { "every block and the root are right" } else { "the rest is right" })
    }

    /// Goes over the difference to the secondary only, and believes that the secondary is what it says.
    fn differences(mut self, settled: &Map, point: &Point) -> Result<Outcome> {
        let mut pages = Pages(self.reader.clone());
        diff(settled, &point.map, &mut pages, &mut |change| match change {
            Change::Block(block, digest) => self.fresh(block, digest),
            Change::Zero(block, count) => self.zero(block, count),
        })?;
        self.missing.tell();
        let differs = self.counts.written + self.counts.zero + self.missing.blocks;
        self.counts.shared = point.map.geometry.block_count() - differs;
        self.finish(point, "the blocks shared with the secondary were not verified")
    }

    fn finish(self, point: &Point, verdict: &str) -> Result<Outcome> {
        let Self { target, missing, bar, counts, .. } = self;
        bar.finish_and_clear();
        let (name, size, root) = (target.name().to_owned(), point.map.geometry.volume_size(), point.map.root());
        target.finish()?;
        let event = json!({
            "event": "summary", "point": missing.point, "out": name, "size": size, "root": root.to_string(),
            "blocks_written": counts.written, "blocks_zero": counts.zero, "blocks_shared": counts.shared,
            "bytes_written": counts.bytes, "blocks_missing": missing.blocks, "ranges_missing": missing.ranges,
            "bytes_missing": missing.bytes,
        });
        let lost = missing.summary();
        let state =
            lost.as_ref().map_or(format!("is in {name}"), |lost| format!("is in {name} without {lost}, zeros there"));
        let line = format!(
            "{} {state}: {}, {} written ({}), {} zero, {} shared; {verdict}\nroot: {root}",
            missing.point,
            bytes(size),
            plural(counts.written, "block"),
            bytes(counts.bytes),
            counts.zero,
            counts.shared,
        );
        tell(missing.out, missing.json, &event, &line);
        Ok(if lost.is_some() { Outcome::Warnings } else { Outcome::Done })
    }

    fn node(&mut self, level: u8, index: u64, digest: Digest) -> Result<()> {
        let first = index * span(level);
        let count = span(level).min(self.missing.geometry.block_count() - first);
        if digest.is_zero() {
            return self.zero(BlockId(first), count);
        }
        if level == 0 {
            return self.block(BlockId(first), digest);
        }
        let page = self.reader.borrow_mut().page(digest)?;
        let page = match page {
            Ok(page) => page,
            Err(reason) => return self.lost(BlockId(first), count, &format!("their map page is {reason}")),
        };
        let nodes = self.missing.geometry.block_count().div_ceil(span(level - 1));
        let children = (index * FANOUT..nodes).zip(0..FANOUT as usize);
        children.into_iter().try_for_each(|(child, slot)| self.node(level - 1, child, page.get(slot)))
    }

    /// A block that the output may have already.
    fn block(&mut self, block: BlockId, digest: Digest) -> Result<()> {
        if self.is_shared && self.found(block)? == digest {
            self.counts.shared += 1;
            self.done(block, 1);
            self.note(1, digest);
            return Ok(());
        }
        self.fresh(block, digest)
    }

    /// A block that is read from the segments.
    fn fresh(&mut self, block: BlockId, digest: Digest) -> Result<()> {
        let geometry = self.missing.geometry;
        let content = self.reader.borrow_mut().block(digest, geometry.block_len(block))?;
        let content = match content {
            Ok(content) => content,
            Err(reason) => return self.lost(block, 1, &reason),
        };
        self.put(geometry.offset(block), &content)?;
        self.done(block, 1);
        self.note(1, digest);
        Ok(())
    }

    /// Writes a block, or shares it with the segment that has it as it is.
    fn put(&mut self, offset: u64, content: &Content) -> Result<()> {
        let mut reader = self.reader.borrow_mut();
        let length = content.bytes.len() as u64;
        if let Some((from, from_offset)) = self.is_shared.then(|| reader.shareable(content)).transpose()?.flatten() {
            self.counts.shared += 1;
            return self.target.share_range(offset, from, from_offset, length);
        }
        self.counts.written += 1;
        self.counts.bytes += length;
        self.target.write(offset, &content.bytes)
    }

    /// What the output has there.
    fn found(&mut self, block: BlockId) -> Result<Digest> {
        let geometry = self.missing.geometry;
        let (start, length) = (geometry.offset(block), geometry.block_len(block));
        if !(self.hole.0..self.hole.1).contains(&start) {
            self.hole = (start, self.target.data_from(start)?);
        }
        if start + u64::from(length) <= self.hole.1 {
            return Ok(Digest::ZERO);
        }
        let mut content = vec![0; length as usize];
        self.target.read(start, &mut content)?;
        Ok(Digest::of_block(&content))
    }

    fn zero(&mut self, first: BlockId, count: u64) -> Result<()> {
        self.clear(first, count)?;
        self.counts.zero += count;
        self.note(count, Digest::ZERO);
        Ok(())
    }

    fn lost(&mut self, first: BlockId, count: u64, reason: &str) -> Result<()> {
        self.bar.suspend(|| self.missing.add(first, count, reason));
        self.clear(first, count)?;
        self.note(count, Digest::ZERO);
        Ok(())
    }

    fn clear(&mut self, first: BlockId, count: u64) -> Result<()> {
        let range = self.missing.geometry.byte_range(first, count);
        let length = range.end - range.start;
        self.done(first, count);
        match self.is_shared {
            true => self.target.unshare(range.start, length),
            false => self.target.zero(range.start, length),
        }
    }

    /// So many blocks with this digest are in the output now; of blocks that are not zero, one.
    fn note(&mut self, count: u64, digest: Digest) {
        let Some(builder) = &mut self.builder else { return };
        let Ok(()) = match digest.is_zero() {
            true => builder.zero(count, &mut Forget),
            false => builder.block(digest, &mut Forget),
        };
    }

    fn done(&self, first: BlockId, count: u64) {
        self.bar.set_position(self.missing.geometry.byte_range(first, count).end);
    }
}
