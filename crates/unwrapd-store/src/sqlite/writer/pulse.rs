//! Notices that the disk blocks the writer, so that requests that wait for a commit are answered
//! within a bound.
//!
//! The writer records when a piece of work begins and ends. A thread that uses no disk checks this
//! twice a second. While the writer is stuck, waiting requests get an error, and no more are
//! queued. Nothing is undone: such a request may still be committed when the disk answers again.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::Level;

use crate::error::StoreError;
use crate::mutex::lock;
use crate::reports::StoreReporter;
use unwrapd_core::observe::warnings::Warnings;

/// Time after which a piece of work counts as blocked by the disk. A webhook must be answered
/// within five seconds; with [`LOOK_EVERY`], one of them is left. A commit that is merely slow ends
/// earlier.
pub(crate) const STUCK_AFTER: Duration = Duration::from_secs(3);

const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Name of the warning, among [`Warnings`], that the disk does not answer.
const WARNING: &str = "store-disk";

/// The state that the writer shares with the requests that wait for it.
#[derive(Debug)]
pub(crate) struct Pulse {
    origin: Instant,
    /// Milliseconds from `origin` to the beginning of the current piece of work, plus one; 0 if
    /// there is none.
    since: AtomicU64,
    stuck: watch::Sender<Option<StoreError>>,
    /// Whether the current piece of work is a check of the whole file, which takes longer the
    /// larger the file is.
    is_checking: AtomicBool,
    /// Dropped to end the thread.
    stop: Mutex<Option<Sender<()>>>,
}

impl Pulse {
    pub(crate) fn start(
        warnings: Warnings,
        health: StoreReporter,
    ) -> Result<Arc<Self>, StoreError> {
        let (stop, stopped) = channel();
        let pulse = Arc::new(Self {
            origin: Instant::now(),
            since: AtomicU64::new(0),
            stuck: watch::Sender::new(None),
            is_checking: AtomicBool::new(false),
            stop: Mutex::new(Some(stop)),
        });
        let watched = Arc::clone(&pulse);
        std::thread::Builder::new()
            .name("store-pulse".into())
            .spawn(move || {
                while stopped.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
                    watched.look(&warnings, &health);
                }
            })
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        Ok(pulse)
    }

    /// Begins a piece of work that may use the disk.
    pub(crate) fn begin(&self) {
        self.since.store(self.now(), Ordering::Release);
    }

    /// Ends the piece of work.
    pub(crate) fn end(&self) {
        self.since.store(0, Ordering::Release);
    }

    /// Records whether the current piece of work is a check of the whole file.
    pub(crate) fn set_checking(&self, is_checking: bool) {
        self.is_checking.store(is_checking, Ordering::Release);
    }

    /// Receives the error for all waiting requests, while there is one.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<StoreError>> {
        self.stuck.subscribe()
    }

    /// Whether the current piece of work has lasted for `time`.
    pub(crate) fn has_lasted(&self, time: Duration) -> bool {
        self.lasted().is_some_and(|lasted| lasted >= time)
    }

    pub(crate) fn stop(&self) {
        lock(&self.stop).take();
    }

    fn lasted(&self) -> Option<Duration> {
        let since = self.since.load(Ordering::Acquire);
        (since > 0).then(|| Duration::from_millis(self.now().saturating_sub(since)))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    fn look(&self, warnings: &Warnings, health: &StoreReporter) {
        match self.lasted() {
            Some(lasted) if lasted >= STUCK_AFTER => {
                let seconds = lasted.as_secs();
                let text = if self.is_checking.load(Ordering::Acquire) {
                    format!(
                        "a check of the file of the store for damage has been running for {seconds} s"
                    )
                } else {
                    format!(
                        "the disk of the store has not answered for {seconds} s; check whether it is frozen, overloaded or failing"
                    )
                };
                let reason = format!("{text}: webhooks are answered with 503");
                let error = StoreError::Unavailable(text);
                let is_new = self.stuck.send_replace(Some(error)).is_none();
                warnings.note(WARNING, reason.as_str());
                // Last, because the disk that blocks the store may block the log too.
                if is_new {
                    health.refusing(Level::WARN, reason);
                }
            }
            _ if self.stuck.borrow().is_some() => {
                self.stuck.send_replace(None);
                warnings.clear(WARNING);
                health.recovered(Level::INFO, "the store answers again");
            }
            _ => {}
        }
    }
}

/// Waits until the disk blocks the writer.
pub(crate) async fn stuck(mut told: watch::Receiver<Option<StoreError>>) -> StoreError {
    loop {
        if let Some(error) = &*told.borrow_and_update() {
            return error.clone();
        }
        if told.changed().await.is_err() {
            // The pulse was dropped with the store.
            std::future::pending::<()>().await;
        }
    }
}
