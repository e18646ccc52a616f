//! What must hold of a journal whatever its files go through.

use super::super::memory::MemoryDirectory;
use super::*;
use understudy_format::journal::{EntryHeader, entries};

const ID: Uuid = Uuid::from_u128(5);
const SIZE: u64 = 64 << 20;
const PIECE: usize = tail::PIECE;

fn begin(directory: &Arc<MemoryDirectory>, limit: u64) -> Journal {
    Journal::begin(directory.clone(), ID, SIZE, limit, 0)
}

fn write(journal: &Journal, offset: u64, length: usize) -> u64 {
    let payload = vec![offset as u8; length];
    journal.append(1, Change::Write { offset, length: length as u64 }, &payload).unwrap()
}

fn write_all(journal: &Journal, offsets: Range<u64>) {
    offsets.for_each(|offset| {
        write(journal, offset, 20_000);
    });
}

/// Ranges of all entries after a number, in order, each checked as whoever gets them does.
fn shipped(journal: &Journal, mut after: u64, max: usize) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    while let Some(batch) = journal.pending(after, max).unwrap() {
        assert_eq!(batch.first, after + 1);
        for entry in entries(&batch.bytes, Order::new(SIZE, batch.first, 0)) {
            found.push(entry.unwrap().0.change.range().unwrap());
        }
        after = batch.through;
    }
    found
}

#[test]
fn entries_come_back_in_order_from_memory_and_from_files() {
    let directory = Arc::new(MemoryDirectory::default());
    let journal = begin(&directory, 256 << 20);
    let lengths = [1, 4096, PIECE, 5000, PIECE - 48, 17, 1 << 20, 3 << 20, PIECE, PIECE, PIECE, PIECE, PIECE, 9];
    let written: Vec<(u64, u64)> = lengths.iter().enumerate().map(|(at, length)| (at as u64, *length as u64)).collect();
    for (offset, length) in &written {
        write(&journal, *offset, *length as usize);
    }
    for max in [1, 5000, PIECE, 8 << 20] {
        assert_eq!(shipped(&journal, 0, max), written, "batches of {max} bytes");
    }
    assert_eq!(shipped(&journal, 9, PIECE), written[9..], "from any entry on");
    journal.sync().unwrap();
    assert_eq!(shipped(&journal, 3, PIECE), written[3..]);
    assert_eq!(journal.end(), (14, 1));
}

#[test]
fn a_journal_that_was_synced_goes_on_after_its_last_entry() {
    let directory = Arc::new(MemoryDirectory::default());
    let journal = begin(&directory, 1 << 20);
    write_all(&journal, 0..30);
    journal.sync().unwrap();
    let end = journal.end();
    for _ in 0..2 {
        let journal = Journal::resume(directory.cut(), ID, SIZE, 1 << 20, end).unwrap();
        assert_eq!(shipped(&journal, 0, 100_000).len(), 30);
        assert_eq!(write(&journal, 30, 10), 31);
        assert_eq!(shipped(&journal, 29, 100_000), [(29, 20_000), (30, 10)]);
    }
    let text = Journal::resume(directory.cut(), ID, SIZE, 1 << 20, (31, 1)).unwrap_err().to_string();
    assert_eq!(text, "the journal ends with entry 30, and had 31 when it was closed");
}

#[test]
fn a_journal_that_nothing_was_written_to_since_goes_on_as_well() {
    let directory = Arc::new(MemoryDirectory::default());
    let journal = begin(&directory, 1 << 20);
    journal.sync().unwrap();
    let journal = Journal::resume(directory.cut(), ID, SIZE, 1 << 20, journal.end()).unwrap();
    assert_eq!((write(&journal, 3, 10), shipped(&journal, 0, 1)), (1, vec![(3, 10)]));
}

#[test]
fn files_go_when_all_of_them_is_elsewhere_and_not_before() {
    let directory = Arc::new(MemoryDirectory::default());
    let journal = begin(&directory, 1 << 20);
    write_all(&journal, 0..30);
    journal.write_out().unwrap();
    let files = || directory.list().unwrap().len();
    assert_eq!((files(), journal.first_kept()), (2, 1), "the last one is not full");
    journal.forget(13).unwrap();
    assert_eq!((files(), journal.first_kept()), (2, 1));
    journal.forget(14).unwrap();
    assert_eq!((files(), journal.first_kept()), (1, 15));
    assert!(journal.pending(13, 1000).is_err() && shipped(&journal, 14, 1000).len() == 16);
    journal.forget(30).unwrap();
    assert_eq!(write(&journal, 30, 20_000), 31);
    assert_eq!(shipped(&journal, 30, 1000), [(30, 20_000)]);
}

#[test]
fn a_journal_is_never_longer_than_its_limit() {
    let directory = Arc::new(MemoryDirectory::default());
    let journal = begin(&directory, 300_000);
    let change = Change::Write { offset: 0, length: 10_000 };
    let mut taken = 0;
    while journal.append(1, change, &[1; 10_000]).is_ok() {
        taken += 1;
    }
    journal.sync().unwrap();
    let sizes = directory.list().unwrap().iter().map(|name| directory.open(name).unwrap().size().unwrap()).sum::<u64>();
    assert_eq!((taken, sizes <= 300_000), (29, true));
    journal.forget(29).unwrap();
    assert!(journal.append(1, change, &[1; 10_000]).is_ok(), "what is gone leaves room");
}

fn recovered(directory: &Arc<MemoryDirectory>) -> io::Result<(usize, Option<u64>)> {
    let mut count = 0;
    let first = Journal::recover(directory.clone(), ID, SIZE, &mut |_| count += 1)?;
    Ok((count, first))
}

#[test]
fn a_torn_end_is_where_a_journal_ends_and_damage_before_it_is_told() {
    let directory = Arc::new(MemoryDirectory::default());
    let journal = begin(&directory, 1 << 20);
    write_all(&journal, 0..30);
    journal.sync().unwrap();
    write_all(&journal, 30..35);
    assert_eq!(recovered(&directory.cut()).unwrap(), (30, Some(1)), "what was synced");
    journal.sync().unwrap();
    let last = directory.list().unwrap().pop().unwrap();
    let file = directory.open(&last).unwrap();
    file.resize(file.size().unwrap() - 1).unwrap();
    assert_eq!(recovered(&directory).unwrap(), (34, Some(1)), "the last entry is torn");
    file.write_at(&[0xA5; EntryHeader::SIZE], 64).unwrap();
    let before = recovered(&directory).unwrap().0;
    assert!(before < 30);
    file.resize(10).unwrap();
    assert_eq!(recovered(&directory).unwrap().0, before, "not even its header");
    let first = directory.list().unwrap().remove(0);
    directory.open(&first).unwrap().write_at(&[0xA5; EntryHeader::SIZE], 64).unwrap();
    assert_eq!(recovered(&directory).unwrap_err().to_string(), "entries 1 to 14 are damaged");
}

#[test]
fn a_file_that_cannot_be_written_is_told_and_nothing_of_it_is_lost_from_memory() {
    let directory = Arc::new(MemoryDirectory::default());
    let journal = begin(&directory, 64 << 20);
    write_all(&journal, 0..3);
    directory.fail(true);
    assert!(journal.sync().is_err());
    assert_eq!(shipped(&journal, 0, PIECE).len(), 3);
    let mut ranges = 0;
    journal.ranges_after(1, &mut |_| ranges += 1).unwrap();
    assert_eq!(ranges, 2);
}
