//! Brings the content of a log that exists when the database is opened to the disk.
//!
//! A log may hold commits that no sync has brought to the disk: the process died before the sync,
//! or the sync failed. They are readable from the page cache, and a later sync succeeds without
//! writing them again. The gateway must not acknowledge such a commit as a duplicate, or append to
//! it. So its bytes are written again before any webhook is answered:
//!
//! - Without readers in other programs, SQLite moves the whole log into the database, with a sync,
//!   and truncates the log.
//! - A reader (a backup, a check, a shell) prevents that. Then every frame is written again to its
//!   place, with the same bytes, and the log is synced. The reader sees no change.
//! - A reader also keeps the count of frames that were moved before. SQLite syncs the database only
//!   after it has moved the whole log, and that sync may have failed. So the latest content of
//!   these pages is written into the database again, and synced.
//!
//! Reasons: `docs/decisions/0013-the-files-of-the-sqlite-store.md`.

use std::fs::File;
use std::io;
use std::thread;
use std::time::Duration;

use rusqlite::Connection;

use crate::error::StoreError;
use crate::sqlite::connection::connect_beside;
use crate::sqlite::error::store_error;
use crate::sqlite::files::access::{Wish, explain, folder_of};
use crate::sqlite::files::checkpoint::{self, Mode};
use crate::sqlite::files::holders;
use crate::sqlite::files::store_files::StoreFiles;
use crate::sqlite::files::wal;

/// Longest wait for a checkpoint of another program.
const OTHERS_CHECKPOINT_WAIT: Duration = Duration::from_millis(50);

/// Size of a log, in MiB, at which the log of the gateway reports the rewriting.
const TOLD_MIB: u64 = 64;

pub(crate) fn make_durable(
    connection: &Connection,
    files: &mut StoreFiles,
) -> Result<(), StoreError> {
    let problem = |error: rusqlite::Error| store_error(&error);
    let found = checkpoint::run(connection, Mode::Count).map_err(problem)?;
    // A program that opens a database alone builds a new index, in which no frame counts as moved.
    if found.moved == 0 {
        let moved = checkpoint::run_at_once(connection, Mode::Truncate).map_err(problem)?;
        if !moved.is_busy {
            files.found_log(false);
            return Ok(());
        }
    }
    tell_large(found.frames, files);
    // While we hold the write lock, no other program appends to the log or restarts it.
    connection
        .execute_batch("BEGIN IMMEDIATE")
        .map_err(problem)?;
    let written = write_again(files);
    connection.execute_batch("ROLLBACK").map_err(problem)?;
    written?;
    let moved = checkpoint::run_at_once(connection, Mode::Truncate).map_err(problem)?;
    files.found_log(moved.is_busy);
    Ok(())
}

/// Reports that a large log is rewritten, because this takes a while in which nothing else is
/// logged.
fn tell_large(frames: u32, files: &StoreFiles) {
    let mib = u64::from(frames) * 4096 / (1024 * 1024);
    if mib >= TOLD_MIB {
        tracing::warn!(
            "writing {} MiB of {} to the disk again before any webhook is acknowledged, because {} \
             reads the database (a backup, a check, a shell)",
            mib,
            files.log_path().display(),
            holders::of(&files.log_path()).unwrap_or_else(|| "another program".into())
        );
    }
}

fn write_again(files: &StoreFiles) -> Result<(), StoreError> {
    let path = files.log_path();
    let problem = |error: io::Error| StoreError::Unavailable(explain(&path, Wish::Write, &error));
    let log = File::options()
        .read(true)
        .write(true)
        .open(&path)
        .map_err(problem)?;
    let beside = connect_beside(files.path())?;
    loop {
        let count = |error| store_error(&error);
        let counts = checkpoint::run(&beside, Mode::Count).map_err(count)?;
        if counts.frames == 0 {
            return Ok(());
        }
        let moved = wal::write_again(&log, counts.frames, counts.moved).map_err(|error| {
            if error.kind() == io::ErrorKind::InvalidData {
                return StoreError::Unusable(format!(
                    "{}: {error}; copy all files of the store to another folder, then restore a backup",
                    path.display()
                ));
            }
            problem(error)
        })?;
        if counts.moved > 0 {
            moved.write_again(&log, files.file()).map_err(|error| {
                StoreError::Unavailable(explain(files.path(), Wish::Write, &error))
            })?;
        }
        // The directory entry of the log may be unsynced, too.
        File::open(folder_of(files.path()))
            .and_then(|folder| folder.sync_all())
            .map_err(problem)?;
        // If another program has moved more frames meanwhile, older content may now have replaced
        // them. A checkpoint records what it has moved only at its end, so the count alone does not
        // show one under way. Only one checkpoint runs at a time: when this one has run and has
        // found nothing to move, no other one has moved anything.
        let after = checkpoint::run(&beside, Mode::Passive).map_err(count)?;
        if !after.is_busy && after.moved == counts.moved {
            return Ok(());
        }
        if after.is_busy {
            thread::sleep(OTHERS_CHECKPOINT_WAIT);
        }
    }
}
