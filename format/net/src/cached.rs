//! What the page cache has of a file.

use rustix::io::{ReadWriteFlags, preadv2};
use std::fs::File;
use std::io::IoSliceMut;

/// Fills `buffer` from `offset`, when the page cache has all of it: whether it did (`RWF_NOWAIT`, preadv2(2)). If not, `buffer` holds anything.
pub fn read(file: &File, buffer: &mut [u8], offset: u64) -> bool {
    let length = buffer.len();
    let read = preadv2(file, &mut [IoSliceMut::new(buffer)], offset, ReadWriteFlags::NOWAIT);
    read.is_ok_and(|read| read == length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_just_written_is_there_and_what_is_past_the_end_is_not() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), [7; 5000]).unwrap();
        let (file, mut buffer) = (File::open(dir.path().join("file")).unwrap(), [0; 100]);
        assert!(read(&file, &mut buffer, 4900) && buffer == [7; 100]);
        assert!(!read(&file, &mut buffer, 4950));
    }
}
