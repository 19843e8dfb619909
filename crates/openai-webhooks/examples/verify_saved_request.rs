//! Proves a request that was saved or waited in a queue, against the time it arrived instead of now.
//! `OPENAI_WEBHOOK_SECRET=whsec_… cargo run -p openai-webhooks --example verify_saved_request -- HEADERS BODY ARRIVED_AT`: a file with a
//! `name: value` on each line, a file with the exact body, and Unix seconds. Without arguments it takes a request it has with it.

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
        _ => anyhow::bail!("give three arguments, HEADERS BODY ARRIVED_AT, or none"),
    };

    let headers = pairs(&saved.headers);
    let event = webhooks.unwrap_at(&saved.body, &headers, saved.arrived_at)?;
    println!("authentic: {} {}", event.kind(), event.id());

    // Against the clock of today it is what it looks like: an old request, sent again.
    if let Err(UnwrapError::Verification(error)) = webhooks.unwrap(&saved.body, &headers) {
        println!("and if it came now: {error}");
    }
    Ok(())
}

/// A line without a colon, such as `HTTP/1.1 200 OK`, is no header.
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
