//! What is recorded of volumes and points after they came to be: removal, protection, settings.
//!
//! These are records of segments like points themselves, so that the segments alone rebuild the pool. Invariant: of
//! several records about the same thing the one that was appended last counts; whoever copies one to another segment
//! copies what counts now.

use crate::error::{FormatError, Result};
use crate::layout::{Layout, Reader, check_range, put_text};
use uuid::Uuid;

/// Most bytes of the path of a device.
pub const DEVICE_MAX: usize = 1024;
/// Most bytes of a span of time.
pub const SPAN_MAX: usize = 64;

crate::layout! {
    /// The content of a removal: a point is not there any more.
    pub struct RemovalRecord, 40 {
        /// The volume.
        0 volume: Uuid,
        /// The point.
        16 point: u64,
        /// When it was removed, nanoseconds since 1970-01-01T00:00:00Z.
        24 removed_ns: i64,
        /// The segment with the point's record: once that is gone this record is not needed any more.
        32 segment: u64,
    }
}

crate::layout! {
    /// The content of a protection: whether retention may remove a point.
    pub struct ProtectionRecord, 32 {
        /// The volume.
        0 volume: Uuid,
        /// The point.
        16 point: u64,
        /// 0 not protected, 1 protected.
        24 protected: u8,
        /// 0.
        25 reserved: [u8; 7],
    }
}

crate::layout! {
    /// The fixed part of the settings of a volume; the texts `keep_within`, `minimum_age`, `device`, `keep_journal` and `fold_every` follow.
    pub struct SettingsRecord, 64 {
        /// The volume.
        0 volume: Uuid,
        /// See [`SecondaryMode`].
        16 secondary_mode: u8,
        /// 0.
        17 reserved: [u8; 7],
        /// Points to keep, whatever their time; 0: the rule is not used.
        24 keep_last: u32,
        /// One point an hour, of so many hours.
        28 keep_hourly: u32,
        /// One point a day.
        32 keep_daily: u32,
        /// One point a week.
        36 keep_weekly: u32,
        /// One point a month.
        40 keep_monthly: u32,
        /// One point a year.
        44 keep_yearly: u32,
        /// 0.
        48 reserved_tail: [u8; 16],
    }
}

/// How a volume's newest point is kept as raw bytes beside the history.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SecondaryMode {
    /// Not at all.
    None,
    /// As an image in the pool.
    #[default]
    Native,
    /// On this block device.
    Device(String),
}

impl SecondaryMode {
    /// The number of the mode in records and messages.
    pub fn number(&self) -> u8 {
        match self {
            Self::None => 0,
            Self::Native => 1,
            Self::Device(_) => 2,
        }
    }
}

/// What is set for a volume; every field has a default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// The secondary.
    pub secondary: SecondaryMode,
    /// Points to keep by the rules last, hourly, daily, weekly, monthly, yearly; 0: the rule is not used.
    pub keep: [u32; 6],
    /// Points so much younger than the newest are kept; a span of time as text, empty for none.
    pub keep_within: String,
    /// Points younger than this are kept; a span of time as text, empty for none.
    pub minimum_age: String,
    /// How long any moment of a journal can be gone back to; a span of time as text, empty for the usual one.
    pub keep_journal: String,
    /// How often a journal is folded into a point; a span of time as text, empty for the usual one.
    pub fold_every: String,
}

impl RemovalRecord {
    /// Says that a point whose record stands in `segment` is gone.
    pub fn new(volume: Uuid, point: u64, removed_ns: i64, segment: u64) -> Self {
        Self { volume, point, removed_ns, segment }
    }

    /// The content of a removal record.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::SIZE);
        self.put(&mut out);
        out
    }

    /// Reads the content of a removal record.
    pub fn decode(content: &[u8]) -> Result<Self> {
        check_range("removal record", "length", content.len() as u64, Self::SIZE as u64, Self::SIZE as u64)?;
        let record = Self::get(content)?;
        check_range("removal record", "point", record.point, 1, u64::MAX)?;
        Ok(record)
    }
}

impl ProtectionRecord {
    /// Says whether retention may remove a point.
    pub fn new(volume: Uuid, point: u64, protected: bool) -> Self {
        Self { volume, point, protected: protected.into(), reserved: [0; 7] }
    }

    /// The content of a protection record.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::SIZE);
        self.put(&mut out);
        out
    }

    /// Reads the content of a protection record.
    pub fn decode(content: &[u8]) -> Result<Self> {
        check_range("protection record", "length", content.len() as u64, Self::SIZE as u64, Self::SIZE as u64)?;
        let record = Self::get(content)?;
        check_range("protection record", "point", record.point, 1, u64::MAX)?;
        check_range("protection record", "protected", record.protected.into(), 0, 1)?;
        Ok(record)
    }
}

impl Settings {
    /// The content of a settings record of `volume`.
    pub fn encode(&self, volume: Uuid) -> Vec<u8> {
        let [keep_last, keep_hourly, keep_daily, keep_weekly, keep_monthly, keep_yearly] = self.keep;
        let mut out = Vec::new();
        SettingsRecord {
            volume,
            secondary_mode: self.secondary.number(),
            reserved: [0; 7],
            keep_last,
            keep_hourly,
            keep_daily,
            keep_weekly,
            keep_monthly,
            keep_yearly,
            reserved_tail: [0; 16],
        }
        .put(&mut out);
        put_text(&mut out, &self.keep_within);
        put_text(&mut out, &self.minimum_age);
        put_text(&mut out, if let SecondaryMode::Device(path) = &self.secondary { path } else { "" });
        put_text(&mut out, &self.keep_journal);
        put_text(&mut out, &self.fold_every);
        out
    }

    /// Reads the content of a settings record: the volume and what is set for it.
    pub fn decode(content: &[u8]) -> Result<(Uuid, Self)> {
        let mut reader = Reader::new("settings record", content);
        let r = reader.layout::<SettingsRecord>()?;
        let keep_within = reader.text("keep_within", SPAN_MAX)?;
        let minimum_age = reader.text("minimum_age", SPAN_MAX)?;
        let device = reader.text("device", DEVICE_MAX)?;
        let keep_journal = reader.text("keep_journal", SPAN_MAX)?;
        let fold_every = reader.text("fold_every", SPAN_MAX)?;
        reader.finish()?;
        let secondary = match (r.secondary_mode, device.is_empty()) {
            (0, true) => SecondaryMode::None,
            (1, true) => SecondaryMode::Native,
            (2, false) => SecondaryMode::Device(device),
            (mode, _) => {
                let reason = format!("mode {mode} of the secondary with device {device:?}");
                return Err(FormatError::invalid("settings record", reason));
            }
        };
        let keep = [r.keep_last, r.keep_hourly, r.keep_daily, r.keep_weekly, r.keep_monthly, r.keep_yearly];
        Ok((r.volume, Self { secondary, keep, keep_within, minimum_age, keep_journal, fold_every }))
    }
}
