//! SIGHUP: the configuration is reloaded, and nothing is dropped.

use std::collections::BTreeMap;

use openai_webhooks::{EventType, Webhooks};
use rustix::process::Signal;
use tempfile::TempDir;
use unwrapd::delivery::breaker::FAILURES_MAX;

use crate::support::application::{Answer, Application};
use crate::support::process::{Serving, destination_table};
use crate::support::{OPENAI_SECRET, Webhook, client, unix_now};

const NEW_SECRET: &str = "whsec_////////////////////////////////";

/// Writes a configuration with these files of secrets, and destinations with these names and URLs.
fn configure(folder: &TempDir, secrets: &[&str], destinations: &[(&str, &str)]) {
    let folder = folder.path().display();
    let secrets: Vec<String> = secrets
        .iter()
        .map(|name| format!("{{ file = \"{folder}/{name}\" }}"))
        .collect();
    let mut text = format!(
        r#"
        [server]
        listen = "127.0.0.1:0"
        admin = "127.0.0.1:0"
        [store]
        url = "sqlite:{folder}/unwrapd.db"
        [[endpoint]]
        name = "production"
        secrets = [{}]
        "#,
        secrets.join(", ")
    );
    for (name, url) in destinations {
        text += &destination_table(name, url, "");
    }
    std::fs::write(format!("{folder}/unwrapd.toml"), text).unwrap();
}

fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("old"), OPENAI_SECRET).unwrap();
    std::fs::write(folder.path().join("new"), NEW_SECRET).unwrap();
    folder
}

fn reload(serving: &mut Serving) {
    serving.signal(Signal::HUP);
    serving.announced("was reloaded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_rotated_without_a_restart() {
    let folder = folder();
    let by_new = |id: &str| {
        let mut webhook = Webhook::new(id, EventType::BatchCompleted);
        webhook.headers = Webhooks::new(NEW_SECRET)
            .unwrap()
            .sign(&webhook.payload, id, unix_now())
            .unwrap();
        webhook
    };
    configure(&folder, &["old"], &[]);
    let mut serving = Serving::start(folder.path(), &[]);
    assert_eq!(serving.post(&by_new("wh_1")).await, 401);
    configure(&folder, &["new", "old"], &[]);
    reload(&mut serving);
    assert_eq!(serving.post(&by_new("wh_1")).await, 200);
    let by_old = Webhook::new("wh_2", EventType::BatchCompleted);
    assert_eq!(serving.post(&by_old).await, 200);
    configure(&folder, &["new"], &[]);
    reload(&mut serving);
    assert_eq!(serving.post(&by_old).await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_destination_gets_later_messages_and_a_changed_one_its_waiting_deliveries() {
    let folder = folder();
    let mut app = Application::start([]).await;
    let mut audit = Application::start([]).await;
    let busy = Application::start(vec![Answer::Status(503); 1000]).await;
    configure(&folder, &["old"], &[("app", &busy.url)]);
    let mut serving = Serving::start(folder.path(), &[]);
    serving.receive("wh_1", EventType::BatchCompleted).await;
    let both = [("app", app.url.as_str()), ("audit", &audit.url)];
    configure(&folder, &["old"], &both);
    reload(&mut serving);
    assert_eq!(app.next().await.webhook_id(), "wh_1");
    serving.receive("wh_2", EventType::BatchCompleted).await;
    assert_eq!(app.next().await.webhook_id(), "wh_2");
    assert_eq!(audit.next().await.webhook_id(), "wh_2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_url_closes_the_circuit_of_a_destination() {
    let folder = folder();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = format!("http://{}/", nobody.local_addr().unwrap());
    drop(nobody);
    let mut app = Application::start([]).await;
    configure(&folder, &["old"], &[("app", &gone)]);
    let mut serving = Serving::start(folder.path(), &[]);
    let failures = usize::try_from(FAILURES_MAX).unwrap();
    for number in 0..failures {
        serving
            .receive(&format!("wh_{number}"), EventType::BatchCompleted)
            .await;
    }
    serving.announced("attempts in a row failed");
    configure(&folder, &["old"], &[("app", &app.url)]);
    reload(&mut serving);
    app.skip(failures).await;
    let answer = client()
        .get(format!("{}/api/v1/destinations", serving.admin))
        .send();
    let answer = answer.await.unwrap().text().await.unwrap();
    assert!(answer.contains("\"state\":\"closed\""), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_is_reported_and_changes_nothing() {
    let folder = folder();
    let mut app = Application::start([]).await;
    configure(&folder, &["old"], &[("app", &app.url)]);
    let mut serving = Serving::start(folder.path(), &[]);
    for bad in ["[[endpoint]]\nname = 7", "", "\u{0}"] {
        std::fs::write(folder.path().join("unwrapd.toml"), bad).unwrap();
        serving.signal(Signal::HUP);
        let why = serving.announced("nothing was changed: ");
        assert!(why.contains("unwrapd.toml"), "{why}");
    }
    serving.receive("wh_1", EventType::BatchCompleted).await;
    assert_eq!(app.next().await.webhook_id(), "wh_1");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_and_no_delivery_is_dropped_by_many_reloads() {
    const WEBHOOKS: usize = 200;
    const RELOADS: usize = 20;
    let folder = folder();
    let mut app = Application::start([]).await;
    let urls = [app.url.clone(), format!("{}?again", app.url)];
    configure(&folder, &["old"], &[("app", &urls[1])]);
    let mut serving = Serving::start(folder.path(), &[]);
    let endpoint = serving.url.clone();
    let posting = tokio::spawn(async move {
        let client = client();
        for number in 0..WEBHOOKS {
            let webhook = Webhook::new(&format!("wh_{number}"), EventType::BatchCompleted);
            let answer = webhook.request(&client, &endpoint).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{number}");
        }
    });
    let mut delivered = BTreeMap::<String, u32>::new();
    for round in 0..RELOADS {
        configure(&folder, &["old"], &[("app", &urls[round % 2])]);
        tokio::task::block_in_place(|| reload(&mut serving));
        let delivery = app.next().await;
        assert!(delivery.verified().is_ok(), "round {round}");
        *delivered
            .entry(delivery.webhook_id().to_owned())
            .or_default() += 1;
    }
    posting.await.unwrap();
    while delivered.len() < WEBHOOKS {
        let delivery = app.next().await;
        *delivered
            .entry(delivery.webhook_id().to_owned())
            .or_default() += 1;
    }
    assert!(
        delivered.values().all(|&copies| copies == 1),
        "delivered twice: {delivered:?}"
    );
}
