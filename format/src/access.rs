//! Who may do what with the volumes of a pool: clients, the rights that they were granted, and what follows from them.
//!
//! Invariants: nothing is allowed that no grant allows; a grant is for the client's *own* volumes, which are those that it created, or
//! for all whose names a pattern matches; a client that only adds never holds a right to destroy; all of this is a pure function of
//! what the [`register`] says, so it can be told why.

pub mod register;
pub mod token;

use crate::digest::Digest;
use crate::error::{FormatError, Result};
use crate::layout::check_range;
use crate::point::VolumeName;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// Most bytes of the name of a client.
pub const CLIENT_NAME_MAX: usize = 64;
/// Most bytes of a pattern.
pub const PATTERN_MAX: usize = 128;

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

/// Something that a client may do with a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Right {
    /// Add points; with it goes seeing the points and maps that are there.
    Replicate = 1,
    /// Read content, over a session or over NBD.
    Read = 2,
    /// Write over a point (scratch overlays), keep or discard that, and have an agent restore.
    Restore = 4,
    /// All that changes what is kept: prune, remove, protect, set, jobs.
    Administer = 8,
}

impl Right {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Replicate, Self::Read, Self::Restore, Self::Administer];

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Replicate => "replicate",
            Self::Read => "read",
            Self::Restore => "restore",
            Self::Administer => "administer",
        }
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Right {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|right| right.name() == text).ok_or_else(|| {
            FormatError::invalid("role", format!("{text:?}: expected replicate, read, restore or administer"))
        })
    }
}

/// A set of rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rights(u8);

impl Rights {
    /// Whether it has this one.
    pub fn has(self, right: Right) -> bool {
        self.0 & right as u8 != 0
    }

    /// Those of both.
    pub fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Those that are not in `others`.
    pub fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Those that it has.
    pub fn iter(self) -> impl Iterator<Item = Right> {
        Right::ALL.into_iter().filter(move |right| self.has(*right))
    }

    fn from_wire(bits: u8) -> Result<Self> {
        check_range("grant", "rights", bits.into(), 1, 15)?;
        Ok(Self(bits))
    }
}

impl FromIterator<Right> for Rights {
    fn from_iter<I: IntoIterator<Item = Right>>(rights: I) -> Self {
        Self(rights.into_iter().fold(0, |bits, right| bits | right as u8))
    }
}

/// Names of volumes: 1 to 128 of the characters of a name and `*`, which stands for any characters, also none.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pattern(String);

impl Pattern {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it matches every name.
    pub fn is_all(&self) -> bool {
        self.0.bytes().all(|byte| byte == b'*')
    }

    /// Whether it matches a name. Takes the shortest for each `*`, which is enough, so the time is bounded by the product of both lengths.
    pub fn matches(&self, name: &VolumeName) -> bool {
        let mut parts = self.0.split('*');
        let Some(mut rest) = name.as_str().strip_prefix(parts.next().unwrap_or("")) else { return false };
        let Some(last) = parts.next_back() else { return rest.is_empty() };
        for part in parts {
            let Some(at) = rest.find(part) else { return false };
            rest = &rest[at + part.len()..];
        }
        rest.ends_with(last)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Pattern {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-*".contains(c);
        match (1..=PATTERN_MAX).contains(&text.len()) && text.chars().all(allowed) {
            true => Ok(Self(text.to_owned())),
            false => Err(FormatError::invalid(
                "pattern",
                format!("{text:?}: expected 1 to 128 of letters, digits, '.', '_', '-', and '*' for any characters"),
            )),
        }
    }
}

/// Rights to some volumes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Which volumes; the client's own when no pattern is there.
    pub volumes: Option<Pattern>,
    /// Which rights.
    pub rights: Rights,
}

/// A certificate that a client has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Of the certificate ([`Digest::of_certificate`]).
    pub certificate: Digest,
    /// When it expires, nanoseconds since 1970-01-01T00:00:00Z.
    pub expires_ns: i64,
}

/// A client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Its name.
    pub name: ClientName,
    /// When it was enrolled first, nanoseconds since 1970-01-01T00:00:00Z.
    pub created_ns: i64,
    /// Whether it only adds: nothing that it asks for takes away what is kept.
    pub append_only: bool,
    /// What it may do.
    pub grants: Vec<Grant>,
    /// The volumes that it created.
    pub owned: BTreeSet<VolumeName>,
    /// The certificates that it is known by; none once it is revoked.
    pub certificates: Vec<Known>,
}

impl Client {
    /// A client without any right.
    pub fn new(name: ClientName, created_ns: i64) -> Self {
        let (grants, owned, certificates) = (Vec::new(), BTreeSet::new(), Vec::new());
        Self { name, created_ns, append_only: false, grants, owned, certificates }
    }

    /// Whether it has a right to a volume; without a volume, to all that there are and will be.
    pub fn holds(&self, right: Right, volume: Option<&VolumeName>) -> bool {
        self.rights(volume).has(right)
    }

    /// Its rights to a volume; without a volume, to all that there are and will be.
    pub fn rights(&self, volume: Option<&VolumeName>) -> Rights {
        let covers = |grant: &&Grant| match (volume, &grant.volumes) {
            (Some(name), Some(pattern)) => pattern.matches(name),
            (Some(name), None) => self.owned.contains(name),
            (None, Some(pattern)) => pattern.is_all(),
            (None, None) => false,
        };
        let granted = self.grants.iter().filter(covers).fold(Rights::default(), |all, grant| all.and(grant.rights));
        let withheld = if self.append_only { [Right::Administer].into_iter().collect() } else { Rights::default() };
        granted.without(withheld)
    }

    /// Whether a volume that it creates would be its own, with the right to add points.
    pub fn may_create(&self) -> bool {
        self.grants.iter().any(|grant| grant.volumes.is_none() && grant.rights.has(Right::Replicate))
    }

    /// Adds rights to volumes.
    pub fn grant(&mut self, volumes: Option<Pattern>, rights: Rights) {
        match self.grants.iter_mut().find(|grant| grant.volumes == volumes) {
            Some(grant) => grant.rights = grant.rights.and(rights),
            None => self.grants.push(Grant { volumes, rights }),
        }
    }

    /// Takes rights to volumes away, as far as the same pattern granted them.
    pub fn take_back(&mut self, volumes: Option<&Pattern>, rights: Rights) {
        let same = self.grants.iter_mut().filter(|grant| grant.volumes.as_ref() == volumes);
        same.for_each(|grant| grant.rights = grant.rights.without(rights));
        self.grants.retain(|grant| grant.rights != Rights::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> VolumeName {
        text.parse().unwrap()
    }

    fn client(grants: &[(Option<&str>, &[Right])]) -> Client {
        let mut client = Client::new("web-1".parse().unwrap(), 0);
        for (pattern, rights) in grants {
            client.grant(pattern.map(|text| text.parse().unwrap()), rights.iter().copied().collect());
        }
        client
    }

    #[test]
    fn patterns_match_whole_names() {
        let table = [
            ("db", "db", true),
            ("db", "db1", false),
            ("db", "adb", false),
            ("db-*", "db-", true),
            ("db-*", "db-7", true),
            ("db-*", "db7", false),
            ("*-db", "web-db", true),
            ("*-db", "web-db2", false),
            ("a*b*c", "abc", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("*ab*b", "ab", false),
            ("*", "anything", true),
            ("**", "x", true),
        ];
        for (pattern, volume, expected) in table {
            let pattern: Pattern = pattern.parse().unwrap();
            assert_eq!(pattern.matches(&name(volume)), expected, "{pattern} {volume}");
        }
    }

    #[test]
    fn names_and_patterns_have_limits() {
        for wrong in ["", "-a", "a/b", "a b", &"x".repeat(65)] {
            assert!(wrong.parse::<ClientName>().is_err(), "{wrong}");
        }
        assert!("x".repeat(64).parse::<ClientName>().is_ok());
        for wrong in ["", "a?", "a/b", &"*".repeat(129)] {
            assert!(wrong.parse::<Pattern>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_client_has_what_it_was_granted_and_nothing_else() {
        let mut client = client(&[(None, &[Right::Replicate, Right::Restore]), (Some("db-*"), &[Right::Read])]);
        client.owned.insert(name("mine"));
        let held = |volume: &str| client.rights(Some(&name(volume))).iter().collect::<Vec<_>>();
        assert_eq!(held("mine"), [Right::Replicate, Right::Restore]);
        assert_eq!(held("db-1"), [Right::Read]);
        assert_eq!(held("other"), []);
        assert_eq!(client.rights(None), Rights::default(), "no pattern is for all");
    }

    #[test]
    fn only_a_pattern_for_all_is_for_the_pool() {
        let all = client(&[(Some("*"), &[Right::Administer])]);
        assert!(all.holds(Right::Administer, None) && all.holds(Right::Administer, Some(&name("any"))));
        assert!(!client(&[(Some("a*"), &[Right::Administer])]).holds(Right::Administer, None));
    }

    #[test]
    fn who_only_adds_administers_nothing() {
        let mut client = client(&[(Some("*"), &Right::ALL)]);
        client.append_only = true;
        let held: Vec<_> = client.rights(Some(&name("any"))).iter().collect();
        assert_eq!(held, [Right::Replicate, Right::Read, Right::Restore]);
    }

    #[test]
    fn what_is_taken_back_is_gone() {
        let mut client = client(&[(Some("a"), &[Right::Read, Right::Replicate]), (None, &[Right::Read])]);
        let pattern: Pattern = "a".parse().unwrap();
        client.take_back(Some(&pattern), [Right::Read].into_iter().collect());
        assert!(!client.holds(Right::Read, Some(&name("a"))) && client.holds(Right::Replicate, Some(&name("a"))));
        client.take_back(None, Right::ALL.into_iter().collect());
        assert_eq!(client.grants.len(), 1);
    }
}
