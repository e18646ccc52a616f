//! What is set for a volume: shown, and changed.

use super::{Outcome, Upkeep};
use crate::args;
use crate::error::{Error, Result};
use crate::journals::window::{Wanted, Window};
use crate::retention::policy::Policy;
use serde_json::json;
use understudy_format::catalogue::SecondaryMode;

impl Upkeep<'_> {
    pub(super) fn set(&mut self, args: &args::Set) -> Result<Outcome> {
        self.volume(&args.volume)?;
        if args.retention.given() {
            let policy = args.retention.policy();
            self.pool.set(&args.volume, |settings| policy.store(settings))?;
        }
        let journal = Wanted { keep_journal: args.keep_journal, fold_every: args.fold_every };
        if journal.given() {
            self.pool.set(&args.volume, |settings| journal.store(settings))?;
        }
        if let Some(mode) = args.secondary.as_deref().map(parse_mode).transpose()? {
            self.secondaries.set_mode(&args.volume, mode, args.force)?;
        }
        let settings = self.volume(&args.volume)?.settings.clone();
        let (secondary, policy) = (show_mode(&settings.secondary), Policy::of(&settings)?.to_string());
        let (name, window) = (args.volume.as_str(), Window::of(&settings)?);
        let json = json!({
            "event": "settings", "volume": name, "secondary": secondary, "policy": policy,
            "keep_journal": window.keep_journal.to_string(), "fold_every": window.fold_every.to_string(),
        });
        let is_usual = settings.keep_journal.is_empty() && settings.fold_every.is_empty();
        let journal = if is_usual { String::new() } else { format!(", journal {window}") };
        self.tell(format!("{name}: secondary {secondary}, retention {policy}{journal}"), json);
        Ok(Outcome::Done)
    }
}

/// Reads a mode as it is given on the command line and in the configuration.
pub fn parse_mode(text: &str) -> Result<SecondaryMode> {
    match text {
        "none" => Ok(SecondaryMode::None),
        "native" => Ok(SecondaryMode::Native),
        path if path.starts_with('/') && path.len() <= understudy_format::catalogue::DEVICE_MAX => {
            Ok(SecondaryMode::Device(path.to_owned()))
        }
        other => Err(Error::refused(format!(
            "{other:?} is no secondary: expected native, none, or the absolute path of a block device such as /dev/vg0/copy"
        ))),
    }
}

/// A mode as it is given on the command line.
pub fn show_mode(mode: &SecondaryMode) -> &str {
    match mode {
        SecondaryMode::None => "none",
        SecondaryMode::Native => "native",
        SecondaryMode::Device(path) => path,
    }
}
