//! The store in one SQLite file. One thread owns the only connection that writes; it takes everything that waits the moment it is
//! free and makes one commit of it, so that many requests share an fsync and a lone one waits for nobody.

mod schema;
mod statements;

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::{Accepted, Attempt, Claimed, Settled, Store, StoreError, Tally};
use crate::crash;
use crate::message::Message;

/// Most changes in one commit. More would only make the first of them wait.
const BATCH_MAX: usize = 256;
/// Most changes that wait for a commit; what comes on top is [`StoreError::Busy`].
const QUEUE_MAX: usize = 1024;

/// Keeps everything in one SQLite file (and its `-wal` and `-shm`), in WAL mode with an fsync for every commit.
#[derive(Debug)]
pub struct SqliteStore {
    /// `None` once the store is closed.
    queue: Mutex<Option<mpsc::Sender<Box<dyn Job>>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl SqliteStore {
    /// Opens the file, makes it if there is none, and brings its schema up to date. What a process that is gone had leased is due
    /// again at `now`.
    pub fn open(path: &Path, now: Timestamp) -> Result<Self, StoreError> {
        let owned = own(path)?;
        let connection = schema::connect(path)?;
        statements::release_leases(&connection, now)
            .map_err(|error| schema::store_error(&error))?;
        let (queue, jobs) = mpsc::channel(QUEUE_MAX);
        let writer = Writer {
            path: path.to_owned(),
            connection: Some(connection),
            jobs,
            _owned: owned,
        };
        let writer = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run())
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        Ok(Self {
            queue: Mutex::new(Some(queue)),
            writer: Mutex::new(Some(writer)),
        })
    }

    /// Has the writer run `change` in its next transaction, and gives the result once that is durable.
    async fn ask<T, F>(&self, change: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (answer, result) = oneshot::channel();
        let job = Box::new(Change {
            make: change,
            value: None,
            answer,
        });
        let queue = lock(&self.queue).clone().ok_or_else(closed)?;
        queue.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => StoreError::Busy,
            mpsc::error::TrySendError::Closed(_) => closed(),
        })?;
        result.await.map_err(|_| closed())?
    }
}

/// Locks the store for this process, by a file beside it: people may still look into the database with any tool.
fn own(path: &Path) -> Result<File, StoreError> {
    let mut lock = path.as_os_str().to_owned();
    lock.push(".lock");
    let lock = PathBuf::from(lock);
    let problem = |what: String| StoreError::Unavailable(format!("{}: {what}", lock.display()));
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&lock)
        .map_err(|error| problem(error.to_string()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(problem(
            "another unwrapd is running on this store; stop it, or give this one a store of its own".into(),
        )),
        Err(TryLockError::Error(error)) => Err(problem(error.to_string())),
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("it is closed".into())
}

/// What the lock guards is never half changed, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Store for SqliteStore {
    async fn accept(
        &self,
        message: Message,
        destinations: Vec<String>,
    ) -> Result<Accepted, StoreError> {
        let accepted = self
            .ask(move |connection| statements::accept(connection, &message, &destinations))
            .await;
        crash::point("committed");
        accepted
    }

    async fn claim(
        &self,
        destination: &str,
        now: Timestamp,
        lease: Duration,
        limit: usize,
    ) -> Result<Claimed, StoreError> {
        let destination = destination.to_owned();
        self.ask(move |connection| statements::claim(connection, &destination, now, lease, limit))
            .await
    }

    async fn settle(&self, attempt: Attempt) -> Result<Settled, StoreError> {
        self.ask(move |connection| statements::settle(connection, &attempt))
            .await
    }

    async fn tally(&self) -> Result<Tally, StoreError> {
        self.ask(statements::tally).await
    }

    async fn close(&self) {
        lock(&self.queue).take();
        let writer = lock(&self.writer).take();
        if let Some(writer) = writer {
            let joined = tokio::task::spawn_blocking(move || writer.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("the thread that writes the store ended by a panic");
            }
        }
    }
}

/// A change that waits for its commit.
trait Job: Send {
    fn run(&mut self, connection: &Connection) -> rusqlite::Result<()>;

    /// Tells who asked, once the fate of the whole transaction is known.
    fn answer(self: Box<Self>, fate: Result<(), StoreError>);
}

struct Change<T, F> {
    make: F,
    value: Option<T>,
    answer: oneshot::Sender<Result<T, StoreError>>,
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
        // Who asked may have gone away meanwhile; the change stands all the same.
        drop(answer.send(fate.and_then(|()| value.ok_or_else(closed))));
    }
}

struct Writer {
    path: PathBuf,
    /// `None` after a failed write, until the next one.
    connection: Option<Connection>,
    jobs: mpsc::Receiver<Box<dyn Job>>,
    /// Held, and with it the lock, for as long as we write.
    _owned: File,
}

impl Writer {
    /// Ends when the store is closed and everything asked for before is done.
    fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while self.jobs.blocking_recv_many(&mut batch, BATCH_MAX) > 0 {
            let fate = self.commit(&mut batch);
            if let Err(error) = &fate {
                tracing::error!("{error}; {} changes were undone", batch.len());
            }
            for job in batch.drain(..) {
                job.answer(fate.clone());
            }
        }
    }

    fn commit(&mut self, batch: &mut [Box<dyn Job>]) -> Result<(), StoreError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => schema::connect(&self.path)?,
        };
        // On the way out with an error the connection is dropped: after a failed write nothing it remembers is to be trusted.
        run_in_transaction(&mut connection, batch).map_err(|error| schema::store_error(&error))?;
        self.connection = Some(connection);
        Ok(())
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
