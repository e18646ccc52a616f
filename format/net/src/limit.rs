//! Keeping what goes through a connection to a rate.
//!
//! Invariants: whoever sends or receives waits here and nowhere else, so what lies before waits for that as for a slow
//! connection; without a rate nothing is asked and nobody waits; bytes are counted in pieces, so that a long message flows evenly.

use std::time::Duration;
use tokio::time::Instant;
use understudy_format::bucket::Bucket;

/// Bytes that are counted at once.
pub(crate) const PIECE: usize = 64 << 10;

/// See the module documentation.
#[derive(Debug, Default)]
pub(crate) struct Limit(Option<(Bucket, Instant)>);

impl Limit {
    /// At most so many bytes a second.
    pub(crate) fn to(rate: Option<u64>) -> Self {
        Self(rate.map(|rate| (Bucket::new(rate), Instant::now())))
    }

    /// The most bytes that should move before they are counted.
    pub(crate) fn piece(&self) -> usize {
        if self.0.is_some() { PIECE } else { usize::MAX }
    }

    /// Returns when so many bytes may move.
    pub(crate) async fn spend(&mut self, bytes: usize) {
        let Some((bucket, start)) = &mut self.0 else { return };
        let wait_ns = bucket.spend(bytes as u64, start.elapsed().as_nanos() as u64);
        if wait_ns > 0 {
            tokio::time::sleep(Duration::from_nanos(wait_ns)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::framed::{MessageReader, MessageWriter};
    use std::time::Duration;
    use tokio::time::Instant;
    use understudy_format::wire::Message;

    const RATE: u64 = 1 << 20;
    const PAGES: usize = 8 << 20;

    /// How long 40 MiB take over a connection without limits, in simulated time, with these limits at its ends.
    async fn transfer(sends: Option<u64>, receives: Option<u64>) -> Duration {
        let (from, to) = tokio::io::duplex(1 << 20);
        let (mut writer, mut reader) = (MessageWriter::new(from, Duration::MAX), MessageReader::new(to, Duration::MAX));
        writer.set_limit(sends);
        reader.set_limit(receives);
        let start = Instant::now();
        let sending = tokio::spawn(async move {
            for _ in 0..5 {
                writer.send(&Message::Pages(vec![7; PAGES].into())).await.unwrap();
            }
        });
        for _ in 0..5 {
            assert!(matches!(reader.next().await.unwrap(), Some(Message::Pages(pages)) if pages.len() == PAGES));
        }
        sending.await.unwrap();
        start.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_leave_and_arrive_at_the_rate_that_was_asked_for() {
        let second = Duration::from_secs(1);
        let is_right = |took: Duration| took > 39 * second && took < 41 * second;
        let (sent, received) = (transfer(Some(RATE), None).await, transfer(None, Some(RATE)).await);
        assert!(is_right(sent) && is_right(received), "{sent:?} {received:?}");
        assert_eq!(transfer(None, None).await, Duration::ZERO);
    }
}
