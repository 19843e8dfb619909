//! Appends lines to the file. Several destinations, and several gateways on one machine, may append
//! to one file: each holds the file's lock (flock) while it reads the end and writes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::Line;
use super::check::{check_beginning, folder};

/// Only the owner may read events.
const MODE: u32 = 0o600;
/// Longest wait for the lock. Another gateway holds it for a few writes to the page cache; a frozen
/// one would hold it forever.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(2);
/// Maximum number of attempts to write lines when the file is moved away meanwhile.
const WRITES_MAX: usize = 3;
/// Interval between attempts to take the lock.
const LOCK_RETRY: Duration = Duration::from_millis(1);

pub(super) struct LinesFile {
    path: PathBuf,
    file: Option<File>,
}

impl LinesFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, file: None }
    }

    /// Writes each line with one write, and returns when all of them are on the disk.
    pub(super) fn append(&mut self, batch: &[Line]) -> Result<(), String> {
        let appended = self.try_append(batch);
        if appended.is_err() {
            // After a failed write the state of the file is unknown, so it is opened again.
            self.file = None;
        }
        appended.map_err(|error| format!("{}: {error}", self.path.display()))
    }

    fn try_append(&mut self, batch: &[Line]) -> io::Result<()> {
        for _ in 0..WRITES_MAX {
            self.write(batch)?;
            // A file that was moved away before the lines were written may have been read,
            // compressed or removed by then.
            let is_kept = |file: &File| is_at(file, &self.path);
            if self.file.as_ref().is_some_and(is_kept) {
                return Ok(());
            }
        }
        Err(io::Error::other(
            "it is moved away each time that it is written: move it less often",
        ))
    }

    fn write(&mut self, batch: &[Line]) -> io::Result<()> {
        let mut file = self.current()?;
        let lock = Lock::take(file)?;
        // A crash or a full disk may have truncated the last line, which must not be joined with
        // ours.
        let mut is_torn = !ends_with_a_line(file)?;
        for line in batch {
            file.write_all(line.bytes(is_torn))?;
            is_torn = false;
        }
        // Others may write during the sync.
        drop(lock);
        file.sync_data()
    }

    /// The file that is at the path. The previous one may have been moved away.
    fn current(&mut self) -> io::Result<&File> {
        let file = match self.file.take() {
            Some(file) if is_at(&file, &self.path) => file,
            _ => open(&self.path)?,
        };
        Ok(self.file.insert(file))
    }
}

/// The lock of a file, held.
struct Lock<'a>(&'a File);

impl<'a> Lock<'a> {
    fn take(file: &'a File) -> io::Result<Self> {
        let deadline = Instant::now() + LOCK_WAIT_MAX;
        loop {
            match flock(file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self(file)),
                Err(Errno::WOULDBLOCK) if Instant::now() < deadline => sleep(LOCK_RETRY),
                Err(Errno::WOULDBLOCK) => {
                    return Err(io::Error::other(
                        "another process holds the lock of the file: end it if it hangs, or name another file",
                    ));
                }
                Err(Errno::INTR) => {}
                // Some network file systems have no locks. Only one gateway may write to a file
                // there.
                Err(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                    return Ok(Self(file));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        // If the lock was not taken, this has no effect.
        let _ = flock(self.0, FlockOperation::Unlock);
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let ours = file.metadata().map(identity);
    let there = fs::metadata(path).map(identity);
    matches!((ours, there), (Ok(ours), Ok(there)) if ours == there)
}

fn open(path: &Path) -> io::Result<File> {
    // Opening a pipe could block forever, and neither pipes nor devices are durable.
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return Err(io::Error::other(
            "this is not a regular file: name a regular file, or \"-\" for stdout",
        ));
    }
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(MODE)
        .open(path)?;
    // The path may lead to a different file than at the start, even to the store: through a
    // dangling link, or through a folder that was created since.
    check_beginning(&file).map_err(io::Error::other)?;
    // Otherwise a crash of the machine could lose a new file with its content.
    File::open(folder(path))?.sync_all()?;
    Ok(file)
}

fn ends_with_a_line(file: &File) -> io::Result<bool> {
    let Some(last) = file.metadata()?.len().checked_sub(1) else {
        return Ok(true);
    };
    let mut byte = [0];
    file.read_exact_at(&mut byte, last)?;
    Ok(byte == *b"\n")
}
