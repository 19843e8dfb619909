//! The only meeting place: what is received is put here, what is due is taken from here. It knows no HTTP.

mod capacity;
mod copy;
pub mod filter;
mod fleet;
mod give_up;
mod ids;
pub mod postgres;
mod precheck;
mod put_off;
pub mod replay;
mod search_keys;
mod settings;
pub mod sqlite;
mod traffic;
mod views;

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::clock::{Clock, Moment};
use crate::delivery::limit_share::LimitShare;
use crate::delivery::response_excerpt::ResponseExcerpt;
use crate::delivery::retry::RetryPolicy;
use crate::delivery::{Delivery, Lane, Next, later};
use crate::handoff::Reservation;
use crate::message::Message;
use crate::observe::warnings::Warnings;

use filter::Filter;
use replay::{AsOf, Dropped, Plan, Replay, ReplayStep, Token};

pub use copy::{Copied, CopyError, Progress, Step, copy};
pub use fleet::{Configuration, FRESH, FleetGateway, GatewayIdentity, SharedCircuit};
pub use give_up::{GivenUp, give_up};
pub use precheck::precheck;
pub use settings::{Bounds, StoreSettings, StoreUrl, StoreUrlError};
pub use traffic::{TrafficCount, TrafficKind};
use views::{ATTEMPTS_SHOWN_IN_ALL_MAX, PageBuilder};
pub use views::{
    ATTEMPTS_SHOWN_MAX, AttemptView, DeliveryView, MessagePage, MessageView, PAGE_MAX, Page,
};

/// Most deliveries of one message, and so most destinations. The SQLite store numbers the
/// deliveries of a message within this.
pub const DELIVERIES_MAX: usize = 256;

/// Keeps messages and their deliveries. Every implementation runs the suite in `tests/it/store_conformance.rs`.
///
/// A method that returns `Ok` has made its change durable: it survives a crash of this process and of the machine.
#[async_trait]
pub trait Store: Send + Sync {
    /// Keeps the message, its dedupe key (endpoint and `webhook-id`) and a delivery, due at once,
    /// for each recipient: all of it in one commit. A copy of a message that is already kept
    /// changes nothing, and is told apart only once the original is durable.
    ///
    /// If a recipient has a reservation, its delivery may be leased in the same commit, as by a
    /// claim, and handed off there. The hand-off happens even if the caller no longer waits.
    async fn accept(
        &self,
        message: Message,
        recipients: Vec<Recipient>,
    ) -> Result<Accepted, StoreError>;

    /// Leases up to `limit` deliveries of `destination` in `lane` that are due, the longest due
    /// first, each with its next attempt number. Unless settled by then, they are due again when
    /// the lease ends.
    ///
    /// A delivery that would wait longer than [`Terms::longest_wait`] is due as well: a clock that
    /// was set back since has put it off. The same applies to a lease that is longer than any.
    async fn claim_within(
        &self,
        destination: &str,
        lane: Lane,
        now: Timestamp,
        terms: Terms,
        limit: usize,
    ) -> Result<Claimed, StoreError>;

    /// As [`claim_within`](Self::claim_within), with the longest wait of the default policy.
    async fn claim(
        &self,
        destination: &str,
        lane: Lane,
        now: Timestamp,
        lease: Duration,
        limit: usize,
    ) -> Result<Claimed, StoreError> {
        self.claim_within(destination, lane, now, lease.into(), limit)
            .await
    }

    /// Records an attempt and what becomes of its delivery, in one commit. [`Settled::Fenced`]
    /// means that the lease had run out and someone else has claimed the delivery since: nothing
    /// was changed.
    async fn settle(&self, attempt: Attempt) -> Result<Settled, StoreError>;

    /// Keeps a request that could not be proven. Beyond [`QUARANTINED_MAX`] one goes of the
    /// endpoint that holds the most, which is this one's where several hold as much: the oldest
    /// without a body, or else the oldest. So no endpoint loses a request to another one's while it
    /// holds no more than an equal share of the room. Returns how many went.
    async fn quarantine(&self, quarantined: QuarantinedRequest) -> Result<u64, StoreError>;

    /// The first `limit` requests in the quarantine with a number above `after`, in the order of
    /// their arrival, with their bodies.
    async fn read_quarantined(
        &self,
        after: i64,
        limit: usize,
    ) -> Result<Vec<QuarantinedRequest>, StoreError>;

    /// As [`read_quarantined`](Self::read_quarantined), without reading a body.
    async fn list_quarantined(
        &self,
        after: i64,
        limit: usize,
    ) -> Result<Vec<QuarantinedSummary>, StoreError>;

    /// As [`accept`](Self::accept), and takes the request out of the quarantine, in one commit.
    async fn accept_quarantined(
        &self,
        quarantined: i64,
        message: Message,
        destinations: Vec<String>,
    ) -> Result<Accepted, StoreError>;

    /// Removes the requests with these numbers from the quarantine. Returns how many were there.
    async fn delete_quarantined(
        &self,
        quarantined_requests: RangeInclusive<i64>,
    ) -> Result<u64, StoreError>;

    /// Gives leases back: no attempt was made. Each delivery is due as it was, with the same
    /// number. One that another claim holds by now is left alone, so that this may be asked again.
    /// Leases alone need not survive a crash, and so this need not.
    async fn release(&self, leases: Vec<Lease>) -> Result<(), StoreError>;

    /// Writes something durably and for nothing: whether a message could be kept now.
    async fn check_writable(&self, now: Timestamp) -> Result<(), StoreError>;

    /// Remembers what time it is, for [`Clock::anchor`](crate::clock::Clock::anchor) of the next process.
    async fn remember(&self, trusted: Timestamp) -> Result<(), StoreError> {
        let _ = trusted;
        Ok(())
    }

    /// Adds to the counts of these minutes, kinds and names.
    async fn add_traffic(&self, counts: Vec<TrafficCount>) -> Result<(), StoreError>;

    /// The counts of the minutes that begin at `since` or later, in the order of minute, kind and
    /// name.
    async fn traffic(&self, since: Timestamp) -> Result<Vec<TrafficCount>, StoreError>;

    /// Takes a step in forgetting what has been kept as long as the settings say, or is more than
    /// they allow, the oldest first. What waits for delivery stays, and an id is known for the
    /// whole dedupe horizon. A step is short, so that nobody who receives waits for it: ask again
    /// as long as there is more, and now and then.
    async fn prune(&self, now: Timestamp) -> Result<Pruned, StoreError>;

    /// How many messages there are, and deliveries in each state. Takes the longer the more there
    /// are, and holds nobody up.
    async fn tally(&self) -> Result<Tally, StoreError>;

    /// Summary of the store for the log line at the start. Quick for a store of any size. `None`:
    /// the store has no summary.
    async fn summary(&self) -> Result<Option<Summary>, StoreError> {
        Ok(None)
    }

    /// How many deliveries each destination has still to get, and how many were given up; a
    /// destination with neither is left out.
    async fn destination_counts(&self) -> Result<Vec<DestinationCounts>, StoreError>;

    /// Remembers that `destination` is to get nothing until it is resumed, whatever restarts
    /// meanwhile. Pausing it again changes nothing.
    async fn pause(&self, destination: &str, now: Timestamp) -> Result<(), StoreError>;

    /// Forgets that.
    async fn resume(&self, destination: &str) -> Result<(), StoreError>;

    /// The destinations that are paused, by name, and since when.
    async fn paused(&self) -> Result<Vec<(String, Timestamp)>, StoreError>;

    /// Waits until other gateways on the store may have changed something, and returns what. Single
    /// consumer: only one task may await this. A store that is not shared never returns.
    async fn next_change(&self) -> FleetChanges {
        std::future::pending().await
    }

    /// Tells the others on the store who we are, from now on. Until then they do not count with us.
    async fn announce(&self, identity: GatewayIdentity) -> Result<(), StoreError> {
        drop(identity);
        Ok(())
    }

    /// The gateways on the store, ourselves included, as far as is known. A store that nobody shares knows of none.
    fn gateways(&self) -> Vec<FleetGateway> {
        Vec::new()
    }

    /// Our part of what the gateways may do together at `destination`, at this moment.
    fn share(&self, destination: &str) -> LimitShare {
        let _ = destination;
        LimitShare::ALONE
    }

    /// Whether what was claimed at `claimed_at`, or later, is certain to be still ours, as long as
    /// its lease lasts: nobody has taken us for dead since.
    fn lease_is_valid(&self, claimed_at: Instant) -> bool {
        let _ = claimed_at;
        true
    }

    /// Whether others share the store, and so what is known of destinations.
    fn is_shared(&self) -> bool {
        false
    }

    /// The destinations that are down for all who share the store.
    async fn circuits(&self) -> Result<Vec<SharedCircuit>, StoreError> {
        Ok(Vec::new())
    }

    /// `destination` is down, and to be left alone by all for so long. `is_first`: nobody knew of
    /// it. Otherwise it was ours to try it; if it is not any more, nothing is changed.
    async fn open_circuit(
        &self,
        destination: &str,
        back_off: Duration,
        is_first: bool,
    ) -> Result<(), StoreError> {
        let _ = (destination, back_off, is_first);
        Ok(())
    }

    /// `destination` is up.
    async fn close_circuit(&self, destination: &str) -> Result<(), StoreError> {
        let _ = destination;
        Ok(())
    }

    /// Asks to be the one who tries `destination`, for so long. Nobody else is then, unless this
    /// gateway dies. What came of it is among [`circuits`](Self::circuits).
    async fn try_circuit(&self, destination: &str, time: Duration) -> Result<(), StoreError> {
        let _ = (destination, time);
        Ok(())
    }

    /// Counts what a replay would do, and changes nothing.
    async fn plan(&self, replay: &Replay, now: Timestamp) -> Result<Plan, StoreError>;

    /// Takes one step of a replay: makes at least `limit` deliveries due `now`, or all that are
    /// left, message by message. Call it until it returns [`ReplayStep::Done`].
    ///
    /// The first use of a token fixes the messages, as of `as_of` or now. Each message is visited
    /// once, and the commit that makes its deliveries due also records the progress. So a second
    /// call with the same token, after a crash or at the same time, makes no delivery twice. A
    /// waiting delivery becomes due at once, under the same number; a leased one stays as it is.
    /// [`StoreError::Full`] means that as many deliveries wait as a replay may cause: finished steps
    /// stay, and the same token continues later.
    async fn replay(
        &self,
        replay: &Replay,
        token: &Token,
        as_of: Option<AsOf>,
        now: Moment,
        limit: usize,
    ) -> Result<ReplayStep, StoreError>;

    /// Drops up to `limit` dead letters that the filter wants, or a few more, and that were dead at
    /// `as_of`: they stay visible as dropped, and "the dead" no longer means them. `after` is where
    /// the step before ended.
    async fn drop_dead(
        &self,
        filter: &Filter,
        as_of: AsOf,
        after: Option<i64>,
        now: Timestamp,
        limit: usize,
    ) -> Result<Dropped, StoreError>;

    /// A page of the messages that a filter wants, the newest first. What arrives between two pages is on neither.
    async fn list_messages(
        &self,
        filter: &Filter,
        now: Timestamp,
        page: Page,
    ) -> Result<MessagePage, StoreError>;

    /// The messages with this webhook id (one for each endpoint that received it), with their
    /// attempts and, if asked for, their payloads. If there are none, those whose payload names the
    /// id as that of its event; if there are none either, as that of its resource.
    async fn get_message(
        &self,
        id: &str,
        with_payload: bool,
    ) -> Result<Vec<MessageView>, StoreError>;

    /// Waits until the store can never be used again: it is closed, or a thread of it has died.
    async fn failed(&self);

    /// Waits until nothing has been written for some seconds, since the disk does not answer. It
    /// may answer again. A store that is asked over the network never says so: what is asked of it
    /// has a time-out.
    async fn hangs(&self) {
        std::future::pending::<()>().await;
    }

    /// Finishes what was asked for and closes the files. What is asked for afterwards is [`StoreError::Unavailable`].
    async fn close(&self);
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

/// How many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages kept.
    pub messages: u64,
    /// Deliveries waiting for an attempt, or being attempted.
    pub pending: u64,
    /// Deliveries done.
    pub delivered: u64,
    /// Deliveries given up.
    pub dead: u64,
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

/// Waiting deliveries by destination; a destination without any is left out.
pub async fn waiting(store: &dyn Store) -> Result<Vec<(String, u64)>, StoreError> {
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
