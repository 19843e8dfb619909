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
mod health;
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
pub use health::{HealthReporter, StoreHealth};
pub use inbox::Inbox;
pub use lifecycle::Lifecycle;
pub use maintenance::Maintenance;
pub use operations::Operations;
pub use precheck::precheck;
pub use quarantine::QuarantineStore;
pub use queue::DeliveryQueue;
pub use settings::{Bounds, StoreSettings, StoreUrl, StoreUrlError};
pub use traffic::{TrafficCount, TrafficKind, TrafficRange};
use views::{ATTEMPTS_SHOWN_IN_ALL_MAX, PageBuilder};
pub use views::{
    ATTEMPTS_SHOWN_MAX, AttemptView, DeliveryView, MessagePage, MessageView, PAGE_MAX, Page,
};

/// Maximum number of deliveries of a message, and so of destinations. The SQLite store derives the
/// ids of deliveries from it.
pub const DELIVERIES_MAX: usize = 256;

/// A store of messages and their deliveries. Every implementation must pass the suite in
/// `tests/it/store_conformance.rs`.
///
/// If a method of these traits returns `Ok`, its change is durable: it survives a crash of this
/// process and of the machine.
pub trait Store:
    Inbox + QuarantineStore + DeliveryQueue + Operations + DestinationControl + Lifecycle + Maintenance
{
    /// The gateways on the store. `None` if the store is not shared.
    fn fleet(&self) -> Option<&dyn Fleet>;
}

/// Result of storing a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// The message is new, and is stored.
    New,
    /// The message was stored before this commit: it is a copy, or the answer to its own first
    /// commit was lost.
    Duplicate,
}

/// The terms of a claim: the length of its leases, and which deliveries are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Length of the lease.
    pub lease: Duration,
    /// The longest time that a delivery may wait for its next attempt.
    pub longest_wait: Duration,
}

impl From<Duration> for Terms {
    /// A lease of this length, with the longest wait of the default policy.
    fn from(lease: Duration) -> Self {
        Self {
            lease,
            longest_wait: RetryPolicy::default().longest_wait(),
        }
    }
}

impl Terms {
    /// Terms for a claim that takes deliveries at any due time, to end them without an attempt.
    #[must_use]
    pub(crate) fn whenever_due(lease: Duration) -> Self {
        Self {
            lease,
            longest_wait: Duration::ZERO,
        }
    }

    /// Whether every due time is accepted, so that a late one does not show a clock that was set
    /// back.
    fn is_whenever_due(&self) -> bool {
        self.longest_wait.is_zero()
    }

    /// Deliveries due after the returned time are due now. It is one second more than the longest
    /// wait, because the clocks of gateways differ by some milliseconds.
    fn put_off_from(&self, now: Timestamp) -> Timestamp {
        later(now, self.longest_wait + Duration::from_secs(1))
    }
}

/// Interval between attempts to open a store that another program has locked.
const LOCKED_RETRY: Duration = Duration::from_millis(500);
/// Interval between log lines about such a store.
const LOCKED_TOLD_EVERY: Duration = Duration::from_secs(60);

/// Maximum lease of a delivery: the longest time-out that can be configured, plus the margin of the
/// dispatcher.
const LEASE_MAX: Duration = Duration::from_secs(660);

/// Deliveries that are leased to this gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claimed {
    /// The deliveries, leased until the lease ends.
    pub deliveries: Vec<Delivery>,
    /// Due time of the next delivery of this destination and lane, ends of leases included.
    pub next_due_at: Option<Timestamp>,
}

/// Changes that other gateways on the store may have made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FleetChanges {
    /// Destinations and lanes in which a delivery may be due.
    pub due: BTreeSet<(String, Lane)>,
    /// Whether the set of paused destinations may have changed.
    pub pauses: bool,
    /// Whether circuits may have opened or closed.
    pub circuits: bool,
    /// Whether gateways may have joined or left, got or lost their share of the limits, or changed
    /// their configuration.
    pub gateways: bool,
}

/// A destination of a message.
#[derive(Debug)]
pub struct Recipient {
    /// Name of the destination.
    pub destination: String,
    /// The reservation of its lane, if the lane has a free one.
    pub reservation: Option<Reservation>,
    /// Due time of the delivery. `None`: the arrival time of the message.
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

/// A claimed delivery that is released without an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The id of the delivery in the store.
    pub delivery: i64,
    /// Number of the attempt that the claim was for.
    pub number: u32,
    /// Number of the claim.
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
    /// The id of the delivery in the store.
    pub delivery: i64,
    /// Number of the attempt, from the claim.
    pub number: u32,
    /// Time at which the attempt ended.
    pub ended_at: Timestamp,
    /// Duration of the attempt.
    pub took: Duration,
    /// Summary for people: the response of the destination, or the cause of the failure. It has no
    /// content of the message.
    pub answer: String,
    /// An excerpt of the response. It may contain content of the message.
    pub said: ResponseExcerpt,
    /// The next step of the delivery.
    pub next: Next,
}

/// Maximum number of requests in the quarantine.
pub const QUARANTINED_MAX: i64 = 1000;

/// A request that could not be verified.
#[derive(Clone, PartialEq, Eq)]
pub struct QuarantinedRequest {
    /// The number in the quarantine, assigned by the store.
    pub id: i64,
    /// Name of the endpoint.
    pub endpoint: String,
    /// Arrival time.
    pub received_at: Timestamp,
    /// Reason for the refusal.
    pub reason: String,
    /// Names and values of the headers that are useful for a diagnosis.
    pub headers: Vec<(String, String)>,
    /// Size of the body in bytes, if known.
    pub size: Option<u64>,
    /// The body, if it is small and was read completely.
    pub body: Option<Bytes>,
}

impl fmt::Debug for QuarantinedRequest {
    /// Omits everything that the sender chose.
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
    /// Arrival time.
    pub received_at: Timestamp,
    /// Reason for the refusal.
    pub reason: String,
    /// Names and values of the headers that are useful for a diagnosis. The sender chose the
    /// values.
    pub headers: Vec<(String, String)>,
    /// Size of the body in bytes, if known.
    pub size: Option<u64>,
    /// Whether the body is stored.
    pub has_body: bool,
}

/// Whether a settlement took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The settlement took effect.
    Settled,
    /// The settlement came too late: another claim has the delivery, or it was settled with another
    /// result.
    Fenced,
}

/// Result of a step of pruning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Number of messages whose content was deleted: payload, deliveries and attempts.
    pub messages: u64,
    /// Whether there is more to prune.
    pub is_more: bool,
}

/// Largest number of messages that is counted for a [`Summary`].
pub const SUMMARY_MESSAGES_MAX: u64 = 100_000;

/// Summary of a store for the log line at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Version of the schema.
    pub schema: usize,
    /// Whether this process created the store. `None` if unknown.
    pub is_new: Option<bool>,
    /// Number of stored messages, or [`SUMMARY_MESSAGES_MAX`] if there are at least as many.
    pub messages: u64,
}

/// Counts of deliveries of one destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DestinationCounts {
    /// Name of the destination.
    pub destination: String,
    /// Deliveries that wait for an attempt or are being attempted.
    pub waiting: u64,
    /// Dead letters.
    pub dead: u64,
}

/// A check of the store, and its result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Subject of the check, one word.
    pub name: &'static str,
    /// Finding in one sentence, good or bad.
    pub result: Result<String, String>,
}

/// Reason why an operation failed.
///
/// Nothing was changed, except possibly with [`Unavailable`](Self::Unavailable): then the result is
/// unknown, and the same call may be repeated without harm.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The store cannot be reached, read or written. The problem may be temporary.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// Too many changes wait to be written.
    #[error("the store is busy")]
    Busy,
    /// A limit on the content of the store is reached.
    #[error("the store is full: {0}")]
    Full(String),
    /// Another process uses the store. The text names the file that it has locked.
    #[error(
        "{0}: another unwrapd is running on this store; stop it, or configure another store for this one"
    )]
    InUse(String),
    /// The file is not a store, or belongs to a newer version.
    #[error("the store cannot be used: {0}")]
    Unusable(String),
}

impl StoreError {
    /// The error of a closed store.
    pub(crate) fn closed() -> Self {
        Self::Unavailable("the store was closed".into())
    }
}

/// The gateways on the store, as far as known. Empty for a store that is not shared.
#[must_use]
pub fn gateways(store: &dyn Store) -> Vec<FleetGateway> {
    store.fleet().map_or_else(Vec::new, Fleet::gateways)
}

/// Number of waiting deliveries by destination, without destinations that have none.
pub async fn waiting(store: &dyn DestinationControl) -> Result<Vec<(String, u64)>, StoreError> {
    let counts = store.destination_counts().await?.into_iter();
    Ok(counts
        .filter(|counts| counts.waiting > 0)
        .map(|counts| (counts.destination, counts.waiting))
        .collect())
}

/// Opens the store, creates it if it does not exist, and compares `clock` with the stored time.
/// Lasting problems of the store are reported to `warnings`, and each change in whether it accepts
/// webhooks to `health`.
pub async fn open(
    settings: &StoreSettings,
    clock: &Clock,
    warnings: &Warnings,
    health: &HealthReporter,
) -> Result<Arc<dyn Store>, StoreError> {
    match &settings.url {
        StoreUrl::Postgres(address) => Ok(Arc::new(
            postgres::PostgresStore::open_with(address, &settings.bounds, clock, health).await?,
        )),
        StoreUrl::Sqlite(path) => Ok(Arc::new(
            open_sqlite(path, &settings.bounds, clock, warnings, health).await?,
        )),
    }
}

/// Waits while another program locks the database, and logs that from time to time. Giving up would
/// be a longer outage.
async fn open_sqlite(
    path: &Path,
    bounds: &Bounds,
    clock: &Clock,
    warnings: &Warnings,
    health: &HealthReporter,
) -> Result<sqlite::SqliteStore, StoreError> {
    let mut told_at: Option<Instant> = None;
    loop {
        let (file, bounds, clock, warnings, health) = (
            path.to_owned(),
            bounds.clone(),
            clock.clone(),
            warnings.clone(),
            health.clone(),
        );
        // On a blocking thread, because the disk may not answer.
        let opened = tokio::task::spawn_blocking(move || {
            sqlite::SqliteStore::open_with(&file, &bounds, &clock, &warnings, &health)
        });
        let opened = opened
            .await
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        match opened {
            Err(error) if sqlite::is_locked(&error) => {
                if told_at.is_none_or(|told_at| told_at.elapsed() >= LOCKED_TOLD_EVERY) {
                    told_at = Some(Instant::now());
                    tracing::warn!(
                        "cannot open the store {} yet, trying again; no webhook is received until then: {error}",
                        path.display()
                    );
                }
                tokio::time::sleep(LOCKED_RETRY).await;
            }
            opened => return opened,
        }
    }
}
