//! Migrates the schema of an earlier version. Migration only goes forward. Each step is one
//! transaction, so an interruption leaves the file as it was before the step.

use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use crate::error::StoreError;
use crate::sqlite::connection::bytes_used;
use crate::sqlite::error::store_error;
use crate::sqlite::files::checkpoint::{self, Mode};
use crate::sqlite::marks::APPLICATION_ID;
use unwrapd_core::crash::{self, CrashPoint};

/// Interval between log lines during a long migration.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// Number of SQLite's virtual machine steps between two checks of the time: some milliseconds.
const LOOK_EVERY: i32 = 1_000_000;
/// Free space needed, in multiples of the database size: rewritten content is first in the log and
/// then in the file.
const SPACE_FACTOR: u64 = 2;

/// Each migration starts from the previous version; `PRAGMA user_version` counts them. A released
/// migration is never changed.
const MIGRATIONS: &[&str] = &[include_str!("0001_schema.sql")];

/// The migrations, in order.
#[cfg(not(feature = "crash-points"))]
fn migrations() -> &'static [&'static str] {
    MIGRATIONS
}

/// The migrations, in order, plus one from the SQL file that `UNWRAPD_NEXT_MIGRATION` names. Tests
/// use it to interrupt a migration before a next schema exists.
#[cfg(feature = "crash-points")]
fn migrations() -> &'static [&'static str] {
    static ALL: std::sync::LazyLock<Vec<&'static str>> = std::sync::LazyLock::new(|| {
        let next = std::env::var_os("UNWRAPD_NEXT_MIGRATION").map(|path| {
            let sql = std::fs::read_to_string(path).expect("the next migration can be read");
            &*sql.leak()
        });
        MIGRATIONS.iter().copied().chain(next).collect()
    });
    &ALL
}

/// Version of the schema that this program reads and writes.
pub(crate) fn version() -> usize {
    migrations().len()
}

/// Migrates from `version` to the present version.
pub(crate) fn run(connection: &mut Connection, version: usize) -> Result<(), StoreError> {
    let problem = |error: rusqlite::Error| store_error(&error);
    let space = bytes_used(connection).map_err(problem)? * SPACE_FACTOR / (1024 * 1024) + 1;
    if version > 0 {
        tracing::info!(
            "migrating the store from schema {version} to {}, which needs up to {space} MB of free space",
            migrations().len()
        );
        log_progress(connection).map_err(problem)?;
    }
    let started = Instant::now();
    for (migration, to) in migrations().iter().zip(1..).skip(version) {
        step(connection, migration, to).map_err(|error| {
            let hint = match error.sqlite_error_code() {
                Some(ErrorCode::DiskFull) => {
                    format!("; free {space} MB and start again")
                }
                _ => String::new(),
            };
            StoreError::Unavailable(format!(
                "cannot migrate it from schema {} to {to}, so it is unchanged: {}{hint}",
                to - 1,
                store_error(&error)
            ))
        })?;
    }
    if version > 0 {
        connection
            .progress_handler(0, None::<fn() -> bool>)
            .map_err(problem)?;
        // Rewritten content is in the log too. This frees its space, unless another program reads.
        checkpoint::run_at_once(connection, Mode::Truncate).map_err(problem)?;
        tracing::info!(
            "the store was migrated in {:.1} s",
            started.elapsed().as_secs_f64()
        );
    }
    Ok(())
}

fn step(connection: &mut Connection, migration: &str, to: i32) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(migration)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", to)?;
    crash::point(CrashPoint::Migrated);
    transaction.commit()
}

fn log_progress(connection: &mut Connection) -> rusqlite::Result<()> {
    let started = Instant::now();
    let mut told = started;
    connection.progress_handler(
        LOOK_EVERY,
        Some(move || {
            if told.elapsed() >= TELL_EVERY {
                told = Instant::now();
                tracing::info!(
                    "still migrating the store, {} s so far",
                    started.elapsed().as_secs()
                );
            }
            false
        }),
    )
}
