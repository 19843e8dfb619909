//! Copies a database as it is at one moment, beside whoever writes.

use std::fs::File;
use std::path::Path;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use crate::StoreError;
use crate::sqlite::schema;

/// Pages copied at a time, after which it is told how far it is: 16 MiB.
const STEP_PAGES: i32 = 4096;

/// Content of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Size of the file.
    pub bytes: u64,
    /// Number of messages.
    pub messages: u64,
}

/// Copies the database at `path` into the empty file `to`, durably, and checks the copy. The
/// percentage done is told now and then.
///
/// All of it is read as it was when it began, so it need not begin anew when someone writes
/// meanwhile; until it is done, the log of the database only grows.
pub fn copy(path: &Path, to: &Path, tell: impl Fn(u32)) -> Result<Copied, StoreError> {
    let problem = |error: rusqlite::Error| schema::store_error(&error);
    let mut from = schema::connect_to_look(path)?;
    schema::check_there(&from)?;
    let snapshot = from.transaction().map_err(problem)?;
    // A transaction begins when something is read.
    let _tables: u32 = snapshot
        .query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))
        .map_err(problem)?;
    copy_pages(&snapshot, to, tell).map_err(|error| match schema::store_error(&error) {
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
    // Until it is whole, nobody knows of the copy: it needs no journal, and one fsync at its end.
    target.pragma_update_and_check(None, "journal_mode", "OFF", |_| Ok(()))?;
    target.pragma_update(None, "synchronous", "OFF")?;
    schema::flush_the_disk(&target)?;
    let backup = Backup::new(from, &mut target)?;
    loop {
        match backup.step(STEP_PAGES)? {
            StepResult::More => {
                let progress = backup.progress();
                let done = i64::from(progress.pagecount - progress.remaining);
                let percent = done * 100 / i64::from(progress.pagecount.max(1));
                tell(u32::try_from(percent).unwrap_or(0));
            }
            // Nobody else has the target, and a reader is never locked out of the source.
            StepResult::Done => return Ok(()),
            _ => std::thread::yield_now(),
        }
    }
}

/// How many messages are in the copy, if it is whole.
fn check(copy: &Path) -> rusqlite::Result<Result<u64, StoreError>> {
    let copy = schema::connect_to_unchanging(copy)?;
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
