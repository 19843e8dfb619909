//! The files that are ours alone, and whether they still are.

use std::fs::{File, Metadata, TryLockError};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::filesystem;
use crate::store::StoreError;

/// The database for its owner only: payloads name callers and users.
const DATABASE_MODE: u32 = 0o600;

/// The database of this process, held by a lock on a file beside it: people may still look into the database with any tool.
#[derive(Debug)]
pub(super) struct Owned {
    database: Known,
    lock: Known,
    /// The log of the database and its index, as long as they are open.
    log: Vec<Known>,
    /// The lock lasts as long as this is open.
    _lock: File,
}

/// A path and the file that was there when we began.
#[derive(Debug)]
struct Known {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Owned {
    /// Makes the database file if there is none, and locks it. Whatever path leads to it, there is one lock.
    pub(super) fn take(path: &Path) -> Result<Self, StoreError> {
        let problem = |path: &Path, error: &dyn std::fmt::Display| {
            StoreError::Unavailable(format!("{}: {error}", path.display()))
        };
        filesystem::check(path)?;
        let database = File::options()
            .create(true)
            .append(true)
            .mode(DATABASE_MODE)
            .open(path)
            .map_err(|error| problem(path, &error))?;
        let path = path.canonicalize().map_err(|error| problem(path, &error))?;
        let mut lock_path = path.as_os_str().to_owned();
        lock_path.push(".lock");
        let lock_path = PathBuf::from(lock_path);
        let lock = File::options()
            .create(true)
            .append(true)
            .mode(DATABASE_MODE)
            .open(&lock_path)
            .map_err(|error| problem(&lock_path, &error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::InUse(lock_path.display().to_string()));
            }
            Err(TryLockError::Error(error)) => return Err(problem(&lock_path, &error)),
        }
        let known = |path: &Path, file: &File| {
            let metadata = file.metadata().map_err(|error| problem(path, &error))?;
            Ok::<_, StoreError>(Known::new(path, &metadata))
        };
        Ok(Self {
            database: known(&path, &database)?,
            lock: known(&lock_path, &lock)?,
            log: Vec::new(),
            _lock: lock,
        })
    }

    /// Where the database is, whatever way was named to it.
    pub(super) fn path(&self) -> &Path {
        &self.database.path
    }

    /// From now on the log belongs to the files as well: SQLite has it open.
    pub(super) fn know_log(&mut self) -> Result<(), StoreError> {
        for suffix in ["-wal", "-shm"] {
            let mut path = self.database.path.as_os_str().to_owned();
            path.push(suffix);
            let path = PathBuf::from(path);
            let metadata = std::fs::metadata(&path)
                .map_err(|error| StoreError::Unavailable(format!("{}: {error}", path.display())))?;
            self.log.push(Known::new(&path, &metadata));
        }
        Ok(())
    }

    /// SQLite no longer has the log open, and may make a new one.
    pub(super) fn forget_log(&mut self) {
        self.log.clear();
    }

    /// An error if the files were removed or replaced behind our back. What is written to a removed file is gone with us.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        for known in [&self.database, &self.lock].into_iter().chain(&self.log) {
            if !known.is_there() {
                return Err(StoreError::Unavailable(format!(
                    "{} was removed or replaced; put it back, or stop unwrapd and start it anew",
                    known.path.display()
                )));
            }
        }
        Ok(())
    }
}

impl Known {
    fn new(path: &Path, metadata: &Metadata) -> Self {
        Self {
            path: path.to_owned(),
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }

    fn is_there(&self) -> bool {
        std::fs::metadata(&self.path)
            .is_ok_and(|now| now.dev() == self.device && now.ino() == self.inode)
    }
}
