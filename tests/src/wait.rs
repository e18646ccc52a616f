//! Waiting for events of other processes by asking them, a bounded number of times.
//!
//! Must stay the only place of the tests that pauses: everything else waits for an event it is told about.

use std::time::Duration;

const PAUSE: Duration = Duration::from_millis(50);
const ATTEMPTS: u32 = 1200;

/// Asks until there is an answer; panics with the last reason why there was none.
pub fn wait_until<T>(event: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let mut reason = String::new();
    for _ in 0..ATTEMPTS {
        match ask() {
            Ok(answer) => return answer,
            Err(why) => reason = why,
        }
        pause();
    }
    panic!("gave up waiting until {event} ({ATTEMPTS} polls); the last answer: {reason}");
}

#[expect(clippy::disallowed_methods, reason = "another process has no event to wait for here; polls are bounded")]
fn pause() {
    std::thread::sleep(PAUSE);
}
