//! The store in one SQLite file. One thread writes (`writer`), and answers only when what it wrote is durable.

mod owned;
mod schema;
mod statements;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot, watch};

use super::{Accepted, Attempt, Claimed, Settled, Store, StoreError, Tally};
use crate::crash;
use crate::delivery::Lane;
use crate::message::Message;
use owned::Owned;
use writer::{Change, Job, Writer};

/// Most changes that wait for a commit; what comes on top is [`StoreError::Busy`].
const QUEUE_MAX: usize = 1024;

/// Keeps everything in one SQLite file (and its `-wal` and `-shm`), in WAL mode with an fsync for every commit.
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    /// `None` once the store is closed.
    queue: Mutex<Option<mpsc::Sender<Box<dyn Job>>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// Closed when the writer has ended.
    alive: watch::Receiver<()>,
}

impl SqliteStore {
    /// Opens the file, makes it if there is none, and brings its schema up to date. What a process that is gone had leased is due
    /// again at `now`.
    pub fn open(path: &Path, now: Timestamp) -> Result<Self, StoreError> {
        let owned = Owned::take(path)?;
        let path = owned.path().to_owned();
        let connection = schema::connect(&path)?;
        statements::release_leases(&connection, now)
            .map_err(|error| schema::store_error(&error))?;
        let (queue, jobs) = mpsc::channel(QUEUE_MAX);
        let (alive_until_dropped, alive) = watch::channel(());
        let writer = Writer::new(owned, connection, jobs, alive_until_dropped);
        let writer = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run())
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        Ok(Self {
            path,
            queue: Mutex::new(Some(queue)),
            writer: Mutex::new(Some(writer)),
            alive,
        })
    }

    /// Has the writer make the change in its next transaction, and gives the result once that is durable.
    async fn ask<T, F>(&self, make: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (answer, result) = oneshot::channel();
        let job = Box::new(Change {
            make,
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

    /// Asks beside the writer, which waits for nobody who only looks.
    async fn read<T: Send + 'static>(
        &self,
        query: fn(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        if lock(&self.queue).is_none() {
            return Err(closed());
        }
        let path = self.path.clone();
        let read = tokio::task::spawn_blocking(move || {
            let connection = schema::connect_to_read(&path)?;
            query(&connection).map_err(|error| schema::store_error(&error))
        });
        read.await
            .map_err(|error| StoreError::Unavailable(error.to_string()))?
    }
}

impl Drop for SqliteStore {
    /// As closing does: what was asked for is done, and the lock is free when this returns.
    fn drop(&mut self) {
        lock(&self.queue).take();
        if let Some(writer) = lock(&self.writer).take() {
            join(writer);
        }
    }
}

fn join(writer: JoinHandle<()>) {
    if writer.join().is_err() {
        tracing::error!("the thread that writes the store ended by a panic");
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
        lane: Lane,
        now: Timestamp,
        lease: Duration,
        limit: usize,
    ) -> Result<Claimed, StoreError> {
        let destination = destination.to_owned();
        self.ask(move |connection| {
            statements::claim(connection, &destination, lane, now, lease, limit)
        })
        .await
    }

    async fn settle(&self, attempt: Attempt) -> Result<Settled, StoreError> {
        self.ask(move |connection| statements::settle(connection, &attempt))
            .await
    }

    async fn ready(&self, now: Timestamp) -> Result<(), StoreError> {
        self.ask(move |connection| statements::ready(connection, now))
            .await
    }

    async fn tally(&self) -> Result<Tally, StoreError> {
        self.read(statements::tally).await
    }

    async fn backlog(&self) -> Result<Vec<(String, u64)>, StoreError> {
        self.read(statements::backlog).await
    }

    async fn ended(&self) {
        let mut alive = self.alive.clone();
        while alive.changed().await.is_ok() {}
    }

    async fn close(&self) {
        lock(&self.queue).take();
        let writer = lock(&self.writer).take();
        if let Some(writer) = writer {
            let joined = tokio::task::spawn_blocking(move || join(writer)).await;
            joined.expect("joining does not panic");
        }
    }
}
