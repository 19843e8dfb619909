//! Opens the store: takes its files, reads the state of the writer, and starts its threads.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use jiff::Timestamp;
use tokio::sync::{Semaphore, watch};

use super::SqliteStore;
use crate::bounds::Bounds;
use crate::error::StoreError;
use crate::reports::StoreReporter;
use crate::sqlite::connection::{read_data_version, read_tables};
use crate::sqlite::error::store_error;
use crate::sqlite::files::checkpoint::{Checkpoints, Passes};
use crate::sqlite::files::filesystem;
use crate::sqlite::files::store_files::StoreFiles;
use crate::sqlite::readers::Readers;
use crate::sqlite::upkeep::prune::Pruner;
use crate::sqlite::writer::Writer;
use crate::sqlite::writer::handle::{QUEUE_MAX, WriterHandle};
use crate::sqlite::writer::pulse::Pulse;
use crate::sqlite::writer::writer_state::WriterState;
use crate::sqlite::{schema, time};
use unwrapd_core::clock::Clock;
use unwrapd_core::delivery::earlier;
use unwrapd_core::observe::repeated::Repeated;
use unwrapd_core::observe::warnings::Warnings;

/// Maximum number of settlements that wait for a commit. The rest of the queue is reserved for new
/// messages and claims.
const SETTLEMENTS_MAX: usize = 512;

impl SqliteStore {
    /// Opens the file, creates it if it does not exist, and migrates its schema. Deliveries that an
    /// earlier process was attempting are due again.
    pub fn open(path: &Path, bounds: &Bounds, now: Timestamp) -> Result<Self, StoreError> {
        let clock = Clock::simulated(now);
        let (warnings, health) = (Warnings::default(), StoreReporter::default());
        Self::open_with(path, bounds, &clock, &warnings, &health)
    }

    /// Does the same as [`open`](Self::open), with the given clock, which is compared with the
    /// stored time. Problems of the files are reported to `warnings`, and each change in whether
    /// the store accepts webhooks to `health`.
    pub fn open_with(
        path: &Path,
        bounds: &Bounds,
        clock: &Clock,
        warnings: &Warnings,
        health: &StoreReporter,
    ) -> Result<Self, StoreError> {
        let mut files = StoreFiles::take(path)?;
        let path = files.path().to_owned();
        let was_left = std::fs::metadata(files.log_path()).is_ok_and(|log| log.len() > 0);
        let mut connection = schema::connect(&mut files)?;
        if was_left {
            tracing::info!(
                "the last process left its log beside the store: it was killed, it crashed, the \
                 power failed, or another program was reading when it ended. All acknowledged \
                 webhooks are present"
            );
        }
        let problem = |error: rusqlite::Error| store_error(&error);
        // Read before the files are checked, so that every later write by another program is
        // detected.
        let data_version = read_data_version(&connection).map_err(problem)?;
        files.know_log(read_tables(&connection)?)?;
        let boot = time::remembered_boot(&connection).map_err(problem)?;
        clock.anchor_in(
            time::remembered(&connection).map_err(problem)?,
            boot.as_ref(),
        );
        // With the time of a clock that has jumped, ids would be forgotten too early.
        let horizon = earlier(clock.believed(), bounds.dedupe);
        let mut state = WriterState::read(&connection, horizon, bounds, clock).map_err(problem)?;
        state.tidy(&mut connection).map_err(problem)?;
        let checkpoints = Checkpoints::start(files.database(), files.log_path(), warnings.clone())?;
        checkpoints.watch(&mut connection).map_err(problem)?;
        let readers = Arc::new(Readers::new(&path));
        let (queue, jobs) = sync_channel(QUEUE_MAX);
        let (alive_until_dropped, alive) = watch::channel(());
        let pulse = Pulse::start(warnings.clone(), health.clone())?;
        let writer = Writer {
            connection: Some(connection),
            data_version,
            needs_room: filesystem::needs_room(files.path()),
            files,
            lost: None,
            ended: Arc::default(),
            pulse,
            failed: None,
            failures: Repeated::default(),
            refusing: None,
            health: health.clone(),
            is_locked: false,
            rest: None,
            next_check: None,
            state,
            checkpoints,
            passes: Passes::default(),
            readers: Arc::clone(&readers),
            jobs,
            _alive: alive_until_dropped,
        };
        Ok(Self {
            writer: WriterHandle::start(writer, queue, alive)?,
            readers,
            pruner: tokio::sync::Mutex::new(Pruner::new(bounds)),
            settlements: Semaphore::new(SETTLEMENTS_MAX),
            clock: clock.clone(),
        })
    }
}
