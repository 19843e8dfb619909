//! `unwrapd trigger`: signed sample events to a URL, as OpenAI would send them.

use std::time::Duration;

use clap::Args;
use openai_webhooks::{EventType, UnwrapWebhookEvent, WebhookHeaders, Webhooks};

use super::sign::{new_event_id, new_webhook_id};
use super::verify::unix_now;
use super::{Failure, SecretArguments, parse_url, say, usage};
use crate::route::{Patterns, nearest_type};

/// Longest wait for an answer. OpenAI waits "a few seconds".
const ANSWER_SECONDS_MAX: u64 = 10;

#[derive(Args)]
#[command(
    after_help = "Examples: unwrapd trigger response.completed --to http://127.0.0.1:3000/webhook\n          \
    unwrapd trigger 'batch.*' realtime.call.incoming --to http://127.0.0.1:3000/webhook\n          \
    unwrapd trigger --list"
)]
pub(super) struct Arguments {
    /// Event types, or patterns such as `batch.*` and `*`
    #[arg(value_name = "TYPE", required_unless_present = "list")]
    types: Vec<String>,
    /// Where to post
    #[arg(long, value_name = "URL", required_unless_present = "list", value_parser = parse_url)]
    to: Option<reqwest::Url>,
    /// Print every event type and when it is sent
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    secret: SecretArguments,
}

pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    if arguments.list {
        for event_type in EventType::ALL {
            say!("{event_type:<34} {}", event_type.sent_when())?;
        }
        return Ok(());
    }
    let types = matching(&arguments.types)?;
    let Some(url) = &arguments.to else {
        return Ok(());
    };
    let sender = Sender::new(Webhooks::from(&arguments.secret.read()?), url.clone())?;
    let mut failures = 0;
    for event_type in types {
        let request = sender.sample(event_type)?;
        let answer = sender.send(&request).await;
        let id = &request.headers.id;
        match &answer {
            Ok(status) => say!("{event_type} {id} HTTP {status}")?,
            Err(problem) => say!("{event_type} {id} {problem}")?,
        }
        if !matches!(answer, Ok(200..=299)) {
            failures += 1;
        }
    }
    if failures > 0 {
        return Err(anyhow::anyhow!("{failures} not accepted").into());
    }
    Ok(())
}

/// The types that the patterns want, each of which must match something.
fn matching(texts: &[String]) -> Result<Vec<EventType>, Failure> {
    for text in texts {
        let pattern = Patterns::parse([text.trim_start_matches('!')])
            .map_err(|error| usage(format!("`{text}`: {error}")))?;
        if pattern.known().next().is_none() {
            return Err(usage(format!(
                "`{text}` matches no event type; did you mean `{}`? (all of them: unwrapd trigger --list)",
                nearest_type(text)
            )));
        }
    }
    let patterns = Patterns::parse(texts.iter().map(String::as_str))
        .map_err(|error| usage(error.to_string()))?;
    Ok(patterns.known().collect())
}

/// Posts webhooks as OpenAI does.
pub(super) struct Sender {
    client: reqwest::Client,
    webhooks: Webhooks,
    url: reqwest::Url,
}

/// A signed request.
#[derive(Clone)]
pub(super) struct Request {
    pub(super) headers: WebhookHeaders,
    pub(super) payload: String,
}

impl Sender {
    pub(super) fn new(webhooks: Webhooks, url: reqwest::Url) -> anyhow::Result<Self> {
        Ok(Self {
            client: crate::destination::client()
                .timeout(Duration::from_secs(ANSWER_SECONDS_MAX))
                .build()?,
            webhooks,
            url,
        })
    }

    /// A new event with the data of the documented example.
    pub(super) fn sample(&self, event_type: EventType) -> anyhow::Result<Request> {
        let now = unix_now();
        let event = UnwrapWebhookEvent::sample(event_type, new_event_id(), now);
        let payload = event.to_json();
        Ok(Request {
            headers: self.webhooks.sign(&payload, new_webhook_id(), now)?,
            payload,
        })
    }

    /// Gives the status of the answer, or what went wrong.
    pub(super) async fn send(&self, request: &Request) -> Result<u16, String> {
        let mut post = self
            .client
            .post(self.url.clone())
            .header("content-type", "application/json")
            .body(request.payload.clone());
        for (name, value) in request.headers.pairs() {
            post = post.header(name, value);
        }
        match post.send().await {
            Ok(response) => Ok(response.status().as_u16()),
            Err(error) => Err(crate::destination::describe(&error)),
        }
    }
}
