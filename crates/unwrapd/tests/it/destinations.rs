//! Each kind of destination: what it delivers, and how it interprets the result.

mod answers;
mod command;
mod connection_age;
mod http;
mod jsonl;
mod jsonl_shared;
mod private_ca;
mod proxy;
mod reaping;
mod urls;

use bytes::Bytes;
use jiff::Timestamp;
use unwrapd::delivery::{Delivery, Outcome};
use unwrapd::destinations::{DestinationSettings, Kind, build};
use unwrapd::message::{Message, Origin};

use crate::support::PATIENCE;

/// A destination with a time-out longer than any test waits.
fn patient(kind: Kind) -> DestinationSettings {
    let mut settings = DestinationSettings::of("app", kind);
    settings.limits.timeout = 10 * PATIENCE;
    settings
}

fn delivery(payload: impl Into<Bytes>) -> Delivery {
    let message = Message {
        origin: Origin::OpenAi,
        endpoint: "production".into(),
        webhook_id: "wh_1".into(),
        event_type: Some("batch.completed".into()),
        sent_at: Timestamp::UNIX_EPOCH,
        received_at: "2026-01-02T03:04:05.678Z".parse().unwrap(),
        secret: None,
        payload: payload.into(),
    };
    Delivery {
        attempt: 3,
        ..Delivery::unstored("app", message)
    }
}

#[track_caller]
fn assert_delivered(outcome: &Outcome) {
    assert!(matches!(outcome, Outcome::Delivered { .. }), "{outcome:?}");
}

/// The answer must have each of these parts.
#[track_caller]
fn assert_answer(outcome: &Outcome, parts: &[&str]) {
    let answer = outcome.answer();
    assert!(
        parts.iter().all(|part| answer.contains(part)),
        "{outcome:?}"
    );
}

async fn sent(settings: &DestinationSettings, delivery: &Delivery) -> Outcome {
    let destination = build(settings).unwrap();
    tokio::time::timeout(PATIENCE, destination.send(delivery, None))
        .await
        .expect("an outcome")
}
