//! Tests for a webhook handler, without OpenAI: sign a sample, call the handler, check the answer.
//!
//! ```sh
//! cargo test -p openai-webhooks --example sign_in_your_tests
//! cargo run -p openai-webhooks --example sign_in_your_tests # prints the answers
//! ```

#![expect(clippy::print_stdout, reason = "shows what it does")]

use openai_webhooks::{
    EventType, HeadersLike, UnwrapError, UnwrapWebhookEvent, WebhookHeaders, Webhooks,
};

/// The handler under test. It takes [`Webhooks`] as an argument, so that a test can use its own
/// secret.
fn handle(webhooks: &Webhooks, headers: &impl HeadersLike, body: &[u8]) -> (u16, String) {
    match webhooks.unwrap(body, headers) {
        Ok(UnwrapWebhookEvent::ResponseCompleted(event)) => {
            (200, format!("fetching {}", event.data.id))
        }
        Ok(event) => (200, format!("passing over {}", event.kind())),
        Err(UnwrapError::Verification(error)) => (error.http_status(), error.to_string()),
        Err(error) => (200, format!("parked: {error}")),
    }
}

/// Takes the role of OpenAI. Any key works, and no environment is needed.
fn test_webhooks() -> Webhooks {
    Webhooks::new("whsec_dGhpcyBrZXkgaXMgZm9yIHRlc3RzIG9ubHkh").expect("a well-formed secret")
}

/// A documented payload, with the headers that OpenAI would send at this time.
fn signed(webhooks: &Webhooks, event_type: EventType) -> (WebhookHeaders, &'static str) {
    let body = event_type.sample();
    let headers = webhooks.sign_now(body, "wh_test_1");
    (headers.expect("a well-formed webhook-id"), body)
}

fn main() {
    let webhooks = test_webhooks();
    for event_type in [EventType::ResponseCompleted, EventType::BatchCompleted] {
        let (headers, body) = signed(&webhooks, event_type);
        let (status, text) = handle(&webhooks, &headers, body.as_bytes());
        println!("{event_type}: {status} {text}");
    }

    let (headers, body) = signed(&webhooks, EventType::ResponseCompleted);
    let forged = body.replace("resp_abc123", "resp_abc124");
    let (status, text) = handle(&webhooks, &headers, forged.as_bytes());
    println!("a changed body: {status} {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_completed_response_is_fetched() {
        let webhooks = test_webhooks();
        let (headers, body) = signed(&webhooks, EventType::ResponseCompleted);
        assert_eq!(
            handle(&webhooks, &headers, body.as_bytes()),
            (200, "fetching resp_abc123".to_owned())
        );
    }

    #[test]
    fn every_event_we_do_not_use_is_acknowledged() {
        let webhooks = test_webhooks();
        for event_type in EventType::ALL {
            let (headers, body) = signed(&webhooks, *event_type);
            assert_eq!(handle(&webhooks, &headers, body.as_bytes()).0, 200);
        }
    }

    #[test]
    fn a_webhook_signed_by_someone_else_is_refused() {
        let someone_else = Webhooks::new("whsec_c29tZSBvdGhlciBrZXkgb2YgYW4gYXR0YWNrZXI=");
        let (headers, body) = signed(&someone_else.unwrap(), EventType::ResponseCompleted);
        assert_eq!(handle(&test_webhooks(), &headers, body.as_bytes()).0, 401);
    }

    #[test]
    fn an_event_openai_adds_tomorrow_is_acknowledged() {
        let webhooks = test_webhooks();
        let body = r#"{"id":"evt_1","type":"note.taken","created_at":1,"data":{}}"#;
        let headers = webhooks.sign_now(body, "wh_1").unwrap();
        assert_eq!(
            handle(&webhooks, &headers, body.as_bytes()),
            (200, "passing over note.taken".to_owned())
        );
    }
}
