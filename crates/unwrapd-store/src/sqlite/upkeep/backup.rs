//! Copies a database as it is at one moment, beside a running writer.

use std::fs::File;
use std::path::Path;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use crate::error::StoreError;
use crate::sqlite::connection::{connect_to_unchanging, flush_the_disk};
use crate::sqlite::error::store_error;
use crate::sqlite::schema;

/// Pages copied between two reports of progress: 16 MiB.
const STEP_PAGES: i32 = 4096;

/// Result of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Size of the file in bytes.
    pub bytes: u64,
    /// Number of messages.
    pub messages: u64,
}

/// Copies the database at `path` into the empty file `to`, durably, and checks the copy. Calls
/// `tell` with the percentage done from time to time.
///
/// The copy reads one snapshot, so it does not restart when a program writes. The log of the
/// database grows until the copy is done.
pub fn copy(path: &Path, to: &Path, tell: impl Fn(u32)) -> Result<Copied, StoreError> {
    let problem = |error: rusqlite::Error| store_error(&error);
    let mut from = schema::connect_to_look(path)?;
    schema::check_there(&from)?;
    let snapshot = from.transaction().map_err(problem)?;
    // SQLite begins the transaction with the first read.
    let _tables: u32 = snapshot
        .query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))
        .map_err(problem)?;
    copy_pages(&snapshot, to, tell).map_err(|error| match store_error(&error) {
        StoreError::Unusable(problem) => StoreError::Unusable(problem),
        other => StoreError::Unavailable(format!("{}: {other}", to.display())),
    })?;

    let file =
        |error: std::io::Error| StoreError::Unavailable(format!("{}: {error}", to.display()));
    let copied = File::open(to).map_err(file)?;
    copied.sync_all().map_err(file)?;
    let bytes = copied.metadata().map_err(file)?.len();
    let messages = check(to).map_err(problem)??;
    Ok(Copied { bytes, messages })
}

fn copy_pages(from: &Connection, to: &Path, tell: impl Fn(u32)) -> rusqlite::Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut target = Connection::open_with_flags(to, flags)?;
    // No other program uses the incomplete copy, so it needs no journal, and one fsync at its end.
    target.pragma_update_and_check(None, "journal_mode", "OFF", |_| Ok(()))?;
    target.pragma_update(None, "synchronous", "OFF")?;
    flush_the_disk(&target)?;
    let backup = Backup::new(from, &mut target)?;
    loop {
        match backup.step(STEP_PAGES)? {
            StepResult::More => {
                let progress = backup.progress();
                let done = i64::from(progress.pagecount - progress.remaining);
                let percent = done * 100 / i64::from(progress.pagecount.max(1));
                tell(u32::try_from(percent).unwrap_or(0));
            }
            // No other program has the target open, and a reader is never locked out of the source.
            StepResult::Done => return Ok(()),
            _ => std::thread::yield_now(),
        }
    }
}

/// Number of messages in the copy, if the copy is intact.
fn check(copy: &Path) -> rusqlite::Result<Result<u64, StoreError>> {
    let copy = connect_to_unchanging(copy)?;
    let damage: String = copy.query_row("PRAGMA quick_check(1)", (), |row| row.get(0))?;
    if damage != "ok" {
        return Ok(Err(StoreError::Unusable(format!(
            "the backup is damaged ({damage}); run `unwrapd db check` to see whether the store is damaged too"
        ))));
    }
    copy.query_row("SELECT count(*) FROM message", (), |row| {
        Ok(Ok(row.get(0)?))
    })
}
