//! Several stores on one database.

use super::*;

async fn two_stores() -> [Arc<dyn Store>; 2] {
    let place = PostgresPlace::new();
    [place.open().await, place.open().await]
}

#[tokio::test]
async fn many_gateways_open_an_empty_database_at_once() {
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
    assert_eq!(stores[0].tally().await.messages, 6);
}

#[tokio::test]
async fn two_stores_never_hold_one_delivery_at_once() {
    const MESSAGES: usize = 400;
    let stores = two_stores().await;
    let held: Arc<Mutex<BTreeSet<i64>>> = Arc::default();
    let delivered: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
    let mut workers = JoinSet::new();
    for store in &stores {
        for _ in 0..3 {
            let (store, held) = (Arc::clone(store), Arc::clone(&held));
            let delivered = Arc::clone(&delivered);
            workers.spawn(async move {
                while delivered.lock().unwrap().len() < MESSAGES {
                    let claimed = claim_up_to(&store, 1, 7).await;
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

/// The leases would end much later.
#[tokio::test]
async fn leases_of_a_silent_gateway_are_due_again() {
    let place = PostgresPlace::new();
    let silent = place.open().await;
    accept(&silent, "wh_1", 0).await;
    let held = claim(&silent, 0).await.deliveries.remove(0);
    let schema = schema_of(&place);
    // Its heartbeat came before it held anything.
    let holders = format!("SELECT count(*) FROM {schema}.gateway");
    assert_eq!(server::shared().sql(&holders), "1");
    drop(silent);

    let store = place.open().await;
    assert_eq!(claim(&store, 1).await.deliveries, []);
    server::shared().sql(&format!(
        "UPDATE {schema}.gateway SET heartbeat_at = heartbeat_at - interval '11 s'"
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

/// Possibly the database was away, and the others are about to send heartbeats too.
#[tokio::test]
async fn a_new_gateway_counts_the_others_until_their_heartbeats_had_time_to_arrive() {
    let place = PostgresPlace::new();
    place.open().await.close().await;
    let schema = schema_of(&place);
    // One was silent for long; the other sent its heartbeat before the clock of the server was set
    // back.
    server::shared().sql(&format!(
        "INSERT INTO {schema}.gateway (id, heartbeat_at, peers, name, configuration) VALUES
         (1, clock_timestamp() - interval '1 hour', '{{}}', 'past', ''),
         (2, clock_timestamp() + interval '1 hour', '{{}}', 'future', '')"
    ));
    let store = place.open().await;
    let identity = GatewayIdentity {
        name: "us".into(),
        ..GatewayIdentity::default()
    };
    store.fleet().unwrap().announce(identity).await.unwrap();
    let others = |store: &Arc<dyn Store>| store.fleet().unwrap().gateways().len() - 1;
    assert_eq!(others(&store), 2);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(others(&store), 2);
    let gone = async {
        while others(&store) > 0 {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, gone).await.expect("they are gone");
    assert!(store.fleet().unwrap().gateways()[0].takes_part);
    store.close().await;
}

#[tokio::test]
async fn copies_at_two_stores_are_new_once() {
    let stores = two_stores().await;
    let mut copies = JoinSet::new();
    for number in 0..200 {
        let store = Arc::clone(&stores[number % 2]);
        // Several ids, in a different order at each store: inserts in the order of arrival would
        // conflict.
        let id = if number % 2 == 0 {
            number / 2 % 10
        } else {
            9 - number / 2 % 10
        };
        copies.spawn(async move { accept(&store, &format!("wh_{id}"), 0).await });
    }
    let answers = copies.join_all().await;
    assert_eq!(new_among(&answers), 10);
    assert_eq!(stores[0].tally().await.pending, 10);
}

#[tokio::test]
async fn many_copies_at_two_stores_at_once_are_each_new_at_one() {
    const IDS: usize = 600;
    let stores = two_stores().await;
    let mut copies = JoinSet::new();
    for number in 0..IDS {
        for store in &stores {
            let store = Arc::clone(store);
            copies.spawn(async move { accept(&store, &format!("wh_{number:03}"), 0).await });
        }
    }
    let answers = copies.join_all().await;
    assert_eq!((new_among(&answers), answers.len()), (IDS, 2 * IDS));
    assert_eq!(stores[0].tally().await.pending, IDS as u64);
}

/// The clock of that store may be slow, or its commit may have taken long.
#[tokio::test]
async fn a_message_that_another_store_received_long_before_is_claimed_too() {
    let stores = two_stores().await;
    accept(&stores[0], "wh_now", 0).await;
    let first = claim(&stores[1], 1).await.deliveries.remove(0);
    assert_eq!(first.message.webhook_id, "wh_now");
    assert_eq!(claim(&stores[1], 1).await.deliveries, []);
    accept(&stores[0], "wh_before", -DAY).await;
    let found = async {
        loop {
            stores[1].fleet().unwrap().next_change().await;
            if let Some(found) = claim(&stores[1], 1).await.deliveries.pop() {
                return found;
            }
        }
    };
    let found = timeout(PATIENCE, found).await.unwrap();
    assert_eq!(found.message.webhook_id, "wh_before");
}

/// A claim of due deliveries does not find what is due in years.
#[tokio::test]
async fn deliveries_at_one_store_are_announced_to_the_other() {
    let stores = two_stores().await;
    let years = 100 * 365 * DAY;
    let told = async {
        loop {
            let heard = stores[1].fleet().unwrap().next_change().await;
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
async fn deliveries_without_a_notification_are_found_by_polling() {
    let store = PostgresPlace::new().open().await;
    let mut call = message("wh_call", at(0));
    call.event_type = Some("realtime.call.incoming".into());
    store.accept(call, vec!["phone".into()]).await.unwrap();
    accept(&store, "wh_1", 0).await;
    accept(&store, "wh_2", 0).await;
    // A store ignores its own notifications, except those about gateways.
    let heard = timeout(PATIENCE, async {
        loop {
            let heard = store.fleet().unwrap().next_change().await;
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
