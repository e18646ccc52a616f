//! A TCP relay in front of an appliance that lets an exact number of bytes from the initiator through and then holds
//! its breath, or breaks the line and relays whoever comes next: what happens "in the middle of a stream" happens there in
//! every run, on every machine.
//!
//! Invariants: bytes towards the initiator are never held; not one byte more than allowed reaches the appliance; the
//! relay ends with its value.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// A relay to an appliance.
pub struct Proxy {
    address: String,
    gate: Arc<Gate>,
}

struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    granted: u64,
    passed: u64,
    limit: u64,
    /// After so many bytes the line breaks; ascending.
    breaks: VecDeque<u64>,
    /// How often the line broke: connections of an earlier line carry nothing any more.
    line: u64,
    ended: bool,
    sockets: Vec<TcpStream>,
}

impl Proxy {
    /// Relays everything to the appliance and counts.
    pub fn open(appliance: &str) -> Proxy {
        Proxy::hold_after(appliance, u64::MAX)
    }

    /// Relays `limit` bytes to the appliance, over all connections together, and no more.
    pub fn hold_after(appliance: &str, limit: u64) -> Proxy {
        Proxy::start(appliance, limit, &[])
    }

    /// Breaks the line each time when so many bytes reached the appliance, over all connections together.
    pub fn break_after(appliance: &str, breaks: &[u64]) -> Proxy {
        Proxy::start(appliance, u64::MAX, breaks)
    }

    fn start(appliance: &str, limit: u64, breaks: &[u64]) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address").to_string();
        let breaks = breaks.iter().copied().collect();
        let (ended, sockets) = (false, Vec::new());
        let state = State { granted: 0, passed: 0, limit, breaks, line: 0, ended, sockets };
        let gate = Arc::new(Gate { state: Mutex::new(state), changed: Condvar::new() });
        let (accepting, target) = (gate.clone(), appliance.to_string());
        std::thread::spawn(move || accept(&listener, &target, &accepting));
        Proxy { address, gate }
    }

    /// HOST:PORT for initiators.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// How many bytes of initiators the appliance was sent so far.
    pub fn passed(&self) -> u64 {
        self.gate.lock().passed
    }

    /// Whether all bytes that may pass have passed.
    pub fn held(&self) -> bool {
        let state = self.gate.lock();
        state.passed >= state.limit
    }

    /// Lets everything through from now on.
    pub fn release(&self) {
        self.gate.lock().limit = u64::MAX;
        self.gate.changed.notify_all();
    }

    /// Ends all connections for good.
    pub fn cut(&self) {
        let mut state = self.gate.lock();
        state.ended = true;
        state.break_line();
        self.gate.changed.notify_all();
    }

    /// Ends all connections, as a broken line does; those that come later are relayed.
    pub fn break_now(&self) {
        self.gate.lock().break_line();
        self.gate.changed.notify_all();
    }
}

impl State {
    fn break_line(&mut self) {
        self.line += 1;
        self.granted = self.passed;
        for socket in self.sockets.drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// How many bytes may pass before something happens.
    fn bound(&self) -> u64 {
        self.breaks.front().map_or(self.limit, |next| self.limit.min(*next))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
        // Wakes the accepting thread, which then sees that this is the end.
        let _ = TcpStream::connect(&self.address);
    }
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread of the relay panics")
    }

    /// How many of these bytes may pass now; waits until at least one may. None at the end of this line.
    fn take(&self, wanted: usize, line: u64) -> Option<usize> {
        let stuck = |state: &mut State| state.granted >= state.bound() && !state.ended && state.line == line;
        let mut state = self.changed.wait_while(self.lock(), stuck).expect("no thread of the relay panics");
        if state.ended || state.line != line {
            return None;
        }
        let granted = usize::try_from(state.bound() - state.granted).unwrap_or(usize::MAX).min(wanted);
        state.granted += granted as u64;
        Some(granted)
    }

    /// These bytes were handed to the appliance's socket.
    fn count(&self, written: usize, line: u64) {
        let mut state = self.lock();
        state.passed += written as u64;
        if state.line == line && state.breaks.front().is_some_and(|next| state.passed >= *next) {
            state.breaks.pop_front();
            state.break_line();
        }
        self.changed.notify_all();
    }
}

fn accept(listener: &TcpListener, target: &str, gate: &Arc<Gate>) {
    for near in listener.incoming().map_while(Result::ok) {
        if gate.lock().ended {
            return;
        }
        // A dead appliance looks like what it is: the initiator's connection ends at once.
        let Ok(far) = TcpStream::connect(target) else {
            continue;
        };
        let line = {
            let mut state = gate.lock();
            state.sockets.extend([copy(&near), copy(&far)]);
            state.line
        };
        let (up, down) = ((copy(&near), copy(&far)), (far, near));
        let counting = gate.clone();
        std::thread::spawn(move || upstream(up.0, up.1, &counting, line));
        std::thread::spawn(move || downstream(down.0, down.1));
    }
}

fn copy(socket: &TcpStream) -> TcpStream {
    socket.try_clone().expect("a socket can be cloned")
}

/// From the initiator to the appliance, through the gate.
fn upstream(mut from: TcpStream, mut to: TcpStream, gate: &Gate, line: u64) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let mut rest = &buffer[..length];
        while !rest.is_empty() {
            let Some(granted) = gate.take(rest.len(), line) else {
                return;
            };
            if to.write_all(&rest[..granted]).is_err() {
                let _ = from.shutdown(Shutdown::Both);
                return;
            }
            gate.count(granted, line);
            rest = &rest[granted..];
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// From the appliance to the initiator, unhindered.
fn downstream(mut from: TcpStream, mut to: TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Both);
}
