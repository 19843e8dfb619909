//! The files of the store. Checks that only this process uses them and that they are complete, and
//! explains problems.
//!
//! A lock file beside the database prevents a second gateway. On Linux, the database file itself is
//! locked too, by its inode, so that another path to the same file (a bind mount) meets the same
//! lock. A database with a second name (a hard link) is refused: each name has its own log, and two
//! logs would be moved into one file.

use std::fs::{File, Metadata};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use crate::error::StoreError;
use crate::paths::{resolve, with_suffix};
use crate::sqlite::files::access::{Wish, explain};
use crate::sqlite::files::filesystem;
use crate::sqlite::files::known_file::{Damage, Known, Loss, Trouble, check_one_name};
use crate::sqlite::files::lock_file::{self, HeldFile, Lock};
use crate::sqlite::files::log_file::LogFile;
use crate::sqlite::marks::APPLICATION_ID;

/// Bytes of the header of a database:
/// <https://www.sqlite.org/fileformat2.html#the_database_header>.
const HEAD_BYTES: usize = 100;

/// The files of the store that this process holds.
#[derive(Debug)]
pub(crate) struct StoreFiles {
    database: Known,
    /// The database at the last check.
    seen: Seen,
    /// SQLite's schema version.
    tables: u32,
    /// Another program may have written to the log through SQLite. When that part is moved, the
    /// database may stop looking like ours: `VACUUM` shortens it only then.
    is_unsettled: bool,
    lock: Lock,
    /// The log and its index, while SQLite has them open.
    log: Option<(LogFile, Index)>,
    /// Stays open until the connections are closed: closing it would end SQLite's locks on the same
    /// file.
    file: HeldFile,
}

/// The index of the log. SQLite maps it into memory, and a read beyond the end of the file kills
/// the process.
#[derive(Debug)]
struct Index {
    known: Known,
    length: u64,
}

/// Marks of the content of the database, by which changes are detected.
#[derive(Debug)]
struct Seen {
    length: u64,
    /// The time of the last write: seconds and nanoseconds.
    written_at: (i64, i64),
    head: Option<[u8; HEAD_BYTES]>,
}

/// State of the log, as the writer has it when the files are checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moves {
    /// Number of frames that SQLite has in the log, if known.
    pub(crate) frames: Option<u32>,
    /// Whether this process may have moved the log into the database since the last check.
    pub(crate) are_ours: bool,
}

impl Moves {
    /// The writer knows nothing.
    pub(crate) const UNKNOWN: Self = Self {
        frames: None,
        are_ours: true,
    };
}

/// Asks whether another program has written through SQLite, because a file differs from the state
/// after our own writes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question {
    /// The database is shorter.
    pub(crate) is_shorter: bool,
    /// Another program had written before, and not everything had reached the database at the last
    /// check.
    pub(crate) was_unsettled: bool,
}

/// The answer to a [`Question`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// No other program has written.
    NotWritten,
    /// Another program has written, and the database is intact.
    Written {
        /// SQLite's schema version after that.
        tables: u32,
        /// Whether the writing is newer than the last check.
        is_new: bool,
    },
}

impl StoreFiles {
    /// Creates the database file if it does not exist, and locks it. All paths to a file lead to
    /// the same lock.
    pub(crate) fn take(path: &Path) -> Result<Self, StoreError> {
        filesystem::check(path)?;
        let path = resolve(path);
        for suffix in ["", "-wal", "-shm"] {
            let path = with_suffix(&path, suffix);
            if let Ok(metadata) = std::fs::metadata(&path) {
                check_one_name(&path, &metadata).map_err(StoreError::Unusable)?;
            }
        }
        check_not_lost(&path)?;
        // The lock comes first. Opening and closing a database that another store of this process
        // has open would end the locks of that store.
        let lock = Lock::take(&with_suffix(&path, ".lock"))?;
        let file = HeldFile(lock_file::open_or_create(&path)?);
        #[cfg(target_os = "linux")]
        file.lock(&path)?;
        let metadata = lock_file::metadata(&path, &file)?;
        if !metadata.is_file() {
            return Err(StoreError::Unusable(format!(
                "{}: this is not a regular file; name another path",
                path.display()
            )));
        }
        Ok(Self {
            seen: Seen::new(&file, &metadata),
            tables: 0,
            is_unsettled: false,
            database: Known::new(&path, &metadata),
            lock,
            log: None,
            file,
        })
    }

    /// The resolved path of the database.
    pub(crate) fn path(&self) -> &Path {
        self.database.path()
    }

    /// The database file. A part that SQLite may be writing must not be written through it.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// The path of the log.
    pub(crate) fn log_path(&self) -> PathBuf {
        with_suffix(self.path(), "-wal")
    }

    /// The log that SQLite has open.
    pub(crate) fn log(&self) -> Option<&File> {
        self.log.as_ref().map(|(log, _)| log.file())
    }

    /// The identity of the database file, to check that it is still at its path.
    pub(crate) fn database(&self) -> Known {
        self.database.clone()
    }

    /// Adds the log to the checked files, because SQLite has it open. `tables` is SQLite's schema
    /// version (`PRAGMA schema_version`), which the file gets when the log is moved.
    pub(crate) fn know_log(&mut self, tables: u32) -> Result<(), StoreError> {
        let index = with_suffix(self.path(), "-shm");
        let metadata = |path: &Path| {
            std::fs::metadata(path)
                .map_err(|error| StoreError::Unavailable(explain(path, Wish::Write, &error)))
        };
        let found = metadata(&index)?;
        let log = LogFile::open(&self.log_path()).map_err(|error| {
            StoreError::Unavailable(explain(&self.log_path(), Wish::Write, &error))
        })?;
        self.seen = Seen::new(&self.file, &metadata(self.path())?);
        let index = Index {
            known: Known::new(&index, &found),
            length: found.len(),
        };
        self.log = Some((log, index));
        self.tables = tables;
        Ok(())
    }

    /// Records, when the database is opened, whether readers keep a log to which others may have
    /// written.
    pub(crate) fn found_log(&mut self, is_kept: bool) {
        self.is_unsettled = is_kept;
    }

    /// Records that SQLite has closed the log, and may create a new one.
    pub(crate) fn forget_log(&mut self) {
        self.log = None;
        if let Ok(database) = self.database.look() {
            self.seen = Seen::new(&self.file, &database);
        }
    }

    /// Checks the index of the log, before SQLite uses it.
    pub(crate) fn check_index(&mut self) -> Result<(), Trouble> {
        if let Some((_, index)) = &mut self.log {
            let found = index.known.look()?;
            if found.len() < index.length {
                return Err(index.known.loss(Damage::Changed));
            }
            index.length = found.len();
        }
        Ok(())
    }

    /// Checks every file. Calls `ask` if the database is shorter than before, or if the beginning
    /// of the database or the log differs.
    pub(crate) fn check(
        &mut self,
        Moves { frames, are_ours }: Moves,
        mut ask: impl FnMut(Question) -> Result<Answer, StoreError>,
    ) -> Result<(), Trouble> {
        let found = self.database.look()?;
        self.check_index()?;
        let was_unsettled = self.is_unsettled;
        let mut is_anew = false;
        let mut was_restarted = false;
        let mut was_written_to = false;
        let mut tables = self.tables;
        let mut may_be_anothers = |question, loss| match ask(question).map_err(Trouble::Refused)? {
            Answer::NotWritten => Err(loss),
            Answer::Written {
                tables: now,
                is_new,
            } => {
                tables = now;
                was_written_to |= is_new;
                Ok(())
            }
        };
        if let Some((log, _)) = &mut self.log {
            let had_commits = log.has_commits();
            match log.check(frames) {
                Err(
                    trouble @ Trouble::Lost(Loss {
                        what: Damage::Changed,
                        ..
                    }),
                ) => {
                    // Another program that restarts the log writes its beginning at that moment.
                    let question = Question {
                        is_shorter: false,
                        was_unsettled: false,
                    };
                    may_be_anothers(question, trouble)?;
                    log.forget();
                    was_restarted = true;
                }
                checked => {
                    is_anew = checked?;
                    was_restarted = is_anew && had_commits;
                }
            }
        }
        let is_as_it_was =
            self.seen.length == found.len() && self.seen.written_at == written_at(&found);
        if !is_as_it_was {
            let seen = Seen::new(&self.file, &found);
            // Only a moved log changes the beginning, and until the log is restarted, it holds that
            // beginning.
            let is_explained = are_ours
                || was_restarted
                || seen.head == self.seen.head
                || self.log.as_ref().is_none_or(|(log, _)| {
                    let head = seen.head.as_ref();
                    head.is_some_and(|head| log.holds_beginning(head))
                });
            if !is_explained || !seen.follows(&self.seen, self.tables) {
                let question = Question {
                    is_shorter: seen.length < self.seen.length,
                    was_unsettled,
                };
                may_be_anothers(question, self.database.loss(Damage::Changed))?;
            }
            self.seen = seen;
        }
        self.tables = tables;
        self.is_unsettled = was_written_to || (was_unsettled && !is_anew);
        check_one_name(self.path(), &found)
            .map_err(|problem| Trouble::Refused(StoreError::Unavailable(problem)))?;
        self.lock.keep()
    }
}

impl Seen {
    fn new(file: &File, metadata: &Metadata) -> Self {
        let mut head = [0; HEAD_BYTES];
        Self {
            length: metadata.len(),
            written_at: written_at(metadata),
            head: file.read_exact_at(&mut head, 0).is_ok().then_some(head),
        }
    }

    /// Whether moving the log can turn `earlier` into this state: the file is not shorter, no
    /// change was taken back, and its tables are ours. A backup that was copied over it is older,
    /// or has another schema version.
    fn follows(&self, earlier: &Self, tables: u32) -> bool {
        let (Some(head), Some(before)) = (&self.head, &earlier.head) else {
            return earlier.head.is_none();
        };
        let word = |head: &[u8; HEAD_BYTES], at: usize| {
            u32::from_be_bytes(head[at..at + 4].try_into().expect("four bytes"))
        };
        // Offsets in the header: 24 change counter, 28 number of pages, 40 schema version, 68
        // application id.
        let is_one_of = |at: usize, ours: u32| [word(before, at), ours].contains(&word(head, at));
        self.length >= earlier.length
            && head[..16] == before[..16]
            && word(head, 24).wrapping_sub(word(before, 24)) <= u32::MAX / 2
            && word(head, 28) >= word(before, 28)
            && is_one_of(40, tables)
            && is_one_of(68, APPLICATION_ID.cast_unsigned())
    }
}

fn written_at(metadata: &Metadata) -> (i64, i64) {
    (metadata.mtime(), metadata.mtime_nsec())
}

/// Returns an error if there is a log without a database. SQLite would create a new database and
/// remove the log.
fn check_not_lost(path: &Path) -> Result<(), StoreError> {
    let bytes = |path: &Path| std::fs::metadata(path).map_or(0, |found| found.len());
    let log = with_suffix(path, "-wal");
    if bytes(path) > 0 || bytes(&log) == 0 {
        return Ok(());
    }
    let (place, log) = (path.display(), log.display());
    Err(StoreError::Unusable(format!(
        "{place} is missing or empty, and its log {log} is still there, with webhooks that were \
         acknowledged: put the database back beside it. To begin anew, move the log away"
    )))
}

/// Returns an error if a gateway has the database open under another name (a hard link, a mount of
/// the single file), beside which its log is. Without the log, the latest commits are missing.
#[cfg(target_os = "linux")]
pub(crate) fn check_log_is_here(path: &Path) -> Result<(), StoreError> {
    let path = resolve(path);
    // A gateway always has a log. Opening and closing a database that this process has open would
    // end its locks.
    if with_suffix(&path, "-wal").exists() {
        return Ok(());
    }
    let Ok(file) = File::open(&path) else {
        return Ok(());
    };
    match file.try_lock_shared() {
        Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::Unusable(format!(
            "{} is the database of a running gateway, but the log of the gateway is not beside it: name the path that the gateway uses",
            path.display()
        ))),
        _ => Ok(()),
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn check_log_is_here(_path: &Path) -> Result<(), StoreError> {
    Ok(())
}
