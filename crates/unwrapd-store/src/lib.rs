//! Stores of the gateway `unwrapd`: receiving puts messages in, dispatching takes deliveries out.
//!
//! One trait for each user, and two implementations, [`sqlite`] and [`postgres`]. This crate is
//! internal: it may change in any release.
#![deny(missing_docs)]
#![cfg(not(windows))]

mod capacity;
mod copy;
mod destination_control;
pub mod filter;
mod fleet;
mod give_up;
mod ids;
mod inbox;
mod lifecycle;
mod maintenance;
mod operate;
mod operations;
pub mod postgres;
mod precheck;
mod put_off;
mod quarantine;
mod queue;
pub mod replay;
mod retention;
mod search_keys;
mod settings;
pub mod sqlite;
mod traffic;
mod views;

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::time::Instant;

use unwrapd_core::clock::Clock;
use unwrapd_core::delivery::response_excerpt::ResponseExcerpt;
use unwrapd_core::delivery::retry::RetryPolicy;
use unwrapd_core::delivery::{Delivery, Lane, Next, later};
use unwrapd_core::handoff::Reservation;
use unwrapd_core::message::Message;
use unwrapd_core::observe::warnings::Warnings;

pub use copy::{Copied, CopyError, Progress, Step, copy};
pub use destination_control::DestinationControl;
pub use fleet::{Configuration, FRESH, Fleet, FleetGateway, GatewayIdentity, SharedCircuit};
pub use give_up::{GivenUp, give_up};
pub use inbox::Inbox;
pub use lifecycle::Lifecycle;
pub use maintenance::Maintenance;
pub use operations::Operations;
pub use precheck::precheck;
pub use quarantine::QuarantineStore;
pub use queue::DeliveryQueue;
pub use settings::{Bounds, StoreSettings, StoreUrl, StoreUrlError};
pub use traffic::{TrafficCount, TrafficKind};
use views::{ATTEMPTS_SHOWN_IN_ALL_MAX, PageBuilder};
pub use views::{
    ATTEMPTS_SHOWN_MAX, AttemptView, DeliveryView, MessagePage, MessageView, PAGE_MAX, Page,
};

/// Most deliveries of one message, and so most destinations. The SQLite store numbers the
/// deliveries of a message within this.
pub const DELIVERIES_MAX: usize = 256;

/// Stores messages and their deliveries. Every implementation runs the suite in
/// `tests/it/store_conformance.rs`.
///
/// A method of these traits that returns `Ok` has made its change durable: it survives a crash of
/// this process and of the machine.
pub trait Store:
    Inbox + QuarantineStore + DeliveryQueue + Operations + DestinationControl + Lifecycle + Maintenance
{
    /// The other gateways on the store; `None`: the store is not shared.
    fn fleet(&self) -> Option<&dyn Fleet>;
}

/// Result of storing a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// Kept.
    New,
    /// The message was stored before.
    Duplicate,
}

/// How long a claim leases, and what is due for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long the lease is.
    pub lease: Duration,
    /// The longest time that a delivery may have to wait for its next attempt.
    pub longest_wait: Duration,
}

impl From<Duration> for Terms {
    /// A lease of that length, and the longest wait of the default policy.
    fn from(lease: Duration) -> Self {
        Self {
            lease,
            longest_wait: RetryPolicy::default().longest_wait(),
        }
    }
}

impl Terms {
    /// For what is not to be delivered any more, whenever it is due.
    #[must_use]
    pub fn whenever_due(lease: Duration) -> Self {
        Self {
            lease,
            longest_wait: Duration::ZERO,
        }
    }

    /// Whether nothing is due too late, so that a late due time says nothing about the clock.
    fn is_whenever_due(&self) -> bool {
        self.longest_wait.is_zero()
    }

    /// Due times beyond this are due at once. A second more than the longest wait: clocks of
    /// gateways differ by some milliseconds.
    fn put_off_from(&self, now: Timestamp) -> Timestamp {
        later(now, self.longest_wait + Duration::from_secs(1))
    }
}

/// How often opening a store is tried again that another program has locked,
const LOCKED_RETRY: Duration = Duration::from_millis(500);
/// and how often the log says so.
const LOCKED_TOLD_EVERY: Duration = Duration::from_secs(60);

/// Longest lease of any delivery: the longest time-out that can be configured, and what a dispatcher adds to it.
const LEASE_MAX: Duration = Duration::from_secs(660);

/// Deliveries that are leased to us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claimed {
    /// Ours until the lease ends.
    pub deliveries: Vec<Delivery>,
    /// When the next one of this destination and lane is due, leases that run out included.
    pub next_due_at: Option<Timestamp>,
}

/// Changes that other gateways on the store may have made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FleetChanges {
    /// Where something may be due.
    pub due: BTreeSet<(String, Lane)>,
    /// Whether other destinations may be paused than before.
    pub pauses: bool,
    /// Whether other destinations may be down than before.
    pub circuits: bool,
    /// Whether there are others on the store than before, or others that take part, or that are configured differently.
    pub gateways: bool,
}

/// The destinations of a message.
#[derive(Debug)]
pub struct Recipient {
    /// Name of the destination.
    pub destination: String,
    /// The reservation of its lane, if the lane has a free one.
    pub reservation: Option<Reservation>,
    /// When the delivery is due; `None`: when the message arrived.
    pub due_at: Option<Timestamp>,
}

impl Recipient {
    fn due_at(&self, message: &Message) -> Timestamp {
        self.due_at.unwrap_or(message.received_at)
    }
}

impl<D: Into<String>> From<D> for Recipient {
    fn from(destination: D) -> Self {
        Self {
            destination: destination.into(),
            reservation: None,
            due_at: None,
        }
    }
}

/// A claimed delivery, to be given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The store's name for the delivery.
    pub delivery: i64,
    /// Which attempt was to be made.
    pub number: u32,
    /// Which claim took it.
    pub claim: i64,
}

impl From<&Delivery> for Lease {
    fn from(delivery: &Delivery) -> Self {
        Self {
            delivery: delivery.id,
            number: delivery.attempt,
            claim: delivery.claim,
        }
    }
}

/// One finished attempt to deliver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The store's name for the delivery.
    pub delivery: i64,
    /// Which attempt it was, as claimed.
    pub number: u32,
    /// When it ended.
    pub ended_at: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// The answer of the destination, or the cause of the failure, for people; without content of
    /// the message.
    pub answer: String,
    /// An excerpt of the response. It may have content of the message.
    pub said: ResponseExcerpt,
    /// The next step of the delivery.
    pub next: Next,
}

/// Most requests in the quarantine.
pub const QUARANTINED_MAX: i64 = 1000;

/// A request that could not be proven.
#[derive(Clone, PartialEq, Eq)]
pub struct QuarantinedRequest {
    /// The number in the quarantine, which the store assigns.
    pub id: i64,
    /// Name of the endpoint.
    pub endpoint: String,
    /// When it arrived.
    pub received_at: Timestamp,
    /// Why it was refused.
    pub reason: String,
    /// Names and values of the headers that matter.
    pub headers: Vec<(String, String)>,
    /// Size of its body in bytes, where that is known.
    pub size: Option<u64>,
    /// The body, if it is small and was read.
    pub body: Option<Bytes>,
}

impl fmt::Debug for QuarantinedRequest {
    /// Without what its sender chose.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuarantinedRequest")
            .field("id", &self.id)
            .field("endpoint", &self.endpoint)
            .field("received_at", &self.received_at)
            .field("reason", &self.reason)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

/// A request in the quarantine, without its body.
#[derive(Clone, PartialEq, Eq)]
pub struct QuarantinedSummary {
    /// The number in the quarantine.
    pub id: i64,
    /// Name of the endpoint.
    pub endpoint: String,
    /// When it arrived.
    pub received_at: Timestamp,
    /// Why it was refused.
    pub reason: String,
    /// Names and values of the headers that matter. The sender chose the values.
    pub headers: Vec<(String, String)>,
    /// Size of its body in bytes, where that is known.
    pub size: Option<u64>,
    /// Whether its body is kept.
    pub has_body: bool,
}

/// Whether a settlement counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The settlement took effect.
    Settled,
    /// The settlement came too late.
    Fenced,
}

/// Result of a step of pruning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Messages whose content is gone: the payload, the deliveries and their attempts.
    pub messages: u64,
    /// Whether it goes on.
    pub is_more: bool,
}

/// Largest number of messages that is counted for a [`Summary`].
pub const SUMMARY_MESSAGES_MAX: u64 = 100_000;

/// Summary of a store for the log line at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Version of its schema.
    pub schema: usize,
    /// Whether this process made it. `None`: the store does not know.
    pub is_new: Option<bool>,
    /// Messages kept, [`SUMMARY_MESSAGES_MAX`] if there are as many or more.
    pub messages: u64,
}

/// Counts of deliveries of one destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DestinationCounts {
    /// The name.
    pub destination: String,
    /// Deliveries waiting for an attempt, or being attempted.
    pub waiting: u64,
    /// Deliveries given up.
    pub dead: u64,
}

/// A check of the store, and its result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Subject of the check, in a word.
    pub name: &'static str,
    /// Finding in a sentence: good or bad.
    pub result: Result<String, String>,
}

/// Why the store did not do it. Nothing was changed, unless it was
/// [`Unavailable`](Self::Unavailable): then nobody knows, and to ask for the same again does no
/// harm.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The store cannot be reached, read or written. It may come back.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// More is waiting to be written than it takes.
    #[error("the store is busy")]
    Busy,
    /// As much is kept as may be.
    #[error("the store is full: {0}")]
    Full(String),
    /// Another process has it. What is given is the file that the other holds locked.
    #[error(
        "{0}: another unwrapd is running on this store; stop it, or give this one a store of its own"
    )]
    InUse(String),
    /// The file is no store of ours, or a newer version's.
    #[error("the store cannot be used: {0}")]
    Unusable(String),
}

impl StoreError {
    /// The error of a store that is closed.
    pub(crate) fn closed() -> Self {
        Self::Unavailable("it is closed".into())
    }
}

/// The gateways on the store, as far as is known; none for a store that is not shared.
#[must_use]
pub fn gateways(store: &dyn Store) -> Vec<FleetGateway> {
    store.fleet().map_or_else(Vec::new, Fleet::gateways)
}

/// Waiting deliveries by destination; a destination without any is left out.
pub async fn waiting(store: &dyn DestinationControl) -> Result<Vec<(String, u64)>, StoreError> {
    let counts = store.destination_counts().await?.into_iter();
    Ok(counts
        .filter(|counts| counts.waiting > 0)
        .map(|counts| (counts.destination, counts.waiting))
        .collect())
}

/// Opens the store, and makes it if there is none, and holds `clock` against the time that it
/// remembers. Lasting conditions of the store are put into `warnings`.
pub async fn open(
    settings: &StoreSettings,
    clock: &Clock,
    warnings: &Warnings,
) -> Result<Arc<dyn Store>, StoreError> {
    match &settings.url {
        StoreUrl::Postgres(address) => Ok(Arc::new(
            postgres::PostgresStore::open_with(address, &settings.bounds, clock).await?,
        )),
        StoreUrl::Sqlite(path) => Ok(Arc::new(
            open_sqlite(path, &settings.bounds, clock, warnings).await?,
        )),
    }
}

/// Waits for other programs that lock the database, and says so now and then: to end would be an
/// outage as well, and a longer one.
async fn open_sqlite(
    path: &Path,
    bounds: &Bounds,
    clock: &Clock,
    warnings: &Warnings,
) -> Result<sqlite::SqliteStore, StoreError> {
    let mut told_at: Option<Instant> = None;
    loop {
        let (file, bounds, clock, warnings) = (
            path.to_owned(),
            bounds.clone(),
            clock.clone(),
            warnings.clone(),
        );
        // Beside the runtime: the disk may hang.
        let opened = tokio::task::spawn_blocking(move || {
            sqlite::SqliteStore::open_with(&file, &bounds, &clock, &warnings)
        });
        let opened = opened
            .await
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        match opened {
            Err(error) if sqlite::is_locked(&error) => {
                if told_at.is_none_or(|told_at| told_at.elapsed() >= LOCKED_TOLD_EVERY) {
                    told_at = Some(Instant::now());
                    tracing::warn!(
                        "cannot open the store {} yet, and receive nothing until then: {error}",
                        path.display()
                    );
                }
                tokio::time::sleep(LOCKED_RETRY).await;
            }
            opened => return opened,
        }
    }
}
