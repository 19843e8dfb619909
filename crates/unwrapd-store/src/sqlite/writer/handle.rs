//! The writer as the store uses it: sends jobs to its thread, waits for their answers, and closes it.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use super::Writer;
use crate::error::StoreError;
use crate::mutex::lock;
use crate::sqlite::writer::job::{Change, Job, Urgency, Work};
use crate::sqlite::writer::pulse::{self, Pulse};

/// Maximum number of changes that wait for a commit. A further change gets [`StoreError::Busy`].
pub(crate) const QUEUE_MAX: usize = 1024;

/// Longest wait for a writer that the disk blocks, when the store is closed. The next start finds
/// the result of its work.
const CLOSE_STUCK_MAX: Duration = Duration::from_secs(3);

/// Interval at which closing checks whether the disk blocks the writer.
const CLOSE_LOOK_EVERY: Duration = Duration::from_millis(100);

/// The thread of the writer, and the queue of its jobs.
#[derive(Debug)]
pub(crate) struct WriterHandle {
    /// `None` after the store is closed.
    queue: RwLock<Option<SyncSender<Box<dyn Job>>>>,
    /// `None` after the store is closed.
    thread: Mutex<Option<WriterThread>>,
    /// Reason why every operation is refused, set once the files turn out not to be ours.
    ended: Arc<OnceLock<StoreError>>,
    /// Detects a writer that the disk blocks.
    pulse: Arc<Pulse>,
    /// The error for waiting requests while the disk blocks the writer.
    stuck: watch::Receiver<Option<StoreError>>,
    /// Closed when the writer has ended.
    alive: watch::Receiver<()>,
}

#[derive(Debug)]
struct WriterThread {
    thread: JoinHandle<()>,
    pulse: Arc<Pulse>,
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
}

impl WriterHandle {
    /// Starts the thread. `queue` leads to its jobs, and `alive` is closed when it ends.
    pub(crate) fn start(
        writer: Writer,
        queue: SyncSender<Box<dyn Job>>,
        alive: watch::Receiver<()>,
    ) -> Result<Self, StoreError> {
        let (ended, pulse) = (Arc::clone(&writer.ended), Arc::clone(&writer.pulse));
        let (running_until_dropped, running) = channel();
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || {
                let _running = running_until_dropped;
                writer.run();
            })
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let thread = WriterThread {
            thread,
            pulse: Arc::clone(&pulse),
            ended: running,
        };
        Ok(Self {
            queue: RwLock::new(Some(queue)),
            thread: Mutex::new(Some(thread)),
            ended,
            stuck: pulse.subscribe(),
            pulse,
            alive,
        })
    }

    /// Sends a change to the writer, and returns its result once it is durable.
    pub(crate) async fn ask<T, F>(&self, urgency: Urgency, make: F) -> Result<T, StoreError>
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
        self.send(job)?;
        self.answered(result).await
    }

    /// Waits for the answer of the writer, or until the disk blocks it. In the second case, the
    /// change may still be made.
    pub(crate) async fn answered<T>(
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

    /// Queues a job for the writer.
    pub(crate) fn send(&self, job: Box<dyn Job>) -> Result<(), StoreError> {
        if let Some(error) = self.ended.get() {
            return Err(error.clone());
        }
        // Otherwise the queue would fill with changes whose callers have given up.
        if let Some(error) = &*self.stuck.borrow() {
            return Err(error.clone());
        }
        let queue = self.queue.read().unwrap_or_else(PoisonError::into_inner);
        let queue = queue.as_ref().ok_or_else(StoreError::closed)?;
        queue.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Busy,
            TrySendError::Disconnected(_) => self.closed(),
        })
    }

    /// Whether the store was closed.
    pub(crate) fn is_closed(&self) -> bool {
        let queue = self.queue.read().unwrap_or_else(PoisonError::into_inner);
        queue.is_none()
    }

    /// Waits until the thread has ended.
    pub(crate) async fn failed(&self) {
        let mut alive = self.alive.clone();
        while alive.changed().await.is_ok() {}
    }

    /// Waits until the disk blocks the writer.
    pub(crate) async fn hangs(&self) {
        pulse::stuck(self.stuck.clone()).await;
    }

    fn end_queue(&self) {
        let mut queue = self.queue.write().unwrap_or_else(PoisonError::into_inner);
        queue.take();
    }

    /// Takes no more jobs, and waits until the pending ones are done.
    pub(crate) async fn close(&self) {
        self.end_queue();
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread {
            let joined = tokio::task::spawn_blocking(move || join(thread)).await;
            joined.expect("joining does not panic");
        }
    }
}

impl Drop for WriterHandle {
    /// Does the same as closing: pending changes are made, and the lock is free when this returns.
    fn drop(&mut self) {
        self.end_queue();
        if let Some(thread) = lock(&self.thread).take() {
            join(thread);
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
                        "the disk of the store does not answer, so the store was not closed; \
                         acknowledged webhooks are in its files, and deliveries under way are \
                         retried after the next start"
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
