//! How long a run is waited for that gives no sign any more.
//!
//! Invariant: time counts from when the session was lost, or the agent was told to end the run, however often anybody looks; another
//! session begins it anew.

use std::time::Duration;

/// How long a run of an agent that is gone is waited for.
pub(super) const RETURN_MAX: Duration = Duration::from_secs(300);
/// How long the report of a run is waited for that was told to end.
pub(super) const CANCEL_MAX: Duration = Duration::from_secs(60);

/// Since when a run is waited for in vain, and with which session of its agent.
#[derive(Debug, Default)]
pub(super) struct Patience(Option<(Option<u64>, u64)>);

impl Patience {
    /// Whether it is over, so many nanoseconds after some moment.
    pub(super) fn is_over(&mut self, session: Option<u64>, is_stopped: bool, now_ns: u64) -> bool {
        let max = match (session, is_stopped) {
            (Some(_), false) => None,
            (None, _) => Some(RETURN_MAX),
            (Some(_), true) => Some(CANCEL_MAX),
        };
        let since = self.0.filter(|(of, _)| *of == session).map_or(now_ns, |(_, since)| since);
        self.0 = max.map(|_| (session, since));
        max.is_some_and(|max| Duration::from_nanos(now_ns.saturating_sub(since)) >= max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_a_matter_of_time_alone() {
        let (mut patience, second) = (Patience::default(), 1_000_000_000);
        assert!(!patience.is_over(Some(1), false, 0));
        assert!((1000..1300).all(|now| !patience.is_over(None, false, now * second)));
        assert!(patience.is_over(None, true, 1300 * second), "stopping does not begin it anew");
        assert!(!patience.is_over(Some(2), true, 1301 * second), "it came back, and is told");
        assert!(!patience.is_over(Some(2), true, 1360 * second));
        assert!(patience.is_over(Some(2), true, 1361 * second));
        assert!(!patience.is_over(Some(2), false, 9999 * second), "a run that goes on may take as long as it wants");
    }
}
