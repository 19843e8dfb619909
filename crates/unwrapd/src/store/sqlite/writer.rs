//! The thread that writes. It takes everything that waits the moment it is free and makes one commit of it, so that many requests
//! share an fsync and a lone one waits for nobody.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{oneshot, watch};

use super::checkpoint::Checkpoints;
use super::memory::Memory;
use super::owned::Owned;
use super::readers::Readers;
use super::schema;
use crate::store::StoreError;

/// Most changes in one commit. More would only make the first of them wait.
const BATCH_MAX: usize = 256;
/// How long changes that nobody waits for may wait for a commit to ride in. A crash within that time makes them again.
const PATIENCE: Duration = Duration::from_millis(10);

/// Longest time for which everyone is told at once that the file could not be opened, where it took as long to find that out: it waits
/// for a lock.
const REOPEN_REST_MAX: Duration = Duration::from_secs(1);

/// How often the same failure is told of.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// A damaged file is looked through again after so many times as long as that takes,
const CHECK_RESTS: u32 = 10;
/// and not before that.
const CHECK_REST_MIN: Duration = Duration::from_secs(1);

/// What a job works with.
pub(super) struct Work<'w> {
    /// In the writer's transaction, unless the job only looks.
    pub(super) connection: &'w Connection,
    /// What it remembers counts once the transaction is committed.
    pub(super) memory: &'w mut Memory,
}

/// What a job waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    /// Nothing: it changes nothing on the disk, and is answered at once.
    Look,
    /// The next commit.
    Now,
    /// A commit, and it may be a later one: nobody waits for its answer.
    Soon,
}

/// Something to do that waits for the writer.
pub(super) trait Job: Send {
    fn urgency(&self) -> Urgency;

    /// Does it. It may be asked to again, in another transaction, if the first came to nothing.
    fn run(&mut self, work: &mut Work<'_>) -> rusqlite::Result<()>;

    /// Tells who asked, once the fate of the whole transaction is known.
    fn answer(self: Box<Self>, fate: Result<(), StoreError>);
}

/// The change that `make` makes, and who waits for its result.
pub(super) struct Change<T, F> {
    pub(super) urgency: Urgency,
    pub(super) make: F,
    pub(super) value: Option<T>,
    pub(super) answer: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Job for Change<T, F>
where
    T: Send,
    F: Fn(&mut Work<'_>) -> rusqlite::Result<T> + Send,
{
    fn urgency(&self) -> Urgency {
        self.urgency
    }

    fn run(&mut self, work: &mut Work<'_>) -> rusqlite::Result<()> {
        self.value = Some((self.make)(work)?);
        Ok(())
    }

    fn answer(self: Box<Self>, fate: Result<(), StoreError>) {
        let Self { value, answer, .. } = *self;
        let result = fate.and_then(|()| value.ok_or_else(super::closed));
        // Who asked may have gone away meanwhile; the change stands all the same.
        drop(answer.send(result));
    }
}

pub(super) struct Writer {
    pub(super) owned: Owned,
    /// `None` after a failed write, until the next one.
    pub(super) connection: Option<Connection>,
    /// Why it is `None`.
    pub(super) failed: Option<StoreError>,
    /// The last failure told of, and when.
    pub(super) told: Option<(Instant, StoreError)>,
    /// Until when it is not opened again, and why.
    pub(super) rest: Option<(Instant, StoreError)>,
    /// When a damaged file may be looked through again.
    pub(super) next_check: Option<Instant>,
    pub(super) memory: Memory,
    pub(super) checkpoints: Arc<Checkpoints>,
    pub(super) readers: Arc<Readers>,
    pub(super) jobs: Receiver<Box<dyn Job>>,
    /// Dropped when the thread ends, by a panic too: that is the signal.
    pub(super) _alive: watch::Sender<()>,
}

impl Writer {
    /// Ends when the store is closed and everything asked for before is done.
    pub(super) fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while let Ok(job) = self.jobs.recv() {
            self.gather(job, &mut batch);
            if batch.is_empty() {
                continue;
            }
            match self.commit(&mut batch) {
                // One change that cannot be made is no reason to refuse the others.
                Err(Failure::OfAChange(_)) if batch.len() > 1 => {
                    for job in batch.drain(..) {
                        self.commit_alone(job);
                    }
                }
                fate => self.answer(&mut batch, fate),
            }
            self.finish_checkpoint();
        }
        self.checkpoints.close();
        self.leave_one_file();
    }

    /// Moves the log into the database, and SQLite removes it with the last connection: whoever moves or copies the database of a gateway
    /// that was stopped needs no other file. Who reads it meanwhile is not waited for; then the log stays.
    fn leave_one_file(&mut self) {
        self.readers.close();
        if let Some(connection) = self.connection.take() {
            let moved = connection
                .busy_timeout(Duration::ZERO)
                .and_then(|()| schema::move_log(&connection));
            if let Err(error) = moved {
                tracing::debug!("the log of the store was left beside it: {error}");
            }
        }
    }

    /// Takes what waits, and answers on the way who only looks, for a moment at most: a commit that is waited for does not wait for ever
    /// new looks. If nobody waits for one, it gives others that moment to come.
    fn gather(&mut self, first: Box<dyn Job>, batch: &mut Vec<Box<dyn Job>>) {
        let until = Instant::now() + PATIENCE;
        let mut is_awaited = false;
        let mut next = Some(first);
        loop {
            if is_awaited && Instant::now() >= until {
                return;
            }
            match next.take().or_else(|| self.jobs.try_recv().ok()) {
                Some(job) if job.urgency() == Urgency::Look => self.look(job),
                Some(job) => {
                    is_awaited |= job.urgency() == Urgency::Now;
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
        let fate = self.connect().and_then(|connection| {
            let mut work = Work {
                connection: &connection,
                memory: &mut self.memory,
            };
            let done = job.run(&mut work).map_err(Failure::from);
            match &done {
                Err(Failure::OfTheStore(error)) => self.failed = Some(error.clone()),
                Ok(()) => self.connection = Some(connection),
                Err(Failure::OfAChange(_)) => {}
            }
            done
        });
        self.answer(&mut vec![job], fate);
    }

    fn commit_alone(&mut self, job: Box<dyn Job>) {
        let mut batch = vec![job];
        let fate = self.commit(&mut batch);
        self.answer(&mut batch, fate);
    }

    fn commit(&mut self, batch: &mut [Box<dyn Job>]) -> Result<(), Failure> {
        // On the way out with an error the connection is dropped: after a failed write nothing it remembers is to be trusted.
        let mut connection = self.connect()?;
        let fate = run_in_transaction(&mut connection, &mut self.memory, batch)
            .map_err(Failure::from)
            .and_then(|()| {
                self.owned.check().map_err(|error| {
                    // If it is the log that was removed, only this connection can still read it.
                    if let Err(error) = schema::move_log(&connection) {
                        tracing::warn!(
                            "the log of the store was not moved into the database: {error}"
                        );
                    }
                    Failure::OfTheStore(error)
                })
            });
        match &fate {
            Ok(()) => {
                self.memory.commit();
                self.connection = Some(connection);
                self.failed = None;
            }
            Err(Failure::OfTheStore(error)) => {
                self.memory.rollback();
                self.failed = Some(error.clone());
            }
            Err(Failure::OfAChange(_)) => self.memory.rollback(),
        }
        fate
    }

    /// The connection. A new one first reads what became of the last write.
    fn connect(&mut self) -> Result<Connection, Failure> {
        if let Some(connection) = self.connection.take() {
            return Ok(connection);
        }
        if let Some((until, error)) = &self.rest
            && Instant::now() < *until
        {
            return Err(Failure::OfTheStore(error.clone()));
        }
        let started = Instant::now();
        let connected = self.connect_again();
        connected.map_err(|failure| {
            let failure = self.tell_both(failure);
            self.rest_after(failure, started.elapsed())
        })
    }

    fn rest_after(&mut self, failure: Failure, took: Duration) -> Failure {
        let (Failure::OfTheStore(error) | Failure::OfAChange(error)) = failure;
        self.rest = Some((Instant::now() + took.min(REOPEN_REST_MAX), error.clone()));
        Failure::OfTheStore(error)
    }

    /// What went wrong first says more than that the file cannot be opened since.
    fn tell_both(&self, failure: Failure) -> Failure {
        match (failure, &self.failed) {
            (
                Failure::OfTheStore(StoreError::Unavailable(now)),
                Some(StoreError::Unavailable(first)),
            ) if now != *first => Failure::OfTheStore(StoreError::Unavailable(format!(
                "{first}; since then it cannot be opened: {now}"
            ))),
            (failure, _) => failure,
        }
    }

    fn connect_again(&mut self) -> Result<Connection, Failure> {
        self.wait_with_damage()?;
        // Or its lock would be taken for someone else's.
        let checkpoints = Arc::clone(&self.checkpoints);
        let _none_under_way = checkpoints.wait();
        // All are opened anew: who has the old log open would mistake it for the new one.
        self.readers.close();
        self.owned.forget_log();
        // Not a new database in the place of one that is gone: it would have forgotten what it has seen.
        self.owned.check().map_err(Failure::OfTheStore)?;
        let path = self.owned.path();
        let mut connection = schema::connect_again(path).map_err(Failure::OfTheStore)?;
        self.check_damage(&connection)?;
        self.owned.know_log().map_err(Failure::OfTheStore)?;
        self.memory.read_again(&connection)?;
        self.checkpoints.watch(&mut connection)?;
        Ok(connection)
    }

    /// Where one page is damaged, what is kept today may not be found tomorrow, even if most of the file can still be written.
    fn wait_with_damage(&self) -> Result<(), Failure> {
        match (&self.failed, self.next_check) {
            (Some(damage @ StoreError::Unusable(_)), Some(next)) if Instant::now() < next => {
                Err(Failure::OfTheStore(damage.clone()))
            }
            _ => Ok(()),
        }
    }

    fn check_damage(&mut self, connection: &Connection) -> Result<(), Failure> {
        if matches!(self.failed, Some(StoreError::Unusable(_))) {
            let started = Instant::now();
            let checked = schema::look_through(connection);
            self.next_check =
                Some(Instant::now() + CHECK_REST_MIN.max(started.elapsed() * CHECK_RESTS));
            checked.map_err(Failure::OfTheStore)?;
            self.failed = None;
        }
        Ok(())
    }

    fn answer(&mut self, batch: &mut Vec<Box<dyn Job>>, fate: Result<(), Failure>) {
        let fate = fate.map_err(|(Failure::OfTheStore(error) | Failure::OfAChange(error))| error);
        if let Err(error) = &fate {
            self.tell(error, batch.len());
        }
        for job in batch.drain(..) {
            job.answer(fate.clone());
        }
    }

    fn tell(&mut self, error: &StoreError, changes: usize) {
        let is_told = self
            .told
            .as_ref()
            .is_some_and(|(at, told)| told == error && at.elapsed() < TELL_EVERY);
        if !is_told {
            tracing::error!("{error}; {changes} changes were undone");
            self.told = Some((Instant::now(), error.clone()));
        }
    }

    /// What the other thread could not: the last pages, while nobody writes, so that the log begins anew.
    fn finish_checkpoint(&mut self) {
        if let Some(connection) = &self.connection
            && self.checkpoints.is_nearly_done()
            && let Err(error) = self.checkpoints.finish(connection)
        {
            tracing::warn!("the log of the store was not moved into the database: {error}");
        }
    }
}

/// Why a transaction came to nothing.
pub(super) enum Failure {
    /// It could not be written: no other would fare better now.
    OfTheStore(StoreError),
    /// One of its changes cannot be made: a row that cannot be read, a constraint.
    OfAChange(StoreError),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        let is_of_a_change = error
            .sqlite_error_code()
            .is_none_or(|code| code == rusqlite::ErrorCode::ConstraintViolation);
        let error = schema::store_error(&error);
        if is_of_a_change {
            Self::OfAChange(error)
        } else {
            Self::OfTheStore(error)
        }
    }
}

fn run_in_transaction(
    connection: &mut Connection,
    memory: &mut Memory,
    batch: &mut [Box<dyn Job>],
) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut work = Work {
        connection: &transaction,
        memory,
    };
    for job in batch {
        job.run(&mut work)?;
    }
    memory.write(&transaction)?;
    transaction.commit()
}
