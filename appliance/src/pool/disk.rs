//! The disk as the pool sees it: the one seam through which every byte of a pool goes.
//!
//! What a [`Disk`] promises, and nothing more: bytes written to a file are durable after
//! [`DiskFile::sync`] returned; a file that was created, renamed or removed is so durably after
//! [`Disk::sync_dir`] of its directory returned; before that any of it may be lost, in any
//! order. A failed sync promises nothing about what was written since the last good one, and
//! must not be repeated. Callers keep their own order; nothing here retries.
//!
//! A block device is a file that is never created, removed or resized, and that nobody else uses while it is open.

mod device;

pub use device::Device;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use understudy_net::cached;
use uuid::Uuid;

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// An existing file, for reading.
    Read,
    /// A file that is written in place, created when absent.
    Write,
    /// The same, and one that is created can be opened by its owner alone.
    Private,
    /// A file that must not exist yet.
    Create,
    /// A block device, written in place; `ResourceBusy` while anybody else uses it, as it is for them while it is open.
    Device,
}

/// A directory tree with explicit durability.
pub trait Disk: std::fmt::Debug + Send + Sync {
    /// The names in a directory, in no order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Opens a file.
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>>;
    /// Gives a file another name, replacing what had it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file; who has it open can still read it.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes a directory and those above it.
    fn make_dir(&self, dir: &Path) -> io::Result<()>;
    /// Removes an empty directory; a disk whose directories are only parts of names has nothing to do.
    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        let _ = dir;
        Ok(())
    }
    /// What is known of a block device without using it; `InvalidInput` when the file is something else.
    fn device(&self, path: &Path) -> io::Result<Device> {
        let _ = path;
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes that can still be written, for an unprivileged writer.
    fn free(&self, dir: &Path) -> io::Result<u64>;
    /// From which length on it is worth it that files in a directory share bytes, so that these are stored once; they stand at
    /// multiples of [`DIRECT_ALIGNMENT`] in both then. `None` where files cannot.
    fn shares_from(&self, dir: &Path) -> Option<usize> {
        let _ = dir;
        None
    }
    /// Names this run of the system: as long as it is the same, what was written is read back, synced or not. Nil when that is not known.
    fn boot(&self) -> Uuid {
        Uuid::nil()
    }
    /// Locks a file, created when absent, until what is returned is dropped; `WouldBlock` when another process has it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>>;
}

/// A lock that is held.
pub trait Lock: std::fmt::Debug + Send + Sync {}

impl Lock for File {}

/// An open file.
pub trait DiskFile: std::fmt::Debug + Send + Sync {
    /// Fills `buffer` from `offset`; an end of the file before that is an error.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// The same, if memory has all of it: whether it did. If not, `buffer` holds anything.
    fn read_now(&self, buffer: &mut [u8], offset: u64) -> bool {
        let _ = (buffer, offset);
        false
    }
    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes a range read as zeros, and frees its space where that is possible.
    fn zero(&self, offset: u64, length: u64) -> io::Result<()>;
    /// Whether zeroing frees space, and so costs little however much is zeroed.
    fn frees(&self) -> bool {
        true
    }
    /// From where on, at or after `offset`, something other than zeros may be; the size when there is nothing.
    fn next_data(&self, offset: u64) -> io::Result<u64> {
        Ok(offset)
    }
    /// Makes all that was written durable.
    fn sync(&self) -> io::Result<()>;
    /// What the system keeps of the file in memory may go: what is read next comes from the disk, where that is possible.
    fn forget_cached(&self) {}
    /// Bytes of the file or device.
    fn size(&self) -> io::Result<u64>;
    /// Cuts or extends the file, never a device; what is added reads as zeros.
    fn resize(&self, length: u64) -> io::Result<()>;
}

/// Reads and writes whose memory, offset and length are multiples of this, bytes, bypass the page cache.
pub const DIRECT_ALIGNMENT: usize = 4096;

/// Aligning costs up to 4096 bytes: a 16th of this.
const SHARED_MIN: usize = 16 * DIRECT_ALIGNMENT;

/// The disk of this machine.
#[derive(Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let name = |entry: io::Result<std::fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
        std::fs::read_dir(dir)?.map(name).collect()
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(RealFile::open(path, access)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        // What volumes hold is nobody's but the owner's.
        DirBuilder::new().recursive(true).mode(0o700).create(dir)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        std::fs::remove_dir(dir)
    }

    fn device(&self, path: &Path) -> io::Result<Device> {
        Device::of(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn free(&self, dir: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn shares_from(&self, dir: &Path) -> Option<usize> {
        // Tried with two files that have no name: what a filesystem is called says nothing of how it was made.
        let unnamed = || {
            let flags = rustix::fs::OFlags::TMPFILE.bits() as i32;
            OpenOptions::new().read(true).write(true).custom_flags(flags).open(dir)
        };
        let tried = unnamed().and_then(|from| {
            from.write_all_at(&[1; DIRECT_ALIGNMENT], 0)?;
            Ok(rustix::fs::ioctl_ficlone(unnamed()?, from)?)
        });
        tried.is_ok().then_some(SHARED_MIN)
    }

    fn boot(&self) -> Uuid {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        text.trim().parse().unwrap_or_default()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(file)),
            Err(std::fs::TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(std::fs::TryLockError::Error(error)) => Err(error),
        }
    }
}

/// A file with a second descriptor for direct I/O, where the filesystem has that.
#[derive(Debug)]
struct RealFile {
    buffered: File,
    direct: Option<File>,
}

impl RealFile {
    fn open(path: &Path, access: Access) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        match access {
            Access::Read => options.read(true),
            Access::Write => options.read(true).write(true).create(true).truncate(false),
            Access::Private => options.read(true).write(true).create(true).truncate(false).mode(0o600),
            Access::Create => options.read(true).write(true).create_new(true),
            // What would be exclusive creation of a file is exclusive use of a device.
            Access::Device => options.read(true).write(true).custom_flags(rustix::fs::OFlags::EXCL.bits() as i32),
        };
        let buffered = options.open(path)?;
        if access == Access::Device && !buffered.metadata()?.file_type().is_block_device() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a block device"));
        }
        let direct = match access {
            Access::Read | Access::Private => None,
            Access::Write | Access::Create | Access::Device => Self::open_direct(path),
        };
        Ok(Self { buffered, direct })
    }

    /// tmpfs and some network filesystems have no direct I/O: then everything goes through the page cache.
    fn open_direct(path: &Path) -> Option<File> {
        let flags = rustix::fs::OFlags::DIRECT.bits() as i32;
        OpenOptions::new().read(true).write(true).custom_flags(flags).open(path).ok()
    }

    fn direct_for(&self, bytes: &[u8], offset: u64) -> Option<&File> {
        let aligned = |number: usize| number.is_multiple_of(DIRECT_ALIGNMENT);
        let fits = aligned(bytes.as_ptr().addr()) && aligned(bytes.len()) && aligned(offset as usize);
        self.direct.as_ref().filter(|_| fits && !bytes.is_empty())
    }
}

impl DiskFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if let Some(direct) = self.direct_for(buffer, offset) {
            match direct.read_exact_at(buffer, offset) {
                // The filesystem or the device wants a coarser alignment than ours.
                Err(e) if e.kind() == io::ErrorKind::InvalidInput => {}
                result => return result,
            }
        }
        self.buffered.read_exact_at(buffer, offset)
    }

    fn read_now(&self, buffer: &mut [u8], offset: u64) -> bool {
        cached::read(&self.buffered, buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if let Some(direct) = self.direct_for(bytes, offset) {
            match direct.write_all_at(bytes, offset) {
                // The filesystem or the device wants a coarser alignment than ours.
                Err(e) if e.kind() == io::ErrorKind::InvalidInput => {}
                result => return result,
            }
        }
        self.buffered.write_all_at(bytes, offset)
    }

    fn zero(&self, offset: u64, length: u64) -> io::Result<()> {
        use rustix::fs::FallocateFlags as Flags;
        use rustix::io::Errno;
        let by = |flags| rustix::fs::fallocate(&self.buffered, flags | Flags::KEEP_SIZE, offset, length);
        // A device that cannot free space may still be told to zero it; one with large sectors takes no small range.
        let cannot = |error| matches!(error, Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL);
        let freed = by(Flags::PUNCH_HOLE).or_else(|e| if cannot(e) { by(Flags::ZERO_RANGE) } else { Err(e) });
        match freed {
            Err(error) if cannot(error) => self.write_zeros(offset, length),
            result => Ok(result?),
        }
    }

    fn frees(&self) -> bool {
        use rustix::fs::FallocateFlags as Flags;
        let behind = self.size().unwrap_or(0).next_multiple_of(DIRECT_ALIGNMENT as u64);
        let flags = Flags::PUNCH_HOLE | Flags::KEEP_SIZE;
        rustix::fs::fallocate(&self.buffered, flags, behind, DIRECT_ALIGNMENT as u64).is_ok()
    }

    fn next_data(&self, offset: u64) -> io::Result<u64> {
        use rustix::io::Errno;
        match rustix::fs::seek(&self.buffered, rustix::fs::SeekFrom::Data(offset)) {
            Ok(data) => Ok(data),
            Err(Errno::NXIO) => self.size(),
            // Devices and some filesystems do not know where their zeros are.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(offset),
            Err(error) => Err(error.into()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.buffered.sync_data()
    }

    fn forget_cached(&self) {
        // Advice: where it is not taken, what is in memory is read.
        let _ = rustix::fs::fadvise(&self.buffered, 0, None, rustix::fs::Advice::DontNeed);
    }

    fn size(&self) -> io::Result<u64> {
        // The metadata of a device have no size.
        Ok(rustix::fs::seek(&self.buffered, rustix::fs::SeekFrom::End(0))?)
    }

    fn resize(&self, length: u64) -> io::Result<()> {
        self.buffered.set_len(length)
    }
}

impl RealFile {
    fn write_zeros(&self, offset: u64, length: u64) -> io::Result<()> {
        let zeros = AlignedBuffer::new(1 << 20);
        let end = offset + length;
        (offset..end).step_by(zeros.bytes().len()).try_for_each(|at| {
            let count = (end - at).min(zeros.bytes().len() as u64) as usize;
            self.write_at(&zeros.bytes()[..count], at)
        })
    }
}

/// Replaces a small file durably: after this returned, it holds `bytes`; before, the old bytes or these.
pub fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_with(disk, path, bytes, Access::Write)
}

/// The same for a file that its owner alone can open.
pub fn replace_private(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_with(disk, path, bytes, Access::Private)
}

fn replace_with(disk: &dyn Disk, path: &Path, bytes: &[u8], access: Access) -> io::Result<()> {
    let dir = path.parent().ok_or_else(|| io::Error::other("a file has a directory"))?;
    let temporary = temporary_name(path);
    let file = disk.open(&temporary, access)?;
    file.resize(0)?;
    file.write_at(bytes, 0)?;
    file.sync()?;
    disk.rename(&temporary, path)?;
    disk.sync_dir(dir)
}

fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// The whole content of a small file; `None` when it does not exist.
pub fn read_all(disk: &dyn Disk, path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open(path, Access::Read) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = vec![0; file.size()? as usize];
    file.read_at(&mut bytes, 0)?;
    Ok(Some(bytes))
}

/// One page of memory that direct I/O accepts.
#[derive(Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(4096))]
struct AlignedPage([u8; DIRECT_ALIGNMENT]);

/// Memory that direct I/O accepts, of a fixed size.
pub struct AlignedBuffer(Vec<AlignedPage>);

impl AlignedBuffer {
    /// `length` bytes of zeros, rounded up to a multiple of [`DIRECT_ALIGNMENT`].
    pub fn new(length: usize) -> Self {
        Self(bytemuck::allocation::zeroed_vec(length.div_ceil(DIRECT_ALIGNMENT)))
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }

    /// The bytes.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(&mut self.0)
    }
}

impl std::fmt::Debug for AlignedBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AlignedBuffer({} bytes)", self.bytes().len())
    }
}
