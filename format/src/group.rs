//! Groups: streams into several volumes whose points are committed together or not at all.
//!
//! Invariants: a group has at least two members, each with a volume of its own; its UUID is that of one attempt: what was
//! not committed is tried again in another group.

use crate::error::{FormatError, Result};
use crate::layout::{Field, Reader, check_range};
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

/// Fewest members of a group.
pub const MEMBERS_MIN: u16 = 2;
/// Most members of a group.
pub const MEMBERS_MAX: u16 = 64;

/// The group that a stream belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// Its name, which is not nil.
    pub uuid: Uuid,
    /// How many streams belong to it.
    pub members: u16,
}

impl Group {
    /// No group is the nil UUID with no members.
    pub(crate) fn put(group: Option<&Self>, out: &mut Vec<u8>) {
        let (uuid, members) = group.map_or((Uuid::nil(), 0), |group| (group.uuid, group.members));
        uuid.put(out);
        members.put(out);
    }

    pub(crate) fn read(what: &'static str, r: &mut Reader<'_>) -> Result<Option<Self>> {
        let group = Self { uuid: r.field()?, members: r.field()? };
        match group.uuid.is_nil() {
            true => check_range(what, "members of no group", group.members.into(), 0, 0).map(|()| None),
            false => group.checked(what).map(Some),
        }
    }

    fn checked(self, what: &'static str) -> Result<Self> {
        check_range(what, "members", self.members.into(), MEMBERS_MIN.into(), MEMBERS_MAX.into())?;
        Ok(self)
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.uuid, self.members)
    }
}

impl FromStr for Group {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self> {
        let parts = text.split_once(':').and_then(|(uuid, members)| Some((uuid.parse().ok()?, members.parse().ok()?)));
        let group = parts.map(|(uuid, members)| Self { uuid, members }).filter(|group| !group.uuid.is_nil());
        let expected = || FormatError::invalid("group", format!("{text:?}: expected UUID:COUNT, the UUID not nil"));
        group.ok_or_else(expected)?.checked("group")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_written_as_it_is_read() {
        let text = "67e55044-10b1-426f-9247-bb680e5fe0c8:3";
        assert_eq!(text.parse::<Group>().unwrap().to_string(), text);
    }

    #[test]
    fn what_is_no_group_is_refused_with_what_is_expected() {
        let uuid = "67e55044-10b1-426f-9247-bb680e5fe0c8";
        let expected = "expected UUID:COUNT, the UUID not nil";
        for (text, reason) in [
            (uuid.to_owned(), expected),
            ("x:3".into(), expected),
            (format!("{}:2", Uuid::nil()), expected),
            (format!("{uuid}:-1"), expected),
            (format!("{uuid}:1"), "members is 1, allowed is 2 to 64"),
            (format!("{uuid}:65"), "members is 65, allowed is 2 to 64"),
        ] {
            let error = text.parse::<Group>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
