//! Disks of a running QEMU as sources: what is read is the image of the moment at which reading began.
//!
//! Invariants: nothing is read before there is an image ([`crate::qemu`]); an image is released before another one is taken; the
//! size is that of the disk when it was opened, and an image of another size is refused.

use super::nbd::NbdSource;
use super::uri::NbdUri;
use super::{Capture, Changes, Extent, Source};
use crate::qemu::{self, Fleece, QemuName};
use anyhow::{Result, bail};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use understudy_format::bitmap::Bitmap;

/// See the module documentation.
#[derive(Debug)]
pub struct QemuSource {
    name: QemuName,
    text: String,
    size: u64,
    image: Mutex<Option<Image>>,
}

/// The disk at one moment.
#[derive(Debug)]
struct Image {
    fleece: Fleece,
    export: Arc<NbdSource>,
}

impl QemuSource {
    /// Looks at the disk; its image is taken by [`Source::capture`].
    pub fn open(name: QemuName) -> Result<Self> {
        let size = qemu::size(&name)?;
        Ok(Self { text: name.to_string(), name, size, image: Mutex::default() })
    }

    fn image(&self) -> MutexGuard<'_, Option<Image>> {
        self.image.lock().expect("no panic while locked")
    }

    fn export(&self) -> Result<Arc<NbdSource>> {
        match &*self.image() {
            Some(image) => Ok(image.export.clone()),
            None => bail!("source {}: its image was released", self.text),
        }
    }
}

impl Source for QemuSource {
    fn name(&self) -> &str {
        &self.text
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        self.export()?.extent_at(offset)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.export().map_err(io::Error::other)?.read_at(offset, into)
    }

    fn read_size(&self) -> usize {
        NbdSource::READ_SIZE
    }

    /// Named after the stream that the base is of: nothing has to be remembered to know since when it recorded.
    fn bitmap(&self) -> Option<Result<Changes, String>> {
        let image = self.image();
        let Image { fleece, export } = image.as_ref()?;
        let name = match fleece.changes.clone()? {
            Ok(name) => name,
            Err(reason) => return Some(Err(reason)),
        };
        let granted = export.bitmap()?;
        let bitmap = Bitmap { export: self.text.clone(), name };
        Some(granted.map(|_| Changes { bitmap, since_base: true }))
    }

    fn doubt(&self) -> Result<Option<String>> {
        self.image().as_ref().map_or(Ok(()), |image| image.fleece.check())?;
        Ok(None)
    }

    /// An image does not change.
    fn may_have_moved(&self) -> Result<bool> {
        Ok(false)
    }

    fn capture(&self, of: Option<Capture>) -> Result<()> {
        self.release(false)?;
        let fleece = Fleece::take(&self.name, of)?;
        let uri = NbdUri::parse(&fleece.uri)?.expect("a URI of NBD");
        let bitmap = fleece.changes.as_ref().and_then(|changes| changes.as_deref().ok());
        let export = NbdSource::open(&self.text, &uri, bitmap)?;
        if export.size() != self.size {
            bail!("source {}: it has {} bytes now, it had {}: run it again", self.text, export.size(), self.size);
        }
        *self.image() = Some(Image { fleece, export: Arc::new(export) });
        Ok(())
    }

    /// QEMU would keep what is overwritten for ever.
    fn is_held(&self) -> bool {
        true
    }

    fn release(&self, stored: bool) -> Result<()> {
        // Locked to the end: whoever comes second must not end the program before it is done.
        let mut held = self.image();
        held.take().map_or(Ok(()), |image| image.fleece.end(stored))
    }
}
