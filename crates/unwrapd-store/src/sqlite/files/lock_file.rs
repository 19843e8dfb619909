//! Opens and locks files of the store, so that no second gateway uses them.

use std::fs::{File, Metadata, TryLockError};
use std::ops::Deref;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::error::StoreError;
use crate::sqlite::files::access::{Wish, explain};
use crate::sqlite::files::known_file::{Known, Trouble};

/// Only the owner may access the database: payloads name callers and users.
const DATABASE_MODE: u32 = 0o600;

/// The lock file. It is locked as long as it is open.
#[derive(Debug)]
pub(crate) struct Lock {
    known: Known,
    _file: HeldFile,
}

impl Lock {
    /// Locks the file, and creates it if it does not exist.
    pub(crate) fn take(path: &Path) -> Result<Self, StoreError> {
        let file = HeldFile(open_or_create(path)?);
        file.lock(path)?;
        Ok(Self {
            known: Known::new(path, &metadata(path, &file)?),
            _file: file,
        })
    }

    /// Locks the file again if another program has removed or replaced it. If another gateway has
    /// the lock then, nothing may be written.
    pub(crate) fn keep(&mut self) -> Result<(), Trouble> {
        match self.known.look() {
            Err(Trouble::Lost(_)) => {}
            looked => return looked.map(drop),
        }
        *self = Self::take(self.known.path()).map_err(Trouble::Refused)?;
        tracing::warn!(
            "{} was removed or replaced by another program, and is locked again: leave it alone, because it keeps a second gateway off",
            self.known.path().display()
        );
        Ok(())
    }
}

/// Opens a file to read and write it, and creates it if it does not exist.
pub(crate) fn open_or_create(path: &Path) -> Result<File, StoreError> {
    File::options()
        .create(true)
        .read(true)
        .write(true)
        .mode(DATABASE_MODE)
        .open(path)
        .map_err(|error| StoreError::Unavailable(explain(path, Wish::Write, &error)))
}

pub(crate) fn metadata(path: &Path, file: &File) -> Result<Metadata, StoreError> {
    file.metadata()
        .map_err(|error| StoreError::Unavailable(explain(path, Wish::Write, &error)))
}

/// An open file that can be locked. The lock is released explicitly: closing the file is not enough
/// while a child process that has just been forked holds a copy of its descriptor.
#[derive(Debug)]
pub(crate) struct HeldFile(pub(crate) File);

impl HeldFile {
    /// Locks the file. Returns [`StoreError::InUse`] if another process has the lock.
    pub(crate) fn lock(&self, path: &Path) -> Result<(), StoreError> {
        match self.0.try_lock() {
            Ok(()) => Ok(()),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse(path.display().to_string())),
            Err(TryLockError::Error(error)) => {
                Err(StoreError::Unavailable(explain(path, Wish::Write, &error)))
            }
        }
    }
}

impl Deref for HeldFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl Drop for HeldFile {
    fn drop(&mut self) {
        // If the file is not locked, this has no effect. If it fails, the lock ends with the file.
        let _ = self.0.unlock();
    }
}
