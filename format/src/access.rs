//! Who may do what with the volumes of a pool: clients by their names.

use crate::error::{FormatError, Result};
use crate::point::VolumeName;
use std::fmt;
use std::str::FromStr;

/// Most bytes of the name of a client.
pub const CLIENT_NAME_MAX: usize = 64;

/// The name of a client: 1 to 64 of `A-Z a-z 0-9 . _ -`, starting with a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientName(String);

impl ClientName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClientName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ClientName {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self> {
        match text.len() <= CLIENT_NAME_MAX && text.parse::<VolumeName>().is_ok() {
            true => Ok(Self(text.to_owned())),
            false => Err(FormatError::invalid(
                "client name",
                format!(
                    "{text:?}: expected 1 to 64 of letters, digits, '.', '_', '-', starting with a letter or digit"
                ),
            )),
        }
    }
}
