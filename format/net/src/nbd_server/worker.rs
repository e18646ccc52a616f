//! Threads that call exports: their calls block, and no task may.
//!
//! Invariants: the queue is bounded by the tickets of those who fill it, not here; a job runs to its
//! end, and threads leave once the queue is closed and empty. A panicking job must not take its
//! thread along: jobs catch their own.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

pub(super) type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    closed: bool,
}

/// A fixed number of threads over one queue. Dropping it lets them finish and leave.
pub(super) struct Workers {
    queue: Arc<Queue>,
}

impl Workers {
    pub(super) fn start(count: usize) -> io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let workers = Self { queue: Arc::clone(&queue) };
        for index in 0..count.max(1) {
            let queue = Arc::clone(&queue);
            let named = thread::Builder::new().name(format!("nbd-{index}"));
            named.spawn(move || queue.work())?;
        }
        Ok(workers)
    }

    pub(super) fn push(&self, job: Job) {
        self.queue.lock().jobs.push_back(job);
        self.queue.filled.notify_one();
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.queue.lock().closed = true;
        self.queue.filled.notify_all();
    }
}

impl Queue {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        while let Some(job) = self.next() {
            job();
        }
    }

    fn next(&self) -> Option<Job> {
        let idle = |state: &mut State| state.jobs.is_empty() && !state.closed;
        let woken = self.filled.wait_while(self.lock(), idle);
        woken.unwrap_or_else(PoisonError::into_inner).jobs.pop_front()
    }
}
