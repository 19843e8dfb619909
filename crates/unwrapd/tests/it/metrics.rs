//! `/metrics`: it counts what happened, names nothing that a stranger chose, and stands in the
//! reference.

#[cfg(feature = "server-tests")]
mod prometheus;

use std::collections::BTreeSet;

use openai_webhooks::EventType;

use crate::pipeline_events::Seen;
use crate::support::application::{Answer, Application};
use crate::support::{TestGateway, Webhook, destination};

const LOGS: &str = include_str!("../../../../docs/reference/logs.md");
const REFERENCE: &str = include_str!("../../../../docs/reference/metrics.md");

/// One scrape.
async fn scrape(test: &TestGateway) -> String {
    let admin = test.gateway.admin().unwrap();
    let answer = test.client().get(format!("http://{admin}/metrics")).send();
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), 200);
    let content_type = answer.headers()["content-type"].to_str().unwrap();
    assert!(
        content_type.starts_with("application/openmetrics-text"),
        "{content_type}"
    );
    answer.text().await.unwrap()
}

/// The value of this series.
fn value(scrape: &str, series: &str) -> Option<f64> {
    let line = scrape.lines().find_map(|line| line.strip_prefix(series))?;
    line.trim().parse().ok()
}

/// The names of all metrics in a scrape, as queries use them.
fn names(scrape: &str) -> BTreeSet<String> {
    let types = scrape
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "));
    types
        .map(|line| {
            let (name, kind) = line.split_once(' ').unwrap();
            match kind {
                "counter" => format!("{name}_total"),
                "info" => format!("{name}_info"),
                _ => name.to_owned(),
            }
        })
        .collect()
}

#[tokio::test]
async fn a_scrape_counts_webhooks_refusals_attempts_and_waiting_deliveries() {
    let app = Application::start([Answer::Status(500)]).await;
    let down = Application::start(vec![Answer::Status(500); 100]).await;
    let test = TestGateway::start(vec![
        destination("app", &app.url),
        destination("down", &down.url),
    ])
    .await;
    let mut seen = Seen::by(&test);
    let webhook = Webhook::new("wh_1", EventType::BatchCompleted);
    assert_eq!(test.post(&webhook).await, 200);
    assert_eq!(test.post(&webhook).await, 200);
    let forged = Webhook::new("wh_2", EventType::BatchCompleted).forged();
    assert_eq!(test.post(&forged).await, 401);
    while !matches!(
        seen.next("settled").await,
        unwrapd::pipeline_events::PipelineEvent::Settled {
            next: unwrapd::delivery::Next::Delivered,
            ..
        }
    ) {}

    let scrape = scrape(&test).await;
    for (series, expected) in [
        (
            r#"unwrapd_webhooks_received_total{endpoint="production"}"#,
            3.0,
        ),
        (
            r#"unwrapd_webhooks_verified_total{endpoint="production"}"#,
            2.0,
        ),
        (
            r#"unwrapd_webhooks_accepted_total{endpoint="production",outcome="new"}"#,
            1.0,
        ),
        (
            r#"unwrapd_webhooks_accepted_total{endpoint="production",outcome="duplicate"}"#,
            1.0,
        ),
        (
            r#"unwrapd_webhooks_refused_total{endpoint="production",reason="signature_mismatch",status="401"}"#,
            1.0,
        ),
        (
            r#"unwrapd_webhook_lateness_seconds_count{endpoint="production"}"#,
            2.0,
        ),
        (
            r#"unwrapd_attempts_total{destination="app",lane="standard",outcome="retry"}"#,
            1.0,
        ),
        (
            r#"unwrapd_attempts_total{destination="app",lane="standard",outcome="delivered"}"#,
            1.0,
        ),
        (
            r#"unwrapd_delivery_latency_seconds_count{destination="app",lane="standard"}"#,
            1.0,
        ),
        (
            r#"unwrapd_deliveries_waiting{destination="app",lane="standard"}"#,
            0.0,
        ),
        (
            r#"unwrapd_deliveries_waiting{destination="down",lane="standard"}"#,
            1.0,
        ),
        (r#"unwrapd_deliveries_dead{destination="down"}"#, 0.0),
        (r#"unwrapd_destination_up{destination="app"}"#, 1.0),
        (r#"unwrapd_destination_paused{destination="app"}"#, 0.0),
        ("unwrapd_store_up", 1.0),
        ("unwrapd_gateways", 1.0),
    ] {
        assert_eq!(value(&scrape, series), Some(expected), "{series}\n{scrape}");
    }
    let waits = r#"unwrapd_deliveries_oldest_age_seconds{destination="down",lane="standard"}"#;
    for positive in [
        waits,
        "unwrapd_store_size_bytes",
        "unwrapd_store_commit_changes_sum",
        "process_resident_memory_bytes",
        "process_open_fds",
    ] {
        assert!(
            value(&scrape, positive).is_some_and(|value| value > 0.0),
            "{positive}\n{scrape}"
        );
    }
    assert!(scrape.ends_with("# EOF\n"), "{scrape}");
    test.stop().await;
}

/// Without a series from 0 on, `rate()` does not see the first refusal.
#[tokio::test]
async fn each_reason_of_a_refusal_has_a_series_before_the_first_refusal() {
    let test = TestGateway::start(vec![]).await;
    let mut expected = BTreeSet::new();
    let (_, codes) = LOGS.split_once("## Codes of refusals").unwrap();
    let rows = codes.split("\n## ").next().unwrap().lines();
    for row in rows.filter(|line| line.starts_with("| `")).skip(1) {
        let (code, status) = row[3..].split_once("` | ").unwrap();
        let status = status.split_once(' ').unwrap().0;
        let endpoints: &[&str] = match code {
            "no_such_path" | "wrong_method" => &[""],
            // Only an error of a later version of the library.
            "not_verified" => &[],
            _ => &["production", "staging"],
        };
        for endpoint in endpoints {
            expected.insert(format!(
                "unwrapd_webhooks_refused_total{{endpoint=\"{endpoint}\",reason=\"{code}\",status=\"{status}\"}} 0"
            ));
        }
    }
    assert!(expected.len() > 20, "{expected:?}");
    let first = scrape(&test).await;
    let series = first
        .lines()
        .filter(|line| line.starts_with("unwrapd_webhooks_refused_total{"));
    let series: BTreeSet<String> = series.map(str::to_owned).collect();
    assert_eq!(series, expected);
    test.stop().await;
}

#[tokio::test]
async fn labels_hold_nothing_that_a_client_chose() {
    let test = TestGateway::start(vec![]).await;
    for path in ["stranger-1", "production/stranger-2"] {
        let url = test.url(path);
        let answer = test.client().post(url).send().await.unwrap();
        assert_eq!(answer.status(), 404);
    }
    let webhook = Webhook::new("wh_stranger", EventType::BatchCompleted);
    assert_eq!(test.post(&webhook).await, 200);
    let scrape = scrape(&test).await;
    assert!(!scrape.contains("stranger"), "{scrape}");
    let unknown =
        r#"unwrapd_webhooks_refused_total{endpoint="",reason="no_such_path",status="404"}"#;
    assert_eq!(value(&scrape, unknown), Some(2.0), "{scrape}");
    test.stop().await;
}

#[tokio::test]
async fn every_metric_stands_in_the_reference_and_the_other_way_round() {
    let (_app, test) = TestGateway::with_app([]).await;
    let exposed = names(&scrape(&test).await);
    test.stop().await;
    let rows = REFERENCE
        .lines()
        .filter(|line| line.starts_with("| `unwrapd_"));
    let mut documented: BTreeSet<String> = rows
        .map(|row| row.split('`').nth(1).unwrap().to_owned())
        .collect();
    let (_, process) = REFERENCE.split_once("## Process").unwrap();
    documented.extend(
        process
            .split('`')
            .filter(|word| word.starts_with("process_"))
            .map(str::to_owned),
    );
    assert_eq!(exposed, documented);
}
