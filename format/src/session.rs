//! The two ends of a stream as plain values: what may be said next, and what must hold.
//!
//! [`Sender`] and [`Receiver`] do no I/O and know no clock; the same two run online, offline and in the
//! simulation. Offers carry digests, needs answer which blocks are lacking, chunks carry those; the
//! window of offers without their chunk bounds memory on both ends and hides the latency. A stream that was cut goes on
//! behind its [`Cursor`]: the receiving end is made from the [`Progress`] it recorded, the sending end from the cursor.

pub mod cursor;
pub mod progress;
mod receiver;
mod sender;
pub mod unfinished;

pub use cursor::Cursor;
pub use progress::Progress;
pub use receiver::Receiver;
pub use sender::{Prepared, Ready, Sender, pack};
pub use unfinished::Unfinished;

/// Most chunks that may be offered and not yet sent.
pub const WINDOW_MAX: u32 = 64;
