//! Messages as they are read: strictly.

use super::*;
use crate::chunk::Entry;
use crate::geometry::BlockId;
use crate::{FormatError, Geometry};

fn read(message: &Message) -> Result<Option<Message>> {
    let encoded = message.encode().unwrap();
    let (header, body) = encoded.head.split_at(16);
    Message::decode(&FrameHeader::decode(header.try_into().unwrap())?, &Bytes::copy_from_slice(body))
}

#[test]
fn an_offer_with_a_payload_is_refused() {
    let (geometry, entries) = (Geometry::from_wire(4096, 4096).unwrap(), vec![Entry::Zero { count: 1 }]);
    let (volume, stream, first_block) = (Uuid::nil(), Uuid::nil(), BlockId(0));
    let head =
        ChunkHead { volume, stream, sequence: 0, geometry, first_block, entries, payload_length: 0, payload_crc: 1 };
    let error = FormatError::Range { what: "Offer", field: "payload checksum", found: 1, min: 0, max: 0 };
    assert_eq!(read(&Message::Offer(head)), Err(error));
}

#[test]
fn ranges_that_do_not_ascend_are_refused() {
    let range = |first, count| BlockRange { first, count };
    let read = |ranges| read(&Message::Read { volume: Uuid::nil(), point: 1, ranges });
    let error = |field, found, min, max| Err(FormatError::Range { what: "Read", field, found, min, max });
    assert!(read(vec![range(0, 2), range(2, 1), range(9, u64::MAX - 9)]).is_ok());
    assert_eq!(read(vec![range(0, 2), range(1, 1)]), error("first block", 1, 2, u64::MAX));
    assert_eq!(read(vec![range(3, 0)]), error("block count", 0, 1, u64::MAX - 3));
    assert_eq!(read(vec![range(3, u64::MAX)]), error("block count", u64::MAX, 1, u64::MAX - 3));
}

#[test]
fn pages_of_a_level_that_no_map_has_are_refused() {
    let error = FormatError::Range { what: "GetPages", field: "level", found: 8, min: 0, max: 7 };
    let message = Message::GetPages { volume: Uuid::nil(), point: 1, level: 8, indexes: vec![] };
    assert_eq!(read(&message), Err(error));
}
