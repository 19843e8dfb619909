//! Log lines and answers while the database is away.

use std::process::Output;

use openai_webhooks::EventType;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::POLL;
use crate::support::postgres::Server;
use crate::support::process::{Serving, unwrapd, write_config_on};
use crate::support::relay::Relay;
use crate::support::{PATIENCE, Webhook};

const NOWHERE: &str = "http://127.0.0.1:9/webhook";

/// `unwrapd gateways`, run against this gateway.
fn gateways(folder: &TempDir, serving: &Serving, output: &str) -> Output {
    let admin = serving.admin.as_str();
    unwrapd()
        .args(["gateways", "--output", output, "--admin", admin, "--config"])
        .arg(folder.path().join("none.toml"))
        .output()
        .unwrap()
}

async fn post(serving: &Serving, id: &str) -> u16 {
    let webhook = Webhook::new(id, EventType::BatchCompleted);
    serving.post(&webhook).await
}

/// No delivery is due and no webhook arrives, so no operation finds out by chance.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_database_is_logged_once_and_its_end_once() {
    let server = Server::start_on_loopback(&[]);
    let relay = Relay::start(server.listens_at()).await;
    let at = format!("127.0.0.1:{}", relay.port);
    let store = format!("postgres://postgres@{at}/postgres?schema=relayed");
    let folder = TempDir::new().unwrap();
    write_config_on(folder.path(), &store, NOWHERE, "");
    let mut serving = Serving::start(folder.path(), &[]);
    assert!(gateways(&folder, &serving, "human").status.success());

    relay.shut();
    let said = serving.announced("ERROR the store is unavailable: ");
    assert!(said.contains(&format!("({at})")), "{said}");
    assert!(said.contains("webhooks are answered with 503"), "{said}");
    for number in 0..3 {
        assert_eq!(post(&serving, &format!("wh_{number}")).await, 503);
    }
    // It has had no connection for so long that it reports it.
    let deadline = Instant::now() + PATIENCE;
    let stale = loop {
        let output = gateways(&folder, &serving, "json");
        if output.status.code() == Some(5) {
            break output;
        }
        assert!(Instant::now() < deadline, "{output:?}");
        sleep(POLL).await;
    };
    let known: serde_json::Value = serde_json::from_slice(&stale.stdout).unwrap();
    assert_eq!(known["is_current"], false);
    assert!(known["gateways"][0]["silent_ms"].as_u64().unwrap() >= 8000);
    let said = String::from_utf8(stale.stderr).unwrap();
    assert!(said.contains("cannot reach the database"), "{said}");

    relay.open();
    serving.announced("the database is reachable again");
    let deadline = Instant::now() + PATIENCE;
    // The pool rests for a moment after a failed connection.
    while post(&serving, "wh_0").await != 200 {
        assert!(Instant::now() < deadline);
        sleep(POLL).await;
    }
    while !gateways(&folder, &serving, "human").status.success() {
        assert!(Instant::now() < deadline);
        sleep(POLL).await;
    }
    let (_, log) = serving.terminate();
    let line = "webhooks are answered with 503";
    assert!(!log.contains(line), "it is said once: {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_refuses_webhooks_is_reported_though_it_answers() {
    let server = Server::start_on_loopback(&[]);
    let folder = TempDir::new().unwrap();
    let store = server.url("postgres", "refuses");
    write_config_on(folder.path(), &store, NOWHERE, "");
    let mut serving = Serving::start(folder.path(), &[]);
    server.sql("ALTER TABLE refuses.message ADD CONSTRAINT nothing CHECK (false) NOT VALID");
    assert_eq!(post(&serving, "wh_1").await, 503);
    serving.announced("webhooks are answered with 503: ");
    server.sql("ALTER TABLE refuses.message DROP CONSTRAINT nothing");
    assert_eq!(post(&serving, "wh_1").await, 200);
    serving.announced("webhooks are stored again");
    serving.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_has_died_is_named() {
    let store = super::store_url();
    let folder = TempDir::new().unwrap();
    write_config_on(folder.path(), &store, NOWHERE, "");
    let died = Serving::start(folder.path(), &[]);
    let port = died.url.rsplit_once(':').unwrap().1;
    let port = port.split('/').next().unwrap().to_owned();
    let mut other = Serving::start(folder.path(), &[]);
    // SIGKILL.
    drop(died);
    let said = other.announced("no heartbeat for 10 s from ");
    assert!(said.contains(&format!(":{port}:")), "{said}");
    other.terminate();
}
