//! Operations by age while the clock is wrong.

use serde_json::{Value, json};

use super::{DAY, HOUR, Place, doubts, post};
use crate::support::application::Application;
use crate::support::client;
use crate::support::process::Serving;

async fn asked(serving: &Serving, path: &str, body: Option<Value>) -> Value {
    let url = format!("{}{path}", serving.admin);
    let request = match body {
        Some(body) => client()
            .post(url)
            .header("content-type", "application/json")
            .body(body.to_string()),
        None => client().get(url),
    };
    let answer = request.send().await.unwrap();
    assert!(answer.status().is_success(), "{path}: {}", answer.status());
    serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
}

/// Number of deliveries that a replay would make.
async fn replays(serving: &Serving, filter: Value) -> u64 {
    let body = json!({"filter": filter, "dry_run": true});
    let plan = asked(serving, "/api/v1/replays", Some(body)).await;
    plan["deliveries"].as_u64().unwrap()
}

pub(super) async fn found(serving: &Serving, query: &str) -> usize {
    let path = format!("/api/v1/messages?{query}");
    let page = asked(serving, &path, None).await;
    page["messages"].as_array().unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_age_is_counted_as_if_the_clock_had_not_jumped() {
    for off in [31 * DAY, -31 * DAY, 2 * HOUR] {
        let mut app = Application::start([]).await;
        let place = Place::new(&app);
        let serving = place.start();
        post(&serving, "wh_1", 0).await;
        app.next().await;
        place.jump_to(off);
        doubts(&serving, true).await;
        assert_eq!(replays(&serving, json!({"until": "1h"})).await, 0, "{off}");
        assert_eq!(replays(&serving, json!({"since": "1h"})).await, 1, "{off}");
        assert_eq!(found(&serving, "since=1h").await, 1, "{off}");
        assert_eq!(found(&serving, "until=1h").await, 0, "{off}");
        // With a token, without an earlier plan.
        let body = json!({"filter": {"until": "1h"}, "token": "t"});
        let ran = asked(&serving, "/api/v1/replays", Some(body)).await;
        assert_eq!(ran["deliveries"], 0, "{off}");
        assert!(!app.has_more());
    }
}
