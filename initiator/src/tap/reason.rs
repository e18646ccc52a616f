//! Why blocks may differ from what the appliance has, and have to be read.

use thiserror::Error;

/// See the module documentation.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Reason {
    /// The tap is new here.
    #[error("nothing is known here of what the appliance has of this volume")]
    New,
    /// The state cannot be read.
    #[error("what was known cannot be read ({0})")]
    StateDamaged(String),
    /// The state is about another volume, or the same with another size or other blocks.
    #[error("the state directory is about another volume: {0}")]
    OtherVolume(String),
    /// Somebody wrote past the tap.
    #[error("the volume was written to while the tap was not there: {0}")]
    Touched(String),
    /// The tap, or the host, ended without closing the state.
    #[error("the tap or its host ended while it was written to")]
    Unclean,
    /// The journal is as long as it may be.
    #[error("the journal reached its limit of {0} bytes before the appliance had it")]
    Limit(u64),
    /// The journal could not be written, read or synced.
    #[error("the journal failed: {0}")]
    JournalFailed(String),
    /// The state directory could not be written.
    #[error("the state directory failed: {0}")]
    StateFailed(String),
    /// A write or a sync of the volume failed.
    #[error("the volume failed: {0}")]
    VolumeFailed(String),
    /// The appliance lacks entries that were removed here because it had them.
    #[error("the appliance has not the journal any more: {0}")]
    JournalGone(String),
    /// The newest point is none that this tap made or knows.
    #[error("the newest point of the appliance is not the one that is known here: {0}")]
    OtherPoint(String),
    /// The appliance was promoted, and what was written there comes here.
    #[error("the volume was failed back")]
    FailedOver,
    /// As it was told before the tap was started again.
    #[error("{0}")]
    Earlier(String),
}

impl Reason {
    /// Whether nothing is known of any block.
    pub fn is_about_everything(&self) -> bool {
        use Reason::*;
        matches!(
            self,
            New | StateDamaged(_) | OtherVolume(_) | Touched(_) | StateFailed(_) | JournalGone(_) | OtherPoint(_)
        )
    }
}
