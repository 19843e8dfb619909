//! The store in one SQLite file. One thread writes (`writer`), and answers only when its changes
//! are durable.

mod connection;
mod error;
mod files;
mod marks;
mod migration;
mod operate;
mod queue;
mod readers;
mod schema;
mod statements;
mod time;
mod upkeep;
mod writer;

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::mpsc::{
    Receiver, RecvTimeoutError, SyncSender, TrySendError, channel, sync_channel,
};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::Connection;
use tokio::sync::{Semaphore, oneshot, watch};

use super::mutex::lock;
use super::{
    Accepted, Attempt, Bounds, Claimed, DestinationCounts, Lease, Pruned, QuarantinedRequest,
    QuarantinedSummary, Recipient, Settled, Store, StoreError, Summary, Terms, TrafficCount,
};
use super::{
    DeliveryQueue, DestinationControl, Fleet, HealthReporter, Inbox, Lifecycle, Maintenance,
    QuarantineStore,
};
use connection::{read_data_version, read_tables};
use error::store_error;
use files::checkpoint::{Checkpoints, Passes};
use files::filesystem;
use files::store_files::StoreFiles;
use operate::{pause, quarantine, traffic};
use queue::accept::Accepting;
use queue::claim;
use readers::Readers;
use unwrapd_core::clock::Clock;
use unwrapd_core::crash::{self, CrashPoint};
use unwrapd_core::delivery::limit_share::LimitShare;
use unwrapd_core::delivery::{Lane, earlier};
use unwrapd_core::message::Message;
use unwrapd_core::observe::repeated::Repeated;
use unwrapd_core::observe::warnings::Warnings;
use upkeep::prune::Pruner;
use writer::Writer;
use writer::id_hashes::IdHashes;
use writer::job::{Change, Job, Urgency, Work};
use writer::pulse::{self, Pulse};
use writer::writer_state::WriterState;

pub(super) use error::is_locked;
pub use files::access;
pub(super) use schema::check_ours_at as check_ours;
pub use time::remembered_at;
pub use upkeep::backup::{Copied, copy};
pub use upkeep::check::check;
pub(super) use upkeep::copy_endpoint::SqliteCopyEndpoint;
pub use upkeep::prune::prunable;
pub use upkeep::vacuum::vacuum;

/// Maximum number of changes that wait for a commit. A further change gets [`StoreError::Busy`].
const QUEUE_MAX: usize = 1024;

/// Maximum number of settlements that wait for a commit. The rest of the queue is reserved for new
/// messages and claims.
const SETTLEMENTS_MAX: usize = 512;

/// Longest wait for a writer that the disk blocks, when the store is closed. The next start finds
/// the result of its work.
const CLOSE_STUCK_MAX: Duration = Duration::from_secs(3);

/// Interval at which closing checks whether the disk blocks the writer.
const CLOSE_LOOK_EVERY: Duration = Duration::from_millis(100);

/// Keeps everything in one SQLite file with its `-wal` and `-shm`, in WAL mode, with an fsync for
/// every commit.
#[derive(Debug)]
pub struct SqliteStore {
    readers: Arc<Readers>,
    /// `None` after the store is closed.
    queue: Mutex<Option<SyncSender<Box<dyn Job>>>>,
    writer: Mutex<Option<WriterThread>>,
    /// Reason why every operation is refused, set once the files turn out not to be ours.
    ended: Arc<OnceLock<StoreError>>,
    /// Detects a writer that the disk blocks.
    pulse: Arc<Pulse>,
    /// The error for waiting requests while the disk blocks the writer.
    stuck: watch::Receiver<Option<StoreError>>,
    /// Closed when the writer has ended.
    alive: watch::Receiver<()>,
    pruner: tokio::sync::Mutex<Pruner>,
    settlements: Semaphore,
    clock: Clock,
}

#[derive(Debug)]
struct WriterThread {
    thread: JoinHandle<()>,
    pulse: Arc<Pulse>,
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
}

impl SqliteStore {
    /// Opens the file, creates it if it does not exist, and migrates its schema. Deliveries that an
    /// earlier process was attempting are due again.
    pub fn open(path: &Path, bounds: &Bounds, now: Timestamp) -> Result<Self, StoreError> {
        let clock = Clock::simulated(now);
        let (warnings, health) = (Warnings::default(), HealthReporter::default());
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
        health: &HealthReporter,
    ) -> Result<Self, StoreError> {
        let mut files = StoreFiles::take(path)?;
        let path = files.path().to_owned();
        let was_left = std::fs::metadata(files.log_path()).is_ok_and(|log| log.len() > 0);
        let mut connection = schema::connect(&mut files)?;
        if was_left {
            tracing::info!(
                "the last process left its log beside the store: it was killed, it crashed, the power failed, or another program was reading when it ended. All acknowledged webhooks are present"
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
        let ended = Arc::new(OnceLock::new());
        let (running_until_dropped, running) = channel();
        let writer = Writer {
            connection: Some(connection),
            data_version,
            needs_room: filesystem::needs_room(files.path()),
            files,
            lost: None,
            ended: Arc::clone(&ended),
            pulse: Arc::clone(&pulse),
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
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || {
                let _running = running_until_dropped;
                writer.run();
            })
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let writer = WriterThread {
            thread,
            pulse: Arc::clone(&pulse),
            ended: running,
        };
        Ok(Self {
            readers,
            queue: Mutex::new(Some(queue)),
            writer: Mutex::new(Some(writer)),
            ended,
            stuck: pulse.subscribe(),
            pulse,
            alive,
            pruner: tokio::sync::Mutex::new(Pruner::new(bounds)),
            settlements: Semaphore::new(SETTLEMENTS_MAX),
            clock: clock.clone(),
        })
    }

    /// Sends a change to the writer, and returns its result once it is durable.
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
        self.answered(result).await
    }

    /// Waits for the answer of the writer, or until the disk blocks it. In the second case, the
    /// change may still be made.
    async fn answered<T>(
        &self,
        answer: oneshot::Receiver<Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        tokio::select! {
            biased;
            answer = answer => answer.map_err(|_| self.closed())?,
            error = pulse::stuck(self.stuck.clone()) => Err(error),
        }
    }

    /// Reason why there is no answer.
    fn closed(&self) -> StoreError {
        self.ended.get().cloned().unwrap_or_else(StoreError::closed)
    }

    fn queue(&self, job: Box<dyn Job>) -> Result<(), StoreError> {
        if let Some(error) = self.ended.get() {
            return Err(error.clone());
        }
        // Otherwise the queue would fill with changes whose callers have given up.
        if let Some(error) = &*self.stuck.borrow() {
            return Err(error.clone());
        }
        let queue = lock(&self.queue).clone().ok_or_else(StoreError::closed)?;
        queue.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Busy,
            TrySendError::Disconnected(_) => self.closed(),
        })
    }

    /// Runs a query on a connection for reading, beside the writer.
    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        if lock(&self.queue).is_none() {
            return Err(StoreError::closed());
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
    /// Does the same as closing: pending changes are made, and the lock is free when this returns.
    fn drop(&mut self) {
        lock(&self.queue).take();
        if let Some(writer) = lock(&self.writer).take() {
            join(writer);
        }
        self.pulse.stop();
    }
}

/// Waits until the thread has ended, unless the disk blocks it.
fn join(writer: WriterThread) {
    let mut stuck_until = None;
    loop {
        match writer.ended.recv_timeout(CLOSE_LOOK_EVERY) {
            Err(RecvTimeoutError::Disconnected) => break,
            _ if !writer.pulse.has_lasted(CLOSE_STUCK_MAX) => stuck_until = None,
            _ => {
                let until = *stuck_until.get_or_insert_with(|| Instant::now() + CLOSE_STUCK_MAX);
                if Instant::now() >= until {
                    tracing::error!(
                        "the disk of the store does not answer, so the store was not closed; acknowledged webhooks are in its files, and deliveries under way are retried after the next start"
                    );
                    return;
                }
            }
        }
    }
    if writer.thread.join().is_err() {
        tracing::error!("the thread that writes the store panicked; please report this bug");
    }
}

#[async_trait]
impl Inbox for SqliteStore {
    async fn accept(
        &self,
        message: Message,
        recipients: Vec<Recipient>,
    ) -> Result<Accepted, StoreError> {
        let (answer, accepted) = oneshot::channel();
        self.queue(Box::new(Accepting {
            hashes: IdHashes::of(&message),
            message,
            recipients,
            answer,
            outcome: None,
        }))?;
        let accepted = self.answered(accepted).await;
        crash::point(CrashPoint::Committed);
        accepted
    }
}

#[async_trait]
impl QuarantineStore for SqliteStore {
    async fn quarantine(&self, quarantined: QuarantinedRequest) -> Result<u64, StoreError> {
        self.ask(Urgency::Deferred, move |work| {
            quarantine::add(work.connection, &quarantined)
        })
        .await
    }

    async fn accept_quarantined(
        &self,
        quarantined: i64,
        message: Message,
        destinations: Vec<String>,
    ) -> Result<Accepted, StoreError> {
        let recipients: Vec<Recipient> = destinations.into_iter().map(Recipient::from).collect();
        self.ask(Urgency::NextCommit, move |work| {
            quarantine::accept_quarantined(work, quarantined, &message, &recipients)
        })
        .await?
    }

    async fn read_quarantined(
        &self,
        after: i64,
        limit: usize,
    ) -> Result<Vec<QuarantinedRequest>, StoreError> {
        self.read(move |connection| quarantine::list(connection, after, limit))
            .await
    }

    async fn list_quarantined(
        &self,
        after: i64,
        limit: usize,
    ) -> Result<Vec<QuarantinedSummary>, StoreError> {
        self.read(move |connection| quarantine::summaries(connection, after, limit))
            .await
    }

    async fn delete_quarantined(
        &self,
        quarantined_requests: RangeInclusive<i64>,
    ) -> Result<u64, StoreError> {
        self.ask(Urgency::NextCommit, move |work| {
            quarantine::delete_quarantined(work.connection, &quarantined_requests)
        })
        .await
    }
}

#[async_trait]
impl DeliveryQueue for SqliteStore {
    async fn claim_within(
        &self,
        destination: &str,
        lane: Lane,
        now: Timestamp,
        terms: Terms,
        limit: usize,
    ) -> Result<Claimed, StoreError> {
        let destination = destination.to_owned();
        self.ask(Urgency::ReadOnly, move |work| {
            claim::claim(work, &destination, lane, now, terms, limit)
        })
        .await
    }

    async fn settle(&self, attempt: Attempt) -> Result<Settled, StoreError> {
        let _place = self
            .settlements
            .acquire()
            .await
            .map_err(|_| StoreError::closed())?;
        self.ask(Urgency::Deferred, move |work| {
            statements::settle(work, &attempt)
        })
        .await
    }

    async fn release(&self, leases: Vec<Lease>) -> Result<(), StoreError> {
        self.ask(Urgency::ReadOnly, move |work| {
            for lease in &leases {
                work.state.leases.release(lease);
            }
            Ok(())
        })
        .await
    }

    fn share(&self, _: &str) -> LimitShare {
        LimitShare::ALONE
    }

    fn lease_is_valid(&self, _: tokio::time::Instant) -> bool {
        true
    }
}

#[async_trait]
impl DestinationControl for SqliteStore {
    async fn destination_counts(&self) -> Result<Vec<DestinationCounts>, StoreError> {
        self.read(pause::destination_counts).await
    }

    async fn pause(&self, destination: &str, now: Timestamp) -> Result<(), StoreError> {
        let destination = destination.to_owned();
        self.ask(Urgency::NextCommit, move |work| {
            pause::pause(work.connection, &destination, now)
        })
        .await
    }

    async fn resume(&self, destination: &str) -> Result<(), StoreError> {
        let destination = destination.to_owned();
        self.ask(Urgency::NextCommit, move |work| {
            pause::resume(work.connection, &destination)
        })
        .await
    }

    async fn paused(&self) -> Result<Vec<(String, Timestamp)>, StoreError> {
        self.read(pause::paused).await
    }
}

#[async_trait]
impl Lifecycle for SqliteStore {
    async fn check_writable(&self, now: Timestamp) -> Result<(), StoreError> {
        self.ask(Urgency::NextCommit, move |work| {
            statements::ready(work, now)
        })
        .await?
    }

    async fn remember(&self, trusted: Timestamp) -> Result<(), StoreError> {
        let boot = self.clock.boot();
        self.ask(Urgency::Deferred, move |work| {
            time::remember(work.connection, trusted, boot.as_ref())
        })
        .await
    }

    async fn failed(&self) {
        let mut alive = self.alive.clone();
        while alive.changed().await.is_ok() {}
    }

    async fn hangs(&self) {
        pulse::stuck(self.stuck.clone()).await;
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

#[async_trait]
impl Maintenance for SqliteStore {
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
            self.ask(Urgency::Deferred, move |work| found.remove(work))
                .await?
        };
        // Only after success, so that a failed step is repeated.
        *pruner = stepped;
        Ok(Pruned {
            messages,
            is_more: pruner.is_at_it(),
        })
    }

    async fn add_traffic(&self, counts: Vec<TrafficCount>) -> Result<(), StoreError> {
        self.ask(Urgency::Deferred, move |work| {
            traffic::add(work.connection, &counts)
        })
        .await
    }

    async fn summary(&self) -> Result<Option<Summary>, StoreError> {
        self.read(statements::summary).await.map(Some)
    }
}

impl Store for SqliteStore {
    fn fleet(&self) -> Option<&dyn Fleet> {
        None
    }
}
