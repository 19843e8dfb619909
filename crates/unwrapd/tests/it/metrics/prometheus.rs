//! A real Prometheus scrapes a gateway, and answers each query of the dashboard and of the rules.

use std::collections::BTreeSet;
use std::process::Command;

use openai_webhooks::EventType;
use serde_json::Value;

use crate::support::application::Answer;
use crate::support::prometheus::Prometheus;
use crate::support::{TestGateway, Webhook};

const DASHBOARD: &str = include_str!("../../../../../packaging/grafana/unwrapd.json");
const RULES: &str = include_str!("../../../../../packaging/prometheus/unwrapd.rules.yml");
const GUIDE: &str = include_str!("../../../../../docs/guide/metrics.md");

/// The queries of the dashboard, with a value for the variable of Grafana.
fn dashboard() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array());
    targets
        .flatten()
        .map(|target| target["expr"].as_str().unwrap())
        .map(|query| query.replace("$__rate_interval", "1m"))
        .collect()
}

/// The value of this key in each rule.
fn rules(key: &str) -> Vec<String> {
    let lines = RULES.lines().map(str::trim);
    let values = lines.filter_map(|line| line.strip_prefix(key));
    values.map(|value| value.trim().to_owned()).collect()
}

#[tokio::test]
async fn every_query_of_the_dashboard_has_an_answer_and_no_rule_is_an_error() {
    let (_app, test) = TestGateway::with_app([Answer::Status(500)]).await;
    let prometheus = Prometheus::start(test.gateway.admin().unwrap());
    let forged = Webhook::new("wh_0", EventType::BatchCompleted).forged();
    // Rates need two scrapes with different values.
    for number in 0.. {
        let webhook = Webhook::new(&format!("wh_{number}"), EventType::BatchCompleted);
        assert_eq!(test.post(&webhook).await, 200);
        assert_eq!(test.post(&forged).await, 401);
        let query = "increase(unwrapd_attempts_total{outcome=\"delivered\"}[1m]) > 0";
        if !prometheus.query(query).await.is_empty() {
            break;
        }
    }
    for query in dashboard() {
        let answer = prometheus.query(&query).await;
        assert!(!answer.is_empty(), "{query} has no answer");
    }
    for rule in rules("expr:") {
        prometheus.query(&rule).await;
    }
    test.stop().await;
}

#[test]
fn every_alert_fires_in_its_case_only() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/prometheus");
    for arguments in [
        ["check", "rules", "unwrapd.rules.yml"],
        ["test", "rules", "unwrapd.rules.test.yml"],
    ] {
        let output = Command::new("promtool")
            .args(arguments)
            .current_dir(folder)
            .output()
            .expect("promtool of the package `prometheus`");
        let text =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}");
    }
}

#[test]
fn the_guide_lists_every_alert() {
    let rows = GUIDE.lines().filter(|line| line.starts_with("| `Unwrapd"));
    let listed: BTreeSet<String> = rows
        .map(|row| row.split('`').nth(1).unwrap().to_owned())
        .collect();
    let alerts: BTreeSet<String> = rules("- alert:").into_iter().collect();
    assert_eq!(listed, alerts);
}
