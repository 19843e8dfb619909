//! Several gateways on one database.

mod bulk;
mod circuits;
mod configuration;
mod events;
mod frozen;
mod limits;
mod outage;
mod rolling;

use std::collections::BTreeMap;
use std::time::Duration;

use openai_webhooks::EventType;
use serde_json::Value;
use tokio::time::timeout;
use unwrapd::config::{DestinationSettings, StoreUrl};

use crate::support::application::Application;
use crate::support::{TestGateway, destination, postgres, until};

fn database() -> StoreUrl {
    StoreUrl::Postgres(Box::new(postgres::shared().schema()))
}

async fn two(destinations: &[DestinationSettings]) -> [TestGateway; 2] {
    let url = database();
    let gateways = [
        TestGateway::start_on(url.clone(), destinations.to_vec()).await,
        TestGateway::start_on(url, destinations.to_vec()).await,
    ];
    for gateway in &gateways {
        counts(gateway, 2).await;
    }
    gateways
}

async fn stop_all(gateways: [TestGateway; 2]) {
    for gateway in gateways {
        gateway.stop().await;
    }
}

/// The URL for a configuration.
fn store_url() -> String {
    let schema = format!("test_{}", uuid::Uuid::now_v7().simple());
    postgres::shared().url("postgres", &schema)
}

/// Waits until this gateway lists this number of gateways, each with its share of the limits.
async fn counts(test: &TestGateway, gateways: usize) {
    until("they count", async || {
        let members = test.gateway.store().fleet().unwrap().gateways();
        members.len() == gateways && members.iter().all(|member| member.takes_part)
    })
    .await;
}

/// The destination `app`, as this gateway shows it.
async fn shown(test: &TestGateway) -> Value {
    let url = format!(
        "http://{}/api/v1/destinations",
        test.gateway.admin().unwrap()
    );
    let answer = test.client().get(url).send().await.unwrap();
    let mut answer: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    answer["destinations"][0].take()
}

/// Interval between checks of a condition.
const POLL: Duration = Duration::from_millis(20);

async fn post(test: &TestGateway, id: &str) {
    test.receive(id, EventType::BatchCompleted).await;
}

/// How often each of `count` webhooks was delivered.
async fn got(app: &mut Application, count: usize) -> BTreeMap<String, usize> {
    let mut got = BTreeMap::new();
    while got.len() < count {
        let id = app.next().await.webhook_id().to_owned();
        *got.entry(id).or_default() += 1;
    }
    got
}

#[tokio::test]
async fn a_message_accepted_by_either_gateway_is_delivered_once() {
    const EACH: usize = 100;
    let mut app = Application::start([]).await;
    let gateways = two(&[destination("app", &app.url)]).await;
    for number in 0..EACH {
        for (gateway, test) in gateways.iter().enumerate() {
            let id = format!("wh_{number}_{gateway}");
            post(test, &id).await;
            // A copy, at the other gateway.
            post(&gateways[1 - gateway], &id).await;
        }
    }
    let got = got(&mut app, 2 * EACH).await;
    assert!(got.values().all(|times| *times == 1), "{got:?}");
    let [one, other] = gateways;
    one.stop().await;
    // The remaining gateway does everything.
    post(&other, "wh_last").await;
    assert_eq!(app.next().await.webhook_id(), "wh_last");
    other.stop().await;
    assert!(!app.has_more());
}

#[tokio::test]
async fn a_destination_paused_at_one_gateway_is_paused_at_the_other() {
    let mut app = Application::start([]).await;
    let [one, other] = two(&[destination("app", &app.url)]).await;
    one.switch_app("pause").await;
    // It has been notified once it claims nothing; until then it delivers.
    let mut number = 0;
    let waits = loop {
        number += 1;
        let id = format!("wh_{number}");
        post(&other, &id).await;
        let next = timeout(Duration::from_secs(3), app.next());
        match next.await {
            Ok(delivered) => assert_eq!(delivered.webhook_id(), id),
            Err(_) => break id,
        }
    };
    one.switch_app("resume").await;
    assert_eq!(app.next().await.webhook_id(), waits);
    one.stop().await;
    other.stop().await;
}
