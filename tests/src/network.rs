//! A network of hosts on this machine: a namespace each, joined by a bridge in a namespace of its own, so that a test can
//! cut one of them off while everything else goes on.
//!
//! Invariants: nothing of it can be seen from outside, and nothing outside can be reached from it; it goes with its value, with
//! all processes in it, also when a test panics, and what a killed test left behind goes with the next network.

use crate::args;
use crate::run::{Run, tool};
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

/// What all our namespaces begin with; the process that made one follows.
const PREFIX: &str = "understudy-";
/// How many networks this process made.
static MADE: AtomicU32 = AtomicU32::new(0);

/// See the module documentation. Needs root.
pub struct Network {
    switch: String,
    hosts: Vec<String>,
}

/// One host of a network, by its number from 1.
#[derive(Debug, Clone)]
pub struct Host {
    namespace: String,
    switch: String,
    port: String,
    address: String,
}

impl Network {
    /// A network with so many hosts, all of which reach each other.
    pub fn new(count: u8) -> (Network, Vec<Host>) {
        remove_left_overs();
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let tag = format!("{PREFIX}{}-{number}", std::process::id());
        let mut network = Network { switch: format!("{tag}-switch"), hosts: Vec::new() };
        ip(&["netns", "add", &network.switch]);
        ip(&["-n", &network.switch, "link", "add", "bridge", "type", "bridge"]);
        ip(&["-n", &network.switch, "link", "set", "bridge", "up"]);
        let hosts = (1..=count).map(|host| network.add(&tag, host)).collect();
        (network, hosts)
    }

    fn add(&mut self, tag: &str, number: u8) -> Host {
        let (namespace, port) = (format!("{tag}-host{number}"), format!("port{number}"));
        let (switch, address) = (self.switch.clone(), format!("10.99.0.{number}"));
        self.hosts.push(namespace.clone());
        ip(&["netns", "add", &namespace]);
        let pair = ["link", "add", "eth0", "netns", &namespace, "type", "veth", "peer", "name", &port];
        ip(&[&pair[..], &["netns", &switch]].concat());
        ip(&["-n", &switch, "link", "set", &port, "master", "bridge", "up"]);
        ip(&["-n", &namespace, "addr", "add", &format!("{address}/24"), "dev", "eth0"]);
        ip(&["-n", &namespace, "link", "set", "eth0", "up"]);
        ip(&["-n", &namespace, "link", "set", "lo", "up"]);
        Host { namespace, switch, port, address }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.hosts.iter().for_each(|namespace| remove(namespace));
        remove(&self.switch);
    }
}

impl Host {
    /// Its address in the network.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The command, on this host.
    pub fn on(&self, run: Run) -> Run {
        // Not by `ip netns exec`: that makes a namespace of mounts, too, which would hold what others unmount meanwhile.
        run.inside(args!["nsenter", format!("--net=/run/netns/{}", self.namespace), "--"])
    }

    /// Unplugs it: what is sent to it or from it is lost, and nobody is told.
    pub fn unplug(&self) {
        ip(&["-n", &self.switch, "link", "set", &self.port, "nomaster"]);
    }

    /// Plugs it in again.
    pub fn plug_in(&self) {
        ip(&["-n", &self.switch, "link", "set", &self.port, "master", "bridge"]);
    }
}

fn ip(words: &[&str]) {
    tool("ip", words.iter().map(Into::into).collect());
}

/// Ends the processes in a namespace, and takes its name away.
fn remove(namespace: &str) {
    let pids = Run::peer("ip").args(args!["netns", "pids", namespace]).run().out();
    let pids = pids.lines().filter_map(|pid| Pid::from_raw(pid.trim().parse().ok()?));
    for pid in pids {
        // One that has ended meanwhile is what is wanted.
        let _ = kill_process(pid, Signal::KILL);
    }
    let _ = Run::peer("ip").args(args!["netns", "del", namespace]).run();
}

/// Removes the networks of tests that are dead.
fn remove_left_overs() {
    let listed = Run::peer("ip").args(args!["netns", "list"]).run().out();
    for namespace in listed.lines().filter_map(|line| line.split(' ').next()) {
        let owner = namespace.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove(namespace);
        }
    }
}
