//! Journals as a whole: what is read of a damaged one, what an order refuses, and that replaying converges.

use crate::samples_journal::{WRITTEN, entries as sample_entries, header as sample_header};
use proptest::prelude::*;
use understudy_format::error::FormatError;
use understudy_format::journal::{Change, Entry, Order, WRITE_MAX, entries};

/// Bytes of the volume that journals of these tests are of.
const SIZE: u64 = 64;

/// A journal's entries as they stand in a file, and where each of them ends.
fn run(changes: &[Made]) -> (Vec<u8>, Vec<usize>) {
    let (mut order, mut bytes, mut ends) = (Order::new(SIZE, 1, 0), Vec::new(), vec![0]);
    for (change, payload, now_ns) in changes {
        bytes.extend(order.make(*now_ns, *change, payload).encode());
        bytes.extend(payload);
        ends.push(bytes.len());
    }
    (bytes, ends)
}

/// Replays entries over a volume.
fn replay(bytes: &[u8], order: Order, volume: &mut [u8]) {
    for next in entries(bytes, order) {
        let (entry, payload) = next.unwrap();
        let Some((offset, length)) = entry.change.range() else { continue };
        let range = &mut volume[offset as usize..(offset + length) as usize];
        match entry.change {
            Change::Write { .. } => range.copy_from_slice(&bytes[payload]),
            _ => range.fill(0),
        }
    }
}

/// What is said, the bytes of a write, and when.
type Made = (Change, Vec<u8>, i64);

fn changes() -> impl Strategy<Value = Vec<Made>> {
    let made = (0u8..4, 0..SIZE, 1..=SIZE, any::<u8>(), 0i64..1000).prop_map(|(kind, offset, length, byte, now_ns)| {
        let length = length.min(SIZE - offset);
        let written = if kind == 0 { (0..length).map(|at| byte ^ at as u8).collect() } else { Vec::new() };
        let change = match kind {
            0 => Change::Write { offset, length },
            1 => Change::Zero { offset, length },
            2 => Change::Trim { offset, length },
            _ => Change::Mark,
        };
        (change, written, now_ns)
    });
    prop::collection::vec(made, 0..24)
}

proptest! {
    #[test]
    fn entries_come_back_in_order(changes in changes()) {
        let (bytes, ends) = run(&changes);
        let mut now_ns = 0;
        for (at, next) in entries(&bytes, Order::new(SIZE, 1, 0)).enumerate() {
            let (entry, payload) = next.unwrap();
            now_ns = now_ns.max(changes[at].2);
            prop_assert_eq!((entry.sequence, entry.time_ns, entry.change), (at as u64 + 1, now_ns, changes[at].0));
            prop_assert_eq!(payload.end, ends[at + 1]);
            prop_assert_eq!(&bytes[payload], &changes[at].1);
        }
        prop_assert_eq!(entries(&bytes, Order::new(SIZE, 1, 0)).count(), changes.len());
    }

    /// A torn tail costs what it tore: the entries before it count, nothing behind it does.
    #[test]
    fn a_journal_that_is_cut_ends_before_the_cut(changes in changes(), cut: prop::sample::Index) {
        let (bytes, ends) = run(&changes);
        let cut = cut.index(bytes.len() + 1);
        let whole = ends.iter().filter(|end| **end <= cut).count() - 1;
        let found: Vec<_> = entries(&bytes[..cut], Order::new(SIZE, 1, 0)).collect();
        prop_assert!(found[..whole].iter().all(Result::is_ok));
        let is_torn = |error: &FormatError| matches!(error, FormatError::Truncated { .. });
        prop_assert!(found[whole..].iter().all(|next| next.as_ref().is_err_and(is_torn)));
        prop_assert_eq!(found.len(), whole + usize::from(!ends.contains(&cut)));
    }

    #[test]
    fn a_flipped_bit_ends_a_journal_where_it_is(changes in changes(), at: prop::sample::Index, bit in 0u8..8) {
        let (mut bytes, ends) = run(&changes);
        prop_assume!(!bytes.is_empty());
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let whole = ends.iter().filter(|end| **end <= at).count() - 1;
        let found: Vec<_> = entries(&bytes, Order::new(SIZE, 1, 0)).map(|next| next.is_ok()).collect();
        prop_assert_eq!(found, [vec![true; whole], vec![false]].concat());
    }

    /// A copy that was read while the journal was written, each byte at another time, is made the volume at the end.
    #[test]
    fn replaying_over_a_fuzzy_copy_converges(changes in changes(), begun: prop::sample::Index, read in prop::collection::vec(any::<prop::sample::Index>(), SIZE as usize)) {
        let (bytes, ends) = run(&changes);
        let at = |count: usize| {
            let mut volume: Vec<u8> = (0..SIZE as u8).collect();
            replay(&bytes[..ends[count]], Order::new(SIZE, 1, 0), &mut volume);
            volume
        };
        let begun = begun.index(ends.len());
        let read_at = |byte: usize| begun + read[byte].index(ends.len() - begun);
        let mut fuzzy: Vec<u8> = (0..SIZE as usize).map(|byte| at(read_at(byte))[byte]).collect();
        for _ in 0..2 {
            replay(&bytes[ends[begun]..], Order::new(SIZE, begun as u64 + 1, i64::MIN), &mut fuzzy);
            prop_assert_eq!(&fuzzy, &at(changes.len()));
        }
    }
}

fn order() -> Order {
    Order::new(sample_header().volume_size, sample_header().first, sample_header().created_ns)
}

fn refused(field: &'static str, found: u64, min: u64, max: u64) -> Result<(), FormatError> {
    Err(FormatError::Range { what: "journal entry", field, found, min, max })
}

#[test]
fn an_entry_left_out_is_refused() {
    assert_eq!(order().take(&sample_entries()[1].0), refused("sequence", 6, 5, 5));
}

#[test]
fn an_entry_that_comes_twice_is_refused() {
    let mut order = order();
    order.take(&sample_entries()[0].0).unwrap();
    assert_eq!(order.take(&sample_entries()[0].0), refused("sequence", 5, 6, 6));
}

#[test]
fn an_entry_older_than_the_one_before_is_refused() {
    let (size, first) = (sample_header().volume_size, sample_header().first);
    let error = FormatError::invalid("journal entry", "entry 5 is older than the one before");
    assert_eq!(Order::new(size, first, i64::MAX).take(&sample_entries()[0].0), Err(error));
}

#[test]
fn an_entry_past_the_end_of_the_volume_is_refused() {
    let mut order = Order::new(512, sample_header().first, i64::MIN);
    assert_eq!(order.take(&sample_entries()[0].0), refused("end", 4095 + 8194, 0, 512));
}

#[test]
fn what_was_refused_leaves_the_order_as_it_was() {
    let mut order = order();
    order.take(&sample_entries()[1].0).unwrap_err();
    assert_eq!((order.next(), order.time_ns()), (sample_header().first, sample_header().created_ns));
    order.take(&sample_entries()[0].0).unwrap();
    assert_eq!((order.next(), order.time_ns()), (6, sample_entries()[0].0.time_ns));
}

#[test]
fn a_clock_that_goes_back_makes_no_older_entry() {
    let mut order = Order::new(SIZE, 1, 100);
    let times = [99, 101, 7, 102].map(|now_ns| order.make(now_ns, Change::Mark, &[]).time_ns);
    assert_eq!(times, [100, 101, 101, 102]);
}

#[test]
fn other_bytes_than_were_written_are_refused() {
    let entry = sample_entries()[3].0;
    assert_eq!(entry.check(WRITTEN), Ok(()));
    let computed = crc32fast::hash(b"curtb");
    let error = FormatError::Crc { what: "journal entry's payload", stored: entry.payload_crc, computed };
    assert_eq!(entry.check(b"curtb"), Err(error));
}

#[test]
fn the_longest_write_is_one_entry_and_no_longer_one_is() {
    let payload = vec![7; WRITE_MAX as usize + 1];
    let longest = Entry::new(1, 0, Change::Write { offset: 0, length: WRITE_MAX }, &payload[1..]);
    assert_eq!(Entry::decode(&longest.encode()), Ok(longest));
    let longer = Entry::new(1, 0, Change::Write { offset: 0, length: WRITE_MAX + 1 }, &payload);
    assert_eq!(Entry::decode(&longer.encode()).map(drop), refused("length", WRITE_MAX + 1, 1, WRITE_MAX));
}
