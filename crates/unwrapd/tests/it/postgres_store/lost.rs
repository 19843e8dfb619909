//! Commits whose answer is lost.

use super::*;

/// A store whose server can be kept from answering.
async fn relayed() -> (Server, Relay, Arc<dyn Store>) {
    let server = Server::start_on_loopback(&[]);
    let relay = Relay::start(server.listens_at()).await;
    let port = relay.port;
    let address = format!("postgres://postgres@127.0.0.1:{port}/postgres?schema=relayed");
    let store = open(&address.parse().unwrap()).await.unwrap();
    (server, relay, store)
}

/// Waits until this number of deliveries is leased.
async fn until_held(server: &Server, count: &str) {
    let held = "SELECT count(*) FROM relayed.delivery WHERE gateway IS NOT NULL";
    let seen = async {
        while server.sql(held) != count {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, seen).await.expect("it is leased");
}

/// Deliveries of a claim whose answer is lost are due again at once, not at the end of their
/// leases.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_whose_answer_is_lost_holds_nothing() {
    let (server, relay, store) = relayed().await;
    accept(&store, "wh_1", 0).await;
    accept(&store, "wh_2", 0).await;
    let one = |store: Arc<dyn Store>| async move {
        store.claim("app", Lane::Standard, at(1), LEASE, 1).await
    };
    // In the same millisecond, so that only the ends of the leases differ.
    let known = one(Arc::clone(&store)).await.unwrap().deliveries;
    relay.lose_answers();
    let lost = tokio::spawn(one(Arc::clone(&store)));
    until_held(&server, "2").await;
    relay.cut();
    let deadline = Instant::now() + PATIENCE;
    let mut again = lost.await.unwrap();
    // Other connections show only when they are used that they have ended.
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

/// The same applies to deliveries leased when they are stored.
#[tokio::test(flavor = "multi_thread")]
async fn a_hand_off_in_a_commit_whose_answer_is_lost_holds_no_lease() {
    let (server, relay, store) = relayed().await;
    // Over a connection that is used again.
    accept(&store, "wh_0", 0).await;
    let wakeup = Arc::new(Notify::new());
    let handoff = Arc::new(DirectHandoff::new(Arc::clone(&wakeup)));
    handoff.offer(1, LEASE, LEASE);
    let recipient = Recipient {
        destination: "app".into(),
        reservation: handoff.reserve(at(0)),
        due_at: None,
    };
    relay.lose_answers();
    let lost = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.accept(message("wh_1", at(0)), vec![recipient]).await }
    });
    until_held(&server, "1").await;
    relay.cut();
    let deadline = Instant::now() + PATIENCE;
    // Either result is possible. In both cases the lane must claim.
    drop(lost.await.unwrap());
    assert_eq!(handoff.take().len(), 0);
    timeout(PATIENCE, wakeup.notified())
        .await
        .expect("it rings");
    loop {
        assert!(Instant::now() < deadline, "it is still held");
        let claimed = store.claim("app", Lane::Standard, at(1), LEASE, 2).await;
        // Other connections show only when they are used that they have ended.
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
