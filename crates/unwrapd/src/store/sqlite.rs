//! The store in one SQLite file. One thread writes (`writer`), and answers only when what it wrote is durable.

mod accept;
mod backup;
mod check;
mod checkpoint;
mod chosen;
mod dead;
mod end;
mod filesystem;
mod leases;
mod look;
mod memory;
mod migration;
mod owned;
mod pause;
mod progress;
mod prune;
mod quarantine;
mod readers;
mod replay;
mod schema;
mod seen;
mod size;
mod statements;
mod walk;
mod writer;

use std::path::Path;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::Connection;
use tokio::sync::{Semaphore, oneshot, watch};

use super::filter::Filter;
use super::replay::{AsOf, Dropped, Plan, Replay, ReplayStep, Token};
use super::{
    Accepted, Attempt, Bounds, Claimed, Found, Kept, Lease, Page, Pruned, Recipient, Settled,
    Standing, Store, StoreError, Suspect, SuspectSummary, Tally,
};
use crate::crash;
use crate::delivery::{Lane, earlier};
use crate::message::Message;
use crate::observe::warnings::Warnings;
use accept::Accepting;
use checkpoint::Checkpoints;
use memory::Memory;
use owned::Owned;
use prune::Pruner;
use readers::Readers;
use writer::{Change, Job, Urgency, Work, Writer};

pub use backup::{Copied, copy};
pub use check::check;
pub(super) use end::SqliteEnd;
pub use prune::prunable;
pub use size::vacuum;

/// Most changes that wait for a commit; what comes on top is [`StoreError::Busy`].
const QUEUE_MAX: usize = 1024;

/// Most settlements that wait for a commit. The rest of the queue is for what arrives and is claimed, however much is delivered.
const SETTLEMENTS_MAX: usize = 512;

/// Keeps everything in one SQLite file (and its `-wal` and `-shm`), in WAL mode with an fsync for every commit.
#[derive(Debug)]
pub struct SqliteStore {
    readers: Arc<Readers>,
    /// `None` once the store is closed.
    queue: Mutex<Option<SyncSender<Box<dyn Job>>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// Closed when the writer has ended.
    alive: watch::Receiver<()>,
    pruner: tokio::sync::Mutex<Pruner>,
    settlements: Semaphore,
}

impl SqliteStore {
    /// Opens the file, makes it if there is none, and brings its schema up to date. What a process that is gone was delivering is due
    /// again.
    pub fn open(path: &Path, bounds: &Bounds, now: Timestamp) -> Result<Self, StoreError> {
        Self::open_with(path, bounds, now, &Warnings::default())
    }

    /// As [`open`](Self::open), with a place for the conditions of the file that an operator must know of.
    pub fn open_with(
        path: &Path,
        bounds: &Bounds,
        now: Timestamp,
        warnings: &Warnings,
    ) -> Result<Self, StoreError> {
        let _ = warnings;
        let mut owned = Owned::take(path)?;
        let path = owned.path().to_owned();
        let mut connection = schema::connect(&path)?;
        owned.know_log()?;
        let problem = |error: rusqlite::Error| schema::store_error(&error);
        let horizon = earlier(now, bounds.dedupe);
        let mut memory = Memory::read(&connection, horizon, bounds).map_err(problem)?;
        memory.tidy(&mut connection).map_err(problem)?;
        let checkpoints = Checkpoints::start(&path)?;
        checkpoints.watch(&mut connection).map_err(problem)?;
        let readers = Arc::new(Readers::new(&path));
        let (queue, jobs) = sync_channel(QUEUE_MAX);
        let (alive_until_dropped, alive) = watch::channel(());
        let writer = Writer {
            owned,
            connection: Some(connection),
            failed: None,
            told: None,
            rest: None,
            next_check: None,
            memory,
            checkpoints,
            readers: Arc::clone(&readers),
            jobs,
            _alive: alive_until_dropped,
        };
        let writer = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run())
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        Ok(Self {
            readers,
            queue: Mutex::new(Some(queue)),
            writer: Mutex::new(Some(writer)),
            alive,
            pruner: tokio::sync::Mutex::new(Pruner::new(bounds)),
            settlements: Semaphore::new(SETTLEMENTS_MAX),
        })
    }

    /// Has the writer do it, and gives the result once that is durable.
    async fn ask<T, F>(&self, urgency: Urgency, make: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut Work<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        let (answer, result) = oneshot::channel();
        let job = Box::new(Change {
            urgency,
            make,
            value: None,
            answer,
        });
        self.queue(job)?;
        result.await.map_err(|_| closed())?
    }

    fn queue(&self, job: Box<dyn Job>) -> Result<(), StoreError> {
        let queue = lock(&self.queue).clone().ok_or_else(closed)?;
        queue.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Busy,
            TrySendError::Disconnected(_) => closed(),
        })
    }

    /// Asks beside the writer, which waits for nobody who only looks.
    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        if lock(&self.queue).is_none() {
            return Err(closed());
        }
        let readers = Arc::clone(&self.readers);
        let place = readers.place().await?;
        tokio::task::spawn_blocking(move || {
            let read = readers.read(query);
            drop(place);
            read
        })
        .await
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
        recipients: Vec<Recipient>,
    ) -> Result<Accepted, StoreError> {
        let (answer, accepted) = oneshot::channel();
        self.queue(Box::new(Accepting {
            message,
            recipients,
            answer,
            fate: None,
        }))?;
        let accepted = accepted.await.map_err(|_| closed())?;
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
        self.ask(Urgency::Look, move |work| {
            statements::claim(work, &destination, lane, now, lease, limit)
        })
        .await
    }

    async fn settle(&self, attempt: Attempt) -> Result<Settled, StoreError> {
        let _place = self.settlements.acquire().await.map_err(|_| closed())?;
        self.ask(Urgency::Soon, move |work| {
            statements::settle(work, &attempt)
        })
        .await
    }

    async fn quarantine(&self, suspect: Suspect) -> Result<(), StoreError> {
        self.ask(Urgency::Soon, move |work| {
            quarantine::add(work.connection, &suspect)
        })
        .await
    }

    async fn suspects(&self, after: i64, limit: usize) -> Result<Vec<Suspect>, StoreError> {
        self.read(move |connection| quarantine::list(connection, after, limit))
            .await
    }

    async fn list_suspects(
        &self,
        after: i64,
        limit: usize,
    ) -> Result<Vec<SuspectSummary>, StoreError> {
        self.read(move |connection| quarantine::summaries(connection, after, limit))
            .await
    }

    async fn acquit(
        &self,
        suspect: i64,
        message: Message,
        destinations: Vec<String>,
    ) -> Result<Accepted, StoreError> {
        let recipients: Vec<Recipient> = destinations.into_iter().map(Recipient::from).collect();
        self.ask(Urgency::Now, move |work| {
            quarantine::acquit(work, suspect, &message, &recipients)
        })
        .await?
    }

    async fn discard(&self, suspect: Option<i64>) -> Result<u64, StoreError> {
        self.ask(Urgency::Now, move |work| {
            quarantine::discard(work.connection, suspect)
        })
        .await
    }

    async fn release(&self, leases: Vec<Lease>) -> Result<(), StoreError> {
        self.ask(Urgency::Look, move |work| {
            for lease in &leases {
                work.memory.leases.release(lease);
            }
            Ok(())
        })
        .await
    }

    async fn ready(&self, now: Timestamp) -> Result<(), StoreError> {
        self.ask(Urgency::Now, move |work| statements::ready(work, now))
            .await?
    }

    async fn prune(&self, now: Timestamp) -> Result<Pruned, StoreError> {
        let mut pruner = self.pruner.lock().await;
        let mut stepped = pruner.clone();
        let (stepped, found) = self
            .read(move |connection| {
                let found = stepped.look(connection, now)?;
                Ok((stepped, found))
            })
            .await?;
        let messages = if found.is_nothing() {
            0
        } else {
            self.ask(Urgency::Soon, move |work| found.remove(work))
                .await?
        };
        // Not before: a step that failed is taken again.
        *pruner = stepped;
        Ok(Pruned {
            messages,
            is_more: pruner.is_at_it(),
        })
    }

    async fn tally(&self) -> Result<Tally, StoreError> {
        self.read(statements::tally).await
    }

    async fn backlog(&self) -> Result<Vec<(String, u64)>, StoreError> {
        self.read(statements::backlog).await
    }

    async fn standings(&self) -> Result<Vec<Standing>, StoreError> {
        self.read(pause::standings).await
    }

    async fn pause(&self, destination: &str, now: Timestamp) -> Result<(), StoreError> {
        let destination = destination.to_owned();
        self.ask(Urgency::Now, move |work| {
            pause::pause(work.connection, &destination, now)
        })
        .await
    }

    async fn resume(&self, destination: &str) -> Result<(), StoreError> {
        let destination = destination.to_owned();
        self.ask(Urgency::Now, move |work| {
            pause::resume(work.connection, &destination)
        })
        .await
    }

    async fn paused(&self) -> Result<Vec<(String, Timestamp)>, StoreError> {
        self.read(pause::paused).await
    }

    async fn plan(&self, replay: &Replay, now: Timestamp) -> Result<Plan, StoreError> {
        self.plan_replay(replay, now).await
    }

    async fn replay(
        &self,
        replay: &Replay,
        token: &Token,
        as_of: Option<AsOf>,
        now: Timestamp,
        limit: usize,
    ) -> Result<ReplayStep, StoreError> {
        self.step_replay(replay, token, as_of, now, limit).await
    }

    async fn drop_dead(
        &self,
        filter: &Filter,
        as_of: AsOf,
        after: Option<i64>,
        now: Timestamp,
        limit: usize,
    ) -> Result<Dropped, StoreError> {
        self.step_drop(filter, as_of, after, now, limit).await
    }

    async fn find(&self, filter: &Filter, now: Timestamp, page: Page) -> Result<Found, StoreError> {
        self.find_page(filter, now, page).await
    }

    async fn show(&self, webhook_id: &str, with_payload: bool) -> Result<Vec<Kept>, StoreError> {
        self.show_all(webhook_id, with_payload).await
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
        self.readers.close();
    }
}
