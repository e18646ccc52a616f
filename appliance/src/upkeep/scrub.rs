//! Scrubbing, told line by line.

use super::{Outcome, Told, Upkeep};
use crate::args;
use crate::clock::SystemClock;
use crate::error::Result;
use crate::scrub::{self, Event, Options, Scrubbed};
use understudy_format::text::bytes;

impl Upkeep<'_> {
    pub(super) fn scrub(&mut self, args: &args::Scrub) -> Result<Outcome> {
        let older_than_ns = args.older_than.map(|age| self.now_ns.saturating_sub(age.before(self.now_ns, &self.zone)));
        let options = Options { volume: args.volume.clone(), older_than_ns, rate: args.rate, now_ns: self.now_ns };
        let tell = &mut *self.tell;
        let mut report = |event: Event| {
            // How far it is, is for programs: people see what is found.
            let text = if let Event::Progress { .. } = event { String::new() } else { event.to_string() };
            tell(Told { text, event: event.json() });
        };
        let scrubbed =
            scrub::run(self.pool, self.secondaries, &options, &SystemClock::start(), self.stop, &mut report)?;
        self.tell(summary(&scrubbed), scrubbed.json());
        Ok(Outcome::from_code(scrubbed.exit_code().into()).unwrap_or(Outcome::Different))
    }
}

fn summary(scrubbed: &Scrubbed) -> String {
    let Scrubbed { segments, passed_over, records, damaged, healed, unhealed, warnings, .. } = *scrubbed;
    let read = bytes(scrubbed.bytes);
    let mut text =
        format!("{records} records in {segments} segments checked, {read} read, {passed_over} segments passed over");
    text += &match (damaged, unhealed) {
        (0, _) => "; nothing is damaged".to_owned(),
        (_, 0) => format!("; {damaged} were damaged, all of them are healed"),
        _ => format!("; {damaged} were damaged, {healed} are healed, {unhealed} are not"),
    };
    let Scrubbed { secondaries, secondaries_failed, secondary_blocks, secondary_blocks_repaired, .. } = *scrubbed;
    text += &format!("; {secondaries} secondaries compared");
    if secondary_blocks > 0 {
        text += &format!(", {secondary_blocks_repaired} of {secondary_blocks} wrong blocks repaired");
    }
    if secondaries_failed > 0 {
        text += &format!(", {secondaries_failed} could not be compared");
    }
    if warnings > 0 {
        text += &format!("; {warnings} places are damaged that cost no content");
    }
    text
}
