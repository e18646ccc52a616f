//! Pruning: the policy decides, point by point and with the reason, and what it does not keep is removed.

use super::{Outcome, Upkeep};
use crate::args;
use crate::error::{Error, Result};
use crate::journals::window::Window;
use crate::pool::{VolumeEntry, collect};
use crate::retention::policy::Policy;
use crate::retention::{Candidate, Decision, plan};
use jiff::tz::TimeZone;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use understudy_format::point::{Label, Point};
use understudy_format::text;

/// Who uses the point that the oldest moment comes after that can be gone to.
const BASE: &str = "the moments after it that are kept";
/// How often a plan is made anew because a point came into use between planning and removing.
const PLANS_MAX: usize = 5;

impl Upkeep<'_> {
    pub(super) fn prune(&mut self, args: &args::Prune) -> Result<Outcome> {
        let zone = match &args.time_zone {
            None => self.zone.clone(),
            Some(name) => TimeZone::get(name)
                .map_err(|e| Error::refused(format!("{e}; expected a name such as Europe/Berlin or UTC")))?,
        };
        let entries = match args.volumes.is_empty() {
            true => self.pool.volumes(),
            false => args.volumes.iter().map(|name| self.volume(name)).collect::<Result<_>>()?,
        };
        for entry in entries {
            self.prune_volume(args, &zone, entry)?;
        }
        match args.collect && !args.dry_run {
            true => self.reclaim(collect::Options::default()),
            false => Ok(Outcome::Done),
        }
    }

    fn prune_volume(&mut self, args: &args::Prune, zone: &TimeZone, entry: Arc<VolumeEntry>) -> Result<()> {
        let policy = match args.retention.given() {
            true => args.retention.policy(),
            false => Policy::of(&entry.settings)?,
        };
        let name = entry.volume.name.clone();
        let (mut entry, mut tries) = (entry, 0);
        let decisions = loop {
            let decisions = plan(&self.candidates(&entry)?, &policy, self.now_ns, zone);
            let gone: BTreeSet<u64> = decisions.iter().filter(|d| !d.keep).map(|d| d.number).collect();
            if args.dry_run || gone.is_empty() {
                break decisions;
            }
            tries += 1;
            match self.pool.remove_points(&name, &gone, self.now_ns) {
                Ok(()) => break decisions,
                Err(Error::Busy(_)) if tries < PLANS_MAX => entry = self.volume(&name)?,
                Err(error) => return Err(error),
            }
        };
        self.tell_pruned(args, &entry, &policy, &decisions);
        Ok(())
    }

    fn candidates(&self, entry: &VolumeEntry) -> Result<Vec<Candidate>> {
        let window = Window::of(&entry.settings)?;
        let oldest = window.oldest_base(&entry.points, self.now_ns).map(|base| base.number);
        let candidate = |point: &Point| {
            let users = self.pool.users(&entry.volume.uuid, point.number);
            let is_base = (oldest == Some(point.number)).then_some(BASE);
            Candidate {
                number: point.number,
                created_ns: point.created_ns,
                label: point.label.clone(),
                protected: entry.protected.contains(&point.number),
                in_use: users.first().copied().or(is_base).map(str::to_owned),
            }
        };
        Ok(entry.points.iter().map(candidate).collect())
    }

    fn tell_pruned(&mut self, args: &args::Prune, entry: &VolumeEntry, policy: &Policy, decisions: &[Decision]) {
        let name = &entry.volume.name;
        for (point, decision) in entry.points.iter().zip(decisions) {
            let Decision { number, keep, reason } = decision;
            let label = point.label.as_ref().map(Label::as_str);
            let verb = match (keep, args.dry_run) {
                (true, _) => "keep",
                (false, true) => "would remove",
                (false, false) => "removed",
            };
            let shown = label.map_or(String::new(), |label| format!(" {label:?}"));
            let json = json!({
                "event": "point", "volume": name.as_str(), "point": number, "created": text::time(point.created_ns),
                "label": label, "keep": keep, "reason": reason, "dry_run": args.dry_run,
            });
            self.tell(format!("{name}@{number}{shown}  {}  {verb}: {reason}", text::time(point.created_ns)), json);
        }
        let kept = decisions.iter().filter(|decision| decision.keep).count();
        let removed = decisions.len() - kept;
        let json = json!({
            "event": "pruned", "volume": name.as_str(), "policy": policy.to_string(), "kept": kept,
            "removed": removed, "dry_run": args.dry_run,
        });
        let would = if args.dry_run { "would be removed (dry run)" } else { "removed" };
        self.tell(format!("{name}: {kept} points kept, {removed} {would}, by {policy}"), json);
    }
}
