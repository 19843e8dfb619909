//! Makes sure that the disk has what a log shows that was found when the database is opened.
//!
//! A log may hold commits that no sync has brought to the disk: the process died before the sync, or the sync failed. They can be read,
//! because the page cache has them, and a later sync succeeds without writing them again. To acknowledge one as a duplicate, or to
//! write behind it, would be to trust it. So their bytes are written once more before anything is answered:
//!
//! - Without readers in other programs, SQLite moves the whole log into the database, with a sync, and cuts the log off.
//! - A reader (a backup, a check, a shell) keeps the log where it is. Then every frame is written again to its place, with the same
//!   bytes, and the log is synced. A reader notices nothing.
//! - A reader also keeps the count of frames that were moved before. SQLite does not sync the database for a part of the log, and that
//!   sync may have failed since. So the latest content of these pages is written into the database again, and synced.
//!
//! Decision 13 has the reasons.

use std::fs::File;
use std::io;

use rusqlite::Connection;

use super::access::{Wish, explain, folder_of};
use super::checkpoint::{self, Mode};
use super::owned::Owned;
use super::{schema, wal};
use crate::store::StoreError;

pub(super) fn make_durable(connection: &Connection, owned: &mut Owned) -> Result<(), StoreError> {
    let problem = |error: rusqlite::Error| schema::store_error(&error);
    let found = checkpoint::run(connection, Mode::Count).map_err(problem)?;
    // Whoever opens a database alone reads its log anew, and counts none as moved.
    if found.moved == 0 {
        let moved = checkpoint::run_at_once(connection, Mode::Truncate).map_err(problem)?;
        if !moved.is_busy {
            owned.found_log(false);
            return Ok(());
        }
    }
    // Nobody else writes to the log, or begins it anew, meanwhile.
    connection
        .execute_batch("BEGIN IMMEDIATE")
        .map_err(problem)?;
    let written = write_again(owned);
    connection.execute_batch("ROLLBACK").map_err(problem)?;
    written?;
    let moved = checkpoint::run_at_once(connection, Mode::Truncate).map_err(problem)?;
    owned.found_log(moved.is_busy);
    Ok(())
}

fn write_again(owned: &Owned) -> Result<(), StoreError> {
    let path = owned.log_path();
    let problem = |error: io::Error| StoreError::Unavailable(explain(&path, Wish::Write, &error));
    let log = File::options()
        .read(true)
        .write(true)
        .open(&path)
        .map_err(problem)?;
    let beside = schema::connect_beside(owned.path())?;
    loop {
        let count = |error| schema::store_error(&error);
        let counts = checkpoint::run(&beside, Mode::Count).map_err(count)?;
        if counts.frames == 0 {
            return Ok(());
        }
        let moved = wal::write_again(&log, counts.frames, counts.moved).map_err(|error| {
            if error.kind() == io::ErrorKind::InvalidData {
                return StoreError::Unusable(format!(
                    "{}: {error}; copy all files of the store to another place, then restore a backup",
                    path.display()
                ));
            }
            problem(error)
        })?;
        if counts.moved > 0 {
            moved.write_again(&log, owned.file()).map_err(|error| {
                StoreError::Unavailable(explain(owned.path(), Wish::Write, &error))
            })?;
        }
        // The name of the log may be as new as its content.
        File::open(folder_of(owned.path()))
            .and_then(|folder| folder.sync_all())
            .map_err(problem)?;
        // Another program has moved more meanwhile, and what it moved may be overwritten now.
        if checkpoint::run(&beside, Mode::Count).map_err(count)?.moved == counts.moved {
            return Ok(());
        }
    }
}
