//! Journals while the power goes off, or the disk fails, at every operation in turn.
//!
//! What was acknowledged is there afterwards, and what is there is what was written; a tap goes on after it.

use crate::crash::name;
use std::sync::Arc;
use understudy_appliance::error::Result;
use understudy_appliance::journals::Journals;
use understudy_format::journal::{Change, Entry, Order};
use understudy_sim::disk::fault::Errno;
use understudy_sim::machine::Machine;
use understudy_sim::rng::Rng;
use uuid::Uuid;

const SIZE: u64 = 32 << 10;
const JOURNAL: Uuid = Uuid::from_u128(7);

/// Entries, each with its payload.
type Entries = Vec<(Entry, Vec<u8>)>;

/// Runs of entries, each a message of a tap: the number of its first entry, and the entries.
struct Tape(Vec<(u64, Entries)>);

impl Tape {
    fn new(seed: u64) -> Self {
        let (mut rng, mut order) = (Rng::new(seed), Order::new(SIZE, 1, 0));
        let message = |_| {
            let first = order.next();
            let entries = (0..1 + rng.below(4)).map(|_| entry(&mut rng, &mut order)).collect();
            (first, entries)
        };
        Self((0..12).map(message).collect())
    }

    fn replay(&self, through: u64, volume: &mut [u8]) {
        let all = self.0.iter().flat_map(|(_, entries)| entries);
        for (entry, payload) in all.take_while(|(entry, _)| entry.sequence <= through) {
            let Some((offset, length)) = entry.change.range() else { continue };
            let range = offset as usize..(offset + length) as usize;
            match entry.change {
                Change::Write { .. } => volume[range].copy_from_slice(payload),
                _ => volume[range].fill(0),
            }
        }
    }
}

fn entry(rng: &mut Rng, order: &mut Order) -> (Entry, Vec<u8>) {
    let offset = rng.below(SIZE - 1);
    let length = 1 + rng.below((SIZE - offset).min(9000));
    let change = match rng.below(6) {
        0 => Change::Mark,
        1 => Change::Zero { offset, length },
        2 => Change::Trim { offset, length },
        _ => Change::Write { offset, length },
    };
    let payload: Vec<u8> = (0..change.payload_length()).map(|_| rng.below(256) as u8).collect();
    (order.make(order.next() as i64, change, &payload), payload)
}

fn bytes(entries: &[(Entry, Vec<u8>)]) -> Vec<u8> {
    entries.iter().flat_map(|(entry, payload)| [entry.encode(), payload.clone()].concat()).collect()
}

/// A tap ships what is not there yet; what was acknowledged is told as it is.
fn ship(machine: &mut Machine, tape: &Tape, acknowledged: &mut u64) -> Result<()> {
    let pool = machine.start()?.clone();
    let journals = Arc::new(Journals::open(&pool)?);
    let mut follower = journals.follow(&name("v"), JOURNAL, SIZE, "a tap".to_owned(), 1)?;
    assert!(follower.durable() >= *acknowledged, "{} of {acknowledged} are there", follower.durable());
    for (first, entries) in &tape.0 {
        let last = first + entries.len() as u64 - 1;
        if last > follower.durable() {
            *acknowledged = follower.append(*first, &bytes(entries))?;
            assert_eq!(*acknowledged, last);
        }
    }
    follower.save()
}

/// All that is there is what was written, and as much of it as was acknowledged.
fn check(machine: &mut Machine, tape: &Tape, acknowledged: u64) {
    let pool = machine.start().unwrap().clone();
    let journals = Arc::new(Journals::open(&pool).unwrap());
    let durable = journals.durable(&name("v"), &JOURNAL);
    assert!(durable >= acknowledged, "{durable} of {acknowledged} are there");
    let (mut found, mut expected) = (vec![9; SIZE as usize], vec![9; SIZE as usize]);
    let changes = journals.changes(&name("v"), &JOURNAL, 0, durable).unwrap();
    changes.apply(0, &mut found).unwrap();
    tape.replay(durable, &mut expected);
    assert!(found == expected, "up to entry {durable}");
}

/// Breaks it at every operation in turn, until a run comes to its end; then lets it go on.
fn at_each(break_at: impl Fn(&Machine, u64), come_back: impl Fn(&mut Machine, &mut Rng)) {
    for seed in 0..3 {
        let tape = Tape::new(seed);
        for n in 1.. {
            let (mut machine, mut rng, mut acknowledged) = (Machine::new(seed), Rng::new(seed * 1000 + n), 0);
            machine.start().unwrap();
            let before = machine.disk().operations();
            break_at(&machine, before + n);
            let is_done = ship(&mut machine, &tape, &mut acknowledged).is_ok();
            come_back(&mut machine, &mut rng);
            check(&mut machine, &tape, acknowledged);
            ship(&mut machine, &tape, &mut acknowledged).unwrap();
            check(&mut machine, &tape, acknowledged);
            if is_done {
                assert!(n > 20, "{n} operations were interrupted");
                break;
            }
        }
    }
}

#[test]
fn what_was_acknowledged_survives_a_loss_of_power_at_every_operation() {
    at_each(|machine, n| machine.disk().cut_at(n), |machine, rng| machine.lose_power(rng));
}

#[test]
fn what_was_acknowledged_survives_a_kill_at_every_operation_and_a_loss_of_power_after_it() {
    let come_back = |machine: &mut Machine, rng: &mut Rng| {
        machine.kill(rng);
        // Whoever reads what the killed one wrote makes it durable before it counts.
        let pool = machine.start().unwrap().clone();
        let durable = Journals::open(&pool).unwrap().durable(&name("v"), &JOURNAL);
        drop(pool);
        machine.lose_power(rng);
        let pool = machine.start().unwrap().clone();
        assert!(Journals::open(&pool).unwrap().durable(&name("v"), &JOURNAL) >= durable);
    };
    at_each(|machine, n| machine.disk().cut_at(n), come_back);
}

#[test]
fn what_was_acknowledged_survives_a_failure_of_every_operation() {
    at_each(|machine, n| machine.disk().fail_at(n, Errno::Io), |machine, rng| machine.lose_power(rng));
}
