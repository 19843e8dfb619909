//! The contract of [`Store`] as a suite that every implementation runs. The model runs the part of
//! it that it models.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::task::JoinSet;
use unwrapd::delivery::response_excerpt::ResponseExcerpt;
use unwrapd::delivery::{Delivery, Lane, Next};
use unwrapd::message::{Message, Origin};
use unwrapd::store::postgres::{PostgresAddress, PostgresStore};
use unwrapd::store::sqlite::{SqliteStore, check};
use unwrapd::store::{
    Accepted, Attempt, Bounds, Claimed, DeliveryQueue, DestinationCounts, Inbox, LaneCounts, Lease,
    QUARANTINED_MAX, QuarantinedRequest, Recipient, Settled, Store, StoreError,
};

use crate::support::memory_store::{Disk, MemoryStore, Modelled};
use crate::support::postgres as server;
use crate::support::tally::{Counted as _, Tally};

pub(crate) const DAY: i64 = 24 * 3600;
pub(crate) const LEASE: Duration = Duration::from_secs(60);

pub(crate) fn open(path: &Path) -> Result<SqliteStore, StoreError> {
    SqliteStore::open(path, &Bounds::default(), at(0))
}

/// A location in which a store can be opened repeatedly.
#[async_trait]
pub(crate) trait Place: Sync {
    async fn open(&self) -> Arc<dyn Store> {
        self.open_within(&Bounds::default()).await
    }

    async fn open_within(&self, bounds: &Bounds) -> Arc<dyn Store>;
}

/// A place of a store or of its model, for the promises that the model makes too.
#[async_trait]
pub(crate) trait ModelledPlace: Sync {
    async fn open(&self) -> Arc<dyn Modelled>;
}

pub(crate) struct SqlitePlace(pub(crate) TempDir);

impl SqlitePlace {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    pub(crate) fn open(&self) -> Arc<dyn Store> {
        self.open_within(&Bounds::default())
    }

    pub(crate) fn open_within(&self, bounds: &Bounds) -> Arc<dyn Store> {
        Arc::new(self.store(bounds))
    }

    fn store(&self, bounds: &Bounds) -> SqliteStore {
        SqliteStore::open(&self.path(), bounds, at(0)).unwrap()
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("store.db")
    }

    /// Checks the file as `unwrapd db check` does.
    pub(crate) fn is_intact(&self) {
        for found in check(&self.path(), Bounds::default().dedupe, false, at(0)).unwrap() {
            assert!(found.result.is_ok(), "{found:?}");
        }
    }
}

#[async_trait]
impl Place for SqlitePlace {
    async fn open_within(&self, bounds: &Bounds) -> Arc<dyn Store> {
        Self::open_within(self, bounds)
    }
}

#[async_trait]
impl ModelledPlace for SqlitePlace {
    async fn open(&self) -> Arc<dyn Modelled> {
        Arc::new(self.store(&Bounds::default()))
    }
}

#[async_trait]
impl ModelledPlace for Disk {
    async fn open(&self) -> Arc<dyn Modelled> {
        Arc::new(MemoryStore::open(self))
    }
}

/// A separate schema on the server of this process.
pub(crate) struct PostgresPlace(pub(crate) PostgresAddress);

impl PostgresPlace {
    pub(crate) fn new() -> Self {
        Self(server::shared().schema())
    }
}

/// No operation depends on its session.
#[tokio::test]
#[cfg_attr(
    not(feature = "server-tests"),
    ignore = "needs PostgreSQL: run scripts/test"
)]
async fn a_pooler_in_transaction_mode_changes_nothing() {
    let pooler = server::Pooler::start(server::shared());
    let place = || PostgresPlace(pooler.schema());
    accept::a_message_is_claimed_with_every_byte_it_had(&place()).await;
    accept::many_copies_at_once_are_new_once(&place()).await;
    settle::a_late_settlement_changes_nothing(&place()).await;
    claim::a_released_delivery_is_due_again_under_the_same_number(&place()).await;
    whole::a_destination_stays_paused_until_it_is_resumed(&place()).await;
    whole::a_store_has_all_its_deliveries_after_opening_again(&place()).await;
    claim::concurrent_claims_never_share_a_delivery(&place()).await;
    quarantine::the_quarantine_holds_only_the_newest(&place()).await;
    quarantine::an_accepted_request_leaves_the_quarantine(&place()).await;
    prune::messages_past_the_retention_are_pruned_unless_they_wait(&place()).await;
    handoff::a_message_with_a_reservation_is_handed_over_and_leased(&place()).await;
    handoff::a_hand_off_can_be_released(&place()).await;
    replay::a_replay_requested_by_many_at_once_delivers_once(&place()).await;
    replay::a_dropped_dead_letter_stays_dropped_and_visible(&place()).await;
    look::pages_follow_each_other_without_gap_or_overlap(&place()).await;
}

#[async_trait]
impl Place for PostgresPlace {
    async fn open_within(&self, bounds: &Bounds) -> Arc<dyn Store> {
        Arc::new(PostgresStore::open(&self.0, bounds).await.unwrap())
    }
}

#[async_trait]
impl ModelledPlace for PostgresPlace {
    async fn open(&self) -> Arc<dyn Modelled> {
        let bounds = Bounds::default();
        Arc::new(PostgresStore::open(&self.0, &bounds).await.unwrap())
    }
}

macro_rules! every_store {
    // Promises that the model passes too, and those of the real stores only.
    ($($modelled:ident),* $(,)?; $($promise:ident),* $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test]
                async fn $modelled() {
                    let place = super::SqlitePlace::new();
                    super::$modelled(&place).await;
                    place.is_intact();
                }
            )*
            $(
                #[tokio::test]
                async fn $promise() {
                    let place = super::SqlitePlace::new();
                    super::$promise(&place).await;
                    place.is_intact();
                }
            )*
        }
        mod postgres {
            $(
                #[tokio::test]
                #[cfg_attr(not(feature = "server-tests"), ignore = "needs PostgreSQL: run scripts/test")]
                async fn $modelled() {
                    super::$modelled(&super::PostgresPlace::new()).await;
                }
            )*
            $(
                #[tokio::test]
                #[cfg_attr(not(feature = "server-tests"), ignore = "needs PostgreSQL: run scripts/test")]
                async fn $promise() {
                    super::$promise(&super::PostgresPlace::new()).await;
                }
            )*
        }
        mod memory {
            $(
                #[tokio::test]
                async fn $modelled() {
                    super::$modelled(&super::Disk::default()).await;
                }
            )*
        }
    };
}

mod accept;
mod bulk;
mod claim;
mod count;
mod failures;
mod give_up;
mod handoff;
mod look;
mod prune;
mod quarantine;
mod replay;
mod search;
mod settle;
mod time;
mod traffic;
mod unrouted;
mod whole;

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_750_000_000 + second).unwrap()
}

pub(crate) fn message(id: &str, received_at: Timestamp) -> Message {
    Message {
        origin: Origin::OpenAi,
        endpoint: "production".into(),
        webhook_id: id.into(),
        event_type: Some("batch.completed".into()),
        sent_at: at(-1),
        received_at,
        secret: Some(1),
        payload: Bytes::from_static(b"\0\xFF {} \r\n"),
    }
}

pub(crate) async fn accept(store: &Arc<impl Inbox + ?Sized>, id: &str, second: i64) -> Accepted {
    store
        .accept(message(id, at(second)), vec!["app".into()])
        .await
        .unwrap()
}

/// Number of messages that were new, by the answers.
pub(crate) fn new_among(answers: &[Accepted]) -> usize {
    let new = answers.iter().filter(|answer| **answer == Accepted::New);
    new.count()
}

pub(crate) async fn claim(store: &Arc<impl DeliveryQueue + ?Sized>, second: i64) -> Claimed {
    claim_up_to(store, second, 100).await
}

pub(crate) async fn claim_up_to(
    store: &Arc<impl DeliveryQueue + ?Sized>,
    second: i64,
    limit: usize,
) -> Claimed {
    store
        .claim("app", Lane::Standard, at(second), LEASE, limit)
        .await
        .unwrap()
}

/// A store with one delivery, which is leased until second 60.
async fn leased(place: &dyn ModelledPlace) -> (Arc<dyn Modelled>, Delivery) {
    let store = place.open().await;
    accept(&store, "wh_1", 0).await;
    let delivery = claim(&store, 0).await.deliveries.remove(0);
    (store, delivery)
}

pub(crate) async fn settle(
    store: &Arc<impl DeliveryQueue + ?Sized>,
    delivery: i64,
    number: u32,
    next: Next,
) -> Settled {
    let attempt = attempt(delivery, number, at(1), next);
    store.settle(attempt).await.unwrap()
}

/// Settles one delivery after the other with these next steps.
pub(crate) async fn settle_each<const N: usize>(
    store: &Arc<impl DeliveryQueue + ?Sized>,
    claimed: &Claimed,
    steps: [Next; N],
) {
    for (delivery, next) in claimed.deliveries.iter().zip(steps) {
        settle(store, delivery.id, 1, next).await;
    }
}

/// An attempt that ended at this time, with this next step.
pub(crate) fn attempt(delivery: i64, number: u32, ended_at: Timestamp, next: Next) -> Attempt {
    Attempt {
        delivery,
        number,
        ended_at,
        took: Duration::from_millis(5),
        answer: "HTTP 200".into(),
        said: ResponseExcerpt::default(),
        next,
    }
}

/// Prunes until nothing is left to prune. Returns the number of messages.
pub(crate) async fn prune(store: &Arc<dyn Store>, second: i64) -> u64 {
    let mut messages = 0;
    loop {
        let pruned = store.prune(at(second)).await.unwrap();
        messages += pruned.messages;
        if !pruned.is_more {
            return messages;
        }
    }
}

pub(crate) fn ids(claimed: &Claimed) -> Vec<&str> {
    claimed
        .deliveries
        .iter()
        .map(|delivery| delivery.message.webhook_id.as_str())
        .collect()
}
