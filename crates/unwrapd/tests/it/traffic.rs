//! The traffic over time, as operators see it.

use openai_webhooks::EventType;
use serde_json::Value;

use crate::support::application::Answer;
use crate::support::{TestGateway, Webhook, described_answer};

/// The answer to a request for a path of the admin API, which must be there.
pub(crate) async fn get(test: &TestGateway, path: &str) -> Value {
    let request = test.client().get(format!("{}/api/v1/{path}", test.admin()));
    let (status, body) = described_answer(request).await;
    assert_eq!(status, 200);
    serde_json::from_slice(&body).unwrap()
}

/// The sum of a field over the steps of the endpoint or destination with this name.
fn total(report: &Value, list: &str, name: &str, field: &str) -> u64 {
    let all = report[list].as_array().unwrap().iter();
    let steps = all
        .filter(|one| one["name"] == name)
        .flat_map(|one| one["steps"].as_array().unwrap());
    steps.map(|step| step[field].as_u64().unwrap()).sum()
}

#[tokio::test]
async fn traffic_is_reported_by_endpoint_destination_and_outcome() {
    let (mut app, test) = TestGateway::with_app([Answer::Status(500), Answer::Status(410)]).await;
    let webhook = Webhook::new("wh_1", EventType::BatchCompleted);
    let forged = webhook.forged();
    test.post_each(&[(&forged, 401), (&webhook, 200), (&webhook, 200)])
        .await;
    app.skip(2).await;
    test.receive("wh_2", EventType::BatchCompleted).await;
    app.next().await;
    test.settled().await;
    // The counts of the last second are written at a stop.
    let folder = test.stop().await;
    let test = TestGateway::start_in(folder, vec![]).await;
    for step in ["1m", "5m", "1h", "1d"] {
        let report = get(&test, &format!("traffic?step={step}")).await;
        for (list, name, field, count) in [
            ("endpoints", "production", "accepted", 2),
            ("endpoints", "production", "duplicates", 1),
            ("endpoints", "production", "refused", 1),
            ("destinations", "app", "retried", 1),
            ("destinations", "app", "dead", 1),
            ("destinations", "app", "delivered", 1),
        ] {
            assert_eq!(
                total(&report, list, name, field),
                count,
                "{step} {field}: {report}"
            );
        }
    }
    let earlier = get(&test, "traffic?since=3h&until=2h").await;
    assert_eq!(earlier["endpoints"], Value::Array(Vec::new()));
}
