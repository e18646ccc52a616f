//! A TCP relay in front of an appliance that lets an exact number of bytes from the initiator through and then holds
//! its breath: what happens "in the middle of a stream" happens there in every run, on every machine.
//!
//! Invariants: bytes towards the initiator are never held; not one byte more than allowed reaches the appliance; the
//! relay ends with its value.

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
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address").to_string();
        let state = State { granted: 0, passed: 0, limit, ended: false, sockets: Vec::new() };
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

    /// Ends all connections, as a broken line does.
    pub fn cut(&self) {
        let mut state = self.gate.lock();
        state.ended = true;
        for socket in state.sockets.drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
        self.gate.changed.notify_all();
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

    /// How many of these bytes may pass now; waits until at least one may. None at the end.
    fn take(&self, wanted: usize) -> Option<usize> {
        let stuck = |state: &mut State| state.granted >= state.limit && !state.ended;
        let mut state = self.changed.wait_while(self.lock(), stuck).expect("no thread of the relay panics");
        if state.ended {
            return None;
        }
        let granted = usize::try_from(state.limit - state.granted).unwrap_or(usize::MAX).min(wanted);
        state.granted += granted as u64;
        Some(granted)
    }

    /// These bytes were handed to the appliance's socket.
    fn count(&self, written: usize) {
        self.lock().passed += written as u64;
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
        let mut state = gate.lock();
        state.sockets.extend([copy(&near), copy(&far)]);
        drop(state);
        let (up, down) = ((copy(&near), copy(&far)), (far, near));
        let counting = gate.clone();
        std::thread::spawn(move || upstream(up.0, up.1, &counting));
        std::thread::spawn(move || downstream(down.0, down.1));
    }
}

fn copy(socket: &TcpStream) -> TcpStream {
    socket.try_clone().expect("a socket can be cloned")
}

/// From the initiator to the appliance, through the gate.
fn upstream(mut from: TcpStream, mut to: TcpStream, gate: &Gate) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let mut rest = &buffer[..length];
        while !rest.is_empty() {
            let Some(granted) = gate.take(rest.len()) else {
                return;
            };
            if to.write_all(&rest[..granted]).is_err() {
                let _ = from.shutdown(Shutdown::Both);
                return;
            }
            gate.count(granted);
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
