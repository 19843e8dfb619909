//! Warnings about verified webhooks whose body is not an event that the library can read.

use std::fmt;

use openai_webhooks::PayloadError;
use tokio::time::sleep;

use super::repeated::{INTERVAL, Repeated};

/// Most letters of an event type in a log line or a key.
const KIND_LETTERS_MAX: usize = 64;

/// Logs one line for each endpoint and event type, with the place of the odd field and never its value; further ones are counted.
#[derive(Default)]
pub struct Oddities {
    repeated: Repeated<(String, Kind)>,
}

impl Oddities {
    /// Counts an odd body that `endpoint` received and that was kept.
    pub fn count(&self, endpoint: &str, oddity: &PayloadError) {
        let key = (endpoint.to_owned(), Kind::of(oddity));
        let Some(webhooks) = self.repeated.count(&key) else {
            return;
        };
        let (_, kind) = key;
        let consequence = if kind.0.is_some() {
            "it is routed by its type like any other"
        } else {
            "without a type, only destinations that want `*` get it"
        };
        tracing::warn!(
            endpoint,
            %kind,
            webhook_id = oddity.webhook_id(),
            webhooks,
            "cannot read a verified body as an event: {}; {consequence}; see `unwrapd events show {}`",
            oddity.problem(),
            oddity.webhook_id(),
        );
    }

    /// Logs, for ever, what was counted and not logged yet.
    pub async fn run(&self) {
        loop {
            sleep(INTERVAL).await;
            self.log_due();
        }
    }

    fn log_due(&self) {
        for (key, webhooks) in self.repeated.take_due() {
            let text = "cannot read verified bodies as events: they are routed by their type like any other";
            match key {
                Some((endpoint, kind)) => tracing::warn!(endpoint, %kind, webhooks, "{text}"),
                None => tracing::warn!(webhooks, "{text}"),
            }
        }
    }
}

/// The type that an odd body names, short and without letters that a log could be forged with.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Kind(Option<String>);

impl Kind {
    fn of(oddity: &PayloadError) -> Self {
        let short = |kind: &str| {
            let letters = kind.chars().take(KIND_LETTERS_MAX);
            let plain = |letter: char| match letter {
                letter if letter.is_ascii_graphic() => letter,
                _ => '?',
            };
            letters.map(plain).collect()
        };
        Self(oddity.kind().map(short))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_deref().unwrap_or("(no event)"))
    }
}
