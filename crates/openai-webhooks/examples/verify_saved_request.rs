//! Verifies a request that was saved, or that waited in a queue, at the time it arrived.
//!
//! ```sh
//! OPENAI_WEBHOOK_SECRET=whsec_… cargo run -p openai-webhooks --example verify_saved_request -- \
//!     HEADERS BODY ARRIVED_AT
//! ```
//!
//! `HEADERS` is a file with one `name: value` on each line, `BODY` a file with the exact body, and
//! `ARRIVED_AT` a time in Unix seconds. Without arguments, the example uses a request of its own.

#![expect(clippy::print_stdout, reason = "shows what it does")]

use openai_webhooks::{UnwrapError, Webhooks};

struct SavedRequest {
    headers: String,
    body: Vec<u8>,
    /// Unix seconds.
    arrived_at: i64,
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (webhooks, saved) = match arguments.as_slice() {
        [headers, body, arrived_at] => {
            let saved = SavedRequest {
                headers: std::fs::read_to_string(headers)?,
                body: std::fs::read(body)?,
                arrived_at: arrived_at.parse()?,
            };
            (Webhooks::from_env()?, saved)
        }
        [] => (Webhooks::new(SAMPLE_SECRET)?, sample()),
        _ => anyhow::bail!("pass three arguments, HEADERS BODY ARRIVED_AT, or none"),
    };

    let headers = pairs(&saved.headers);
    let event = webhooks.unwrap_at(&saved.body, &headers, saved.arrived_at)?;
    println!("authentic: {} {}", event.kind(), event.id());

    // At the current time it is refused as an old request.
    if let Err(UnwrapError::Verification(error)) = webhooks.unwrap(&saved.body, &headers) {
        println!("at the current time: {error}");
    }
    Ok(())
}

/// A line without a colon, such as `HTTP/1.1 200 OK`, is not a header.
fn pairs(text: &str) -> Vec<(&str, &str)> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim(), value.trim()))
        .collect()
}

const SAMPLE_SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";

fn sample() -> SavedRequest {
    SavedRequest {
        headers: "\
User-Agent: OpenAI/1.0 (+https://platform.openai.com/docs/webhooks)
Content-Type: application/json
Webhook-Id: wh_685342e6c53c8190a1be43f081506c52
Webhook-Timestamp: 1750287078
Webhook-Signature: v1,XwQ1PfLRcS+eF4fuKIxhTev9LOfyGjIqIWxmTuxlVZQ=
"
        .to_owned(),
        body: br#"{"id":"evt_abc123","type":"response.completed","created_at":1719168000,"data":{"id":"resp_abc123"}}"#.to_vec(),
        arrived_at: 1_750_287_080,
    }
}
