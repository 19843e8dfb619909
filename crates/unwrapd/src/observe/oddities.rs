//! Warnings about verified webhooks whose body is not an event that the library can read.

use openai_webhooks::PayloadError;
use tokio::time::sleep;

use super::repeated::{INTERVAL, Repeated};
use crate::message::shown_kind;

/// Logs one line for each endpoint, event type and problem, with the place of the odd field and
/// never its value. Further odd bodies are counted.
#[derive(Default)]
pub(crate) struct Oddities {
    repeated: Repeated<Key>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    endpoint: String,
    kind: String,
    problem: String,
    consequence: &'static str,
}

impl Key {
    fn of(endpoint: &str, oddity: &PayloadError) -> Self {
        // Bodies with the same problem may have it at another item of a list, line or byte.
        let problem = oddity.problem().to_string();
        let problem = match oddity.field() {
            Some(field) => {
                let of_any_item = field.replace(|letter: char| letter.is_ascii_digit(), "");
                problem.replace(field, &of_any_item)
            }
            None => problem.split(',').next().unwrap_or_default().to_owned(),
        };
        Self {
            endpoint: endpoint.to_owned(),
            kind: shown_kind(oddity.kind()).to_owned(),
            problem,
            consequence: match oddity.kind() {
                Some(_) => "routed by type like any other",
                None => "without a type, only destinations that want `*` get it",
            },
        }
    }
}

impl Oddities {
    /// Counts an odd body that `endpoint` received and that was stored.
    pub(crate) fn count(&self, endpoint: &str, oddity: &PayloadError) {
        let key = Key::of(endpoint, oddity);
        let Some(webhooks) = self.repeated.count(&key) else {
            return;
        };
        tracing::warn!(
            endpoint,
            event_type = key.kind,
            webhook_id = oddity.webhook_id(),
            count = webhooks,
            "cannot read a verified body as an event: {}; {}; see `unwrapd events show {}`",
            oddity.problem(),
            key.consequence,
            oddity.webhook_id(),
        );
    }

    /// Logs the counts that are due, for ever.
    pub(crate) async fn run(&self) {
        loop {
            sleep(INTERVAL).await;
            self.log_due();
        }
    }

    /// Logs all counts that were not logged yet. For the end of the process.
    pub(crate) fn flush(&self) {
        log(self.repeated.take_all());
    }

    fn log_due(&self) {
        log(self.repeated.take_due());
    }
}

fn log(counts: Vec<(Option<Key>, u64)>) {
    for (key, webhooks) in counts {
        if let Some(key) = key {
            tracing::warn!(
                endpoint = key.endpoint,
                event_type = key.kind,
                count = webhooks,
                "cannot read further verified bodies as events: {}; {}",
                key.problem,
                key.consequence,
            );
        } else {
            tracing::warn!(
                count = webhooks,
                "cannot read further verified bodies as events, of many types"
            );
        }
    }
}
