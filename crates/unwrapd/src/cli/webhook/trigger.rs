//! `unwrapd trigger`: signed sample events to a URL, as OpenAI would send them.

use std::fmt;
use std::time::Duration;

use clap::Args;
use openai_webhooks::{EventType, UnwrapWebhookEvent, WebhookHeaders, Webhooks};
use reqwest::Response;
use reqwest::header::LOCATION;

use super::SecretArguments;
use super::request::unix_now;
use super::sign::{new_event_id, new_webhook_id};
use crate::cli::answer_body;
use crate::cli::completions::candidates;
use crate::cli::failure::{Failure, usage};
use crate::cli::format::{outln, plain, shown_name};
use crate::printable::counted;
use crate::route::{Patterns, nearest_pattern};
use crate::settings_file::typed_url;

/// Longest wait for an answer. OpenAI waits "a few seconds".
const ANSWER_SECONDS_MAX: u64 = 10;
/// Longest wait for the body of an answer.
const BODY_WAIT_MAX: Duration = Duration::from_secs(2);

#[derive(Args)]
#[command(
    after_help = "Examples: unwrapd trigger response.completed --to http://127.0.0.1:3000/webhook\n          \
    unwrapd trigger 'batch.*' realtime.call.incoming --to http://127.0.0.1:3000/webhook\n          \
    unwrapd trigger --list"
)]
pub(crate) struct Arguments {
    /// Event types, families such as `batch.*`, or `all`
    #[arg(value_name = "TYPE", required_unless_present = "list", add = candidates::event_types_or_all())]
    types: Vec<String>,
    /// URL to send to
    #[arg(long, value_name = "URL", required_unless_present = "list", value_parser = typed_url)]
    to: Option<reqwest::Url>,
    /// Print every event type and when it is sent
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    secret: SecretArguments,
}

pub(crate) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    if arguments.list {
        for event_type in EventType::ALL {
            outln!("{event_type:<34} {}", event_type.sent_when())?;
        }
        return Ok(());
    }
    let types = matching(&arguments.types)?;
    let Some(url) = &arguments.to else {
        return Ok(());
    };
    let sender = Sender::new(arguments.secret.webhooks()?, url.clone())?;
    let mut failures = 0;
    for event_type in types {
        let request = sender.sample(event_type)?;
        let answer = sender.send_and_read(&request).await;
        let id = &request.headers.id;
        match &answer {
            Ok(answer) => outln!("{event_type} {id} {}", plain(&answer.to_string()))?,
            Err(problem) => outln!("{event_type} {id} {}", plain(problem))?,
        }
        if !matches!(
            answer,
            Ok(Answer {
                status: 200..=299,
                ..
            })
        ) {
            failures += 1;
        }
    }
    if failures > 0 {
        return Err(anyhow::anyhow!(
            "{} not accepted",
            counted(failures, "event was", "events were")
        )
        .into());
    }
    Ok(())
}

/// The types that the patterns match. A pattern without a match is an error.
fn matching(texts: &[String]) -> Result<Vec<EventType>, Failure> {
    let texts: Vec<&str> = texts
        .iter()
        .map(|text| if text == "all" { "*" } else { text })
        .collect();
    for text in &texts {
        let pattern = Patterns::parse([text.trim_start_matches('!')]).map_err(|error| {
            usage(format!(
                "`{}`: {error}; did you mean `{}`?",
                shown_name(text),
                nearest_pattern(text)
            ))
        })?;
        if pattern.known().next().is_none() {
            return Err(usage(format!(
                "`{}` matches no event type; did you mean `{}`? (all of them: unwrapd trigger --list)",
                shown_name(text),
                nearest_pattern(text)
            )));
        }
    }
    let patterns =
        Patterns::parse(texts.iter().copied()).map_err(|error| usage(error.to_string()))?;
    Ok(patterns.known().collect())
}

/// A sender of webhooks, as OpenAI is.
pub(crate) struct Sender {
    client: reqwest::Client,
    webhooks: Webhooks,
    url: reqwest::Url,
}

/// A signed request.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) headers: WebhookHeaders,
    pub(crate) payload: String,
}

impl Sender {
    pub(crate) fn new(webhooks: Webhooks, url: reqwest::Url) -> anyhow::Result<Self> {
        Ok(Self {
            client: crate::destinations::client()
                .timeout(Duration::from_secs(ANSWER_SECONDS_MAX))
                .build()?,
            webhooks,
            url,
        })
    }

    /// A new event with the data of OpenAI's documented example.
    pub(crate) fn sample(&self, event_type: EventType) -> anyhow::Result<Request> {
        let now = unix_now();
        let event = UnwrapWebhookEvent::sample(event_type, new_event_id(), now);
        let payload = event.to_json();
        Ok(Request {
            headers: self.webhooks.sign(&payload, new_webhook_id(), now)?,
            payload,
        })
    }

    /// Returns the status of the answer, or the error.
    pub(crate) async fn send(&self, request: &Request) -> Result<u16, String> {
        Ok(self.post(request).await?.status().as_u16())
    }

    /// Does the same as [`send`](Self::send), and returns the body of the answer too.
    async fn send_and_read(&self, request: &Request) -> Result<Answer, String> {
        let mut response = self.post(request).await?;
        let location = response.headers().get(LOCATION);
        let location = location.map(|location| String::from_utf8_lossy(location.as_bytes()).into());
        Ok(Answer {
            status: response.status().as_u16(),
            location,
            body: answer_body::beginning(&mut response, BODY_WAIT_MAX).await,
        })
    }

    async fn post(&self, request: &Request) -> Result<Response, String> {
        let mut post = self
            .client
            .post(self.url.clone())
            .header("content-type", "application/json")
            .body(request.payload.clone());
        for (name, value) in request.headers.pairs() {
            post = post.header(name, value);
        }
        post.send()
            .await
            .map_err(|error| crate::destinations::describe(&error))
    }
}

/// The answer of an application, which may be hostile text.
struct Answer {
    status: u16,
    location: Option<String>,
    body: String,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HTTP {}", self.status)?;
        if (300..400).contains(&self.status) {
            f.write_str(", and redirects are not followed")?;
            if let Some(location) = &self.location {
                write!(f, ": post to {location} instead")?;
            }
        }
        if !self.body.is_empty() {
            write!(f, "  {}", self.body)?;
        }
        Ok(())
    }
}
