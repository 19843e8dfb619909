//! What the PostgreSQL store promises beyond what every store does: several on one database, and a database that goes away.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use unwrapd::delivery::{Lane, Next};
use unwrapd::handover::Handover;
use unwrapd::message::Message;
use unwrapd::store::postgres::{PostgresAddress, PostgresStore};
use unwrapd::store::{Accepted, Bounds, Recipient, Settled, Store, StoreError};

use crate::store_conformance::{
    DAY, LEASE, Place as _, PostgresPlace, accept, at, claim, ids, message, prune, settle,
};
use crate::support::PATIENCE;
use crate::support::postgres::{self as server, Server};
use crate::support::relay::Relay;

async fn open(address: &PostgresAddress) -> Result<Arc<dyn Store>, StoreError> {
    let store = PostgresStore::open(address, &Bounds::default()).await?;
    Ok(Arc::new(store))
}

fn schema_of(place: &PostgresPlace) -> &str {
    place.0.schema()
}

#[tokio::test]
async fn a_role_that_does_not_wait_for_its_commits_is_refused() {
    let server = server::shared();
    for (role, setting) in [("hasty", "off"), ("local", "local")] {
        server.sql(&format!(
            "CREATE ROLE {role} LOGIN SUPERUSER; ALTER ROLE {role} SET synchronous_commit TO {setting}"
        ));
        let refused = open(&server.address(role, "refused")).await.err().unwrap();
        let StoreError::Unusable(problem) = &refused else {
            panic!("{refused:?}")
        };
        assert!(problem.contains("`synchronous_commit` is"), "{problem}");
        assert!(problem.contains("ALTER ROLE"), "{problem}");
    }
}

#[tokio::test]
async fn a_schema_of_someone_else_or_of_a_newer_version_is_refused() {
    let server = server::shared();
    let place = PostgresPlace::new();
    let schema = schema_of(&place);
    server.sql(&format!(
        "CREATE SCHEMA {schema}; CREATE TABLE {schema}.message (of_theirs int)"
    ));
    let refused = open(&place.0).await.err().unwrap();
    assert!(
        refused.to_string().contains("another application"),
        "{refused}"
    );

    let place = PostgresPlace::new();
    place.open().await.close().await;
    let schema = schema_of(&place);
    server.sql(&format!("INSERT INTO {schema}.migration VALUES (1000)"));
    let refused = open(&place.0).await.err().unwrap();
    assert!(refused.to_string().contains("newer version"), "{refused}");
}

#[tokio::test]
async fn many_open_an_empty_database_at_once() {
    let place = PostgresPlace::new();
    let mut opened = JoinSet::new();
    for number in 0..6 {
        let address = place.0.clone();
        opened.spawn(async move {
            let store = open(&address).await.unwrap();
            accept(&store, &format!("wh_{number}"), 0).await;
            store
        });
    }
    let stores = opened.join_all().await;
    assert_eq!(stores[0].tally().await.unwrap().messages, 6);
}

#[tokio::test]
async fn a_database_that_is_not_there_is_said_without_who_and_where() {
    let address: PostgresAddress = "postgres://me@localhost:1/events".parse().unwrap();
    let error = open(&address.with_password("hunter2")).await.err().unwrap();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    let error = format!("{error} {error:?}");
    for secret in ["me@", "hunter2", "localhost"] {
        assert!(!error.contains(secret), "{error}");
    }
}

#[tokio::test]
async fn two_stores_never_hold_one_delivery_at_once() {
    const MESSAGES: usize = 400;
    let place = PostgresPlace::new();
    let stores = [place.open().await, place.open().await];
    let held: Arc<Mutex<BTreeSet<i64>>> = Arc::default();
    let delivered: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
    let mut workers = JoinSet::new();
    for store in &stores {
        for _ in 0..3 {
            let (store, held) = (Arc::clone(store), Arc::clone(&held));
            let delivered = Arc::clone(&delivered);
            workers.spawn(async move {
                while delivered.lock().unwrap().len() < MESSAGES {
                    let claimed = store
                        .claim("app", Lane::Standard, at(1), LEASE, 7)
                        .await
                        .unwrap();
                    for delivery in &claimed.deliveries {
                        assert!(held.lock().unwrap().insert(delivery.id));
                        assert_eq!(delivery.attempt, 1);
                    }
                    for delivery in claimed.deliveries {
                        held.lock().unwrap().remove(&delivery.id);
                        settle(&store, delivery.id, 1, Next::Delivered).await;
                        let id = delivery.message.webhook_id;
                        *delivered.lock().unwrap().entry(id).or_default() += 1;
                    }
                    tokio::task::yield_now().await;
                }
            });
        }
    }
    for number in 0..MESSAGES {
        accept(&stores[number % 2], &format!("wh_{number}"), 0).await;
    }
    workers.join_all().await;
    assert!(delivered.lock().unwrap().values().all(|times| *times == 1));
}

/// Long before its lease ends.
#[tokio::test]
async fn what_a_gateway_held_that_fell_silent_is_due_again() {
    let place = PostgresPlace::new();
    let silent = place.open().await;
    accept(&silent, "wh_1", 0).await;
    let held = claim(&silent, 0).await.deliveries.remove(0);
    let schema = schema_of(&place);
    // It said that it is alive before it held anything.
    let holders = format!("SELECT count(*) FROM {schema}.holder");
    assert_eq!(server::shared().sql(&holders), "1");
    drop(silent);

    let store = place.open().await;
    assert_eq!(claim(&store, 1).await.deliveries, []);
    server::shared().sql(&format!(
        "UPDATE {schema}.holder SET beat_at = beat_at - interval '11 s'"
    ));
    let deadline = Instant::now() + PATIENCE;
    let again = loop {
        if let Some(again) = claim(&store, 1).await.deliveries.pop() {
            break again;
        }
        assert!(Instant::now() < deadline);
        sleep(Duration::from_millis(50)).await;
    };
    assert_eq!((again.id, again.attempt), (held.id, 2));
    let late = settle(&store, held.id, held.attempt, Next::Dead).await;
    assert_eq!(late, Settled::Fenced);
    store.close().await;

    let store = place.open().await;
    let given_back = claim(&store, 1).await.deliveries.remove(0);
    assert_eq!(given_back.attempt, 3);
}

#[tokio::test]
async fn of_copies_at_two_stores_one_is_new() {
    let place = PostgresPlace::new();
    let stores = [place.open().await, place.open().await];
    let mut copies = JoinSet::new();
    for number in 0..200 {
        let store = Arc::clone(&stores[number % 2]);
        // Several ids, in another order at each: whoever inserts them in the order of arrival would be crossed by the other.
        let id = if number % 2 == 0 {
            number / 2 % 10
        } else {
            9 - number / 2 % 10
        };
        copies.spawn(async move { accept(&store, &format!("wh_{id}"), 0).await });
    }
    let answers = copies.join_all().await;
    let new = answers
        .iter()
        .filter(|answer| **answer == Accepted::New)
        .count();
    assert_eq!(new, 10);
    assert_eq!(stores[0].tally().await.unwrap().pending, 10);
}

#[tokio::test]
async fn of_many_copies_that_come_to_two_stores_at_once_each_is_new_at_one() {
    const IDS: usize = 600;
    let place = PostgresPlace::new();
    let stores = [place.open().await, place.open().await];
    let mut copies = JoinSet::new();
    for number in 0..IDS {
        for store in &stores {
            let store = Arc::clone(store);
            copies.spawn(async move { accept(&store, &format!("wh_{number:03}"), 0).await });
        }
    }
    let answers = copies.join_all().await;
    let new = answers
        .iter()
        .filter(|answer| **answer == Accepted::New)
        .count();
    assert_eq!((new, answers.len()), (IDS, 2 * IDS));
    assert_eq!(stores[0].tally().await.unwrap().pending, IDS as u64);
}

/// Its clock may be behind, or its commit may have taken long.
#[tokio::test]
async fn what_another_store_received_long_before_is_claimed_all_the_same() {
    let place = PostgresPlace::new();
    let stores = [place.open().await, place.open().await];
    accept(&stores[0], "wh_now", 0).await;
    let first = claim(&stores[1], 1).await.deliveries.remove(0);
    assert_eq!(first.message.webhook_id, "wh_now");
    assert_eq!(claim(&stores[1], 1).await.deliveries, []);
    accept(&stores[0], "wh_before", -DAY).await;
    let found = async {
        loop {
            stores[1].heard().await;
            if let Some(found) = claim(&stores[1], 1).await.deliveries.pop() {
                return found;
            }
        }
    };
    let found = timeout(PATIENCE, found).await.unwrap();
    assert_eq!(found.message.webhook_id, "wh_before");
}

/// What is due in years is not found by looking for what is due.
#[tokio::test]
async fn work_at_one_store_is_told_to_the_other() {
    let place = PostgresPlace::new();
    let stores = [place.open().await, place.open().await];
    let years = 100 * 365 * DAY;
    let told = async {
        loop {
            let heard = stores[1].heard().await;
            if !heard.due.is_empty() {
                return heard.due;
            }
        }
    };
    let accepted = async {
        // It may not listen yet.
        for number in 0.. {
            accept(&stores[0], &format!("wh_{number}"), years).await;
            sleep(Duration::from_millis(50)).await;
        }
    };
    let told = timeout(PATIENCE, async {
        tokio::select! {
            due = told => due,
            () = accepted => unreachable!(),
        }
    })
    .await
    .unwrap();
    assert_eq!(told, [("app".to_owned(), Lane::Standard)].into());
}

#[tokio::test]
async fn what_nobody_told_is_found_by_looking() {
    let place = PostgresPlace::new();
    let store = place.open().await;
    let mut call = message("wh_call", at(0));
    call.event_type = Some("realtime.call.incoming".into());
    store.accept(call, vec!["phone".into()]).await.unwrap();
    accept(&store, "wh_1", 0).await;
    accept(&store, "wh_2", 0).await;
    // A store does not listen to itself, but it hears of gateways.
    let heard = timeout(PATIENCE, async {
        loop {
            let heard = store.heard().await;
            if !heard.due.is_empty() {
                return heard;
            }
        }
    });
    let heard = heard.await.unwrap();
    let due = [
        ("app".to_owned(), Lane::Standard),
        ("phone".to_owned(), Lane::Call),
    ];
    assert_eq!(heard.due, due.into());
}

#[tokio::test]
async fn what_postgresql_cannot_hold_is_refused_alone() {
    let place = PostgresPlace::new();
    let store = place.open().await;
    let mut odd_type = message("wh_odd_type", at(0));
    odd_type.event_type = Some("a\0b".into());
    assert_eq!(
        store.accept(odd_type, vec!["app".into()]).await.unwrap(),
        Accepted::New
    );
    assert_eq!(
        claim(&store, 0).await.deliveries[0]
            .message
            .event_type
            .as_deref(),
        Some("a\u{FFFD}b")
    );

    let mut accepted = JoinSet::new();
    for number in 0..20 {
        let store = Arc::clone(&store);
        // A header cannot hold this.
        let id = if number == 7 {
            "wh_\0".to_owned()
        } else {
            format!("wh_{number}")
        };
        accepted.spawn(async move { store.accept(message(&id, at(0)), vec![]).await });
    }
    let answers = accepted.join_all().await;
    let refused = answers.iter().filter(|answer| answer.is_err()).count();
    assert_eq!(refused, 1);
    assert_eq!(store.tally().await.unwrap().messages, 20);
}

/// Accepts without end from several tasks, and knows what was acknowledged.
struct Flood {
    acknowledged: Arc<Mutex<Vec<String>>>,
    refused: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
    senders: JoinSet<()>,
}

impl Flood {
    fn begin(store: &Arc<dyn Store>) -> Self {
        let mut flood = Self {
            acknowledged: Arc::default(),
            refused: Arc::default(),
            is_over: Arc::default(),
            senders: JoinSet::new(),
        };
        for sender in 0..16 {
            let store = Arc::clone(store);
            let acknowledged = Arc::clone(&flood.acknowledged);
            let (refused, is_over) = (Arc::clone(&flood.refused), Arc::clone(&flood.is_over));
            flood.senders.spawn(async move {
                for number in 0.. {
                    if is_over.load(Ordering::SeqCst) {
                        return;
                    }
                    let id = format!("wh_{sender}_{number}");
                    let destinations = vec!["app".into()];
                    match store.accept(message(&id, at(0)), destinations).await {
                        Ok(_) => acknowledged.lock().unwrap().push(id),
                        Err(StoreError::Unavailable(_)) => {
                            refused.fetch_add(1, Ordering::SeqCst);
                            sleep(Duration::from_millis(20)).await;
                        }
                        Err(error) => panic!("{error:?}"),
                    }
                }
            });
        }
        flood
    }

    fn count(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    /// Waits until so many more are acknowledged.
    async fn goes_on(&self, more: usize) {
        let until = self.count() + more;
        let deadline = Instant::now() + PATIENCE;
        while self.count() < until {
            assert!(Instant::now() < deadline, "it does not recover");
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn end(mut self) -> Vec<String> {
        self.is_over.store(true, Ordering::SeqCst);
        while let Some(ended) = self.senders.join_next().await {
            ended.unwrap();
        }
        self.acknowledged.lock().unwrap().clone()
    }
}

/// Everything that was acknowledged is kept once, and its delivery with it.
async fn assert_kept(store: &Arc<dyn Store>, acknowledged: &[String]) {
    let tally = store.tally().await.unwrap();
    assert_eq!(tally.messages, tally.pending);
    let mut kept = BTreeSet::new();
    loop {
        let claimed = store
            .claim("app", Lane::Standard, at(0), LEASE, 1000)
            .await
            .unwrap();
        if claimed.deliveries.is_empty() {
            break;
        }
        for id in ids(&claimed) {
            assert!(kept.insert(id.to_owned()), "{id} is there twice");
        }
    }
    assert_eq!(kept.len() as u64, tally.messages);
    for id in acknowledged {
        assert!(kept.contains(id), "{id} is lost");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_cut_lose_nothing() {
    let server = Server::start(&[]);
    let address = server.schema();
    let store = open(&address).await.unwrap();
    let flood = Flood::begin(&store);
    for _ in 0..20 {
        flood.goes_on(100).await;
        server.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'unwrapd'",
        );
    }
    flood.goes_on(100).await;
    let acknowledged = flood.end().await;
    assert_kept(&store, &acknowledged).await;
    store.ready(at(0)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_loses_nothing_and_is_found_again() {
    let server = Server::start(&[]);
    let address = server.schema();
    let store = open(&address).await.unwrap();
    let flood = Flood::begin(&store);
    for _ in 0..3 {
        flood.goes_on(200).await;
        let refused = flood.refused.load(Ordering::SeqCst);
        server.kill();
        while flood.refused.load(Ordering::SeqCst) == refused {
            sleep(Duration::from_millis(5)).await;
        }
        let unready = store.ready(at(0)).await;
        assert!(
            matches!(unready, Err(StoreError::Unavailable(_))),
            "{unready:?}"
        );
        server.start_again();
    }
    flood.goes_on(200).await;
    let acknowledged = flood.end().await;
    assert_kept(&store, &acknowledged).await;
    store.close().await;
    assert_kept_after_opening(&address, acknowledged.len()).await;
}

async fn assert_kept_after_opening(address: &PostgresAddress, acknowledged: usize) {
    let store = open(address).await.unwrap();
    let messages = store.tally().await.unwrap().messages;
    assert!(
        messages >= acknowledged as u64,
        "{messages} of {acknowledged}"
    );
}

/// A settlement whose answer is lost is made again, and found to be made.
#[tokio::test(flavor = "multi_thread")]
async fn settlements_over_connections_that_are_cut_count_once() {
    let server = Server::start(&[]);
    let store = open(&server.schema()).await.unwrap();
    for number in 0..300 {
        accept(&store, &format!("wh_{number}"), 0).await;
    }
    let claimed = store
        .claim("app", Lane::Standard, at(0), LEASE, 300)
        .await
        .unwrap();
    assert_eq!(claimed.deliveries.len(), 300);
    let mut settled = JoinSet::new();
    for (number, delivery) in claimed.deliveries.into_iter().enumerate() {
        let store = Arc::clone(&store);
        settled.spawn(async move {
            sleep(Duration::from_millis(5 * number as u64)).await;
            loop {
                let attempt = unwrapd::store::Attempt {
                    delivery: delivery.id,
                    number: 1,
                    ended_at: at(1),
                    took: Duration::from_millis(5),
                    answer: "HTTP 200".into(),
                    said: unwrapd::delivery::said::Said::default(),
                    next: Next::Delivered,
                };
                if let Ok(settled) = store.settle(attempt).await {
                    return settled;
                }
                sleep(Duration::from_millis(10)).await;
            }
        });
    }
    for _ in 0..10 {
        server.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'unwrapd'",
        );
        sleep(Duration::from_millis(100)).await;
    }
    for settled in settled.join_all().await {
        assert_eq!(settled, Settled::Settled);
    }
    assert_eq!(store.tally().await.unwrap().delivered, 300);
}

/// What a claim has taken of which nobody heard is due again at once, not at the end of its lease.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_whose_answer_is_lost_holds_nothing() {
    let server = Server::start_on_loopback(&[]);
    let relay = Relay::start(server.listens_at()).await;
    let address = format!(
        "postgres://postgres@127.0.0.1:{}/postgres?schema=relayed",
        relay.port
    );
    let store = open(&address.parse().unwrap()).await.unwrap();
    accept(&store, "wh_1", 0).await;
    accept(&store, "wh_2", 0).await;
    let one = |store: Arc<dyn Store>| async move {
        store.claim("app", Lane::Standard, at(1), LEASE, 1).await
    };
    // In the same millisecond, so that only the end of the lease tells them apart.
    let known = one(Arc::clone(&store)).await.unwrap().deliveries;
    relay.lose_answers();
    let lost = tokio::spawn(one(Arc::clone(&store)));
    let held = "SELECT count(*) FROM relayed.delivery WHERE holder IS NOT NULL";
    let deadline = Instant::now() + PATIENCE;
    while server.sql(held) != "2" {
        assert!(Instant::now() < deadline, "it is not claimed");
    }
    relay.cut();
    let mut again = lost.await.unwrap();
    // Of other connections it shows only when they are used that they have ended.
    while again.is_err() {
        assert!(Instant::now() < deadline, "{again:?}");
        again = one(Arc::clone(&store)).await;
    }
    let again = again.unwrap();
    assert_eq!(again.deliveries.len(), 1);
    assert_ne!(again.deliveries[0].id, known[0].id);
    assert_eq!(again.deliveries[0].attempt, 1);
    for delivery in [&known[0], &again.deliveries[0]] {
        let settled = settle(&store, delivery.id, 1, Next::Delivered).await;
        assert_eq!(settled, Settled::Settled);
    }
    store.close().await;
}

/// And so is what was leased as it was kept.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_in_a_commit_nobody_heard_of_is_held_by_nobody() {
    let server = Server::start_on_loopback(&[]);
    let relay = Relay::start(server.listens_at()).await;
    let address = format!(
        "postgres://postgres@127.0.0.1:{}/postgres?schema=relayed",
        relay.port
    );
    let store = open(&address.parse().unwrap()).await.unwrap();
    // Over a connection that is used again.
    accept(&store, "wh_0", 0).await;
    let bell = Arc::new(Notify::new());
    let handover = Arc::new(Handover::new(Arc::clone(&bell)));
    handover.offer(1, LEASE, LEASE);
    let recipient = Recipient {
        destination: "app".into(),
        slot: handover.slot(at(0)),
    };
    relay.lose_answers();
    let lost = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.accept(message("wh_1", at(0)), vec![recipient]).await }
    });
    let held = "SELECT count(*) FROM relayed.delivery WHERE holder IS NOT NULL";
    let deadline = Instant::now() + PATIENCE;
    while server.sql(held) != "1" {
        assert!(Instant::now() < deadline, "it is not kept");
    }
    relay.cut();
    // Whether it is there, or that nobody knows. Either way the lane is to look.
    drop(lost.await.unwrap());
    assert_eq!(handover.take().len(), 0);
    timeout(PATIENCE, bell.notified()).await.expect("it rings");
    loop {
        assert!(Instant::now() < deadline, "it is still held");
        let claimed = store.claim("app", Lane::Standard, at(1), LEASE, 2).await;
        // Of other connections it shows only when they are used that they have ended.
        if let Ok(claimed) = claimed {
            assert_eq!(ids(&claimed), ["wh_0", "wh_1"]);
            assert!(
                claimed
                    .deliveries
                    .iter()
                    .all(|delivery| delivery.attempt == 1)
            );
            break;
        }
    }
    store.close().await;
}

#[tokio::test]
async fn a_database_that_hangs_is_not_waited_for() {
    let place = PostgresPlace::new();
    let store = place.open().await;
    accept(&store, "wh_1", 0).await;
    let schema = schema_of(&place).to_owned();
    let held = tokio::task::spawn_blocking(move || {
        server::shared().sql(&format!(
            "BEGIN; LOCK TABLE {schema}.message; SELECT pg_sleep(9); COMMIT"
        ))
    });
    let refused = loop {
        let id = format!("wh_{:?}", Instant::now());
        match store.accept(message(&id, at(0)), vec![]).await {
            // Not locked yet.
            Ok(_) => sleep(Duration::from_millis(10)).await,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, StoreError::Unavailable(_)), "{refused:?}");
    held.await.unwrap();
    assert_eq!(accept(&store, "wh_2", 0).await, Accepted::New);
}

#[tokio::test]
async fn a_commit_that_hangs_holds_up_no_other() {
    let place = PostgresPlace::new();
    let store = place.open().await;
    let schema = schema_of(&place).to_owned();
    let is_seen = async |what: &str, waits_for: &str| {
        let look = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%{schema}%{what}%' AND wait_event = '{waits_for}'"
        );
        let seen = async {
            while server::shared().sql(&look) == "0" {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, seen).await.expect(what);
    };
    // Whoever keeps this id too waits for the one that has inserted it.
    let holds = tokio::task::spawn_blocking({
        let schema = schema.clone();
        move || {
            server::shared().sql(&format!(
                "BEGIN; INSERT INTO {schema}.message (seq, endpoint, webhook_id, sent_at, received_at)
                 VALUES (-1, 'production', 'wh_held', 0, 0); SELECT /* {schema} */ pg_sleep(3); ROLLBACK"
            ))
        }
    });
    is_seen("pg_sleep", "PgSleep").await;
    let hangs = tokio::spawn({
        let store = Arc::clone(&store);
        async move { accept(&store, "wh_held", 0).await }
    });
    is_seen("accept", "transactionid").await;
    assert_eq!(accept(&store, "wh_free", 0).await, Accepted::New);
    assert!(!hangs.is_finished());
    assert_eq!(hangs.await.unwrap(), Accepted::New);
    holds.await.unwrap();
}

#[tokio::test]
async fn what_has_no_body_any_more_is_counted_and_left() {
    let place = PostgresPlace::new();
    let store = place.open().await;
    for id in ["wh_1", "wh_2"] {
        accept(&store, id, 0).await;
        let delivery = claim(&store, 0).await.deliveries.remove(0);
        settle(&store, delivery.id, 1, Next::Dead).await;
    }
    let schema = schema_of(&place);
    server::shared().sql(&format!(
        "UPDATE {schema}.message SET slot = NULL WHERE webhook_id = 'wh_1'"
    ));
    let plan = store
        .plan(&unwrapd::store::replay::Replay::default(), at(2))
        .await;
    let counts = plan.unwrap().counts;
    assert_eq!((counts.deliveries, counts.gone), (1, 1));
    assert_eq!(store.show("wh_1", true).await.unwrap()[0].bytes, None);
}

/// Payloads stand in slots that are filled in turn. What still waits is moved out before a slot is emptied as a whole.
#[tokio::test]
async fn the_space_of_old_payloads_is_given_back_and_what_waits_is_kept() {
    let bounds = Bounds {
        retention: Duration::from_secs(8 * 24 * 3600),
        ..Bounds::default()
    };
    let place = PostgresPlace::new();
    let store = place.open_within(&bounds).await;
    let large = |id: &str, second| Message {
        payload: vec![b'x'; 5000].into(),
        ..message(id, at(second))
    };
    store
        .accept(large("wh_waits", 0), vec!["app".into()])
        .await
        .unwrap();
    for day in 0..40 {
        for number in 0..20 {
            let id = format!("wh_{day}_{number}");
            store.accept(large(&id, day * DAY), vec![]).await.unwrap();
        }
        prune(&store, day * DAY + 7200).await;
    }
    let schema = schema_of(&place);
    let bodies = server::shared().sql(&format!("SELECT count(*) FROM {schema}.body"));
    let bodies: usize = bodies.parse().unwrap();
    assert!((160..=240).contains(&bodies), "{bodies}");
    let slots = format!("SELECT count(*) FROM {schema}.body_slot WHERE opened_at IS NULL");
    let empty: usize = server::shared().sql(&slots).parse().unwrap();
    assert!(empty >= 1, "{empty}");
    let claimed = claim(&store, 50 * DAY).await;
    assert_eq!(claimed.deliveries.len(), 1);
    assert_eq!(claimed.deliveries[0].message, large("wh_waits", 0));
    let kept = store.show("wh_39_7", true).await.unwrap();
    assert_eq!(kept[0].payload.as_deref(), Some(&[b'x'; 5000][..]));
}

#[tokio::test]
async fn a_connection_is_encrypted_for_who_can_prove_its_name() {
    use std::os::unix::fs::{PermissionsExt, chown};

    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (
        folder.path().join("ours.pem"),
        folder.path().join("theirs.pem"),
    );
    std::fs::write(&ours, pair.cert.pem()).unwrap();
    std::fs::write(&theirs, other.cert.pem()).unwrap();
    let settings = [
        "listen_addresses=127.0.0.1",
        &format!("port={port}"),
        "ssl=on",
        "ssl_cert_file=../tls.pem",
        "ssl_key_file=../tls.key",
    ];
    let server = Server::start_after(&settings, |folder| {
        for (name, text) in [
            ("tls.pem", pair.cert.pem()),
            ("tls.key", pair.signing_key.serialize_pem()),
        ] {
            let file = folder.join(name);
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
            if let Some((user, group)) = server::server_owner() {
                chown(&file, Some(user), Some(group)).unwrap();
            }
        }
    });
    let address = |root: &std::path::Path, host: &str| -> PostgresAddress {
        let root = root.display();
        format!("postgres://postgres@{host}:{port}/postgres?sslmode=verify-full&sslrootcert={root}")
            .parse()
            .unwrap()
    };
    let store = open(&address(&ours, "localhost")).await.unwrap();
    accept(&store, "wh_1", 0).await;
    let clear = "SELECT count(*) FILTER (WHERE ssl), count(*) FILTER (WHERE NOT ssl)
                 FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'unwrapd'";
    let counted = server.sql_at(port, clear);
    assert!(
        counted.ends_with("|0") && !counted.starts_with("0|"),
        "{counted}"
    );
    store.close().await;

    for wrong in [address(&theirs, "localhost"), address(&ours, "127.0.0.1")] {
        let refused = open(&wrong).await.err().unwrap();
        assert!(refused.to_string().contains("certificate"), "{refused}");
    }
}
