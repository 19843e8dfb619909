//! Warnings about verified webhooks whose body is not an event that the library can read.

use openai_webhooks::PayloadError;
use tokio::time::sleep;

use super::repeated::{INTERVAL, Repeated};
use crate::message::shown_kind;

/// Logs one line for each endpoint and event type, with the place of the odd field and never its
/// value. Further odd bodies are counted.
#[derive(Default)]
pub struct Oddities {
    repeated: Repeated<(String, String)>,
}

impl Oddities {
    /// Counts an odd body that `endpoint` received and that was kept.
    pub fn count(&self, endpoint: &str, oddity: &PayloadError) {
        let kind = shown_kind(oddity.kind());
        let key = (endpoint.to_owned(), kind.to_owned());
        let Some(webhooks) = self.repeated.count(&key) else {
            return;
        };
        let consequence = if oddity.kind().is_some() {
            "it is routed by its type like any other"
        } else {
            "without a type, only destinations that want `*` get it"
        };
        tracing::warn!(
            endpoint,
            kind,
            webhook_id = oddity.webhook_id(),
            webhooks,
            "cannot read a verified body as an event: {}; {consequence}; see `unwrapd events show {}`",
            oddity.problem(),
            oddity.webhook_id(),
        );
    }

    /// Logs the counts that are due, for ever.
    pub async fn run(&self) {
        loop {
            sleep(INTERVAL).await;
            self.log_due();
        }
    }

    /// Logs all counts that were not logged yet. For the end of the process.
    pub fn flush(&self) {
        log(self.repeated.take_all());
    }

    fn log_due(&self) {
        log(self.repeated.take_due());
    }
}

fn log(counts: Vec<(Option<(String, String)>, u64)>) {
    for (key, webhooks) in counts {
        let text =
            "cannot read verified bodies as events: they are routed by their type like any other";
        if let Some((endpoint, kind)) = key {
            tracing::warn!(endpoint, kind, webhooks, "{text}");
        } else {
            tracing::warn!(webhooks, "{text}");
        }
    }
}
