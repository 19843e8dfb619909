//! Answers the JSON event in which AWS Lambda passes a request from API Gateway or a function URL:
//! the headers are a map, and the body may be base64.
//!
//! ```sh
//! # With a request of its own:
//! cargo run -p openai-webhooks --example lambda_base64_body
//! # With a request from stdin, verified with OPENAI_WEBHOOK_SECRET:
//! cargo run -p openai-webhooks --example lambda_base64_body -- - < event.json
//! ```

#![expect(clippy::print_stdout, reason = "stdout is the answer")]

use std::borrow::Cow;
use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openai_webhooks::{EventType, UnwrapError, Webhooks};
use serde::{Deserialize, Serialize};

/// The fields of the event that we need; the crate `aws_lambda_events` has all of them.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    headers: HashMap<String, String>,
    body: Option<String>,
    #[serde(default)]
    is_base64_encoded: bool,
}

impl Request {
    /// The bytes that were signed.
    fn payload(&self) -> Result<Cow<'_, [u8]>, base64::DecodeError> {
        let body = self.body.as_deref().unwrap_or_default();
        if self.is_base64_encoded {
            STANDARD.decode(body).map(Cow::Owned)
        } else {
            Ok(Cow::Borrowed(body.as_bytes()))
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    status_code: u16,
    body: String,
}

fn handle(webhooks: &Webhooks, request: &Request) -> Response {
    let respond = |status_code, body| Response { status_code, body };
    let Ok(payload) = request.payload() else {
        return respond(400, "the body is not base64".to_owned());
    };
    match webhooks.unwrap(&payload, &request.headers) {
        // AWS freezes a lambda after its answer, so hand the work to a queue (SQS, Step Functions)
        // before the 200.
        Ok(event) => respond(200, format!("{} {}", event.kind(), event.id())),
        Err(UnwrapError::Verification(error)) => respond(error.http_status(), error.to_string()),
        // Authentic but not an event: a person should look at it, and OpenAI need not retry.
        Err(error) => respond(200, format!("parked: {error}")),
    }
}

fn main() -> anyhow::Result<()> {
    let (webhooks, request) = if std::env::args().nth(1).as_deref() == Some("-") {
        let request = serde_json::from_reader(std::io::stdin().lock())?;
        (Webhooks::from_env()?, request)
    } else {
        let webhooks = Webhooks::new("whsec_dGhpcyBrZXkgaXMgZm9yIHRlc3RzIG9ubHkh")?;
        let request = sample(&webhooks)?;
        println!("{}", serde_json::to_string_pretty(&request)?);
        (webhooks, request)
    };
    let response = handle(&webhooks, &request);
    println!("{}", serde_json::to_string_pretty(&response)?);
    Ok(())
}

/// A request as API Gateway passes it when binary bodies are enabled.
fn sample(webhooks: &Webhooks) -> anyhow::Result<Request> {
    let body = EventType::BatchCompleted.sample();
    let signed = webhooks.sign_now(body, "wh_sample")?;
    let headers = signed
        .pairs()
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    Ok(Request {
        headers: headers.into(),
        body: Some(STANDARD.encode(body)),
        is_base64_encoded: true,
    })
}
