//! A stand-by replaces the primary: two real servers with synchronous streaming replication.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openai_webhooks::EventType;
use rustix::process::Signal;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use unwrapd::config::StoreUrl;
use unwrapd::store::postgres::{PostgresAddress, PostgresStore};
use unwrapd::store::{Accepted, Bounds, Store, StoreError};

use crate::store_conformance::{accept, at, message};
use crate::support::application::Application;
use crate::support::postgres::Server;
use crate::support::{PATIENCE, TestGateway, Webhook, client, destination, until};

const SCHEMA: &str = "replicated";
const SENDERS: usize = 4;
/// Number of commits that wait for a stand-by.
const WAITING: &str = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
/// Number of those that store messages.
const ACCEPTING: &str =
    "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE '%accept%'";

/// A primary that waits for its stand-by, and the stand-by.
fn pair() -> [Server; 2] {
    let primary = Server::start_on_loopback(&["synchronous_standby_names=standby"]);
    let standby = primary.start_standby();
    [primary, standby]
}

/// Both hosts, in this order.
fn address(servers: [&Server; 2]) -> PostgresAddress {
    let [one, other] = servers.map(Server::listens_at);
    format!(
        "postgres://postgres@{one},{other}/postgres?schema={SCHEMA}&target_session_attrs=read-write"
    )
    .parse()
    .unwrap()
}

/// A store on the servers that has accepted this message.
async fn in_use(servers: [&Server; 2], id: &str) -> Arc<dyn Store> {
    let store = PostgresStore::open(&address(servers), &Bounds::default()).await;
    let store: Arc<dyn Store> = Arc::new(store.unwrap());
    assert_eq!(accept(&store, id, 0).await, Accepted::New);
    store
}

/// Waits until the store accepts this message.
async fn accepts(store: &Arc<dyn Store>, id: &str) {
    until("it accepts", async || {
        let accepted = store.accept(message(id, at(0)), vec![]).await;
        accepted.is_ok()
    })
    .await;
}

/// Sends webhooks without end, and repeats refused ones.
struct Load {
    seen: Arc<Seen>,
    senders: JoinSet<()>,
}

#[derive(Default)]
struct Seen {
    posted: Mutex<HashMap<String, String>>,
    acknowledged: Mutex<BTreeSet<String>>,
    refused: AtomicUsize,
    is_over: AtomicBool,
}

impl Load {
    fn begin(url: &str) -> Self {
        let seen: Arc<Seen> = Arc::default();
        let mut senders = JoinSet::new();
        for sender in 0..SENDERS {
            let (seen, url, client) = (Arc::clone(&seen), url.to_owned(), client());
            senders.spawn(async move {
                for number in 0.. {
                    if seen.is_over.load(Ordering::SeqCst) {
                        return;
                    }
                    seen.send(&client, &url, &format!("wh_{sender}_{number}"))
                        .await;
                }
            });
        }
        Self { seen, senders }
    }

    fn acknowledged(&self) -> usize {
        self.seen.acknowledged.lock().unwrap().len()
    }

    /// Waits until this many more are acknowledged.
    async fn goes_on(&self, more: usize) {
        let aim = self.acknowledged() + more;
        until("it does not go on", async || self.acknowledged() >= aim).await;
    }

    /// Waits until more webhooks are refused.
    async fn is_refused(&self) {
        let before = self.seen.refused.load(Ordering::SeqCst);
        let more = async || self.seen.refused.load(Ordering::SeqCst) > before;
        until("nothing is refused", more).await;
    }

    async fn end(mut self) -> Arc<Seen> {
        self.seen.is_over.store(true, Ordering::SeqCst);
        while let Some(sender) = self.senders.join_next().await {
            sender.unwrap();
        }
        self.seen
    }
}

impl Seen {
    /// Sends it until it is acknowledged.
    async fn send(&self, client: &reqwest::Client, url: &str, id: &str) {
        loop {
            let webhook = Webhook::new(id, EventType::BatchCompleted);
            let (id, payload) = (id.to_owned(), webhook.payload.clone());
            self.posted.lock().unwrap().insert(id.clone(), payload);
            let answer = webhook.request(client, url).send().await.unwrap();
            match answer.status().as_u16() {
                200 => {
                    self.acknowledged.lock().unwrap().insert(id);
                    return;
                }
                503 if answer.headers().contains_key("retry-after") => {
                    self.refused.fetch_add(1, Ordering::SeqCst);
                    sleep(Duration::from_millis(20)).await;
                }
                status => panic!("{id}: {status}"),
            }
        }
    }
}

/// Waits until it is not ready for this reason.
async fn says_why(test: &TestGateway, why: &str) {
    let url = format!("http://{}/readyz", test.gateway.admin().unwrap());
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = test.client().get(&url).send().await.unwrap();
        let (code, said) = (answer.status(), answer.text().await.unwrap());
        if said.contains(why) {
            assert_eq!(code, 503);
            return;
        }
        assert!(Instant::now() < deadline, "{code} {said}");
        sleep(Duration::from_millis(20)).await;
    }
}

fn messages(server: &Server) -> BTreeSet<String> {
    let ids = server.sql(&format!("SELECT webhook_id FROM {SCHEMA}.message"));
    ids.lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stand_by_that_takes_over_has_all_acknowledged_messages() {
    let [old, new] = pair();
    let mut app = Application::start([]).await;
    let url = StoreUrl::Postgres(Box::new(address([&old, &new])));
    let destinations = vec![destination("app", &app.url)];
    let test = TestGateway::start_on(url.clone(), destinations.clone()).await;
    let load = Load::begin(&test.url("production"));
    load.goes_on(300).await;

    old.kill();
    load.is_refused().await;
    says_why(&test, "stand-by").await;
    new.promote();
    load.goes_on(300).await;

    // The old primary comes back and would accept writes. Connections are made again, and none to
    // it.
    old.start_again();
    let left_behind = messages(&old);
    for _ in 0..3 {
        new.cut_stores();
        load.goes_on(100).await;
    }
    // Not even when there is no other server.
    new.stop(Signal::INT);
    load.is_refused().await;
    says_why(&test, "is a former primary").await;
    new.start_again();
    load.goes_on(100).await;
    assert_eq!(messages(&old), left_behind);

    // A gateway that starts has no knowledge of it, and contacts both.
    let other = TestGateway::start_on(url, destinations).await;
    let late = Webhook::new("wh_late", EventType::BatchCompleted);
    assert_eq!(other.post(&late).await, 200);

    let seen = load.end().await;
    let mut acknowledged = std::mem::take(&mut *seen.acknowledged.lock().unwrap());
    acknowledged.insert("wh_late".into());
    let mut posted = std::mem::take(&mut *seen.posted.lock().unwrap());
    posted.insert("wh_late".into(), late.payload);
    let mut delivered = BTreeSet::new();
    while delivered.len() < acknowledged.len() {
        let delivery = app.next().await;
        let id = delivery.webhook_id().to_owned();
        assert_eq!(delivery.payload, posted[&id], "{id}");
        assert!(delivery.verified().is_ok(), "{id}");
        delivered.insert(id);
    }
    // Everything that was posted was acknowledged in the end.
    assert_eq!(delivered, acknowledged);
    test.stop().await;
    other.stop().await;
    let count = format!("SELECT count(*), count(DISTINCT webhook_id) FROM {SCHEMA}.message");
    let all = acknowledged.len();
    assert_eq!(new.sql(&count), format!("{all}|{all}"));
    assert_eq!(messages(&new), acknowledged);
    let waiting = format!("SELECT count(*) FROM {SCHEMA}.delivery WHERE state <> 'delivered'");
    assert_eq!(new.sql(&waiting), "0");
}

/// A primary that was stopped while a commit waited for the stand-by shows the commit afterwards,
/// although the stand-by never got it. A copy that arrives then must not be acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_acknowledged_only_once_the_stand_by_has_the_first() {
    let [primary, standby] = pair();
    let store = in_use([&primary, &standby], "wh_1").await;
    let accept = |id: &'static str| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.accept(message(id, at(0)), vec!["app".into()]).await })
    };

    standby.stop(Signal::INT);
    let first = accept("wh_2");
    until("it does not wait", async || primary.sql(WAITING) == "1").await;
    primary.kill();
    let first = first.await.unwrap();
    assert!(
        matches!(first, Err(StoreError::Unavailable(_))),
        "{first:?}"
    );
    primary.start_again();
    assert!(messages(&primary).contains("wh_2"));

    // The second one too: the first sequence number drawn after a crash makes a commit wait by
    // itself.
    let mut copies = Vec::new();
    while copies.len() < 2 {
        let copy = accept("wh_2");
        let waiting = (copies.len() + 1).to_string();
        until("it does not wait", async || {
            copy.is_finished() || primary.sql(WAITING) == waiting
        })
        .await;
        if copy.is_finished() {
            // The earlier connections had ended.
            assert!(copy.await.unwrap().is_err(), "acknowledged and not safe");
        } else {
            copies.push(copy);
        }
    }
    standby.start_again();
    for copy in copies {
        assert_eq!(copy.await.unwrap(), Ok(Accepted::Duplicate));
    }
    primary.kill();
    standby.promote();
    assert!(messages(&standby).contains("wh_2"));
}

/// Both servers accept writes, and the former primary is named first and answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_finds_the_new_primary_while_the_former_one_still_answers() {
    let old = Server::start_on_loopback(&[]);
    let new = old.start_standby();
    let store = in_use([&old, &new], "wh_1").await;
    let count = format!("SELECT count(*) FROM {SCHEMA}.message");
    until("it follows", async || {
        new.try_sql(&count).as_deref() == Some("1")
    })
    .await;
    new.promote();
    // Existing connections have no knowledge of it. Each new connection contacts both hosts.
    old.cut_stores();
    let mut number = 2;
    let deadline = Instant::now() + PATIENCE;
    while messages(&new).len() < 4 {
        assert!(Instant::now() < deadline);
        let id = format!("wh_{number}");
        drop(store.accept(message(&id, at(0)), vec![]).await);
        number += 1;
    }
    assert_eq!(messages(&old).len(), 1);
    store.close().await;
}

/// Commits wait for a stand-by for an unknown time.
#[tokio::test(flavor = "multi_thread")]
async fn commits_that_wait_for_a_stand_by_open_no_more_connections() {
    let [primary, standby] = pair();
    let store = in_use([&primary, &standby], "wh_0").await;
    standby.stop(Signal::INT);
    let mut refused = 0;
    for number in 1..=4 {
        let id = format!("wh_{number}");
        let answer = store.accept(message(&id, at(0)), vec![]).await;
        assert!(
            matches!(answer, Err(StoreError::Unavailable(_))),
            "{answer:?}"
        );
        if answer.unwrap_err().to_string().contains("still working") {
            refused += 1;
        }
    }
    assert!(refused > 0);
    let waiting: usize = primary.sql(WAITING).parse().unwrap();
    assert!((1..=2).contains(&waiting), "{waiting}");
    standby.start_again();
    until("they are kept", async || primary.sql(WAITING) == "0").await;
    accepts(&store, "wh_5").await;
    store.close().await;
}

/// Its stand-by was promoted, so its commits are never confirmed, and it hangs in them.
#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_hangs_in_its_commits_is_left_for_the_new_one() {
    let [old, new] = pair();
    let store = in_use([&old, &new], "wh_0").await;
    new.promote();
    // Both connections for new messages are occupied by commits that will not end.
    let mut hanging = JoinSet::new();
    for (id, waiting) in [("wh_1", "1"), ("wh_2", "2")] {
        let store = Arc::clone(&store);
        hanging.spawn(async move { store.accept(message(id, at(0)), vec![]).await });
        until("it hangs", async || old.sql(ACCEPTING) == waiting).await;
    }
    for answer in hanging.join_all().await {
        assert!(answer.is_err(), "{answer:?}");
    }
    accepts(&store, "wh_4").await;
    assert!(messages(&new).contains("wh_4"));
    store.close().await;
}
