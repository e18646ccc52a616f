//! What an agent offers, what it is told to do, and how that went: the values of a control session.
//!
//! An agent announces names, and an appliance instructs by names alone: what a volume, a target or a bracket stands for is known at the
//! agent and never crosses the wire as something to act on (the source in an [`Offer`] is told for people). Invariants: no list is
//! longer than its named maximum; a run is one [`Assignment`] from when it is given until its [`Report`] was taken, wherever sessions
//! end meanwhile.

use crate::error::{FormatError, Result};
use crate::point::{Label, VolumeName};
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

/// Most volumes that an agent offers.
pub const OFFERS_MAX: u32 = 4096;
/// Most targets that an agent offers.
pub const TARGETS_MAX: u32 = 4096;
/// Most brackets that an agent offers.
pub const BRACKETS_MAX: u32 = 1024;
/// Most runs of an agent that are under way.
pub const UNDER_WAY_MAX: u32 = 256;
/// Most volumes of one run.
pub const RUN_VOLUMES_MAX: u32 = 256;
/// Most bytes of what is told of a source.
pub const SOURCE_MAX: usize = 1024;
/// Most bytes of the reason for a full.
pub const REASON_MAX: usize = 512;
/// Least time for which an agent lets its session be silent, milliseconds.
pub const SILENCE_MS_MIN: u32 = 100;
/// Most of it.
pub const SILENCE_MS_MAX: u32 = 3_600_000;
/// The highest exit code of a run.
pub const CODE_MAX: u8 = 4;

/// What an agent calls one of its targets or brackets; the characters are those of a volume name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LocalName(VolumeName);

impl LocalName {
    /// The text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for LocalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for LocalName {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = |reason| FormatError::Invalid { what: "name", reason };
        text.parse().map(Self).map_err(|error| match error {
            FormatError::Invalid { reason, .. } => invalid(reason),
            other => other,
        })
    }
}

/// A volume that an agent may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// As the appliance knows it.
    pub name: VolumeName,
    /// Bytes of the source; 0 when that is not known.
    pub size: u64,
    /// What the source is, for people.
    pub source: String,
}

/// What an agent offers, and what it does already.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Announcement {
    /// Volumes that may be replicated and verified.
    pub volumes: Vec<Offer>,
    /// Where points may be restored to.
    pub targets: Vec<LocalName>,
    /// What replicating may be put between.
    pub brackets: Vec<LocalName>,
    /// Runs that are not reported yet.
    pub under_way: Vec<Assignment>,
}

/// Something that an agent is told to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Its name in everything that is said of it, also in later sessions.
    pub run: Uuid,
    /// What is to be done.
    pub work: Work,
}

/// What an agent can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// Makes points.
    Replicate(Replicate),
    /// Compares the source of a volume with a point.
    Verify {
        /// The volume.
        volume: VolumeName,
        /// The number of the point; 0: the newest.
        point: u64,
    },
    /// Makes a target equal to a point.
    Restore {
        /// The volume.
        volume: VolumeName,
        /// The number of the point; 0: the newest.
        point: u64,
        /// One that was announced.
        target: LocalName,
    },
}

impl Work {
    /// The volumes that it is about.
    pub fn volumes(&self) -> &[VolumeName] {
        match self {
            Self::Replicate(replicate) => &replicate.volumes,
            Self::Verify { volume, .. } | Self::Restore { volume, .. } => std::slice::from_ref(volume),
        }
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let point = |point: &u64| if *point == 0 { "latest".to_owned() } else { point.to_string() };
        match self {
            Self::Replicate(replicate) => {
                let names: Vec<&str> = replicate.volumes.iter().map(VolumeName::as_str).collect();
                write!(f, "replicate {}", names.join(" "))
            }
            Self::Verify { volume, point: number } => write!(f, "verify {volume}@{}", point(number)),
            Self::Restore { volume, point: number, target } => {
                write!(f, "restore {volume}@{} to {target}", point(number))
            }
        }
    }
}

/// How volumes are to be replicated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replicate {
    /// Which, at least one.
    pub volumes: Vec<VolumeName>,
    /// Whether all their points are made, or none.
    pub group: bool,
    /// Why each is to be a full; `None` for what the initiator plans.
    pub full: Option<String>,
    /// For the new points.
    pub label: Option<Label>,
    /// Most bytes a second, all volumes together; 0: no limit.
    pub bytes_per_second: u64,
    /// What reading them is put between.
    pub bracket: Option<LocalName>,
}

/// How far a run is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The run.
    pub run: Uuid,
    /// Of its volumes, this one.
    pub volume: VolumeName,
    /// Bytes of the volume that are done.
    pub done: u64,
    /// Bytes of the volume; 0 when that is not known yet.
    pub total: u64,
    /// Something that happened, for people; empty for numbers alone.
    pub text: String,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The run.
    pub run: Uuid,
    /// Its exit code: 0 done, 1 failed, 3 done with warnings, 4 not identical.
    pub code: u8,
    /// For people.
    pub text: String,
    /// What became of its volumes, as far as anything did.
    pub volumes: Vec<VolumeReport>,
}

crate::layout! {
    /// The fixed part of what a report says of a volume; the texts `volume`, `full_reason` and `text` follow.
    pub struct VolumeFigures, 64 {
        /// The point that was made, compared or restored; 0 when there is none.
        0 point: u64,
        /// Bytes that were read from the source or the target.
        8 read_bytes: u64,
        /// Bytes of the blocks that changed.
        16 changed_bytes: u64,
        /// Bytes of the blocks whose content travelled.
        24 sent_bytes: u64,
        /// Bytes of the blocks that the appliance had.
        32 deduplicated_bytes: u64,
        /// Bytes on the connection.
        40 wire_bytes: u64,
        /// How long it took, milliseconds.
        48 duration_ms: u64,
        /// The exit code, as that of a run.
        56 code: u8,
        /// 0.
        57 reserved: [u8; 7],
    }
}

impl VolumeFigures {
    /// Nothing was done, and all is well.
    pub const ZERO: Self = Self {
        point: 0,
        read_bytes: 0,
        changed_bytes: 0,
        sent_bytes: 0,
        deduplicated_bytes: 0,
        wire_bytes: 0,
        duration_ms: 0,
        code: 0,
        reserved: [0; 7],
    };
}

/// What became of one volume of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeReport {
    /// The volume.
    pub volume: VolumeName,
    /// Numbers.
    pub figures: VolumeFigures,
    /// Why it was a full; empty when it was none.
    pub full_reason: String,
    /// For people.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_says_what_it_is() {
        let volume: VolumeName = "mail".parse().unwrap();
        let replicate = Replicate {
            volumes: vec![volume.clone(), "db".parse().unwrap()],
            group: true,
            full: None,
            label: None,
            bytes_per_second: 0,
            bracket: None,
        };
        assert_eq!(Work::Replicate(replicate).to_string(), "replicate mail db");
        assert_eq!(Work::Verify { volume: volume.clone(), point: 0 }.to_string(), "verify mail@latest");
        let target = "spare".parse().unwrap();
        assert_eq!(Work::Restore { volume, point: 7, target }.to_string(), "restore mail@7 to spare");
    }

    #[test]
    fn what_an_agent_calls_its_own_is_no_path() {
        for wrong in ["", "..", "/etc", "a/b", "a b", "-a", &"a".repeat(129)] {
            let error = wrong.parse::<LocalName>().unwrap_err();
            assert!(matches!(error, FormatError::Invalid { what: "name", .. }), "{wrong}: {error}");
        }
        assert_eq!("spare-1".parse::<LocalName>().unwrap().as_str(), "spare-1");
    }
}
