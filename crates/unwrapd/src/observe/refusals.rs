//! Warnings about requests that were refused or not kept: at most one a minute for each kind and
//! endpoint, with the number of requests.

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
        let Some(number) = self.repeated.count(&(kind, endpoint.map(str::to_owned))) else {
            return;
        };
        let detail = detail();
        let since = match number {
            1 => String::new(),
            number => format!(" ({number} times since the last such line)"),
        };
        if let Some(endpoint) = endpoint {
            tracing::warn!(endpoint, "{kind}: {detail}{since}");
        } else {
            tracing::warn!("{kind}: {detail}{since}");
        }
    }

    /// Logs the counts that are due. Call it every [`FLUSH_EVERY`].
    pub fn log_due(&self) {
        log(self.repeated.take_due());
    }

    /// Logs all counts that were not logged yet. For the end of the process.
    pub fn flush(&self) {
        log(self.repeated.take_all());
    }
}

fn log(counts: Vec<(Option<Key>, u64)>) {
    for (key, number) in counts {
        let again = counted(number, "time more", "times more");
        match key {
            Some((kind, Some(endpoint))) => {
                tracing::warn!(endpoint, "{kind}: {again} since the last such line");
            }
            Some((kind, None)) => {
                tracing::warn!("{kind}: {again} since the last such line");
            }
            None => tracing::warn!(
                "{} refused, of many kinds",
                counted(number, "further request was", "further requests were")
            ),
        }
    }
}

/// A client's text for the log: one line of ASCII, of bounded length, and without text that looks
/// like a secret.
pub(crate) fn shown(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    if ["whsec", "sk-", "bearer", "token", "secret", "key="]
        .iter()
        .any(|part| lower.contains(part))
    {
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
    fn what_a_client_chose_is_one_bounded_line_without_secrets() {
        assert_eq!(shown("/webhook/a"), "/webhook/a");
        assert_eq!(shown("/a\n\u{202e}b"), "/a\\n\\u{202e}b");
        assert!(shown(&"\u{1b}".repeat(10_000)).len() < 10 * SHOWN_MAX);
        assert!(!shown("/webhooks/whsec_AAECAw").contains("AAEC"));
    }
}
