//! Takes streams apart and puts them together wrongly, after `format/SPEC.md` and not after the product's code: a
//! second reader of the specification, which notices when the two drift.

use std::ops::Range;

const HEADER: usize = 16;

/// One frame of a stream.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Four letters.
    pub tag: [u8; 4],
    /// Where its header starts in the stream.
    pub start: usize,
    /// Where its body is in the stream.
    pub body: Range<usize>,
}

/// The frames of a stream, which must be whole.
pub fn frames(stream: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    let mut start = 0;
    while start < stream.len() {
        let header = &stream[start..start + HEADER];
        let length = u32::from_le_bytes(header[8..12].try_into().expect("four bytes")) as usize;
        assert_eq!(header[12..16], crc32(&header[..12]).to_le_bytes(), "the header's CRC-32 at byte {start}");
        let body = start + HEADER..start + HEADER + length;
        frames.push(Frame { tag: header[..4].try_into().expect("four bytes"), start, body: body.clone() });
        start = body.end;
    }
    assert_eq!(start, stream.len(), "a stream is whole frames");
    frames
}

/// The only frame with this tag, or the first of them.
pub fn frame(stream: &[u8], tag: &[u8; 4]) -> Frame {
    let found = frames(stream).into_iter().find(|frame| frame.tag == *tag);
    found.unwrap_or_else(|| panic!("a stream has a {} frame", tag.escape_ascii()))
}

/// A frame of one's own making.
pub fn forge(tag: &[u8; 4], flags: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("a small body");
    let mut bytes = [&tag[..], &flags.to_le_bytes(), &length.to_le_bytes()].concat();
    bytes.extend(crc32(&bytes).to_le_bytes());
    bytes.extend(body);
    bytes
}

/// Makes the CRC-32 at the end of a record right again.
pub fn reseal(record: &mut [u8]) {
    let end = record.len() - 4;
    let crc = crc32(&record[..end]).to_le_bytes();
    record[end..].copy_from_slice(&crc);
}

/// CRC-32 as in Ethernet and zip, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

#[test]
fn the_checksum_is_the_one_everybody_means() {
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
}
