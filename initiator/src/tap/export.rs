//! The volume as clients of the tap see it.
//!
//! Invariant: what a flush, or a write that asks to be durable, returned for is durable on the volume and in the journal, and with `is_synchronous`
//! at the appliance as well.

use super::core::{Core, Mark};
use std::io;
use std::sync::Arc;
use understudy_format::nbd::{BlockSizes, Errno, Failure, Geometry, Span, TransmissionFlags as Flags};
use understudy_net::export::{Content, Export, Zeroing};

/// What clients best ask for at once, bytes.
const PREFERRED: u32 = 4096;

/// See the module documentation.
#[derive(Debug)]
pub struct TapExport {
    name: String,
    core: Arc<Core>,
    is_synchronous: bool,
}

impl TapExport {
    /// The volume of `core`, under a name.
    pub fn new(name: String, core: Arc<Core>, is_synchronous: bool) -> Self {
        Self { name, core, is_synchronous }
    }

    fn settle(&self, fua: bool) -> Result<(), Failure> {
        if fua { self.flush() } else { Ok(()) }
    }

    fn wait(&self, mark: Option<Mark>) -> io::Result<()> {
        if self.is_synchronous { self.core.wait_until_there(mark) } else { Ok(()) }
    }
}

impl Export for TapExport {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn describe(&self) -> String {
        format!("{}, followed by an understudy", self.core.volume().name())
    }

    fn geometry(&self) -> Geometry {
        let flags = Flags::SEND_FLUSH | Flags::SEND_FUA | Flags::SEND_TRIM | Flags::SEND_WRITE_ZEROES;
        let blocks = BlockSizes { preferred: PREFERRED, ..BlockSizes::default() };
        Geometry { size: self.core.volume().size(), blocks, flags: flags | Flags::CAN_MULTI_CONN }
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<Content, Failure> {
        self.core.volume().read_at(buffer, offset)?;
        Ok(Content::Data)
    }

    fn read_now(&self, offset: u64, buffer: &mut [u8]) -> Option<Content> {
        self.core.volume().read_now(buffer, offset).then_some(Content::Data)
    }

    fn write_now(&self, offset: u64, data: &[u8]) -> Option<Result<(), Failure>> {
        Some(self.core.write_now(offset, data)?.map_err(Failure::from))
    }

    fn write(&self, offset: u64, data: &[u8], fua: bool) -> Result<(), Failure> {
        if !data.is_empty() {
            self.core.write(offset, data)?;
        }
        self.settle(fua)
    }

    fn flush(&self) -> Result<(), Failure> {
        let mark = self.core.flush()?;
        Ok(self.wait(mark)?)
    }

    fn trim(&self, span: Span, fua: bool) -> Result<(), Failure> {
        if span.length > 0 {
            self.core.trim(span.offset, span.length)?;
        }
        self.settle(fua)
    }

    fn write_zeroes(&self, span: Span, how: Zeroing) -> Result<(), Failure> {
        if how.fast {
            return Err(Failure::new(Errno::NotSupported, "zeros may be as slow as a write here"));
        }
        if span.length > 0 {
            self.core.zero(span.offset, span.length, how.no_hole)?;
        }
        self.settle(how.fua)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tap::core::Parts;
    use crate::tap::files::{FileVolume, StateDirectory, SystemClock};
    use understudy_format::{BlockSize, Geometry};

    #[test]
    fn what_clients_write_is_in_the_file_and_zeros_are_zeros() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("volume");
        std::fs::write(&path, vec![7; 1 << 20]).unwrap();
        let parts = Parts {
            volume: Arc::new(FileVolume::open(&path, false).unwrap()),
            directory: Arc::new(StateDirectory::open(&directory.path().join("state")).unwrap()),
            geometry: Geometry::new(1 << 20, BlockSize::default()).unwrap(),
            journal_max: 1 << 30,
            clock: Arc::new(SystemClock),
        };
        let core = Arc::new(Core::open(parts).unwrap());
        let export = TapExport::new("disk".into(), core.clone(), false);
        assert_eq!((export.geometry().size, export.name()), (1 << 20, "disk".into()));
        export.write(10, b"hello", true).unwrap();
        export.write_zeroes(Span { offset: 4096, length: 8192 }, Zeroing { fua: true, ..Zeroing::default() }).unwrap();
        export.trim(Span { offset: 65536, length: 65536 }, false).unwrap();
        export.flush().unwrap();
        let mut found = vec![0; 1 << 20];
        assert_eq!(export.read_now(0, &mut found), Some(Content::Data), "just written");
        assert!(export.write_now(0, &[7; 10]).unwrap().is_ok());
        let fast = Zeroing { fast: true, ..Zeroing::default() };
        assert_eq!(export.write_zeroes(Span { offset: 0, length: 1 }, fast).unwrap_err().errno, Errno::NotSupported);
        let mut expected = vec![7; 1 << 20];
        expected[10..15].copy_from_slice(b"hello");
        expected[4096..4096 + 8192].fill(0);
        expected[65536..2 * 65536].fill(0);
        assert!(std::fs::read(&path).unwrap() == expected);
        let mut found = vec![0; 1 << 20];
        assert_eq!(export.read(0, &mut found).unwrap(), Content::Data);
        assert!(found == expected);
        core.close().unwrap();
    }
}
