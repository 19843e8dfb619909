//! Connections that end at any moment, and servers that die.

use super::*;

/// Several tasks that accept messages without end, and record what was acknowledged.
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

    /// Waits until this many more are acknowledged.
    async fn goes_on(&self, more: usize) {
        let aim = self.count() + more;
        until("it recovers", async || self.count() >= aim).await;
    }

    async fn end(mut self) -> Vec<String> {
        self.is_over.store(true, Ordering::SeqCst);
        while let Some(ended) = self.senders.join_next().await {
            ended.unwrap();
        }
        self.acknowledged.lock().unwrap().clone()
    }
}

/// Each acknowledged message is stored once, with its delivery.
async fn assert_kept(store: &Arc<dyn Store>, acknowledged: &[String]) {
    let tally = store.tally().await;
    assert_eq!(tally.messages, tally.pending);
    let mut kept = BTreeSet::new();
    loop {
        let claimed = claim_up_to(store, 0, 1000).await;
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

/// A store on a server of its own, which is flooded.
async fn flooded() -> (Server, PostgresAddress, Arc<dyn Store>, Flood) {
    let server = Server::start(&[]);
    let address = server.schema();
    let store = open(&address).await.unwrap();
    let flood = Flood::begin(&store);
    (server, address, store, flood)
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_cut_lose_nothing() {
    let (server, _, store, flood) = flooded().await;
    for _ in 0..20 {
        flood.goes_on(100).await;
        server.cut_stores();
    }
    flood.goes_on(100).await;
    let acknowledged = flood.end().await;
    assert_kept(&store, &acknowledged).await;
    store.check_writable(at(0)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_loses_nothing_and_is_found_again() {
    let (server, address, store, flood) = flooded().await;
    for _ in 0..3 {
        flood.goes_on(200).await;
        let refused = flood.refused.load(Ordering::SeqCst);
        server.kill();
        while flood.refused.load(Ordering::SeqCst) == refused {
            sleep(Duration::from_millis(5)).await;
        }
        let unready = store.check_writable(at(0)).await;
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
    let messages = store.tally().await.messages;
    assert!(
        messages >= acknowledged as u64,
        "{messages} of {acknowledged}"
    );
}

/// A settlement whose answer is lost is repeated, and found.
#[tokio::test(flavor = "multi_thread")]
async fn settlements_over_connections_that_are_cut_count_once() {
    let server = Server::start(&[]);
    let store = open(&server.schema()).await.unwrap();
    for number in 0..300 {
        accept(&store, &format!("wh_{number}"), 0).await;
    }
    let claimed = claim_up_to(&store, 0, 300).await;
    assert_eq!(claimed.deliveries.len(), 300);
    let mut settled = JoinSet::new();
    for (number, delivery) in claimed.deliveries.into_iter().enumerate() {
        let store = Arc::clone(&store);
        settled.spawn(async move {
            sleep(Duration::from_millis(5 * number as u64)).await;
            loop {
                let attempt = attempt(delivery.id, 1, at(1), Next::Delivered);
                if let Ok(settled) = store.settle(attempt).await {
                    return settled;
                }
                sleep(Duration::from_millis(10)).await;
            }
        });
    }
    for _ in 0..10 {
        server.cut_stores();
        sleep(Duration::from_millis(100)).await;
    }
    for settled in settled.join_all().await {
        assert_eq!(settled, Settled::Settled);
    }
    assert_eq!(store.tally().await.delivered, 300);
}
