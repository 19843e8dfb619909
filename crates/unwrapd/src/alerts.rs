//! Alerts: events that the gateway makes about itself, stored and delivered like those of OpenAI.
//! A destination gets them only if it names them, as in `events = ["unwrapd.*"]`.
//!
//! The alerts derive from the pipeline events. `State` decides which are due, and
//! [`Alerts::run`] stores them. `docs/guide/alerts.md` describes them for people.

mod alert;
mod state;
mod switch;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::intake::Intake;
use crate::message::Message;
use crate::pipeline_events::{Observer, PipelineEvent};
use crate::route::AlertType;
use alert::Alert;
use state::{Now, State};

/// Longest time without a look at what is due.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Wait before an alert that could not be stored is tried again.
const RETRY_EVERY: Duration = Duration::from_secs(5);
/// Longest time of an alert that is sent past the store.
const SEND_TIME: Duration = Duration::from_secs(10);

/// Notes what happens, and makes alerts of it. Clones share all of it.
#[derive(Clone)]
pub(crate) struct Alerts(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    clock: Clock,
    /// URL of the first page, without the last slash.
    pages: Option<Arc<str>>,
    /// Alerts that were due and are not stored yet.
    unsent: Mutex<Vec<Alert>>,
    /// Notified when an alert may be due.
    changed: Notify,
}

impl fmt::Debug for Alerts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alerts").finish_non_exhaustive()
    }
}

impl Observer for Alerts {
    fn observe(&self, event: &PipelineEvent) {
        // Most events are not about a change of state, and need no lock.
        if State::cares_about(event) && self.state().observe(event, self.now()) {
            self.0.changed.notify_one();
        }
    }
}

impl Alerts {
    /// `pages` is the URL of the first page of the admin port, for links; `None`: there are none.
    pub(crate) fn new(clock: Clock, pages: Option<Arc<str>>) -> Self {
        Self(Arc::new(Inner {
            state: Mutex::default(),
            clock,
            pages,
            unsent: Mutex::default(),
            changed: Notify::new(),
        }))
    }

    /// Sets after how long without a webhook each endpoint is silent. Endpoints that are not listed
    /// are never silent.
    pub(crate) fn set_silence(&self, endpoints: impl IntoIterator<Item = (String, Duration)>) {
        let now = self.now();
        self.state().set_silence(endpoints, now);
        self.0.changed.notify_one();
    }

    /// Stores the alerts that are due, until shutdown. An alert that cannot be stored is tried
    /// again. A store that hangs does not hold up the shutdown.
    pub(crate) async fn run(self, intake: Arc<Intake>, shutdown: CancellationToken) {
        shutdown.run_until_cancelled(self.send_all(&intake)).await;
    }

    /// Stores the alerts that no run has stored, and those that wait for their hour. Call it at the
    /// end, while the store is open: the next process does not know of them.
    pub(crate) async fn finish(&self, intake: &Intake) {
        self.state().end_waits();
        self.take_due(intake);
        tokio::join!(self.store(intake), self.send_past_the_store(intake));
    }

    async fn send_all(&self, intake: &Intake) {
        loop {
            let next = self.take_due(intake);
            // It does not wait for the store, as the others do.
            self.send_past_the_store(intake).await;
            self.store(intake).await;
            let wait = next.map_or(LOOK_EVERY, |at| {
                at.saturating_duration_since(Instant::now())
            });
            let longest = if self.unsent().is_empty() {
                LOOK_EVERY
            } else {
                RETRY_EVERY
            };
            let changed = self.0.changed.notified();
            // A time-out is no error: some alert is due then.
            drop(timeout(wait.min(longest), changed).await);
        }
    }

    /// Adds the alerts that are due to the unsent ones. Returns when the next one is due.
    fn take_due(&self, intake: &Intake) -> Option<Instant> {
        let now = self.now();
        let mut state = self.state();
        // Read under the lock: a change that is not observed yet waits for it.
        state.sync(&intake.is_down(), now);
        self.unsent().extend(state.take_due(now));
        state.next_due(now)
    }

    /// Stores the unsent alerts. One that cannot be stored stays.
    async fn store(&self, intake: &Intake) {
        let mut alerts = self.unsent().clone();
        alerts.retain(|alert| alert.kind != AlertType::StoreRefusing);
        for alert in alerts {
            match intake
                .keep_alert(self.message(&alert), alert.untold())
                .await
            {
                Ok(()) => self.is_sent(&alert),
                Err(error) => tracing::debug!(
                    "cannot store the alert {} yet: {error}",
                    alert.kind.as_str()
                ),
            }
        }
    }

    /// Sends the unsent alerts that say that the store takes nothing, once each.
    async fn send_past_the_store(&self, intake: &Intake) {
        let mut alerts = self.unsent().clone();
        alerts.retain(|alert| alert.kind == AlertType::StoreRefusing);
        for alert in alerts {
            let sent = intake.send_past_the_store(self.message(&alert));
            drop(timeout(SEND_TIME, sent).await);
            self.is_sent(&alert);
        }
    }

    fn message(&self, alert: &Alert) -> Message {
        alert.message(&self.0.clock, self.0.pages.as_deref())
    }

    /// Removes an alert from the unsent ones. One whose commit was cut off is stored again, and is a
    /// duplicate by its id.
    fn is_sent(&self, alert: &Alert) {
        self.unsent().retain(|unsent| unsent != alert);
    }

    fn now(&self) -> Now {
        Now {
            wall: self.0.clock.stamp(),
            monotonic: Instant::now(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unsent(&self) -> MutexGuard<'_, Vec<Alert>> {
        self.0.unsent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
