//! Decides whether two volumes hold the same bytes, and how much of a file is really on disk.
//!
//! Holes are irrelevant to equality: a hole and stored zeros are the same bytes.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::image;

const PIECE: usize = 1 << 20;

/// Both files have the same length and the same bytes; names the first difference otherwise.
#[track_caller]
pub fn assert_same(left: &Path, right: &Path, promise: &str) {
    if let Some(difference) = difference(left, right) {
        panic!("{promise}: {} and {} differ: {difference}", left.display(), right.display());
    }
}

/// The first difference of two files, if there is one.
pub fn difference(left: &Path, right: &Path) -> Option<String> {
    let (mut a, mut b) = (open(left), open(right));
    let (a_size, b_size) = (size(left), size(right));
    let (mut a_piece, mut b_piece) = (vec![0; PIECE], vec![0; PIECE]);
    let mut offset = 0;
    while offset < a_size.min(b_size) {
        let length = usize::try_from(a_size.min(b_size) - offset).unwrap_or(PIECE).min(PIECE);
        a.read_exact(&mut a_piece[..length]).unwrap_or_else(|error| panic!("{}: {error}", left.display()));
        b.read_exact(&mut b_piece[..length]).unwrap_or_else(|error| panic!("{}: {error}", right.display()));
        if a_piece[..length] != b_piece[..length] {
            let at = (0..length).find(|&i| a_piece[i] != b_piece[i]).expect("unequal pieces differ somewhere");
            return Some(describe(offset + at as u64, a_piece[at], b_piece[at]));
        }
        offset += length as u64;
    }
    (a_size != b_size).then(|| format!("{a_size} and {b_size} bytes long, equal up to the end of the shorter"))
}

fn describe(offset: u64, left: u8, right: u8) -> String {
    let block = offset / 65536;
    format!("at byte {offset} (64 KiB block {block}): {left:#04x} and {right:#04x}")
}

/// The length of a file.
pub fn size(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).len()
}

/// How many bytes of a file occupy disk space.
pub fn allocated(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).blocks() * 512
}

/// How many bytes of a file, or of all files in a directory, occupy disk space.
pub fn disk_usage(path: &Path) -> u64 {
    if !path.is_dir() {
        return allocated(path);
    }
    let entries = std::fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    entries.map(|entry| disk_usage(&entry.expect("a directory entry").path())).sum()
}

/// Every file of a directory with its size and MD5, by name; sockets, which hold no bytes, are left out.
pub fn fingerprint(dir: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(dir) = open.pop() {
        for path in std::fs::read_dir(&dir).expect("a directory").map(|entry| entry.expect("an entry").path()) {
            match path.is_dir() {
                true => open.push(path),
                false if path.is_file() => {
                    lines.push(format!("{} {} {}", path.display(), size(&path), image::md5(&path)));
                }
                false => {}
            }
        }
    }
    lines.sort();
    lines
}

/// The file occupies no more disk space than this.
#[track_caller]
pub fn assert_sparse(path: &Path, limit: u64) {
    let allocated = allocated(path);
    assert!(
        allocated <= limit,
        "{} of {} bytes occupies {allocated} bytes on disk, more than {limit}",
        path.display(),
        size(path)
    );
}

fn open(path: &Path) -> File {
    File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
