//! Scrubbing: everything that the pool needs is read and checked, what is damaged is told with its place, and healed.
//!
//! 1. The maps are walked ([`need`]): what they name and no segment has is found.
//! 2. The segments are read, in order; a damaged record is marked at once, and not deduplicated against any more.
//! 3. Only if there is damage: who needs it is found by walking the maps again ([`find`]), and its content is looked for
//!    ([`heal`]). Pages are healed first, for what is beneath them is not known before.
//! 4. The secondaries are compared with the points that they settled at, and repaired.
//!
//! Invariants: a record is told as healed only when its new copy is durable; what cannot be healed stays
//! marked, so the next stream that offers it is asked to send it; nothing is locked or leased for longer than a
//! step, so streams, reads, removals and collections go on meanwhile. An interrupted scrub goes on where it was when it is run
//! again with an `older_than_ns` that reaches back to its beginning: segments checked since are passed over.

pub mod find;
mod heal;
mod need;
pub mod pace;
pub mod report;
pub mod resend;
mod walk;

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::pool::check::Checked;
use crate::pool::heal::Content;
use crate::pool::live::Bits;
use crate::pool::{Pool, VolumeEntry};
use crate::secondary::Secondaries;
use find::{Finder, Wound, Wounds};
use heal::Healer;
use need::Needed;
use pace::Pace;
use report::Secondary;
pub use report::{Event, Scrubbed};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use understudy_format::Digest;
use understudy_format::map::LEVEL_MAX;
use understudy_format::point::{Volume, VolumeName};
use understudy_format::segment::Kind;
use walk::Walk;

/// Bytes of content that are made durable together.
const BATCH_BYTES: usize = 32 << 20;

/// What is scrubbed, and how fast.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Only what the points of this volume need.
    pub volume: Option<VolumeName>,
    /// Only segments that were not checked for this long, nanoseconds.
    pub older_than_ns: Option<i64>,
    /// Bytes a second that are read at most.
    pub rate: Option<u64>,
    /// The time now, nanoseconds since 1970-01-01T00:00:00Z.
    pub now_ns: i64,
}

/// Whom a scrub tells what happens.
pub type Report<'a> = dyn FnMut(Event) + 'a;

/// Scrubs a pool; `stop` ends it early with [`Error::Closing`].
pub fn run(
    pool: &Pool,
    secondaries: &Secondaries,
    options: &Options,
    clock: &dyn Clock,
    stop: &AtomicBool,
    report: &mut Report<'_>,
) -> Result<Scrubbed> {
    let pace = Pace::new(options.rate, clock, stop);
    Scrub { pool, secondaries, options, pace, report, scrubbed: Scrubbed::default(), told: BTreeSet::new() }.run()
}

/// Content that was found.
struct Healed<'w> {
    wound: &'w Wound,
    reason: String,
    content: bytes::Bytes,
    from: String,
}

struct Scrub<'a, 'r> {
    pool: &'a Pool,
    secondaries: &'a Secondaries,
    options: &'a Options,
    pace: Pace<'a>,
    report: &'r mut Report<'r>,
    scrubbed: Scrubbed,
    /// What was told, by digest: nothing is told twice.
    told: BTreeSet<Digest>,
}

impl Scrub<'_, '_> {
    fn run(mut self) -> Result<Scrubbed> {
        let needed = self.walk()?;
        let only = self.options.volume.is_some().then_some(&needed);
        let segments = self.pool.segment_numbers()?;
        for (done, segment) in (1..).zip(&segments) {
            self.segment(*segment, only)?;
            let (segments, bytes) = (segments.len() as u64, self.scrubbed.bytes);
            (self.report)(Event::Progress { done, segments, bytes });
        }
        self.heal()?;
        for entry in self.volumes()? {
            self.compare(&entry.volume)?;
        }
        Ok(self.scrubbed)
    }

    fn volumes(&self) -> Result<Vec<Arc<VolumeEntry>>> {
        match &self.options.volume {
            Some(name) => Ok(vec![self.pool.known(name)?]),
            None => Ok(self.pool.volumes()),
        }
    }

    /// What is needed; what of it is missing is marked.
    fn walk(&mut self) -> Result<Bits> {
        let mut needed = Needed::new(self.pool);
        for entry in self.volumes()? {
            Walk { pool: self.pool, pace: &mut self.pace }.volume(&entry, &mut needed)?;
        }
        Ok(needed.records)
    }

    fn segment(&mut self, segment: u64, only: Option<&Bits>) -> Result<()> {
        let checked_before = self.pool.last_checked(segment)?;
        let since = self.options.older_than_ns.map(|age| self.options.now_ns.saturating_sub(age));
        if since.is_some_and(|since| checked_before.is_some_and(|checked| checked >= since)) {
            self.scrubbed.passed_over += 1;
            return Ok(());
        }
        let pace = &mut self.pace;
        let Some(checked) = self.pool.check_segment(segment, only, &mut |bytes| pace.take(bytes))? else {
            self.scrubbed.passed_over += 1;
            return Ok(());
        };
        self.scrubbed.segments += 1;
        self.scrubbed.records += checked.records;
        self.scrubbed.bytes += checked.bytes;
        self.save(segment, checked)?;
        if only.is_none() {
            self.pool.set_checked(segment, self.options.now_ns)?;
        }
        Ok(())
    }

    /// Keeps what would be lost with the index, and tells what costs no content.
    fn save(&mut self, segment: u64, checked: Checked) -> Result<()> {
        if checked.is_headless {
            self.pool.leave_segment()?;
            self.pool.copy_again(&checked.endangered)?;
        }
        if !checked.catalogue.is_empty() {
            let records = self.pool.record_again(&checked.catalogue)?;
            self.scrubbed.damaged += records;
            self.scrubbed.healed += records;
            (self.report)(Event::Recorded { segment, records });
        }
        for (offset, reason) in checked.warnings {
            self.scrubbed.warnings += 1;
            (self.report)(Event::Warning { segment, offset, reason });
        }
        Ok(())
    }

    /// Compares the secondary of a volume with the point that it settled at, and repairs it.
    fn compare(&mut self, volume: &Volume) -> Result<()> {
        let (name, pace) = (volume.name.to_string(), &mut self.pace);
        let compared = match self.secondaries.compare(volume, true, &mut |bytes| pace.take(bytes)) {
            Ok(Some(compared)) => compared,
            Ok(None) => return Ok(()),
            Err(Error::Closing) => return Err(Error::Closing),
            Err(error) => {
                self.scrubbed.secondaries_failed += 1;
                (self.report)(Event::SecondaryFailed { volume: name, reason: error.to_string() });
                return Ok(());
            }
        };
        self.scrubbed.secondaries += 1;
        self.scrubbed.secondary_blocks += compared.differing;
        self.scrubbed.secondary_blocks_repaired += compared.repaired;
        if compared.differing > 0 {
            (self.report)(Event::Secondary(Secondary::new(name, &compared)));
        }
        Ok(())
    }

    /// Finds who needs what is damaged, and heals what can be healed.
    fn heal(&mut self) -> Result<()> {
        // Every round heals pages of at least one level, and shows what is beneath them.
        for _ in 0..=LEVEL_MAX {
            let wounds = self.find()?;
            let pages = wounds.values().filter(|wound| wound.damage.kind == Kind::Page);
            if self.heal_all(pages, false)? == 0 {
                break;
            }
        }
        let wounds = self.find()?;
        self.heal_all(wounds.values(), true).map(drop)
    }

    /// What is damaged, and who needs it: of the chosen volume, or of all.
    fn find(&mut self) -> Result<Wounds> {
        let mut wounds = find::wounds(self.pool)?;
        if wounds.is_empty() {
            return Ok(wounds);
        }
        for entry in self.pool.volumes() {
            let mut finder = Finder::new(self.pool, &mut wounds, entry.clone());
            Walk { pool: self.pool, pace: &mut self.pace }.volume(&entry, &mut finder)?;
            finder.finish();
        }
        if let Some(name) = &self.options.volume {
            wounds.retain(|_, wound| wound.volumes.contains(name));
        }
        Ok(wounds)
    }

    /// Heals what can be healed, and tells it; with `all`, tells of the rest as well. Returns how many were healed.
    fn heal_all<'w>(&mut self, wounds: impl Iterator<Item = &'w Wound>, all: bool) -> Result<u64> {
        let (mut batch, mut bytes, mut healed) = (Vec::new(), 0, 0);
        for wound in wounds.filter(|wound| all || wound.place_count > 0) {
            if wound.place_count == 0 {
                self.unneeded(wound)?;
                continue;
            }
            let found = Healer { pool: self.pool, secondaries: self.secondaries, pace: &mut self.pace }.find(wound)?;
            match found.content {
                Some((content, from)) => {
                    bytes += content.len();
                    batch.push(Healed { wound, reason: found.reason, content, from });
                }
                None if all => self.unhealed(wound, found.reason),
                None => {}
            }
            if bytes >= BATCH_BYTES {
                healed += self.store(std::mem::take(&mut batch))?;
                bytes = 0;
            }
        }
        Ok(healed + self.store(batch)?)
    }

    fn store(&mut self, batch: Vec<Healed<'_>>) -> Result<u64> {
        let content = |own: &Healed<'_>| Content { damage: own.wound.damage, bytes: own.content.clone() };
        let contents: Vec<Content> = batch.iter().map(content).collect();
        if contents.is_empty() {
            return Ok(0);
        }
        self.pool.store_again(&contents)?;
        for Healed { wound, reason, from, .. } in batch {
            self.tell(wound, reason);
            self.scrubbed.healed += 1;
            (self.report)(Event::Healed { digest: wound.damage.digest.to_string(), from });
        }
        Ok(contents.len() as u64)
    }

    fn unhealed(&mut self, wound: &Wound, reason: String) {
        self.tell(wound, reason);
        self.scrubbed.unhealed += 1;
        let volumes = wound.volumes.iter().map(ToString::to_string).collect();
        (self.report)(Event::Unhealed { digest: wound.damage.digest.to_string(), volumes });
    }

    fn unneeded(&mut self, wound: &Wound) -> Result<()> {
        if wound.damage.location.is_nowhere() {
            return self.pool.forget_missing(&wound.damage);
        }
        self.scrubbed.unneeded += 1;
        (self.report)(Event::Unneeded { digest: wound.damage.digest.to_string() });
        Ok(())
    }

    fn tell(&mut self, wound: &Wound, reason: String) {
        if self.told.insert(wound.damage.digest) {
            self.scrubbed.damaged += 1;
            (self.report)(Event::Damaged(wound.told(reason)));
        }
    }
}
