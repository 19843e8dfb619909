//! The pipeline events of a store that several gateways share.

use openai_webhooks::EventType;
use unwrapd::config::StoreUrl;
use unwrapd::pipeline_events::PipelineEvent;

use super::{database, store_url};
use crate::pipeline_events::{Seen, assert_counts};
use crate::support::postgres;
use crate::support::{TestGateway, Webhook};

#[tokio::test]
async fn a_database_that_refuses_and_recovers_says_so_once_each() {
    let server = postgres::Server::start_on_loopback(&[]);
    let url: StoreUrl = server.url("postgres", "refuses").parse().unwrap();
    let test = TestGateway::start_on(url, vec![]).await;
    let mut seen = Seen::by(&test);
    server.sql("ALTER TABLE refuses.message ADD CONSTRAINT nothing CHECK (false) NOT VALID");
    let webhook = Webhook::new("wh_1", EventType::BatchCompleted);
    for _ in 0..2 {
        assert_eq!(test.post(&webhook).await, 503);
    }
    seen.next("store_refusing").await;
    server.sql("ALTER TABLE refuses.message DROP CONSTRAINT nothing");
    assert_eq!(test.post(&webhook).await, 200);
    seen.next("store_recovered").await;
    let all = seen.all(test).await;
    assert_counts(&all, &[("store_refusing", 1), ("store_recovered", 1)]);
}

#[tokio::test]
async fn a_gateway_that_joins_and_leaves_is_an_event_each_at_the_others() {
    let url = database();
    let test = TestGateway::start_on(url.clone(), vec![]).await;
    let mut seen = Seen::by(&test);
    let other = TestGateway::start_on(url, vec![]).await;
    let port = other.gateway.public().port();
    let PipelineEvent::GatewayJoined { gateway: joined } = seen.next("gateway_joined").await else {
        unreachable!()
    };
    assert!(joined.contains(&format!(":{port}")), "{joined}");
    other.stop().await;
    let PipelineEvent::GatewayLeft { gateway: left } = seen.next("gateway_left").await else {
        unreachable!()
    };
    assert_eq!(left, joined);
    let all = seen.all(test).await;
    assert_counts(&all, &[("gateway_joined", 1), ("gateway_left", 1)]);
}

/// The last event about an address must say whether a gateway is there.
#[tokio::test]
async fn a_gateway_that_restarts_at_its_address_leaves_and_then_joins() {
    let store = store_url();
    let test = TestGateway::start_on(store.parse().unwrap(), vec![]).await;
    let mut seen = Seen::by(&test);
    let gateway = format!("{}.gateway", store.rsplit_once('=').unwrap().1);
    let sql = |sql: &str| postgres::shared().sql(sql);
    sql(&format!(
        "INSERT INTO {gateway} (id, heartbeat_at, peers, name, configuration)
         VALUES (1, clock_timestamp(), '{{}}', 'other:8080', '')"
    ));
    seen.next("gateway_joined").await;
    // Both within one heartbeat of the first gateway.
    sql(&format!(
        "UPDATE {gateway} SET id = 2, heartbeat_at = clock_timestamp() WHERE id = 1"
    ));
    seen.next("gateway_joined").await;
    let all = seen.all(test).await;
    let about: Vec<_> = all
        .iter()
        .filter_map(|event| match event {
            PipelineEvent::GatewayJoined { gateway } => Some(("joined", &**gateway)),
            PipelineEvent::GatewayLeft { gateway } => Some(("left", &**gateway)),
            _ => None,
        })
        .collect();
    let other = "other:8080";
    assert_eq!(
        about,
        [("joined", other), ("left", other), ("joined", other)]
    );
}
