//! The thread that writes. It takes everything that waits the moment it is free and makes one commit of it, so that many requests
//! share an fsync and a lone one waits for nobody.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{oneshot, watch};

use super::checkpoint::{self, Checkpoints, Mode};
use super::memory::Memory;
use super::owned::{Answer, Loss, Owned, Question, Trouble};
use super::pulse::Pulse;
use super::readers::Readers;
use super::{filesystem, rescue, schema};
use crate::observe::repeated::Repeated;
use crate::store::StoreError;

/// Most changes in one commit. More would only make the first of them wait.
const BATCH_MAX: usize = 256;
/// How long changes that nobody waits for may wait for a commit to ride in. A crash within that time makes them again.
const PATIENCE: Duration = Duration::from_millis(10);

/// Longest time for which everyone is told at once that the file could not be opened, where it took as long to find that out: it waits
/// for a lock.
const REOPEN_REST_MAX: Duration = Duration::from_secs(1);

/// How often the files are looked at, and a log that was kept by readers is finished, while nothing is asked for.
const IDLE_LOOK: Duration = Duration::from_secs(1);

/// How often saving what is only in our hands is tried again.
const RESCUE_EVERY: Duration = Duration::from_secs(10);

/// A damaged file is looked through again after so many times as long as that takes,
const CHECK_RESTS: u32 = 10;
/// and not before that.
const CHECK_REST_MIN: Duration = Duration::from_secs(1);

/// State that a job works with.
pub(super) struct Work<'w> {
    /// In the writer's transaction, unless the job only looks.
    pub(super) connection: &'w Connection,
    /// State in memory. Its changes take effect when the transaction is committed.
    pub(super) memory: &'w mut Memory,
}

/// The event for which the answer of a job waits.
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
    /// `None` after a failed write, until the next one.
    pub(super) connection: Option<Connection>,
    /// `PRAGMA data_version` of the connection: it changes when another program has written.
    pub(super) data_version: i64,
    /// Below the connection, which is closed first.
    pub(super) owned: Owned,
    /// Damage to the files, after which nothing may be written any more.
    pub(super) lost: Option<Loss>,
    /// Why everything is refused from now on, for those who ask.
    pub(super) ended: Arc<OnceLock<StoreError>>,
    pub(super) pulse: Arc<Pulse>,
    /// Why it is `None`.
    pub(super) failed: Option<StoreError>,
    /// On this file system a commit without room would end the process ([`filesystem::check_room`]).
    pub(super) needs_room: bool,
    /// Failures by their text. Each is logged at once and then counted, once a minute at most.
    pub(super) failures: Repeated<String>,
    /// A failure was logged, and no commit has succeeded since.
    pub(super) has_logged_failure: bool,
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
    /// Ends when the store is closed and everything asked for before is done, or when the files are not ours any more.
    pub(super) fn run(mut self) {
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
            // One change that cannot be made is no reason to refuse the others.
            Err(Failure::OfAChange(_)) if batch.len() > 1 => {
                for job in batch.drain(..) {
                    self.commit_alone(job);
                }
            }
            fate => self.answer(batch, fate),
        }
        self.finish_checkpoint();
    }

    /// Once a second while nothing is asked for.
    fn look_after_files(&mut self) {
        self.pulse.begin();
        if let Some(connection) = self.connection.take() {
            // A second name of the database is a matter for the next commit.
            let _: Result<(), _> = self.check_files(&connection);
            self.keep(connection);
            self.finish_checkpoint();
        } else if let Err(Trouble::Lost(loss)) =
            self.owned.check(None, |question| Ok(unopened(question)))
        {
            self.lost = Some(loss);
        }
    }

    /// An error if the files are not as this connection has left them. If they are lost, so is everything.
    fn check_files(&mut self, connection: &Connection) -> Result<(), StoreError> {
        let frames = self.checkpoints.take_frames();
        // Before SQLite is asked anything.
        self.check_index()?;
        let mut checked = self.check_with(connection, frames);
        if matches!(checked, Err(Trouble::Lost(_))) {
            // Another program may have begun the log anew between the commit and the look.
            checked = self.check_with(connection, None);
        }
        if let Err(Trouble::Lost(loss)) = &checked {
            self.lost = Some(loss.clone());
        }
        checked.map_err(StoreError::from)
    }

    fn check_index(&mut self) -> Result<(), StoreError> {
        let checked = self.owned.check_index();
        if let Err(Trouble::Lost(loss)) = &checked {
            self.lost = Some(loss.clone());
        }
        checked.map_err(StoreError::from)
    }

    fn check_with(&mut self, connection: &Connection, frames: Option<u32>) -> Result<(), Trouble> {
        let frames = frames.or_else(|| {
            let counts = checkpoint::run(connection, Mode::Count).ok()?;
            Some(counts.frames)
        });
        let data_version = &mut self.data_version;
        let pulse = &self.pulse;
        let mut answer: Option<Answer> = None;
        self.owned.check(frames, |question| {
            if let Some(answer) = answer {
                return Ok(answer);
            }
            // It may look through the whole file.
            pulse.set_checking(true);
            let given = anothers_work(connection, data_version, question);
            pulse.set_checking(false);
            Ok(*answer.insert(given?))
        })
    }

    /// For the next commit, unless SQLite must not even close it: it would move a log into files that are not ours.
    fn keep(&mut self, connection: Connection) {
        if self.lost.is_some() {
            std::mem::forget(connection);
        } else {
            self.connection = Some(connection);
        }
    }

    /// Lets go of the connection after a failure. After a failed write nothing it remembers is to be trusted.
    fn give_up(&mut self, connection: Connection) {
        // What failed may have failed because the files are not ours.
        let _: Result<(), _> = self.check_files(&connection);
        if self.lost.is_some() {
            std::mem::forget(connection);
        } else {
            drop(connection);
            // Whoever closes the database last removes the log.
            self.owned.forget_log();
        }
    }

    /// Ends without closing the files, after everything that can be saved was saved.
    fn abandon(mut self) {
        let loss = self.lost.take().expect("it is lost");
        let error = StoreError::Unavailable(format!("{loss}; unwrapd stops"));
        // From now on nothing is queued.
        drop(self.ended.set(error.clone()));
        self.readers.abandon();
        if let Some(connection) = self.connection.take() {
            std::mem::forget(connection);
        }
        let refuse = |job: Box<dyn Job>| job.answer(Err(error.clone()));
        self.jobs.try_iter().for_each(refuse);
        self.checkpoints.close();
        loop {
            match rescue::save(&self.owned, &loss) {
                Ok(advice) => {
                    tracing::error!(
                        "{loss}. unwrapd acknowledges nothing more, and stops without touching the files. To save acknowledged webhooks: {advice}"
                    );
                    break;
                }
                Err(problem) => tracing::error!(
                    "{loss}. Only process {pid} still has the content, and it cannot be saved: {problem}. Remove that cause, or copy the open files from /proc/{pid}/fd (Linux) and then end the process. The gateway tries to save again in {} s",
                    RESCUE_EVERY.as_secs(),
                    pid = std::process::id()
                ),
            }
            let until = Instant::now() + RESCUE_EVERY;
            loop {
                match self
                    .jobs
                    .recv_timeout(until.saturating_duration_since(Instant::now()))
                {
                    Ok(job) => refuse(job),
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => return self.leave(),
                }
            }
        }
        self.leave();
    }

    /// The locks last until the process ends.
    fn leave(self) {
        self.pulse.stop();
        std::mem::forget(self.owned);
    }

    /// Moves the log into the database, and SQLite removes it with the last connection: whoever moves or copies the database of a gateway
    /// that was stopped needs no other file. Who reads it meanwhile is not waited for; then the log stays.
    fn leave_one_file(&mut self) {
        self.readers.close();
        if let Some(connection) = self.connection.take() {
            match checkpoint::run_at_once(&connection, Mode::Truncate) {
                Ok(moved) if !moved.is_busy => {}
                Ok(_) => tracing::info!(
                    "another program reads the database, so its log stays beside it: {}",
                    self.owned.log_path().display()
                ),
                Err(error) => {
                    tracing::debug!("the log of the store was left beside it: {error}");
                }
            }
            self.owned.forget_log();
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
        self.pulse.begin();
        let fate = self.connect().and_then(|connection| {
            let mut work = Work {
                connection: &connection,
                memory: &mut self.memory,
            };
            let done = match self.owned.check_index() {
                Ok(()) => job.run(&mut work).map_err(Failure::from),
                Err(trouble) => Err(Failure::OfTheStore(trouble.into())),
            };
            match &done {
                Err(Failure::OfTheStore(error)) => {
                    self.failed = Some(error.clone());
                    self.give_up(connection);
                }
                Ok(()) => self.connection = Some(connection),
                Err(Failure::OfAChange(_)) => self.give_up(connection),
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
        self.pulse.begin();
        if let Some(loss) = &self.lost {
            return Err(Failure::OfTheStore(Trouble::Lost(loss.clone()).into()));
        }
        if self.needs_room {
            filesystem::check_room(self.owned.path()).map_err(Failure::OfTheStore)?;
        }
        let mut connection = self.connect()?;
        let fate = self
            .check_index()
            .map_err(Failure::OfTheStore)
            .and_then(|()| {
                run_in_transaction(&mut connection, &mut self.memory, batch).map_err(Failure::from)
            })
            .and_then(|()| self.check_files(&connection).map_err(Failure::OfTheStore));
        match &fate {
            Ok(()) => {
                self.memory.commit();
                self.connection = Some(connection);
                self.failed = None;
                self.log_success();
            }
            Err(Failure::OfTheStore(error)) => {
                self.memory.rollback();
                self.failed = Some(error.clone());
                self.give_up(connection);
            }
            Err(Failure::OfAChange(_)) => {
                self.memory.rollback();
                self.give_up(connection);
            }
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

    /// Adds the first error, which says more than that the file cannot be opened since.
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
        // Not a new database in the place of one that is gone: it would have forgotten what it has seen.
        if let Err(trouble) = self.owned.check(None, |question| Ok(unopened(question))) {
            if let Trouble::Lost(loss) = &trouble {
                self.lost = Some(loss.clone());
            }
            return Err(Failure::OfTheStore(trouble.into()));
        }
        // All are opened anew: who has the old log open would mistake it for the new one.
        self.readers.close();
        let mut connection = schema::connect_again(&mut self.owned).map_err(Failure::OfTheStore)?;
        self.check_damage(&connection)?;
        self.data_version = schema::data_version(&connection)?;
        schema::tables(&connection)
            .and_then(|tables| self.owned.know_log(tables))
            .map_err(Failure::OfTheStore)?;
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
            self.pulse.set_checking(true);
            let checked = schema::look_through(connection);
            self.pulse.set_checking(false);
            self.next_check =
                Some(Instant::now() + CHECK_REST_MIN.max(started.elapsed() * CHECK_RESTS));
            checked.map_err(Failure::OfTheStore)?;
            self.failed = None;
        }
        Ok(())
    }

    fn answer(&mut self, batch: &mut Vec<Box<dyn Job>>, fate: Result<(), Failure>) {
        if let Err(failure) = &fate {
            self.log_failure(failure);
        }
        let fate = fate.map_err(|(Failure::OfTheStore(error) | Failure::OfAChange(error))| error);
        for job in batch.drain(..) {
            job.answer(fate.clone());
        }
    }

    fn log_failure(&mut self, failure: &Failure) {
        let (error, effect) = match failure {
            Failure::OfTheStore(error) => (
                error,
                ". Webhooks are answered 503, and OpenAI sends them again",
            ),
            Failure::OfAChange(error) => (error, "; the changes were undone"),
        };
        let Some(count) = self.failures.count(&error.to_string()) else {
            return;
        };
        self.has_logged_failure = true;
        let again = if count > 1 {
            format!(" ({count} such failures since the last such line)")
        } else {
            String::new()
        };
        tracing::error!(
            "cannot use {}: {error}{effect}{again}",
            self.owned.path().display()
        );
    }

    fn log_success(&mut self) {
        if std::mem::take(&mut self.has_logged_failure) {
            tracing::info!(
                "{} can be written again: webhooks are accepted",
                self.owned.path().display()
            );
        }
    }

    /// Completes a checkpoint that the other thread could not complete: moves the last pages
    /// between two commits, so that the log restarts.
    fn finish_checkpoint(&mut self) {
        let Some(connection) = &self.connection else {
            return;
        };
        if self.checkpoints.is_nearly_done()
            && let Err(error) = self.checkpoints.finish(connection)
        {
            tracing::warn!("the log of the store was not moved into the database: {error}");
        }
        // What was moved is to be moved once more, which is done when the database is opened.
        if self.checkpoints.take_failed_sync()
            && let Some(connection) = self.connection.take()
        {
            self.give_up(connection);
        }
    }
}

/// Whether another program has written by SQLite's own means. `VACUUM` in a shell makes the file shorter; whoever cuts it off does not
/// write by these means.
fn anothers_work(
    connection: &Connection,
    data_version: &mut i64,
    question: Question,
) -> Result<Answer, StoreError> {
    // A file that cannot be read as a database any more was not written by SQLite.
    let or_not_written = |error: StoreError| match error {
        StoreError::Unusable(_) => Ok(Answer::NotWritten),
        error => Err(error),
    };
    let now = match schema::data_version(connection) {
        Ok(now) => now,
        Err(error) => return or_not_written(schema::store_error(&error)),
    };
    let is_new = now != *data_version;
    if !is_new && !question.was_unsettled {
        return Ok(Answer::NotWritten);
    }
    match schema::look_through(connection).and_then(|()| schema::tables(connection)) {
        Ok(tables) => {
            *data_version = now;
            Ok(Answer::Written { tables, is_new })
        }
        Err(error) => or_not_written(error),
    }
}

/// While no connection of ours is open, whoever closes the database last moves the log into it; but that makes it no shorter, unless
/// another program has written.
fn unopened(question: Question) -> Answer {
    if question.is_shorter && !question.was_unsettled {
        Answer::NotWritten
    } else {
        Answer::Written {
            tables: 0,
            is_new: false,
        }
    }
}

/// Why a transaction came to nothing.
pub(super) enum Failure {
    /// A failure of the store: no other change would succeed now.
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
