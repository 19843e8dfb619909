//! The live stream: what happens is told as it happens, and a client that comes again learns what it
//! has missed.

use std::time::Duration;

use openai_webhooks::EventType;
use reqwest::{Response, StatusCode};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout};

use crate::support::application::Answer;
use crate::support::openapi::described;
use crate::support::wire::{send, until_closed};
use crate::support::{PATIENCE, TestGateway, Webhook, client};

/// A client of the stream.
struct Stream {
    response: Response,
    text: String,
}

/// One event of the stream.
#[derive(Debug)]
struct Event {
    id: String,
    name: Option<String>,
    data: Value,
}

impl Stream {
    async fn open(test: &TestGateway, last: Option<&str>) -> Self {
        let mut request = client().get(format!("{}/api/v1/events/stream", test.admin()));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        // Otherwise nginx would hold events back.
        assert_eq!(response.headers()["x-accel-buffering"], "no");
        Self {
            response,
            text: String::new(),
        }
    }

    /// The next block of lines; `None` at the end.
    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let rest = self.text.split_off(end + 2);
                return Some(std::mem::replace(&mut self.text, rest));
            }
            let chunk = timeout(PATIENCE, self.response.chunk()).await.unwrap();
            let chunk = chunk.ok().flatten()?;
            self.text += std::str::from_utf8(&chunk).unwrap();
        }
    }

    /// The next event. Those of the pipeline are as the document describes them.
    async fn next(&mut self) -> Event {
        loop {
            let block = self.block().await.expect("the stream goes on");
            let field = |name: &str| {
                let mut lines = block.lines();
                lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            };
            let (Some(id), Some(data)) = (field("id"), field("data")) else {
                continue;
            };
            let event = Event {
                id: id.to_owned(),
                name: field("event").map(str::to_owned),
                data: serde_json::from_str(data).unwrap(),
            };
            if event.name.is_none() {
                described().check_type("LiveEvent", &event.data);
            }
            return event;
        }
    }

    /// The next event of this name.
    async fn until(&mut self, name: &str) -> Event {
        loop {
            let event = self.next().await;
            if event.data["event"] == name {
                return event;
            }
        }
    }
}

#[tokio::test]
async fn events_are_streamed_as_they_happen_without_payloads() {
    let (mut app, test) = TestGateway::with_app([Answer::Status(500)]).await;
    let mut stream = Stream::open(&test, None).await;
    let payload = r#"{"type":"batch.completed","id":"evt_hidden","data":{"id":"batch_hidden"}}"#;
    assert_eq!(
        test.post(&Webhook::with_payload("wh_1", payload)).await,
        200
    );
    // The first attempt may end before the webhook is reported as accepted.
    let (mut accepted, mut ended) = (None, Vec::new());
    while accepted.is_none() || ended.len() < 2 {
        let event = stream.next().await;
        match event.data["event"].as_str() {
            Some("accepted") => accepted = Some(event),
            Some("attempt_ended") => ended.push(event),
            _ => {}
        }
    }
    let accepted = accepted.unwrap();
    assert_eq!(accepted.data["webhook_id"], "wh_1");
    assert_eq!(accepted.data["destinations"], "app");
    let (failed, delivered) = (&ended[0], &ended[1]);
    assert_eq!(failed.data["outcome"], "retry");
    assert_eq!(failed.data["answer_status"], 500);
    assert_eq!(failed.data["lane"], "standard");
    assert!(failed.data["duration_ms"].is_u64());
    assert!(failed.data["age_ms"].is_u64());
    assert_eq!(delivered.data["outcome"], "delivered");
    assert!(!format!("{accepted:?}{failed:?}{delivered:?}").contains("hidden"));
    app.next().await;
}

#[tokio::test]
async fn a_client_that_comes_again_goes_on_behind_its_last_event() {
    let test = TestGateway::start(vec![]).await;
    let mut stream = Stream::open(&test, None).await;
    test.receive("wh_1", EventType::BatchCompleted).await;
    let last = stream.until("accepted").await;
    drop(stream);
    test.receive("wh_2", EventType::BatchCompleted).await;
    let mut again = Stream::open(&test, Some(&last.id)).await;
    let next = again.next().await;
    assert_eq!((next.name, &next.data["event"]), (None, &"received".into()));
    let accepted = again.until("accepted").await;
    assert_eq!(accepted.data["webhook_id"], "wh_2");
}

/// A browser would send no id, and would never learn of the events in between.
#[tokio::test]
async fn a_client_that_is_cut_off_before_its_first_event_misses_nothing() {
    let test = TestGateway::start(vec![]).await;
    let mut stream = Stream::open(&test, None).await;
    let beginning = stream.block().await.unwrap();
    let (_, id) = beginning.trim_end().split_once("\nid: ").unwrap();
    drop(stream);
    test.receive("wh_1", EventType::BatchCompleted).await;
    let mut again = Stream::open(&test, Some(id)).await;
    let next = again.next().await;
    assert_eq!((next.name, &next.data["event"]), (None, &"received".into()));
    assert_eq!(again.until("accepted").await.data["webhook_id"], "wh_1");
}

/// A stream that its client left must not keep a later one out.
#[tokio::test]
async fn streams_may_be_opened_and_left_as_often_as_one_likes() {
    let test = TestGateway::start(vec![]).await;
    for _ in 0..200 {
        let mut stream = Stream::open(&test, None).await;
        stream.block().await.unwrap();
    }
    // Clients that vanish without a trace leave open connections behind.
    let mut streams = Vec::new();
    for _ in 0..40 {
        streams.push(Stream::open(&test, None).await);
    }
    let mut oldest = streams.swap_remove(0);
    while oldest.block().await.is_some() {}
    let latest = streams.last_mut().unwrap();
    test.receive("wh_1", EventType::BatchCompleted).await;
    latest.until("accepted").await;
}

#[tokio::test]
async fn a_client_learns_that_it_has_missed_an_unknown_number_of_events() {
    let test = TestGateway::start(vec![]).await;
    // An id of an earlier process, and none of ours.
    for last in ["0123456789abcdef-7", "nonsense"] {
        let mut stream = Stream::open(&test, Some(last)).await;
        let missed = stream.next().await;
        assert_eq!(missed.name.as_deref(), Some("missed"));
        assert!(missed.data["events"].is_null());
        test.receive("wh_1", EventType::BatchCompleted).await;
        let next = stream.next().await;
        assert_eq!(next.name, None);
    }
}

/// Otherwise only a write that fails would show that a client has left, at the next heartbeat.
#[tokio::test]
async fn a_stream_ends_at_once_when_its_client_leaves() {
    let test = TestGateway::start(vec![]).await;
    let request = "GET /api/v1/events/stream HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let mut stream = send(test.gateway.admin().unwrap(), request).await;
    let mut head = [0; 256];
    assert!(stream.read(&mut head).await.unwrap() > 0);
    // As a client that is gone, except that the test still sees the end.
    stream.shutdown().await.unwrap();
    let ended = timeout(Duration::from_secs(5), until_closed(stream)).await;
    assert!(ended.is_ok());
}

/// Other answers must be read within the idle time.
#[tokio::test]
async fn a_stream_outlives_the_idle_time_and_ends_with_the_gateway() {
    let test = TestGateway::served(|server| server.idle_timeout = Duration::from_secs(1)).await;
    let mut stream = Stream::open(&test, None).await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        test.receive("wh_1", EventType::BatchCompleted).await;
        stream.until("accepted").await;
    }
    let stopped = tokio::spawn(test.stop());
    let stops = Instant::now();
    while stream.block().await.is_some() {}
    stopped.await.unwrap();
    assert!(stops.elapsed() < Duration::from_secs(2), "{stops:?}");
}
