//! The thread that writes. It takes everything that waits the moment it is free and makes one commit of it, so that many requests
//! share an fsync and a lone one waits for nobody.

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot, watch};

use super::owned::Owned;
use super::schema;
use crate::store::StoreError;

/// Most changes in one commit. More would only make the first of them wait.
const BATCH_MAX: usize = 256;

/// A change that waits for its commit.
pub(super) trait Job: Send {
    /// Makes the change. It may be asked to again, in another transaction, if the first came to nothing.
    fn run(&mut self, connection: &Connection) -> rusqlite::Result<()>;

    /// Tells who asked, once the fate of the whole transaction is known.
    fn answer(self: Box<Self>, fate: Result<(), StoreError>);
}

/// The change that `make` makes, and who waits for its result.
pub(super) struct Change<T, F> {
    pub(super) make: F,
    pub(super) value: Option<T>,
    pub(super) answer: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Job for Change<T, F>
where
    T: Send,
    F: Fn(&Connection) -> rusqlite::Result<T> + Send,
{
    fn run(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.value = Some((self.make)(connection)?);
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
    owned: Owned,
    /// `None` after a failed write, until the next one.
    connection: Option<Connection>,
    jobs: mpsc::Receiver<Box<dyn Job>>,
    /// Dropped when the thread ends, by a panic too: that is the signal.
    _alive: watch::Sender<()>,
}

impl Writer {
    pub(super) fn new(
        owned: Owned,
        connection: Connection,
        jobs: mpsc::Receiver<Box<dyn Job>>,
        alive: watch::Sender<()>,
    ) -> Self {
        Self {
            owned,
            connection: Some(connection),
            jobs,
            _alive: alive,
        }
    }

    /// Ends when the store is closed and everything asked for before is done.
    pub(super) fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while self.jobs.blocking_recv_many(&mut batch, BATCH_MAX) > 0 {
            match self.commit(&mut batch) {
                // One change that cannot be made is no reason to refuse the others.
                Err(Failure::OfAChange(_)) if batch.len() > 1 => {
                    for job in batch.drain(..) {
                        self.commit_alone(job);
                    }
                }
                fate => answer(&mut batch, fate),
            }
        }
    }

    fn commit_alone(&mut self, job: Box<dyn Job>) {
        let mut batch = vec![job];
        let fate = self.commit(&mut batch);
        answer(&mut batch, fate);
    }

    fn commit(&mut self, batch: &mut [Box<dyn Job>]) -> Result<(), Failure> {
        let mut connection = if let Some(connection) = self.connection.take() {
            connection
        } else {
            // Not a new database in the place of one that is gone: it would have forgotten what it has seen.
            self.owned.check().map_err(Failure::OfTheStore)?;
            schema::connect(self.owned.path()).map_err(Failure::OfTheStore)?
        };
        // On the way out with an error the connection is dropped: after a failed write nothing it remembers is to be trusted.
        run_in_transaction(&mut connection, batch)?;
        self.owned.check().map_err(Failure::OfTheStore)?;
        self.connection = Some(connection);
        Ok(())
    }
}

fn answer(batch: &mut Vec<Box<dyn Job>>, fate: Result<(), Failure>) {
    let fate = fate.map_err(|(Failure::OfTheStore(error) | Failure::OfAChange(error))| error);
    if let Err(error) = &fate {
        tracing::error!("{error}; {} changes were undone", batch.len());
    }
    for job in batch.drain(..) {
        job.answer(fate.clone());
    }
}

/// Why a transaction came to nothing.
enum Failure {
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
    batch: &mut [Box<dyn Job>],
) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for job in batch {
        job.run(&transaction)?;
    }
    transaction.commit()
}
