//! What is done at the appliance: it folds, removes points and files of journals, gives back space, ends and starts again.

use super::Life;
use crate::model::{Checked, Wrong};
use std::collections::BTreeSet;
use understudy_appliance::error::Error;
use understudy_appliance::fold::Folder;
use understudy_appliance::journals::window::Window;
use understudy_format::ErrorKind;
use understudy_format::catalogue::Settings;

/// How far back any moment can be gone to: some hundred actions.
const KEEP: &str = "2min";

impl Life {
    /// The journal becomes a point.
    pub(super) fn fold(&mut self) -> Checked {
        let stream = self.id();
        let (Ok(pool), Ok(journals)) = (self.site.pool(), self.site.journals()) else { return Ok(()) };
        let folded = Folder { pool, journals, name: &self.name }.fold(stream, self.now_ns());
        match folded {
            Ok(None) => Ok(()),
            Ok(Some((_, point))) => {
                self.stats.folds += 1;
                self.note(format!("folded: point {}, up to {:?}", point.number, point.position));
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Retry && self.resync.is_some() => Ok(()),
            Err(error) => self.excuse("folding", &error),
        }
    }

    fn window() -> Window {
        let settings = Settings { keep_journal: KEEP.into(), ..Settings::default() };
        Window::of(&settings).expect("spans of time")
    }

    /// Some points go that no moment which is kept comes after.
    pub(super) fn remove_points(&mut self) -> Checked {
        let Ok(pool) = self.site.pool() else { return Ok(()) };
        let Some(entry) = pool.volume(&self.name) else { return Ok(()) };
        let oldest = Self::window().oldest_base(&entry.points, self.now_ns()).map_or(0, |base| base.number);
        let is_free = |number: &u64| *number != oldest && pool.users(&entry.volume.uuid, *number).is_empty();
        let older = entry.points.iter().map(|point| point.number).rev().skip(1).filter(is_free);
        let rng = &mut self.rng;
        let numbers: BTreeSet<u64> = older.filter(|_| rng.chance(60)).collect();
        if numbers.is_empty() {
            return Ok(());
        }
        let removed = pool.remove_points(&self.name, &numbers, self.now_ns());
        self.note(format!("remove points {numbers:?}: {removed:?}"));
        match removed {
            Err(error) if error.kind() == ErrorKind::Retry && self.resync.is_some() => Ok(()),
            removed => removed.or_else(|error| self.excuse("removing points", &error)),
        }
    }

    /// Files of journals go that no moment which is kept needs.
    pub(super) fn trim(&mut self) -> Checked {
        let (Ok(pool), Ok(journals)) = (self.site.pool(), self.site.journals()) else { return Ok(()) };
        let Some(entry) = pool.volume(&self.name) else { return Ok(()) };
        let window = Self::window();
        let folded = window.oldest_base(&entry.points, self.now_ns()).and_then(|base| base.position);
        let Some(folded) = folded else { return Ok(()) };
        let trimmed = journals.trim(&self.name, folded, window.from_ns(self.now_ns()));
        self.note(format!("trim up to {folded:?}: {trimmed:?}"));
        trimmed.map(|_| ()).or_else(|error| self.excuse("trimming", &error))
    }

    pub(super) fn collect(&mut self) -> Checked {
        let collected = self.site.collect();
        self.note(format!("collect: {collected:?}"));
        match collected {
            Ok(collected) if collected.missing > 0 => Err(Wrong(format!("{collected:?}: digests are missing"))),
            Ok(_) => Ok(()),
            Err(error) => self.excuse("collecting", &error),
        }
    }

    /// The secondary is the newest point.
    pub(super) fn settle(&mut self) -> Checked {
        match self.site.settle(&self.name) {
            Ok(()) => self.check_secondary(),
            Err(error) => self.excuse("settling", &error),
        }
    }

    pub(super) fn restart_site(&mut self) -> Checked {
        self.note("the appliance is restarted");
        self.cut_line()?;
        self.held.clear();
        self.site.stop();
        self.boot_site()
    }

    /// The appliance ends without notice.
    pub(super) fn end_site(&mut self, with_power: bool) -> Checked {
        self.note(if with_power { "the appliance loses its power" } else { "the appliance is killed" });
        // Its disk is off before anything of it is given up in order.
        self.site.disk().cut();
        self.drop_sessions();
        self.held.clear();
        self.stats.crashes += 1;
        self.stats.operations += self.site.disk().operations();
        match with_power {
            true => self.site.lose_power(&mut self.rng),
            false => self.site.kill(&mut self.rng),
        }
        self.boot_site()
    }

    /// Starts the appliance, which may be interrupted again, and compares everything.
    pub(super) fn boot_site(&mut self) -> Checked {
        if !self.is_calm && self.rng.chance(10) {
            let at = self.site.disk().operations() + 1 + self.rng.below(12);
            self.site.disk().cut_at(at);
        }
        if let Err(error) = self.site.start().map(|_| ()) {
            return self.not_started(&error);
        }
        self.compare()
    }

    fn not_started(&mut self, error: &Error) -> Checked {
        self.note(format!("the appliance cannot be started: {error}"));
        if !self.is_excused() {
            return Err(Wrong(format!("the appliance cannot be started: {error}")));
        }
        self.is_limited = false;
        self.site.disk().set_limit(None);
        self.end_site(true)
    }
}
