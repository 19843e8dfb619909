//! The pipeline events of a store that several gateways share.

use openai_webhooks::EventType;
use unwrapd::config::StoreUrl;
use unwrapd::pipeline_events::PipelineEvent;

use super::database;
use crate::pipeline_events::{Seen, count};
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
    assert_eq!(count(&all, "store_refusing"), 1, "{all:#?}");
    assert_eq!(count(&all, "store_recovered"), 1, "{all:#?}");
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
    assert_eq!(count(&all, "gateway_joined"), 1, "{all:#?}");
    assert_eq!(count(&all, "gateway_left"), 1, "{all:#?}");
}
