//! The thread that writes. As soon as it is free, it takes all waiting changes into one commit. So
//! many requests share an fsync, and a single one does not wait.

mod connect;
pub(in crate::sqlite) mod dedupe_block;
pub(in crate::sqlite) mod dedupe_index;
mod ending;
mod failure;
mod files;
pub(in crate::sqlite) mod handle;
pub(in crate::sqlite) mod id_hashes;
pub(in crate::sqlite) mod job;
pub(in crate::sqlite) mod leases;
pub(in crate::sqlite) mod pulse;
mod report;
pub(in crate::sqlite) mod writer_state;

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::watch;
use tracing::Level;

use crate::error::StoreError;
use crate::reports::StoreReporter;
use crate::sqlite::connection::LOCK_WAIT_MAX;
use crate::sqlite::files::checkpoint::{Checkpoints, Passes};
use crate::sqlite::files::filesystem;
use crate::sqlite::files::known_file::{Loss, Trouble};
use crate::sqlite::files::store_files::StoreFiles;
use crate::sqlite::readers::Readers;
use crate::sqlite::writer::job::{Job, Urgency, Work};
use crate::sqlite::writer::pulse::Pulse;
use crate::sqlite::writer::writer_state::WriterState;
use failure::Failure;
use unwrapd_core::observe::repeated::Repeated;

/// Maximum number of changes in a commit. A larger number would only delay the first of them.
const BATCH_MAX: usize = 256;
/// How long a deferred change may wait for a commit that it can join. After a crash within that
/// time, it is made again.
const PATIENCE: Duration = Duration::from_millis(10);

/// Lock wait of the next transactions after one has waited for another program in vain. Changes
/// that arrived meanwhile have waited already.
const LOCKED_WAIT: Duration = Duration::from_millis(250);

/// Interval, while idle, at which the files are checked and a checkpoint that readers prevented is
/// finished.
const IDLE_LOOK: Duration = Duration::from_secs(1);

pub(crate) struct Writer {
    /// `None` after a failed write, until the next one.
    pub(crate) connection: Option<Connection>,
    /// `PRAGMA data_version` of the connection. It changes when another program has written.
    pub(crate) data_version: i64,
    /// Declared after the connection, so that the connection is closed first.
    pub(crate) files: StoreFiles,
    /// Damage to the files, after which nothing may be written.
    pub(crate) lost: Option<Loss>,
    /// The reason why every operation is refused, for callers.
    pub(crate) ended: Arc<OnceLock<StoreError>>,
    pub(crate) pulse: Arc<Pulse>,
    /// Reason why there is no connection.
    pub(crate) failed: Option<StoreError>,
    /// Whether a commit on a full disk could end the process on this file system
    /// ([`filesystem::check_room`]).
    pub(crate) needs_room: bool,
    /// Failures by their text. Each is logged at once, then counted and logged at most once a
    /// minute.
    pub(crate) failures: Repeated<String>,
    /// The level of the log line about the latest failures, if no commit has succeeded since.
    pub(crate) refusing: Option<Level>,
    pub(crate) health: StoreReporter,
    /// Whether the last transaction could not begin because another program writes.
    pub(crate) is_locked: bool,
    /// Until this time the file is not opened again, for this reason.
    pub(crate) rest: Option<(Instant, StoreError)>,
    /// Earliest time of the next complete check of a damaged file.
    pub(crate) next_check: Option<Instant>,
    pub(crate) state: WriterState,
    pub(crate) checkpoints: Arc<Checkpoints>,
    /// The passes known at the last check of the files.
    pub(crate) passes: Passes,
    pub(crate) readers: Arc<Readers>,
    pub(crate) jobs: Receiver<Box<dyn Job>>,
    /// Dropped when the thread ends, also by a panic, which signals the end.
    pub(crate) _alive: watch::Sender<()>,
}

impl Writer {
    /// Runs until the store is closed and all earlier changes are made, or until the files are no
    /// longer ours.
    pub(crate) fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            match self.jobs.recv_timeout(IDLE_LOOK) {
                Ok(job) => self.work(job, &mut batch),
                Err(RecvTimeoutError::Timeout) => self.look_after_files(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.pulse.end();
            if self.lost.is_some() {
                return self.abandon();
            }
        }
        self.pulse.begin();
        self.look_after_files();
        if self.lost.is_some() {
            return self.abandon();
        }
        self.checkpoints.close();
        self.leave_one_file();
        self.pulse.end();
        self.pulse.stop();
    }

    fn work(&mut self, job: Box<dyn Job>, batch: &mut Vec<Box<dyn Job>>) {
        self.gather(job, batch);
        if batch.is_empty() {
            return;
        }
        match self.commit(batch) {
            // A change that cannot be made must not fail the others.
            Err(Failure::OfAChange(_)) if batch.len() > 1 => {
                for job in batch.drain(..) {
                    self.commit_alone(job);
                }
            }
            outcome => self.answer(batch, outcome),
        }
        self.finish_checkpoint();
    }

    /// Takes the waiting jobs, and answers those that only read on the way, for a short time at
    /// most. So a commit does not wait for an endless series of reads. If all changes are deferred,
    /// it waits for others during that time.
    fn gather(&mut self, first: Box<dyn Job>, batch: &mut Vec<Box<dyn Job>>) {
        let until = Instant::now() + PATIENCE;
        let mut is_awaited = false;
        let mut next = Some(first);
        loop {
            if is_awaited && Instant::now() >= until {
                return;
            }
            match next.take().or_else(|| self.jobs.try_recv().ok()) {
                Some(job) if job.urgency() == Urgency::ReadOnly => self.look(job),
                Some(job) => {
                    is_awaited |= job.urgency() == Urgency::NextCommit;
                    batch.push(job);
                    if batch.len() == BATCH_MAX {
                        return;
                    }
                }
                None if is_awaited || batch.is_empty() => return,
                None => match self
                    .jobs
                    .recv_timeout(until.saturating_duration_since(Instant::now()))
                {
                    Ok(job) => next = Some(job),
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
                },
            }
        }
    }

    fn look(&mut self, mut job: Box<dyn Job>) {
        // The disk was blocked, and the caller has given up. A claim would lease deliveries that
        // nobody attempts.
        if !job.is_awaited() {
            return;
        }
        self.pulse.begin();
        let outcome = self.connect().and_then(|connection| {
            let mut work = Work {
                connection: &connection,
                state: &mut self.state,
            };
            let done = match self.files.check_index() {
                Ok(()) => job.run(&mut work).map_err(Failure::from),
                Err(trouble) => Err(Failure::OfTheStore(trouble.into())),
            };
            match &done {
                Err(Failure::OfTheStore(error)) => {
                    self.failed = Some(error.clone());
                    self.give_up(connection);
                }
                Ok(()) => self.connection = Some(connection),
                Err(Failure::OfAChange(_) | Failure::Locked(_)) => self.give_up(connection),
            }
            done
        });
        self.answer(&mut vec![job], outcome);
    }

    fn commit_alone(&mut self, job: Box<dyn Job>) {
        let mut batch = vec![job];
        let outcome = self.commit(&mut batch);
        self.answer(&mut batch, outcome);
    }

    fn commit(&mut self, batch: &mut [Box<dyn Job>]) -> Result<(), Failure> {
        let began = Instant::now();
        self.pulse.begin();
        if let Some(loss) = &self.lost {
            return Err(Failure::OfTheStore(Trouble::Lost(loss.clone()).into()));
        }
        if self.needs_room {
            filesystem::check_room(self.files.path()).map_err(Failure::OfTheStore)?;
        }
        let mut connection = self.connect()?;
        connection.busy_timeout(if self.is_locked {
            LOCKED_WAIT
        } else {
            LOCK_WAIT_MAX
        })?;
        let outcome = self
            .check_index()
            .map_err(Failure::OfTheStore)
            .and_then(|()| run_in_transaction(&mut connection, &mut self.state, batch))
            .and_then(|()| self.check_files(&connection).map_err(Failure::OfTheStore));
        self.is_locked = matches!(outcome, Err(Failure::Locked(_)));
        match &outcome {
            Ok(()) => {
                self.state.commit();
                self.connection = Some(connection);
                self.failed = None;
                self.log_success();
                self.health.committed(batch.len(), began.elapsed());
            }
            Err(Failure::Locked(_)) => {
                self.state.rollback();
                self.connection = Some(connection);
            }
            Err(Failure::OfTheStore(error)) => {
                self.state.rollback();
                self.failed = Some(error.clone());
                self.give_up(connection);
            }
            Err(Failure::OfAChange(_)) => {
                self.state.rollback();
                self.give_up(connection);
            }
        }
        outcome
    }

    fn answer(&mut self, batch: &mut Vec<Box<dyn Job>>, outcome: Result<(), Failure>) {
        if let Err(failure) = &outcome {
            self.log_failure(failure);
        }
        let outcome = outcome.map_err(Failure::into_error);
        for job in batch.drain(..) {
            job.answer(outcome.clone());
        }
    }
}

fn run_in_transaction(
    connection: &mut Connection,
    state: &mut WriterState,
    batch: &mut [Box<dyn Job>],
) -> Result<(), Failure> {
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(|error| Failure::of_beginning(&error))?;
    let mut work = Work {
        connection: &transaction,
        state,
    };
    for job in batch {
        job.run(&mut work)?;
    }
    state.write(&transaction)?;
    Ok(transaction.commit()?)
}
