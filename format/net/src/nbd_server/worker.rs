//! Threads that call exports: their calls block, and no task may.
//!
//! Invariants: the queue is bounded by the tickets of those who fill it, not here; a job runs to its
//! end, and threads leave once the queue is closed and empty. A panicking job must not take its
//! thread along: jobs catch their own.
//!
//! At most one thread is on its way out of sleep at any time; having taken a job it wakes the next
//! while jobs are left. Blocking reads thus spread over all threads, while reads from memory are done
//! by the few that are awake: waking a thread costs more than such a read.

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
    /// Threads asleep.
    idle: usize,
    /// A thread was woken and has not looked at the queue yet.
    waking: bool,
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
        let mut state = self.queue.lock();
        state.jobs.push_back(job);
        self.queue.wake_one(&mut state);
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
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                self.wake_one(&mut state);
                return Some(job);
            }
            if state.closed {
                return None;
            }
            state.idle += 1;
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
            state.waking = false;
        }
    }

    fn wake_one(&self, state: &mut State) {
        if state.idle > 0 && !state.waking && !state.jobs.is_empty() {
            state.waking = true;
            self.filled.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::mpsc::channel;

    use super::*;

    /// Each job waits for all others: they must spread over as many threads.
    #[test]
    fn blocking_jobs_spread_over_all_threads() {
        let workers = Workers::start(4).unwrap();
        let (barrier, (done, ended)) = (Arc::new(Barrier::new(4)), channel());
        for _ in 0..4 {
            let (barrier, done) = (Arc::clone(&barrier), done.clone());
            workers.push(Box::new(move || {
                barrier.wait();
                done.send(()).unwrap();
            }));
        }
        drop(done);
        assert_eq!(ended.iter().count(), 4);
    }

    #[test]
    fn dropping_the_workers_runs_what_was_queued() {
        let (done, ended) = channel();
        let workers = Workers::start(2).unwrap();
        for _ in 0..100 {
            let done = done.clone();
            workers.push(Box::new(move || done.send(()).unwrap()));
        }
        drop((workers, done));
        assert_eq!(ended.iter().count(), 100);
    }
}
