//! Random bodies with valid signatures. Invariants: the body is authentic, nothing panics, and an
//! event is unchanged after it is written as JSON and read again.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use openai_webhooks::{
    Envelope, PayloadProblem, Secret, UnwrapError, UnwrapWebhookEvent, Webhooks,
};

const NOW: i64 = 1_750_287_078;

static WEBHOOKS: LazyLock<Webhooks> =
    LazyLock::new(|| Webhooks::from(&Secret::from_key([7; 32]).expect("a key")));

fuzz_target!(|body: &[u8]| {
    let headers = WEBHOOKS.sign(body, "wh_1", NOW).unwrap();
    match WEBHOOKS.unwrap_at(body, &headers, NOW) {
        Ok(event) => {
            let envelope = Envelope::read(body).expect("every event has a type");
            assert_eq!(envelope.kind(), event.kind());
            check(&event);
        }
        Err(UnwrapError::Payload(error)) => {
            assert_eq!(error.webhook_id(), "wh_1");
            assert!(!error.to_string().is_empty());
            assert_eq!(Some(error.problem()), PayloadProblem::find(body).as_ref());
            assert_eq!(
                error.kind(),
                Envelope::read(body).as_ref().map(Envelope::kind)
            );
        }
        Err(error) => panic!("refused, though it was signed: {error}"),
    }
});

fn check(event: &UnwrapWebhookEvent) {
    assert_eq!(
        event.event_type().is_none(),
        matches!(event, UnwrapWebhookEvent::Unknown(_))
    );
    let json = event.to_json();
    let again: UnwrapWebhookEvent = serde_json::from_str(&json)
        .unwrap_or_else(|error| panic!("written but not read again: {error}: {json}"));
    assert_eq!(*event, again);
    assert_eq!(again.to_json(), json);

    let headers = WEBHOOKS.sign(&json, "wh_2", NOW).unwrap();
    assert_eq!(WEBHOOKS.unwrap_at(&json, &headers, NOW).as_ref(), Ok(event));
}
