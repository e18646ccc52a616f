//! An appliance that wants more than the configuration of an agent allows: it gets nothing, and the agent goes on.
//!
//! What it sends are the golden vectors of the format, good and corrupt; they name volumes, targets and brackets that the agent does not have, and paths.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use understudy_tests::wait::wait_until;
use understudy_tests::{Agent, Lab};

/// The bytes of a vector.
fn vector(folder: &str, name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../format/vectors").join(folder).join(format!("{name}.hex"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let hex = text.lines().filter(|line| !line.contains(": ")).map(|line| line.split('#').next().unwrap_or(""));
    hex.flat_map(str::split_whitespace).flat_map(run_of).collect()
}

/// `0a0b` is two bytes, `00*9` one of them nine times.
fn run_of(word: &str) -> Vec<u8> {
    let (bytes, times) = word.split_once('*').unwrap_or((word, "1"));
    let digits: Vec<u8> = bytes.bytes().collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hexadecimal");
    let bytes: Vec<u8> = digits.chunks(2).map(pair).collect();
    bytes.repeat(times.parse().expect("a number"))
}

/// An appliance of a few words.
struct Hostile {
    listener: TcpListener,
}

/// One connection of an agent.
struct Victim {
    stream: TcpStream,
    heard: Vec<u8>,
}

impl Hostile {
    fn new() -> Hostile {
        Hostile { listener: TcpListener::bind("127.0.0.1:0").expect("a free port") }
    }

    fn address(&self) -> String {
        self.listener.local_addr().expect("an address").to_string()
    }

    /// The next connection, once it announced itself.
    fn accept(&self) -> Victim {
        let (stream, _) = self.listener.accept().expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a limit");
        let mut victim = Victim { stream, heard: Vec::new() };
        victim.hear("HELO", 1);
        victim.say("good", "message-welcome");
        victim.hear("ANNC", 1);
        victim
    }
}

impl Victim {
    fn say(&mut self, folder: &str, name: &str) {
        self.stream.write_all(&vector(folder, name)).expect("the agent listens");
    }

    /// Reads until this was said so often.
    #[track_caller]
    fn hear(&mut self, tag: &str, times: usize) {
        let mut buffer = [0; 4096];
        while self.heard.windows(4).filter(|window| *window == tag.as_bytes()).count() < times {
            let count = self.stream.read(&mut buffer).unwrap_or_else(|error| panic!("no {tag}: {error}"));
            assert_ne!(count, 0, "the agent hung up instead of saying {tag}");
            self.heard.extend_from_slice(&buffer[..count]);
        }
    }

    /// Reads until the agent hangs up.
    #[track_caller]
    fn hangs_up(mut self) {
        let mut buffer = [0; 4096];
        while self.stream.read(&mut buffer).is_ok_and(|count| count > 0) {}
    }
}

fn agent(lab: &Lab, appliance: &Hostile) -> Agent {
    let (source, target) = (lab.write("source.raw", vec![1; 4096]), lab.file("target.raw"));
    let rest = format!(
        "volumes:\n  own: {{source: '{}'}}\ntargets:\n  mine: {{path: '{}'}}\nbrackets:\n  quiet: {{pre: [/bin/touch, '{}']}}\n",
        source.display(),
        target.display(),
        lab.file("ran").display()
    );
    Agent::start(lab, "host", &appliance.address(), &rest)
}

#[test]
fn nothing_is_read_written_or_run_that_the_configuration_does_not_name() {
    let lab = Lab::new();
    let hostile = Hostile::new();
    let agent = agent(&lab, &hostile);
    let mut victim = hostile.accept();
    for (number, name) in
        ["assign-replicate", "assign-replicate-plainly", "assign-verify", "assign-restore"].iter().enumerate()
    {
        victim.say("good", &format!("message-{name}"));
        victim.hear("DECL", number + 1);
    }
    let log = agent.log();
    for word in
        ["allows no bracket freeze; it allows: quiet", "allows no volume", "allows no target spare; it allows: mine"]
    {
        assert!(log.contains(word), "{word}: {log}");
    }
    assert!(!lab.file("target.raw").exists() && !lab.file("ran").exists());
    assert_eq!(std::fs::read_dir(lab.file("host state/runs")).expect("the runs").count(), 0, "nothing was begun");
}

#[test]
fn what_is_malformed_or_out_of_place_ends_the_session_and_not_the_agent() {
    let lab = Lab::new();
    let hostile = Hostile::new();
    let mut agent = agent(&lab, &hostile);
    for (folder, name) in [
        ("bad", "message-assign-restore~target"),
        ("bad", "message-assign-replicate~many"),
        ("bad", "message-assign-verify~kind"),
        ("bad", "frame~short"),
        ("good", "message-chunk"),
        ("good", "message-volumes"),
        ("good", "message-fail"),
    ] {
        let mut victim = hostile.accept();
        victim.say(folder, name);
        if name == "frame~short" {
            victim.stream.shutdown(std::net::Shutdown::Write).expect("an end");
        }
        victim.hangs_up();
    }
    // What makes no sense is passed over: a report is not for an agent to hear.
    let mut victim = hostile.accept();
    for name in ["report", "run-progress", "cancel", "taken", "announce-nothing", "ping", "assign-verify"] {
        victim.say("good", &format!("message-{name}"));
    }
    victim.hear("DECL", 1);
    assert!(!lab.file("target.raw").exists() && !lab.file("ran").exists());
    agent.stop();
}

#[test]
fn an_appliance_that_says_nothing_is_left_and_asked_again() {
    let lab = Lab::new();
    let hostile = Hostile::new();
    let agent = agent(&lab, &hostile);
    // It pings, and hears nothing for its silence.
    hostile.accept().hangs_up();
    hostile.accept().hangs_up();
    wait_until("it says so", || {
        let log = agent.log();
        if log.matches("neither sent nor took anything for 2 s").count() >= 2 { Ok(()) } else { Err(log) }
    });
}
