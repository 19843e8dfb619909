//! Warnings about requests that were refused or not kept: at most one a minute for each kind and
//! endpoint, with the number of requests.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::repeated::Repeated;
use crate::printable::counted;

/// Time between two checks for counts that are due. After a burst it may delay the log line by this
/// much beyond the interval.
pub const FLUSH_EVERY: Duration = Duration::from_secs(5);
/// Most characters of a client's text in a log line.
const SHOWN_MAX: usize = 120;

/// A kind of event, and the configured endpoint that it happened at, if any. Nothing that a client
/// chose is part of a key.
type Key = (&'static str, Option<String>);

/// Counts refusals and logs them. One is shared by all ports of a gateway.
#[derive(Default)]
pub struct Refusals {
    repeated: Repeated<Key>,
    /// By kind, the latest request that was counted and not logged.
    latest: Mutex<HashMap<&'static str, String>>,
}

impl Refusals {
    /// Counts one event. `kind` is the beginning of the log line. `detail` is called only if a line
    /// is logged; its text must hold no secret and no payload. `endpoint` must be the name of a
    /// configured endpoint.
    pub fn count(
        &self,
        kind: &'static str,
        endpoint: Option<&str>,
        detail: impl FnOnce() -> String,
    ) {
        if let Some(number) = self.due(kind, endpoint) {
            begin(kind, endpoint, &detail(), number);
        }
    }

    /// As [`count`](Self::count), without an endpoint. `request` says which request it was; a line
    /// about several has the latest of them.
    pub fn count_request(
        &self,
        kind: &'static str,
        request: &str,
        advice: impl FnOnce() -> String,
    ) {
        if let Some(number) = self.due_request(kind, request) {
            begin(kind, None, &format!("{request}; {}", advice()), number);
        }
    }

    /// Counts one event. Returns the number of events that the caller must log now, or `None` if
    /// it must not log yet.
    pub fn due(&self, kind: &'static str, endpoint: Option<&str>) -> Option<u64> {
        self.repeated.count(&(kind, endpoint.map(str::to_owned)))
    }

    /// As [`due`](Self::due), without an endpoint. A later line about several requests has the
    /// latest of them.
    pub fn due_request(&self, kind: &'static str, request: &str) -> Option<u64> {
        let number = self.due(kind, None);
        if number.is_none() {
            self.latest().insert(kind, request.to_owned());
        }
        number
    }

    /// Logs the counts that are due. Call it every [`FLUSH_EVERY`].
    pub fn log_due(&self) {
        self.log(self.repeated.take_due());
    }

    /// Logs all counts that were not logged yet. For the end of the process.
    pub fn flush(&self) {
        self.log(self.repeated.take_all());
    }

    fn log(&self, counts: Vec<(Option<Key>, u64)>) {
        for (key, number) in counts {
            let Some((kind, endpoint)) = key else {
                let refused = counted(number, "further request was", "further requests were");
                tracing::warn!(count = number, "{refused} refused, of many kinds");
                continue;
            };
            let again = counted(number, "time more", "times more");
            let text = format!("{kind}: {again} since the last such line");
            match (endpoint, self.latest().remove(kind)) {
                (Some(endpoint), _) => tracing::warn!(endpoint, count = number, "{text}"),
                (None, Some(latest)) => {
                    tracing::warn!(count = number, "{text}, the latest: {latest}");
                }
                (None, None) => tracing::warn!(count = number, "{text}"),
            }
        }
    }

    fn latest(&self) -> MutexGuard<'_, HashMap<&'static str, String>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Logs the first event of a kind, or the first one after a while.
fn begin(kind: &str, endpoint: Option<&str>, detail: &str, number: u64) {
    let since = match number {
        1 => String::new(),
        number => format!(" ({number} times since the last such line)"),
    };
    if let Some(endpoint) = endpoint {
        tracing::warn!(endpoint, count = number, "{kind}: {detail}{since}");
    } else {
        tracing::warn!(count = number, "{kind}: {detail}{since}");
    }
}

/// A client's text for the log: one line of ASCII, of bounded length, and without text that looks
/// like a secret, or like a URL, which may hold a password.
pub(crate) fn shown(text: &str) -> String {
    const PRIVATE: [&str; 10] = [
        "whsec",
        "sk-",
        "bearer",
        "token",
        "secret",
        "key=",
        "@",
        "%40",
        "://",
        "%3a%2f%2f",
    ];
    let lower = text.to_ascii_lowercase();
    if PRIVATE.iter().any(|part| lower.contains(part)) {
        return "[not shown: it may hold a secret]".into();
    }
    let mut shown: String = text
        .chars()
        .take(SHOWN_MAX)
        .flat_map(char::escape_default)
        .collect();
    if text.chars().nth(SHOWN_MAX).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_chosen_by_a_client_is_shown_as_one_bounded_line_without_secrets() {
        assert_eq!(shown("/webhook/a"), "/webhook/a");
        assert_eq!(shown("/a\n\u{202e}b"), "/a\\n\\u{202e}b");
        assert!(shown(&"\u{1b}".repeat(10_000)).len() < 10 * SHOWN_MAX);
        assert!(!shown("/webhooks/whsec_AAECAw").contains("AAEC"));
    }
}
