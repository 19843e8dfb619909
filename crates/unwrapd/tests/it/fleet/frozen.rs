//! A gateway that is frozen until the others declare it dead, and then resumes.

use std::sync::Arc;

use openai_webhooks::EventType;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::NoTls;
use unwrapd::delivery::limit_share::LimitShare;
use unwrapd::store::postgres::PostgresStore;
use unwrapd::store::{Bounds, DeliveryQueue as _, Lifecycle as _, Store as _};

use super::{POLL, store_url};
use crate::support::application::{Answer, Application};
use crate::support::process::{Serving, write_config_on};
use crate::support::{PATIENCE, client, postgres, until};

const TAKEN_FOR_DEAD: &str = "the others treat it as dead";

/// Gateways with one configuration, each its own process.
struct Fleet {
    folder: TempDir,
    store: String,
}

impl Fleet {
    fn of(app: &Application) -> Self {
        let fleet = Self {
            folder: TempDir::new().unwrap(),
            store: store_url(),
        };
        write_config_on(fleet.folder.path(), &fleet.store, &app.url, "");
        fleet
    }

    fn start(&self) -> Serving {
        Serving::start(self.folder.path(), &[])
    }

    /// The result of this SQL in their schema.
    fn sql(&self, sql: &str) -> String {
        let schema = self.store.rsplit_once('=').unwrap().1;
        postgres::shared().sql(&format!("SET search_path TO {schema}; {sql}"))
    }
}

async fn accept(serving: &Serving, id: &str) {
    serving.receive(id, EventType::BatchCompleted).await;
}

async fn switch(serving: &Serving, verb: &str) {
    let url = format!("{}/api/v1/destinations/app/{verb}", serving.admin);
    assert_eq!(client().post(url).send().await.unwrap().status(), 200);
}

/// Waits until this gateway lists this number of gateways, each with its share of the limits.
async fn counts(serving: &Serving, gateways: usize) {
    let url = format!("{}/api/v1/gateways", serving.admin);
    until("they count", async || {
        let answer = client().get(&url).send().await.unwrap();
        let answer: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        let members = answer["gateways"].as_array().unwrap();
        members.len() == gateways && members.iter().all(|it| it["takes_part"] == true)
    })
    .await;
}

/// A gateway that runs on after it was taken for dead delivers the next webhook, and no other.
async fn joins_again(mut frozen: Serving, other: Serving, mut app: Application, id: &str) {
    frozen.said(TAKEN_FOR_DEAD);
    counts(&other, 2).await;
    accept(&frozen, id).await;
    assert_eq!(app.next().await.webhook_id(), id);
    frozen.terminate();
    other.terminate();
    assert!(!app.has_more());
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_of_a_frozen_gateway_are_repeated_and_its_late_answers_are_fenced() {
    let may_answer = Arc::new(Notify::new());
    let answer = || Answer::WhenTold(Arc::clone(&may_answer));
    let mut app = Application::start([answer(), answer()]).await;
    let fleet = Fleet::of(&app);
    let mut frozen = fleet.start();
    for id in ["wh_1", "wh_2"] {
        accept(&frozen, id).await;
        assert_eq!(app.next().await.webhook_id(), id);
    }
    let other = fleet.start();
    counts(&other, 2).await;
    frozen.freeze();
    may_answer.notify_waiters();

    let mut again = [app.next().await, app.next().await].map(|it| it.webhook_id().to_owned());
    again.sort();
    assert_eq!(again, ["wh_1", "wh_2"]);
    counts(&other, 1).await;
    until("both settled", async || {
        fleet.sql("SELECT count(*) FROM delivery WHERE state = 'delivered'") == "2"
    })
    .await;
    let settled = "SELECT id, settled_attempt, due_at FROM delivery ORDER BY id";
    let before = fleet.sql(settled);

    frozen.signal(Signal::CONT);
    frozen.announced("the result of an attempt came too late");
    joins_again(frozen, other, app, "wh_3").await;
    assert!(fleet.sql(settled).starts_with(&before));
}

/// The worst moment: its claim is committed, and it has not read the answer yet.
#[tokio::test(flavor = "multi_thread")]
async fn deliveries_claimed_and_not_begun_are_not_delivered_by_a_frozen_gateway() {
    let mut app = Application::start([]).await;
    let fleet = Fleet::of(&app);
    let frozen = fleet.start();
    switch(&frozen, "pause").await;
    accept(&frozen, "wh_1").await;

    let url = fleet.store.split_once('?').unwrap().0;
    let (database, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let schema = fleet.store.rsplit_once('=').unwrap().1;
    database
        .batch_execute(&format!("BEGIN; LOCK TABLE {schema}.delivery"))
        .await
        .unwrap();
    switch(&frozen, "resume").await;
    let claiming = format!(
        "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
         WHERE NOT granted AND relation = '{schema}.delivery'::regclass AND query LIKE '%claim(%'"
    );
    until("it claims", async || fleet.sql(&claiming) != "0").await;
    frozen.freeze();
    database.batch_execute("COMMIT").await.unwrap();
    until("it has claimed", async || {
        fleet.sql("SELECT count(*) FROM delivery WHERE gateway IS NOT NULL") == "1"
    })
    .await;

    let other = fleet.start();
    assert_eq!(app.next().await.webhook_id(), "wh_1");
    counts(&other, 1).await;
    frozen.signal(Signal::CONT);
    joins_again(frozen, other, app, "wh_2").await;
}

/// Before the others notice the missing heartbeats: the exclusive address shows that its owner has
/// ended.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_at_the_address_of_a_crashed_one_has_its_leases_at_once() {
    let mut app = Application::start([Answer::Hang]).await;
    let fleet = Fleet::of(&app);
    let file = fleet.folder.path().join("unwrapd.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let at = crate::support::loopback();
    let text = text.replacen("127.0.0.1:0", &format!("{at}:8080"), 1);
    std::fs::write(&file, text).unwrap();
    let crashed = fleet.start();
    accept(&crashed, "wh_1").await;
    assert_eq!(app.next().await.webhook_id(), "wh_1");
    // SIGKILL.
    drop(crashed);
    let next = fleet.start();
    let started_at = std::time::Instant::now();
    assert_eq!(app.next().await.webhook_id(), "wh_1");
    // Missing heartbeats are noticed after 10 s.
    let took = started_at.elapsed();
    assert!(took.as_secs() < 8, "{took:?}");
    next.terminate();
}

/// Deliveries claimed before are lost, whatever answer arrives.
#[tokio::test]
async fn a_store_that_was_taken_for_dead_loses_its_earlier_leases() {
    let address = postgres::shared().schema();
    let store = PostgresStore::open(&address, &Bounds::default())
        .await
        .unwrap();
    let before = Instant::now();
    assert!(store.lease_is_valid(before));
    assert_eq!(store.share("app"), LimitShare::ALONE);
    let member = |store: &PostgresStore| store.fleet().unwrap().gateways().remove(0).id;
    let id = member(&store);
    let schema = address.schema();
    postgres::shared().sql(&format!("DELETE FROM {schema}.gateway"));
    let rejoined = async {
        while member(&store) == id || !store.fleet().unwrap().gateways()[0].takes_part {
            sleep(POLL).await;
        }
    };
    timeout(PATIENCE, rejoined).await.unwrap();
    assert!(!store.lease_is_valid(before));
    assert!(store.lease_is_valid(Instant::now()));
    store.close().await;
}
