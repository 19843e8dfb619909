//! The contract of [`Store`] as a suite that every implementation runs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::task::JoinSet;
use unwrapd::delivery::said::Said;
use unwrapd::delivery::{Delivery, Lane, Next};
use unwrapd::message::Message;
use unwrapd::store::postgres::{PostgresAddress, PostgresStore};
use unwrapd::store::sqlite::SqliteStore;
use unwrapd::store::{
    Accepted, Attempt, Bounds, Claimed, Lease, SUSPECTS_MAX, Settled, Standing, Store, StoreError,
    Suspect, Tally,
};

use crate::support::memory_store::{Disk, MemoryStore};
use crate::support::postgres as server;

pub(crate) const DAY: i64 = 24 * 3600;
pub(crate) const LEASE: Duration = Duration::from_secs(60);

pub(crate) fn open(path: &Path) -> Result<SqliteStore, StoreError> {
    SqliteStore::open(path, &Bounds::default(), at(0))
}

/// A place where a store can be opened again and again.
#[async_trait]
pub(crate) trait Place: Sync {
    async fn open(&self) -> Arc<dyn Store> {
        self.open_within(&Bounds::default()).await
    }

    async fn open_within(&self, bounds: &Bounds) -> Arc<dyn Store>;
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
        let path = self.0.path().join("store.db");
        Arc::new(SqliteStore::open(&path, bounds, at(0)).unwrap())
    }
}

#[async_trait]
impl Place for SqlitePlace {
    async fn open_within(&self, bounds: &Bounds) -> Arc<dyn Store> {
        Self::open_within(self, bounds)
    }
}

#[async_trait]
impl Place for Disk {
    async fn open_within(&self, _: &Bounds) -> Arc<dyn Store> {
        Arc::new(MemoryStore::open(self))
    }
}

/// A schema of its own on the server of this process.
pub(crate) struct PostgresPlace(pub(crate) PostgresAddress);

impl PostgresPlace {
    pub(crate) fn new() -> Self {
        Self(server::shared().schema())
    }
}

/// Nothing that is done depends on the session it is done in.
#[tokio::test]
async fn a_pooler_in_transaction_mode_changes_nothing() {
    let pooler = server::Pooler::start(server::shared());
    let place = || PostgresPlace(pooler.schema());
    a_message_is_claimed_with_every_byte_it_had(&place()).await;
    of_many_copies_at_once_one_is_new(&place()).await;
    a_late_settlement_changes_nothing(&place()).await;
    what_is_released_is_due_again_under_the_same_number(&place()).await;
    what_is_paused_stays_so_until_it_is_resumed(&place()).await;
    everything_is_there_after_opening_again(&place()).await;
    concurrent_claims_never_share_a_delivery(&place()).await;
    the_quarantine_keeps_the_newest_only(&place()).await;
    what_is_acquitted_is_accepted_and_leaves_the_quarantine(&place()).await;
    what_has_been_kept_long_enough_is_forgotten_and_what_waits_is_not(&place()).await;
    handover::what_there_is_a_place_for_is_handed_over_and_leased(&place()).await;
    handover::what_was_handed_over_can_be_given_back(&place()).await;
    replay::a_replay_asked_for_by_many_at_once_delivers_once(&place()).await;
    replay::what_is_dropped_stays_dropped_and_visible(&place()).await;
    replay::pages_follow_each_other_without_gap_or_overlap(&place()).await;
}

#[async_trait]
impl Place for PostgresPlace {
    async fn open_within(&self, bounds: &Bounds) -> Arc<dyn Store> {
        Arc::new(PostgresStore::open(&self.0, bounds).await.unwrap())
    }
}

macro_rules! every_store {
    // Promises of the model too, and those of the real stores only.
    ($($modelled:ident),* $(,)?; $($promise:ident),+ $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test]
                async fn $modelled() {
                    super::$modelled(&super::SqlitePlace::new()).await;
                }
            )*
            $(
                #[tokio::test]
                async fn $promise() {
                    super::$promise(&super::SqlitePlace::new()).await;
                }
            )+
        }
        mod postgres {
            $(
                #[tokio::test]
                async fn $modelled() {
                    super::$modelled(&super::PostgresPlace::new()).await;
                }
            )*
            $(
                #[tokio::test]
                async fn $promise() {
                    super::$promise(&super::PostgresPlace::new()).await;
                }
            )+
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

mod handover;
mod replay;

every_store!(
    a_message_is_claimed_with_every_byte_it_had,
    a_copy_is_a_duplicate_and_makes_no_delivery,
    the_same_id_at_another_endpoint_is_new,
    of_many_copies_at_once_one_is_new,
    a_message_nobody_wants_is_kept,
    what_is_claimed_is_leased_until_the_lease_ends,
    a_claim_takes_the_longest_due_first_and_no_more_than_asked,
    a_claim_takes_only_its_own_destination,
    a_claim_takes_only_its_own_lane,
    a_claim_says_when_the_next_is_due,
    what_is_delivered_is_never_claimed_again,
    what_is_to_be_retried_is_due_again_then,
    what_is_dead_is_never_claimed_again,
    a_late_settlement_changes_nothing,
    a_settlement_counts_once,
    what_is_released_is_due_again_under_the_same_number,
    a_lease_that_is_someone_elses_is_not_released,
    what_is_given_back_twice_is_not_taken_from_whoever_claimed_it_between,
    an_attempt_that_nobody_settled_does_not_count,
    what_is_paused_stays_so_until_it_is_resumed,
    what_stands_is_counted_for_each_destination,
    everything_is_there_after_opening_again,
    a_closed_store_is_unavailable,
    who_waits_for_the_end_does_not_hold_it_up,
    concurrent_claims_never_share_a_delivery;
    what_is_quarantined_is_listed_in_the_order_of_arrival,
    the_quarantine_keeps_the_newest_only,
    what_is_acquitted_is_accepted_and_leaves_the_quarantine,
    what_is_discarded_is_gone,
    what_has_been_kept_long_enough_is_forgotten_and_what_waits_is_not,
    a_message_is_kept_as_long_from_its_last_settlement,
    however_short_the_retention_an_id_is_known_for_the_whole_horizon,
    a_clock_that_was_set_costs_no_message,
);

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_750_000_000 + second).unwrap()
}

pub(crate) fn message(id: &str, received_at: Timestamp) -> Message {
    Message {
        endpoint: "production".into(),
        webhook_id: id.into(),
        event_type: Some("batch.completed".into()),
        sent_at: at(-1),
        received_at,
        secret: Some(1),
        payload: Bytes::from_static(b"\0\xFF {} \r\n"),
    }
}

pub(crate) async fn accept(store: &Arc<dyn Store>, id: &str, second: i64) -> Accepted {
    store
        .accept(message(id, at(second)), vec!["app".into()])
        .await
        .unwrap()
}

pub(crate) async fn claim(store: &Arc<dyn Store>, second: i64) -> Claimed {
    store
        .claim("app", Lane::Standard, at(second), LEASE, 100)
        .await
        .unwrap()
}

pub(crate) async fn settle(
    store: &Arc<dyn Store>,
    delivery: i64,
    number: u32,
    next: Next,
) -> Settled {
    let attempt = Attempt {
        delivery,
        number,
        ended_at: at(1),
        took: Duration::from_millis(5),
        answer: "HTTP 200".into(),
        said: Said::default(),
        next,
    };
    store.settle(attempt).await.unwrap()
}

/// Steps until nothing is left to forget, and how many messages that was.
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

async fn a_message_is_claimed_with_every_byte_it_had(place: &dyn Place) {
    let store = place.open().await;
    assert_eq!(accept(&store, "wh_1", 0).await, Accepted::New);
    let claimed = claim(&store, 0).await;
    assert_eq!(claimed.deliveries.len(), 1);
    assert_eq!(claimed.deliveries[0].message, message("wh_1", at(0)));
    assert_eq!(claimed.deliveries[0].destination, "app");
    assert_eq!(claimed.deliveries[0].attempt, 1);

    let mut not_an_event = message("wh_2", at(0));
    not_an_event.event_type = None;
    not_an_event.payload = Bytes::new();
    store
        .accept(not_an_event.clone(), vec!["app".into()])
        .await
        .unwrap();
    assert_eq!(claim(&store, 0).await.deliveries[0].message, not_an_event);
}

async fn a_copy_is_a_duplicate_and_makes_no_delivery(place: &dyn Place) {
    let store = place.open().await;
    assert_eq!(accept(&store, "wh_1", 0).await, Accepted::New);
    assert_eq!(accept(&store, "wh_1", 5).await, Accepted::Duplicate);
    assert_eq!(claim(&store, 9).await.deliveries.len(), 1);
    assert_eq!(store.tally().await.unwrap().messages, 1);
}

async fn the_same_id_at_another_endpoint_is_new(place: &dyn Place) {
    let store = place.open().await;
    accept(&store, "wh_1", 0).await;
    let mut other = message("wh_1", at(0));
    other.endpoint = "staging".into();
    assert_eq!(store.accept(other, vec![]).await.unwrap(), Accepted::New);
}

async fn of_many_copies_at_once_one_is_new(place: &dyn Place) {
    let store = place.open().await;
    let mut copies = JoinSet::new();
    for _ in 0..100 {
        let store = Arc::clone(&store);
        copies.spawn(async move { accept(&store, "wh_1", 0).await });
    }
    let answers = copies.join_all().await;
    let new = answers
        .iter()
        .filter(|answer| **answer == Accepted::New)
        .count();
    assert_eq!(new, 1);
    assert_eq!(claim(&store, 0).await.deliveries.len(), 1);
}

async fn a_message_nobody_wants_is_kept(place: &dyn Place) {
    let store = place.open().await;
    store.accept(message("wh_1", at(0)), vec![]).await.unwrap();
    assert_eq!(claim(&store, 0).await, Claimed::default());
    assert_eq!(
        store.tally().await.unwrap(),
        Tally {
            messages: 1,
            ..Tally::default()
        }
    );
}

async fn what_is_claimed_is_leased_until_the_lease_ends(place: &dyn Place) {
    let store = place.open().await;
    accept(&store, "wh_1", 0).await;
    assert_eq!(claim(&store, 0).await.deliveries.len(), 1);
    assert_eq!(claim(&store, 59).await.deliveries.len(), 0);
    let again = claim(&store, 60).await;
    assert_eq!(again.deliveries.len(), 1);
    assert_eq!(again.deliveries[0].attempt, 2);
}

async fn a_claim_takes_the_longest_due_first_and_no_more_than_asked(place: &dyn Place) {
    let store = place.open().await;
    for (id, second) in [("wh_c", 3), ("wh_a", 1), ("wh_b", 2), ("wh_future", 50)] {
        accept(&store, id, second).await;
    }
    let claimed = store
        .claim("app", Lane::Standard, at(10), LEASE, 2)
        .await
        .unwrap();
    assert_eq!(ids(&claimed), ["wh_a", "wh_b"]);
    assert_eq!(ids(&claim(&store, 10).await), ["wh_c"]);
}

async fn a_claim_takes_only_its_own_destination(place: &dyn Place) {
    let store = place.open().await;
    let destinations = vec!["app".into(), "audit".into()];
    store
        .accept(message("wh_1", at(0)), destinations)
        .await
        .unwrap();
    assert_eq!(claim(&store, 0).await.deliveries.len(), 1);
    let audit = store
        .claim("audit", Lane::Standard, at(0), LEASE, 100)
        .await
        .unwrap();
    assert_eq!(audit.deliveries.len(), 1);
    assert_eq!(audit.deliveries[0].destination, "audit");
    let nobody = store
        .claim("nobody", Lane::Standard, at(0), LEASE, 100)
        .await
        .unwrap();
    assert_eq!(nobody, Claimed::default());
}

async fn a_claim_takes_only_its_own_lane(place: &dyn Place) {
    let store = place.open().await;
    accept(&store, "wh_1", 0).await;
    let mut call = message("wh_call", at(0));
    call.event_type = Some("realtime.call.incoming".into());
    store.accept(call, vec!["app".into()]).await.unwrap();
    let calls = store
        .claim("app", Lane::Call, at(0), LEASE, 100)
        .await
        .unwrap();
    assert_eq!(ids(&calls), ["wh_call"]);
    assert_eq!(calls.deliveries[0].lane, Lane::Call);
    assert_eq!(ids(&claim(&store, 0).await), ["wh_1"]);
}

async fn a_claim_says_when_the_next_is_due(place: &dyn Place) {
    let store = place.open().await;
    assert_eq!(claim(&store, 0).await.next_due_at, None);
    accept(&store, "wh_1", 5).await;
    assert_eq!(claim(&store, 0).await.next_due_at, Some(at(5)));
    assert_eq!(
        claim(&store, 5).await.next_due_at,
        Some(at(65)),
        "the lease's end"
    );
}

async fn what_is_delivered_is_never_claimed_again(place: &dyn Place) {
    let store = place.open().await;
    accept(&store, "wh_1", 0).await;
    let delivery = claim(&store, 0).await.deliveries.remove(0);
    assert_eq!(
        settle(&store, delivery.id, 1, Next::Delivered).await,
        Settled::Settled
    );
    assert_eq!(claim(&store, 1_000_000).await, Claimed::default());
    let tally = store.tally().await.unwrap();
    assert_eq!(
        tally,
        Tally {
            messages: 1,
            delivered: 1,
            ..Tally::default()
        }
    );
}

async fn what_is_to_be_retried_is_due_again_then(place: &dyn Place) {
    let store = place.open().await;
    accept(&store, "wh_1", 0).await;
    let delivery = claim(&store, 0).await.deliveries.remove(0);
    settle(&store, delivery.id, 1, Next::Retry { due_at: at(7) }).await;
    assert_eq!(claim(&store, 6).await.next_due_at, Some(at(7)));
    let again = claim(&store, 7).await;
    assert_eq!(again.deliveries[0].attempt, 2);
}

async fn what_is_dead_is_never_claimed_again(place: &dyn Place) {
    let store = place.open().await;
    accept(&store, "wh_1", 0).await;
    let delivery = claim(&store, 0).await.deliveries.remove(0);
    settle(&store, delivery.id, 1, Next::Dead).await;
    assert_eq!(claim(&store, 1_000_000).await, Claimed::default());
    assert_eq!(
        store.tally().await.unwrap(),
        Tally {
            messages: 1,
            dead: 1,
            ..Tally::default()
        }
    );
}

async fn a_late_settlement_changes_nothing(place: &dyn Place) {
    let store = place.open().await;
    accept(&store, "wh_1", 0).await;
    let late = claim(&store, 0).await.deliveries.remove(0);
    let current = claim(&store, 60).await.deliveries.remove(0);
    assert_eq!(
        settle(&store, late.id, late.attempt, Next::Dead).await,
        Settled::Fenced
    );
    assert_eq!(store.tally().await.unwrap().pending, 1);
    assert_eq!(
        settle(&store, current.id, current.attempt, Next::Delivered).await,
        Settled::Settled
    );
}

async fn a_settlement_counts_once(place: &dyn Place) {
    let store = place.open().await;
    accept(&store, "wh_1", 0).await;
    let delivery = claim(&store, 0).await.deliveries.remove(0);
    let retry = Next::Retry { due_at: at(7) };
    assert_eq!(
        settle(&store, delivery.id, 1, retry).await,
        Settled::Settled
    );
    assert_eq!(
        settle(&store, delivery.id, 1, Next::Delivered).await,
        Settled::Fenced
    );
    assert_eq!(
        settle(&store, 12345, 1, Next::Delivered).await,
        Settled::Fenced
    );
    assert_eq!(claim(&store, 7).await.deliveries.len(), 1);
}

async fn what_is_released_is_due_again_under_the_same_number(place: &dyn Place) {
    let store = place.open().await;
    accept(&store, "wh_1", 0).await;
    for _ in 0..2 {
        let claimed = claim(&store, 0).await.deliveries.remove(0);
        assert_eq!(claimed.attempt, 1);
        store.release(vec![Lease::from(&claimed)]).await.unwrap();
    }
    // Nothing was attempted, so nothing can be settled.
    let claimed = claim(&store, 0).await.deliveries.remove(0);
    store.release(vec![Lease::from(&claimed)]).await.unwrap();
    assert_eq!(
        settle(&store, claimed.id, 1, Next::Delivered).await,
        Settled::Fenced
    );
    assert_eq!(store.tally().await.unwrap().pending, 1);
}

async fn a_lease_that_is_someone_elses_is_not_released(place: &dyn Place) {
    let store = place.open().await;
    accept(&store, "wh_1", 0).await;
    let late = claim(&store, 0).await.deliveries.remove(0);
    let current = claim(&store, 60).await.deliveries.remove(0);
    store.release(vec![Lease::from(&late)]).await.unwrap();
    assert_eq!(claim(&store, 61).await.deliveries, []);
    assert_eq!(
        settle(&store, current.id, current.attempt, Next::Delivered).await,
        Settled::Settled
    );
}

/// Who does not hear that something was given back gives it back once more.
async fn what_is_given_back_twice_is_not_taken_from_whoever_claimed_it_between(place: &dyn Place) {
    let store = place.open().await;
    accept(&store, "wh_1", 0).await;
    let first = claim(&store, 0).await.deliveries.remove(0);
    store.release(vec![Lease::from(&first)]).await.unwrap();
    let second = claim(&store, 0).await.deliveries.remove(0);
    assert_eq!((second.id, second.attempt), (first.id, first.attempt));
    store.release(vec![Lease::from(&first)]).await.unwrap();
    assert_eq!(claim(&store, 1).await.deliveries, []);
    assert_eq!(
        settle(&store, second.id, second.attempt, Next::Delivered).await,
        Settled::Settled
    );
}

/// Or a gateway that dies often would make its deliveries wait as if their destination had failed as often.
async fn an_attempt_that_nobody_settled_does_not_count(place: &dyn Place) {
    let store = place.open().await;
    accept(&store, "wh_1", 0).await;
    let counted = |delivery: &Delivery| delivery.attempt - delivery.earlier;
    for claimed_at in [0, 60, 120] {
        let claimed = claim(&store, claimed_at).await.deliveries.remove(0);
        assert_eq!(counted(&claimed), 1, "{claimed:?}");
    }
    let failing = claim(&store, 180).await.deliveries.remove(0);
    let due_at = at(200);
    let failed = settle(&store, failing.id, failing.attempt, Next::Retry { due_at }).await;
    assert_eq!(failed, Settled::Settled);
    for claimed_at in [200, 260] {
        let claimed = claim(&store, claimed_at).await.deliveries.remove(0);
        assert_eq!(counted(&claimed), 2, "{claimed:?}");
    }
}

async fn what_is_paused_stays_so_until_it_is_resumed(place: &dyn Place) {
    let store = place.open().await;
    assert_eq!(store.paused().await.unwrap(), []);
    store.pause("b", at(1)).await.unwrap();
    store.pause("a", at(2)).await.unwrap();
    store.pause("a", at(3)).await.unwrap();
    let both = [("a".to_owned(), at(2)), ("b".to_owned(), at(1))];
    assert_eq!(store.paused().await.unwrap(), both);
    store.close().await;
    drop(store);

    let store = place.open().await;
    assert_eq!(store.paused().await.unwrap(), both);
    store.resume("b").await.unwrap();
    store.resume("never paused").await.unwrap();
    assert_eq!(store.paused().await.unwrap(), both[..1]);
}

async fn what_stands_is_counted_for_each_destination(place: &dyn Place) {
    let store = place.open().await;
    assert_eq!(store.standings().await.unwrap(), []);
    for id in ["wh_delivered", "wh_dead", "wh_waiting", "wh_leased"] {
        accept(&store, id, 0).await;
    }
    let audit = vec!["audit".into()];
    store.accept(message("wh_5", at(0)), audit).await.unwrap();
    for delivery in claim(&store, 0).await.deliveries {
        match delivery.message.webhook_id.as_str() {
            "wh_delivered" => settle(&store, delivery.id, 1, Next::Delivered).await,
            "wh_dead" => settle(&store, delivery.id, 1, Next::Dead).await,
            _ => continue,
        };
    }
    let standing = |destination: &str, waiting, dead| Standing {
        destination: destination.into(),
        waiting,
        dead,
    };
    let mut standings = store.standings().await.unwrap();
    standings.sort_by(|a, b| a.destination.cmp(&b.destination));
    assert_eq!(standings, [standing("app", 2, 1), standing("audit", 1, 0)]);
}

async fn everything_is_there_after_opening_again(place: &dyn Place) {
    let store = place.open().await;
    for id in ["wh_delivered", "wh_dead", "wh_retried", "wh_waiting"] {
        accept(&store, id, 0).await;
    }
    let claimed = store
        .claim("app", Lane::Standard, at(0), LEASE, 3)
        .await
        .unwrap();
    for delivery in &claimed.deliveries {
        let next = match delivery.message.webhook_id.as_str() {
            "wh_delivered" => Next::Delivered,
            "wh_dead" => Next::Dead,
            _ => Next::Retry { due_at: at(9) },
        };
        settle(&store, delivery.id, 1, next).await;
    }
    store.close().await;
    drop(store);

    let store = place.open().await;
    assert_eq!(accept(&store, "wh_delivered", 1).await, Accepted::Duplicate);
    let tally = Tally {
        messages: 4,
        pending: 2,
        delivered: 1,
        dead: 1,
    };
    assert_eq!(store.tally().await.unwrap(), tally);
    assert_eq!(ids(&claim(&store, 9).await), ["wh_waiting", "wh_retried"]);
}

fn suspect(number: i64) -> Suspect {
    Suspect {
        id: 0,
        endpoint: "production".into(),
        received_at: at(number),
        reason: "no signature matches".into(),
        headers: vec![("webhook-id".into(), format!("wh_{number}"))],
        size: Some(4),
        body: Some(Bytes::from_static(b"\0\xFF{}")),
    }
}

async fn what_is_quarantined_is_listed_in_the_order_of_arrival(place: &dyn Place) {
    let store = place.open().await;
    for number in 0..3 {
        store.quarantine(suspect(number)).await.unwrap();
    }
    let mut first = store.suspects(0, 2).await.unwrap();
    let rest = store.suspects(first[1].id, 9).await.unwrap();
    assert_eq!((first.len(), rest.len()), (2, 1));
    assert_eq!(rest[0].headers[0].1, "wh_2");
    first[0].id = 0;
    assert_eq!(first[0], suspect(0));
    assert_eq!(store.tally().await.unwrap(), Tally::default());
}

async fn the_quarantine_keeps_the_newest_only(place: &dyn Place) {
    let store = place.open().await;
    let mut added = JoinSet::new();
    for number in 0..SUSPECTS_MAX + 10 {
        let store = Arc::clone(&store);
        added.spawn(async move { while store.quarantine(suspect(number)).await.is_err() {} });
    }
    added.join_all().await;
    let kept = store.suspects(0, 5000).await.unwrap();
    assert_eq!(i64::try_from(kept.len()).unwrap(), SUSPECTS_MAX);
    assert_eq!(kept[0].id, 11);

    // What cannot be proven any more goes before what can.
    let bodiless = Suspect {
        body: None,
        ..suspect(1)
    };
    for suspect in [bodiless, suspect(2)] {
        store.quarantine(suspect).await.unwrap();
    }
    let kept = store.suspects(0, 5000).await.unwrap();
    assert_eq!(i64::try_from(kept.len()).unwrap(), SUSPECTS_MAX);
    assert_eq!(kept[0].id, 12);
    assert!(kept.iter().all(|suspect| suspect.body.is_some()));
}

async fn what_is_acquitted_is_accepted_and_leaves_the_quarantine(place: &dyn Place) {
    let store = place.open().await;
    store.quarantine(suspect(1)).await.unwrap();
    store.quarantine(suspect(2)).await.unwrap();
    let ids: Vec<i64> = store
        .suspects(0, 9)
        .await
        .unwrap()
        .iter()
        .map(|suspect| suspect.id)
        .collect();
    let acquit = |id| store.acquit(id, message("wh_1", at(0)), vec!["app".into()]);
    assert_eq!(acquit(ids[0]).await.unwrap(), Accepted::New);
    assert_eq!(acquit(ids[1]).await.unwrap(), Accepted::Duplicate);
    assert!(store.suspects(0, 9).await.unwrap().is_empty());
    assert_eq!(claim(&store, 0).await.deliveries.len(), 1);
}

async fn what_is_discarded_is_gone(place: &dyn Place) {
    let store = place.open().await;
    for number in 0..3 {
        store.quarantine(suspect(number)).await.unwrap();
    }
    let first = store.suspects(0, 1).await.unwrap()[0].id;
    assert_eq!(store.discard(Some(first)).await.unwrap(), 1);
    assert_eq!(store.discard(Some(first)).await.unwrap(), 0);
    assert_eq!(store.discard(None).await.unwrap(), 2);
    assert!(store.suspects(0, 9).await.unwrap().is_empty());
}

async fn a_closed_store_is_unavailable(place: &dyn Place) {
    let store = place.open().await;
    store.close().await;
    store.close().await;
    let refused = store.accept(message("wh_1", at(0)), vec![]).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))));
}

async fn who_waits_for_the_end_does_not_hold_it_up(place: &dyn Place) {
    let store = place.open().await;
    tokio::join!(store.ended(), store.close());
}

async fn concurrent_claims_never_share_a_delivery(place: &dyn Place) {
    let store = place.open().await;
    for number in 0..200 {
        accept(&store, &format!("wh_{number}"), 0).await;
    }
    let mut claims = JoinSet::new();
    for _ in 0..40 {
        let store = Arc::clone(&store);
        claims.spawn(async move {
            store
                .claim("app", Lane::Standard, at(0), LEASE, 10)
                .await
                .unwrap()
        });
    }
    let mut claimed: Vec<i64> = claims
        .join_all()
        .await
        .into_iter()
        .flat_map(|claimed| claimed.deliveries)
        .map(|delivery| delivery.id)
        .collect();
    assert_eq!(claimed.len(), 200);
    claimed.sort_unstable();
    claimed.dedup();
    assert_eq!(claimed.len(), 200);
}

async fn what_has_been_kept_long_enough_is_forgotten_and_what_waits_is_not(place: &dyn Place) {
    let store = place.open().await;
    for id in ["wh_delivered", "wh_dead", "wh_waiting", "wh_leased"] {
        accept(&store, id, 0).await;
    }
    let unwanted = message("wh_unwanted", at(0));
    store.accept(unwanted, vec![]).await.unwrap();
    let claimed = store
        .claim("app", Lane::Standard, at(0), LEASE, 3)
        .await
        .unwrap();
    for (delivery, next) in
        claimed
            .deliveries
            .iter()
            .zip([Next::Delivered, Next::Dead, Next::Retry { due_at: at(7) }])
    {
        settle(&store, delivery.id, 1, next).await;
    }
    let to_audit = vec!["audit".into()];
    store
        .accept(message("wh_young", at(2 * DAY)), to_audit)
        .await
        .unwrap();

    assert_eq!(prune(&store, 29 * DAY).await, 0);
    assert_eq!(store.tally().await.unwrap().messages, 6);
    assert_eq!(
        prune(&store, 31 * DAY).await,
        3,
        "delivered, dead, unwanted"
    );
    let tally = Tally {
        messages: 3,
        pending: 3,
        ..Tally::default()
    };
    assert_eq!(store.tally().await.unwrap(), tally);

    assert_eq!(prune(&store, 1000 * DAY).await, 0);
    let claimed = claim(&store, 1000 * DAY).await;
    assert_eq!(ids(&claimed), ["wh_leased", "wh_waiting"]);
    assert_eq!(claimed.deliveries[1].message, message("wh_waiting", at(0)));
}

async fn a_message_is_kept_as_long_from_its_last_settlement(place: &dyn Place) {
    let store = place.open().await;
    accept(&store, "wh_1", 0).await;
    let delivery = claim(&store, 40 * DAY).await.deliveries.remove(0);
    let attempt = Attempt {
        delivery: delivery.id,
        number: 1,
        ended_at: at(40 * DAY),
        took: Duration::ZERO,
        answer: "HTTP 410".into(),
        said: Said::default(),
        next: Next::Dead,
    };
    store.settle(attempt).await.unwrap();
    assert_eq!(prune(&store, 69 * DAY).await, 0);
    assert_eq!(prune(&store, 71 * DAY).await, 1);
    assert_eq!(store.tally().await.unwrap().dead, 0);
}

async fn however_short_the_retention_an_id_is_known_for_the_whole_horizon(place: &dyn Place) {
    let bounds = Bounds {
        retention: Duration::ZERO,
        ..Bounds::default()
    };
    let store = place.open_within(&bounds).await;
    for id in ["wh_1", "wh_2", "wh_3"] {
        store.accept(message(id, at(0)), vec![]).await.unwrap();
    }
    assert_eq!(prune(&store, 7 * DAY - 1).await, 3);
    for id in ["wh_1", "wh_2", "wh_3"] {
        assert_eq!(accept(&store, id, 7 * DAY - 1).await, Accepted::Duplicate);
    }
    store.close().await;
    drop(store);

    let store = place.open_within(&bounds).await;
    for id in ["wh_1", "wh_2", "wh_3"] {
        assert_eq!(accept(&store, id, 7 * DAY - 1).await, Accepted::Duplicate);
    }
    assert_eq!(prune(&store, 7 * DAY + 1).await, 0, "nothing is left of it");
    assert_eq!(accept(&store, "wh_1", 7 * DAY + 1).await, Accepted::New);
}

async fn a_clock_that_was_set_costs_no_message(place: &dyn Place) {
    let store = place.open().await;
    // Ahead by years, far behind, and right, in turn.
    for (id, day) in [
        ("wh_ahead", 5000),
        ("wh_behind", -5000),
        ("wh_right", 20),
        ("wh_old", 0),
        ("wh_last", 20),
    ] {
        store
            .accept(message(id, at(day * DAY)), vec![])
            .await
            .unwrap();
    }
    assert_eq!(prune(&store, 31 * DAY).await, 2, "behind and old");
    for id in ["wh_ahead", "wh_right", "wh_last"] {
        assert_eq!(accept(&store, id, 24 * DAY).await, Accepted::Duplicate);
    }
    assert_eq!(prune(&store, 30 * DAY).await, 0);
}
