//! What the bitmaps are called that are kept for volumes.
//!
//! A bitmap named after a stream records what is written from the moment of that stream on. So it counts as soon as the newest
//! point of the volume is that stream's, and for nothing else: nothing has to be remembered anywhere.

use uuid::Uuid;

/// Of which streams a volume's bitmaps are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bitmaps {
    volume: Uuid,
}

impl Bitmaps {
    /// Those of a volume.
    pub fn of(volume: Uuid) -> Self {
        Self { volume }
    }

    /// The one that records from the moment of a stream on.
    pub fn since(self, stream: Uuid) -> String {
        format!("{}{}", self.prefix(), stream.simple())
    }

    /// What it had recorded by the moment of the next stream.
    pub fn until(self, stream: Uuid) -> String {
        format!("{}{}-changes", self.prefix(), stream.simple())
    }

    /// Whether a bitmap belongs to the volume.
    pub fn own(self, name: &str) -> bool {
        name.starts_with(&self.prefix())
    }

    /// Short enough for the names of nodes, of which QEMU takes 31 characters.
    pub fn tag(self) -> String {
        format!("understudy-{}", &self.volume.simple().to_string()[..12])
    }

    /// The same for an image of a node that is only read, for no volume.
    pub fn reader_tag(node: &str) -> String {
        format!("understudy-read{:08x}", crc32fast::hash(node.as_bytes()))
    }

    fn prefix(self) -> String {
        format!("understudy-{}-", self.volume.simple())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bitmaps_of_other_volumes_and_other_programs_are_not_touched() {
        let (one, two) = (Bitmaps::of(Uuid::from_u128(1)), Bitmaps::of(Uuid::from_u128(2)));
        let stream = Uuid::from_u128(7);
        assert!(one.own(&one.since(stream)) && one.own(&one.until(stream)));
        assert!(!two.own(&one.since(stream)) && !one.own("libvirt-backup"));
        assert_ne!(one.since(stream), one.until(stream));
        let longest = [one.tag(), Bitmaps::reader_tag("disk0")].map(|tag| tag.len() + "-fleece".len());
        assert!(longest.iter().all(|length| *length < 32), "{longest:?}");
    }
}
