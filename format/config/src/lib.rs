//! What both programs share of reading what an administrator wrote: YAML files, what they include, and where a mistake is.
//!
//! The way of a file: YAML -> the keys of a program ([`Keys`]; unknown and repeated ones are errors, with the nearest known one) -> all
//! files as one ([`Files`]), where nothing may be said twice -> values, whose meaning ([`meaning`]) is checked where the file and the line
//! are still known. Invariants: reading changes nothing and asks for no time; whatever is wrong is told with file, line, column, key and what
//! is accepted. Nothing here knows what a key is for, but how the [`log`] is written, which is the same for both.

mod explain;
mod files;
mod locate;
pub mod log;
pub mod meaning;
mod named;

pub use explain::nearest;
pub use files::{Files, Found, Source, conflict};
pub use named::Named;
use std::fmt;
use std::path::PathBuf;

/// The only version of a configuration that there is.
pub const VERSION: u32 = 1;

/// The keys of one file of a program.
pub trait Keys: serde::de::DeserializeOwned {
    /// Some keys that every such file has, for people whose file has none.
    const SUCH_AS: &str;
    /// `version`, which the first file must have.
    fn version(&self) -> Option<u32>;
    /// `include`: directories.
    fn include(&self) -> &[String];
}

/// Something that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// Line and column, from 1; `None` for the file as a whole.
    pub place: Option<(usize, usize)>,
    /// The key, what is wrong with it, and what is accepted.
    pub reason: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some((line, column)) = self.place {
            write!(f, "{line}:{column}:")?;
        }
        write!(f, " {}", self.reason)
    }
}

impl ConfigError {
    /// The same as a warning for programs.
    pub fn event(&self) -> serde_json::Value {
        let (line, column) = self.place.unzip();
        let file = self.file.display().to_string();
        serde_json::json!({"event": "warning", "file": file, "line": line, "column": column, "reason": self.reason})
    }
}

impl std::error::Error for ConfigError {}
