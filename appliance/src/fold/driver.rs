//! Folding the journals of all volumes when it is time, and removing what of them is in points and older than anybody wants to go back.
//!
//! One volume at a time. Invariants: a volume that a stream goes into waits; a fold that failed is told with what to do, counted and tried
//! again; a file is removed only when the point that the oldest moment comes after has all of it.

use crate::clock;
use crate::daemon::Daemon;
use crate::error::{Error, Result};
use crate::journals::window::Window;
use crate::pool::VolumeEntry;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use understudy_format::point::VolumeName;

/// How often it is looked whether a fold is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Bytes of a journal that are folded before their time.
const BYTES_MAX: u64 = 1 << 30;
/// How long after one that failed a fold is tried again.
const RETRY_AFTER_NS: i64 = 60_000_000_000;

/// The last try to fold a volume's journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tried {
    at_ns: i64,
    failed: bool,
}

/// What is known of a volume when it is asked whether a fold is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    window: Window,
    /// When the newest point was made.
    folded_ns: i64,
    tried: Option<Tried>,
    /// Bytes of the journal after it.
    waiting_bytes: u64,
    /// Whether its tap has begun another journal, for which it needs a point with all of this one.
    is_closed: bool,
}

/// Whether a fold is due.
fn is_due(known: &Known, now_ns: i64) -> bool {
    match known.tried {
        Some(Tried { at_ns, failed: true }) => now_ns.saturating_sub(at_ns) >= RETRY_AFTER_NS,
        _ if known.waiting_bytes >= BYTES_MAX || known.is_closed && known.waiting_bytes > 0 => true,
        Some(Tried { at_ns, .. }) => known.window.is_fold_due(known.folded_ns.max(at_ns), now_ns),
        None => known.window.is_fold_due(known.folded_ns, now_ns),
    }
}

/// Folds what is due until `stopped`.
pub async fn drive(daemon: Arc<Daemon>, stopped: impl Future<Output = ()>) {
    let mut stopped = std::pin::pin!(stopped);
    let mut driver = Driver { daemon, tried: BTreeMap::new() };
    while tokio::time::timeout(LOOK_EVERY, &mut stopped).await.is_err() {
        tokio::task::block_in_place(|| driver.turn());
    }
}

struct Driver {
    daemon: Arc<Daemon>,
    tried: BTreeMap<VolumeName, Tried>,
}

impl Driver {
    fn turn(&mut self) {
        for entry in self.daemon.pool.volumes() {
            let now_ns = clock::now_ns();
            let name = &entry.volume.name;
            match self.known(&entry) {
                Some(Ok(known)) if is_due(&known, now_ns) => {
                    let failed = self.fold(&entry, &known.window, now_ns);
                    self.tried.insert(name.clone(), Tried { at_ns: now_ns, failed });
                }
                Some(Err(error)) => tracing::error!(volume = %name, %error, "what is set for its journal is wrong"),
                _ => {}
            }
        }
    }

    /// What is known of a volume whose newest point comes from a journal.
    fn known(&self, entry: &VolumeEntry) -> Option<Result<Known>> {
        let (name, newest, journals) = (&entry.volume.name, entry.newest()?, &self.daemon.journals);
        let position = newest.position?;
        let waiting_bytes = journals.bytes_after(name, &position);
        let is_closed = journals.is_closed(name, &position.journal);
        let (folded_ns, tried) = (newest.created_ns, self.tried.get(name).copied());
        Some(Window::of(&entry.settings).map(|window| Known { window, folded_ns, tried, waiting_bytes, is_closed }))
    }

    /// Folds and trims; whether that failed, or has to wait.
    fn fold(&self, entry: &VolumeEntry, window: &Window, now_ns: i64) -> bool {
        let (daemon, name) = (&self.daemon, &entry.volume.name);
        match daemon.fold(name).and_then(|_| self.trim(name, window, now_ns)) {
            Ok(()) => false,
            Err(Error::Busy(reason)) => {
                tracing::debug!(volume = %name, reason, "its journal is folded later");
                true
            }
            Err(error) => {
                daemon.counters.fold_failed(name);
                tracing::error!(
                    volume = %name, %error,
                    "its journal could not be folded: nothing is lost, moments can still be read, and it is tried again in a minute; \
                     until that works the journal takes up more and more of the pool's disk"
                );
                true
            }
        }
    }

    fn trim(&self, name: &VolumeName, window: &Window, now_ns: i64) -> Result<()> {
        let Some(entry) = self.daemon.pool.volume(name) else { return Ok(()) };
        let folded = window.oldest_base(&entry.points, now_ns).and_then(|base| base.position);
        let Some(folded) = folded else { return Ok(()) };
        let bytes = self.daemon.journals.trim(name, folded, window.from_ns(now_ns))?;
        if bytes > 0 {
            tracing::info!(volume = %name, bytes, "files of its journal are gone that are in points and older than is kept");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use understudy_format::catalogue::Settings;

    const MINUTE: i64 = 60_000_000_000;

    fn known(tried: Option<(i64, bool)>, waiting_bytes: u64) -> Known {
        let window = Window::of(&Settings::default()).expect("the usual");
        let tried = tried.map(|(minute, failed)| Tried { at_ns: minute * MINUTE, failed });
        Known { window, folded_ns: 10 * MINUTE, tried, waiting_bytes, is_closed: false }
    }

    /// The minutes of the first half hour at which a fold is due.
    fn due(known: &Known) -> Vec<i64> {
        (0..30).filter(|minute| is_due(known, minute * MINUTE)).collect()
    }

    #[test]
    fn a_fold_is_due_so_long_after_the_newest_point_or_the_last_try() {
        assert_eq!(due(&known(None, 0)).first(), Some(&15));
        assert_eq!(due(&known(Some((12, false)), 0)).first(), Some(&17), "there was nothing to fold");
        assert_eq!(due(&known(Some((3, false)), 0)).first(), Some(&15));
    }

    #[test]
    fn much_is_folded_at_once_and_what_failed_after_a_while() {
        assert_eq!(due(&known(None, BYTES_MAX)).len(), 30);
        assert_eq!(due(&known(None, BYTES_MAX - 1)).first(), Some(&15));
        assert_eq!(due(&known(Some((16, true)), BYTES_MAX)).first(), Some(&17), "however much there is");
    }

    #[test]
    fn what_a_tap_waits_for_is_folded_at_once() {
        assert_eq!(due(&Known { is_closed: true, ..known(None, 1) }).len(), 30);
        assert_eq!(due(&Known { is_closed: true, ..known(None, 0) }).first(), Some(&15), "all of it is folded");
    }

    #[test]
    fn what_is_set_counts() {
        let settings = Settings { fold_every: "PT10M".into(), keep_journal: "P2D".into(), ..Settings::default() };
        let window = Window::of(&settings).expect("right");
        assert_eq!(due(&Known { window, ..known(None, 0) }).first(), Some(&20));
        assert_eq!(window.from_ns(3 * 1440 * MINUTE), 1440 * MINUTE);
        assert!(Window::of(&Settings { fold_every: "often".into(), ..Settings::default() }).is_err());
    }
}
