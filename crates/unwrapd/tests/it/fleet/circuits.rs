//! A circuit that one gateway opens or closes applies to all.

use std::sync::Arc;
use std::time::{Duration, Instant};

use openai_webhooks::EventType;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use unwrapd::config::DestinationSettings;
use unwrapd::delivery::breaker::{FAILURES_MAX, PROBES_MAX};
use unwrapd::store::postgres::{PostgresAddress, PostgresStore};
use unwrapd::store::{Bounds, Fleet, SharedCircuit, Store};

use super::{POLL, database, post, stop_all, store_url, two};
use crate::support::application::{Answer, Application};
use crate::support::postgres;
use crate::support::process::{Serving, write_config_on};
use crate::support::{PATIENCE, TestGateway, destination, until};

/// Longer than the first back-offs.
const LONG: Duration = Duration::from_secs(3600);

/// A destination that only one of two gateways delivers to, so that the other knows its circuit
/// only from that one.
fn of_one_gateway(url: &str) -> DestinationSettings {
    let mut settings = soon_again("app", url);
    settings.limits.concurrency = 1;
    settings
}

/// A destination whose failed deliveries are soon due again.
fn soon_again(name: &str, url: &str) -> DestinationSettings {
    let mut settings = destination(name, url);
    settings.limits.retry.max = Duration::from_millis(20);
    settings
}

async fn shown(test: &TestGateway) -> Value {
    super::shown(test).await["state"].take()
}

async fn until_shown(test: &TestGateway, state: &str) {
    let wait = async {
        while shown(test).await != state {
            sleep(POLL).await;
        }
    };
    timeout(PATIENCE, wait).await.expect(state);
}

fn failures(count: usize) -> Vec<Answer> {
    vec![Answer::Status(500); count]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circuit_opens_and_closes_at_both_gateways() {
    // The first probes fail too, so that both gateways can be seen to know the state.
    let mut app = Application::start(failures(FAILURES_MAX as usize + 2)).await;
    let gateways = two(&[of_one_gateway(&app.url)]).await;
    post(&gateways[0], "wh_1").await;
    for gateway in &gateways {
        until_shown(gateway, "open").await;
    }
    for gateway in &gateways {
        until_shown(gateway, "closed").await;
    }
    for _ in 0..FAILURES_MAX + 3 {
        assert_eq!(app.next().await.webhook_id(), "wh_1");
    }
    stop_all(gateways).await;
    assert!(!app.has_more());
}

/// Only one of the gateways makes the attempts.
#[tokio::test(flavor = "multi_thread")]
async fn each_gateway_shows_since_when_a_destination_fails_and_when_it_last_delivered() {
    let app = Application::start(failures(FAILURES_MAX as usize + 2)).await;
    let gateways = two(&[of_one_gateway(&app.url)]).await;
    post(&gateways[0], "wh_1").await;
    for gateway in &gateways {
        until("the failures are shown", async || {
            let view = super::shown(gateway).await;
            view["state"] == "open" && view["failing_since"].is_string()
        })
        .await;
    }
    for gateway in &gateways {
        until("the delivery is shown", async || {
            let view = super::shown(gateway).await;
            view["last_delivered_at"].is_string() && view["failing_since"].is_null()
        })
        .await;
    }
    stop_all(gateways).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_gateway_probes_for_all() {
    const MESSAGES: usize = 40;
    let mut app = Application::start(failures(10_000)).await;
    let gateways = two(&[soon_again("app", &app.url)]).await;
    // All of them wait, and are due when the destination is probed.
    gateways[0].switch_app("pause").await;
    for number in 0..MESSAGES {
        post(&gateways[number % 2], &format!("wh_{number}")).await;
    }
    gateways[0].switch_app("resume").await;
    for gateway in &gateways {
        until_shown(gateway, "open").await;
    }
    let down_at = Instant::now();
    while app.has_more() {}
    // Probes after one, two and four more seconds.
    for _ in 0..3 * PROBES_MAX {
        app.next().await;
    }
    let took = down_at.elapsed();
    assert!(took > Duration::from_secs(5), "{took:?}");
    stop_all(gateways).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn open_circuits_survive_a_restart_of_the_whole_fleet() {
    let mut app = Application::start(failures(FAILURES_MAX as usize + 1)).await;
    let url = database();
    let settings = || vec![of_one_gateway(&app.url)];
    let test = TestGateway::start_on(url.clone(), settings()).await;
    post(&test, "wh_1").await;
    until_shown(&test, "open").await;
    test.stop().await;

    let test = TestGateway::start_on(url, settings()).await;
    assert_ne!(shown(&test).await, "closed");
    until_shown(&test, "closed").await;
    for _ in 0..FAILURES_MAX + 2 {
        app.next().await;
    }
    test.stop().await;
}

/// An operator who corrects the URL does not want to wait for the next probe.
#[tokio::test(flavor = "multi_thread")]
async fn a_destination_with_a_new_url_is_tried_at_once() {
    let app = Application::start(failures(1000)).await;
    let mut other = Application::start([]).await;
    let folder = TempDir::new().unwrap();
    let store = store_url();
    write_config_on(folder.path(), &store, &app.url, "");
    let mut serving = Serving::start(folder.path(), &[]);
    for number in 0..FAILURES_MAX {
        serving
            .receive(&format!("wh_{number}"), EventType::BatchCompleted)
            .await;
    }
    serving.announced("down: ");
    // The back-off is longer than this test waits.
    postgres::shared().sql(&format!(
        "UPDATE {}.circuit SET until_at = until_at + interval '1 hour'",
        store.rsplit_once('=').unwrap().1
    ));
    write_config_on(folder.path(), &store, &other.url, "");
    serving.signal(Signal::HUP);
    other.next().await;
    serving.terminate();
}

struct Two {
    address: PostgresAddress,
    stores: [Arc<dyn Store>; 2],
}

impl Two {
    async fn open() -> Self {
        let address = postgres::shared().schema();
        let open = async || {
            let store = PostgresStore::open(&address, &Bounds::default()).await;
            Arc::new(store.unwrap()) as Arc<dyn Store>
        };
        let stores = [open().await, open().await];
        Self { address, stores }
    }

    fn fleet(&self, store: usize) -> &dyn Fleet {
        self.stores[store].fleet().unwrap()
    }

    async fn circuit(&self, store: usize) -> Option<SharedCircuit> {
        self.fleet(store).circuits().await.unwrap().pop()
    }

    async fn asks(&self, store: usize) -> bool {
        let tried = self.fleet(store).try_circuit("app", LONG);
        tried.await.unwrap();
        self.circuit(store).await.unwrap().is_ours_to_try
    }
}

#[tokio::test]
async fn the_probe_of_a_dead_gateway_passes_to_another() {
    let two = Two::open().await;
    let wait = Duration::from_millis(200);
    let opened = two.fleet(0).open_circuit("app", wait, true);
    opened.await.unwrap();
    assert!(!two.asks(0).await, "it is left alone for a while");
    while two.circuit(1).await.unwrap().wait > Duration::ZERO {
        sleep(POLL).await;
    }
    assert!(two.asks(0).await);
    assert!(!two.asks(1).await, "one of them probes");
    // A finding of the gateway without the probe has no effect.
    let opened = two.fleet(1).open_circuit("app", wait, false);
    opened.await.unwrap();
    assert!(two.circuit(0).await.unwrap().is_ours_to_try);

    let Two { address, stores } = two;
    let [dead, alive] = stores;
    drop(dead);
    let schema = address.schema();
    postgres::shared().sql(&format!(
        "UPDATE {schema}.gateway SET heartbeat_at = heartbeat_at - interval '11 s'
         WHERE id = (SELECT prober FROM {schema}.circuit)"
    ));
    let fleet = alive.fleet().unwrap();
    let wait = async {
        loop {
            fleet.try_circuit("app", LONG).await.unwrap();
            if fleet.circuits().await.unwrap()[0].is_ours_to_try {
                return;
            }
            sleep(POLL).await;
        }
    };
    timeout(PATIENCE, wait).await.unwrap();
    fleet.close_circuit("app").await.unwrap();
    assert_eq!(fleet.circuits().await.unwrap(), []);
    alive.close().await;
}
