//! The files of the store: whether they are this process's alone, whether they are whole, and what is wrong if they are not.
//!
//! A lock file beside the database keeps a second gateway off. On Linux the database file itself is locked too, by its inode, so that
//! another path to the same file (a bind mount) leads to the same lock. A database with a second name (a hard link) is refused: each
//! name has a log of its own, and two logs would be moved into one file.

use std::fs::{File, Metadata, TryLockError};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::access::{Wish, explain};
use super::filesystem;
use super::log_file::LogFile;
use crate::store::StoreError;
use crate::store::settings::{resolve, with_suffix};

/// The database for its owner only: payloads name callers and users.
const DATABASE_MODE: u32 = 0o600;

/// The database of this process.
#[derive(Debug)]
pub(super) struct Owned {
    database: Known,
    /// Bytes of the database at the last look.
    length: u64,
    lock: Known,
    /// The log and its index, while SQLite has them open.
    log: Option<(LogFile, Known)>,
    /// Open until the connections are closed: closing it would end the locks that SQLite holds on the same file.
    file: File,
    /// The lock lasts as long as this is open.
    _lock: File,
}

/// What a look at the files has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Nothing may be written now. The files are ours, and it goes on when this has passed.
    Refused(StoreError),
    /// The files are not ours any more, or not whole. Nothing may be written to them, not even by closing them.
    Lost(Loss),
}

/// What happened to which file behind our back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Loss {
    pub(super) path: PathBuf,
    pub(super) what: Damage,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Damage {
    /// No file has the name any more.
    Removed,
    /// Another file has the name.
    Replaced,
    /// The file is shorter than what was written to it, or holds something else.
    Changed,
}

impl Owned {
    /// Makes the database file if there is none, and locks it. Whatever path leads to it, there is one lock.
    pub(super) fn take(path: &Path) -> Result<Self, StoreError> {
        filesystem::check(path)?;
        let path = resolve(path);
        for suffix in ["", "-wal", "-shm"] {
            let path = with_suffix(&path, suffix);
            if let Ok(metadata) = std::fs::metadata(&path) {
                check_one_name(&path, &metadata).map_err(StoreError::Unusable)?;
            }
        }
        let lock_path = with_suffix(&path, ".lock");
        // The lock first. To open and close a database that a store of this process has open would end that store's locks.
        let lock = open(&lock_path, true)?;
        try_lock(&lock_path, &lock)?;
        let file = open(&path, true)?;
        #[cfg(target_os = "linux")]
        try_lock(&path, &file)?;
        let metadata = metadata(&path, &file)?;
        if !metadata.is_file() {
            return Err(StoreError::Unusable(format!(
                "{}: this is no regular file; name another path",
                path.display()
            )));
        }
        Ok(Self {
            length: metadata.len(),
            database: Known::new(&path, &metadata),
            lock: Known::new(&lock_path, &self::metadata(&lock_path, &lock)?),
            log: None,
            file,
            _lock: lock,
        })
    }

    /// Where the database is, whatever way was named to it.
    pub(super) fn path(&self) -> &Path {
        &self.database.path
    }

    /// The database file. What SQLite may be writing must not be written here.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Where the log is.
    pub(super) fn log_path(&self) -> PathBuf {
        with_suffix(self.path(), "-wal")
    }

    /// The log that SQLite has open.
    pub(super) fn log(&self) -> Option<&File> {
        self.log.as_ref().map(|(log, _)| log.file())
    }

    /// What tells whether the database is still where it was.
    pub(super) fn database(&self) -> Known {
        self.database.clone()
    }

    /// From now on the log belongs to the files as well: SQLite has it open.
    pub(super) fn know_log(&mut self) -> Result<(), StoreError> {
        let index = with_suffix(self.path(), "-shm");
        let metadata = |path: &Path| {
            std::fs::metadata(path)
                .map_err(|error| StoreError::Unavailable(explain(path, Wish::Write, &error)))
        };
        let found = metadata(&index)?;
        let log = LogFile::open(&self.log_path()).map_err(|error| {
            StoreError::Unavailable(explain(&self.log_path(), Wish::Write, &error))
        })?;
        self.length = metadata(self.path())?.len();
        self.log = Some((log, Known::new(&index, &found)));
        Ok(())
    }

    /// SQLite no longer has the log open, and may make a new one.
    pub(super) fn forget_log(&mut self) {
        self.log = None;
        if let Ok(database) = self.database.look() {
            self.length = database.len();
        }
    }

    /// Looks at every file. `frames` is how many frames SQLite has in the log now, if that is known. `may_be_shorter` is asked where
    /// the database is shorter than before: whether another program has rewritten it by SQLite's own means.
    pub(super) fn check(
        &mut self,
        frames: Option<u32>,
        may_be_shorter: impl FnOnce() -> bool,
    ) -> Result<(), Trouble> {
        let found = self.database.look()?;
        if let Some((log, index)) = &mut self.log {
            index.look()?;
            log.check(frames)?;
        }
        if found.len() < self.length && !may_be_shorter() {
            return Err(self.database.loss(Damage::Changed));
        }
        self.length = found.len();
        check_one_name(self.path(), &found)
            .map_err(|problem| Trouble::Refused(StoreError::Unavailable(problem)))?;
        // A lock that is gone lets another process begin, but harms nothing that is written.
        self.lock.look().map_err(|_| {
            Trouble::Refused(StoreError::Unavailable(format!(
                "{} was removed or replaced; put it back, or stop unwrapd and start it again",
                self.lock.path.display()
            )))
        })?;
        Ok(())
    }
}

/// A path and the file that was there when we began.
#[derive(Clone, Debug)]
pub(super) struct Known {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Known {
    pub(super) fn new(path: &Path, metadata: &Metadata) -> Self {
        Self {
            path: path.to_owned(),
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file, if it is still the same.
    pub(super) fn look(&self) -> Result<Metadata, Trouble> {
        match std::fs::metadata(&self.path) {
            Ok(found) if (found.dev(), found.ino()) == (self.device, self.inode) => Ok(found),
            Ok(_) => Err(self.loss(Damage::Replaced)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(self.loss(Damage::Removed))
            }
            // It may be there all the same: a disk that fails, a permission taken away.
            Err(error) => Err(Trouble::Refused(StoreError::Unavailable(explain(
                &self.path,
                Wish::Write,
                &error,
            )))),
        }
    }

    pub(super) fn loss(&self, what: Damage) -> Trouble {
        Trouble::Lost(Loss {
            path: self.path.clone(),
            what,
        })
    }
}

impl From<Trouble> for StoreError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Refused(error) => error,
            Trouble::Lost(loss) => Self::Unavailable(loss.to_string()),
        }
    }
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = match self.what {
            Damage::Removed => "was removed or moved away",
            Damage::Replaced => "was replaced by another file",
            Damage::Changed => "was cut off or overwritten by another program",
        };
        write!(
            f,
            "{} {what} while unwrapd was using it",
            self.path.display()
        )
    }
}

fn open(path: &Path, is_created: bool) -> Result<File, StoreError> {
    File::options()
        .create(is_created)
        .read(true)
        .write(true)
        .mode(DATABASE_MODE)
        .open(path)
        .map_err(|error| StoreError::Unavailable(explain(path, Wish::Write, &error)))
}

fn metadata(path: &Path, file: &File) -> Result<Metadata, StoreError> {
    file.metadata()
        .map_err(|error| StoreError::Unavailable(explain(path, Wish::Write, &error)))
}

fn try_lock(path: &Path, file: &File) -> Result<(), StoreError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse(path.display().to_string())),
        Err(TryLockError::Error(error)) => {
            Err(StoreError::Unavailable(explain(path, Wish::Write, &error)))
        }
    }
}

fn check_one_name(path: &Path, metadata: &Metadata) -> Result<(), String> {
    let names = metadata.nlink();
    if names <= 1 || !metadata.is_file() {
        return Ok(());
    }
    let place = path.display();
    Err(format!(
        "{place} has {names} names (hard links), and a gateway on another name would destroy it; remove the other names (find / -xdev -samefile {place}), and make copies with `unwrapd db backup`"
    ))
}
