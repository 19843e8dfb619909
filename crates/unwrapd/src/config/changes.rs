//! Names the keys in which two configurations differ, and the endpoints that share a secret.

use std::collections::BTreeSet;

use openai_webhooks::Webhooks;

use super::{Config, DestinationSettings, EndpointSettings, ServerSettings};
use crate::destination::Kind;
use crate::destination::http::HttpSettings;

/// The changes that a new configuration makes for a running gateway, without values.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Each change of an endpoint or a destination, in words.
    pub parts: Vec<String>,
    /// Destinations that were removed, each with the name of a new one of the same URL, command or
    /// file, if there is one.
    pub removed: Vec<(String, Option<String>)>,
    /// Keys that differ and take effect only after a restart.
    pub at_next_start: Vec<&'static str>,
}

impl Changes {
    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The changes from `before` to `after`.
    pub(crate) fn between(before: &Config, after: &Config) -> Self {
        let mut changes = Self::default();
        changes.endpoints(&before.endpoints, &after.endpoints);
        changes.destinations(&before.destinations, &after.destinations);
        if before.server.drain != after.server.drain {
            changes.parts.push("[server]: drain_seconds changed".into());
        }
        changes.next_start(before, after);
        changes
    }

    /// Finds the keys that take effect only after a restart.
    fn next_start(&mut self, before: &Config, after: &Config) {
        let (store, other_store) = (&before.store.bounds, &after.store.bounds);
        let (server, other_server) = (&before.server, &after.server);
        let has_own_admin_tls =
            |server: &ServerSettings| server.admin_tls.is_some() && !server.shares_tls();
        self.at_next_start = differing([
            ("listen", before.listen != after.listen),
            ("admin", before.admin != after.admin),
            ("admin_token", before.admin_token != after.admin_token),
            (
                "[store] url or password",
                before.store.url != after.store.url,
            ),
            ("[store] dedupe_days", store.dedupe != other_store.dedupe),
            (
                "[store] undelivered_max",
                store.undelivered_max != other_store.undelivered_max,
            ),
            (
                "[store] retention_days",
                store.retention != other_store.retention,
            ),
            (
                "[store] size_max_mb",
                store.size_max != other_store.size_max,
            ),
            (
                "[server] connections_max",
                server.connections_max != other_server.connections_max,
            ),
            (
                "[server] requests_max",
                server.requests_max != other_server.requests_max,
            ),
            (
                "[server] head_timeout_seconds",
                server.head_timeout != other_server.head_timeout,
            ),
            (
                "[server] body_timeout_seconds",
                server.body_timeout != other_server.body_timeout,
            ),
            (
                "[server] idle_timeout_seconds",
                server.idle_timeout != other_server.idle_timeout,
            ),
            (
                "[server.tls]",
                server.tls.is_some() != other_server.tls.is_some(),
            ),
            (
                "[server.admin_tls]",
                has_own_admin_tls(server) != has_own_admin_tls(other_server),
            ),
        ]);
    }

    fn endpoints(&mut self, before: &[EndpointSettings], after: &[EndpointSettings]) {
        for endpoint in after {
            let name = &endpoint.name;
            let Some(old) = before.iter().find(|old| old.name == *name) else {
                self.parts.push(format!("endpoint `{name}` added"));
                continue;
            };
            let mut keys: Vec<String> =
                named([("requests_max", old.requests_max != endpoint.requests_max)]);
            keys.extend(secrets(&old.webhooks, &endpoint.webhooks));
            self.changed("endpoint", name, &keys);
        }
        for old in before {
            if !after.iter().any(|endpoint| endpoint.name == old.name) {
                self.parts.push(format!("endpoint `{}` removed", old.name));
            }
        }
    }

    fn destinations(&mut self, before: &[DestinationSettings], after: &[DestinationSettings]) {
        let is_new = |name: &str| !before.iter().any(|old| old.name == name);
        for destination in after {
            let name = &destination.name;
            match before.iter().find(|old| old.name == *name) {
                None => self.parts.push(format!("destination `{name}` added")),
                Some(old) => self.changed("destination", name, &keys(old, destination)),
            }
        }
        for old in before {
            if after.iter().any(|destination| destination.name == old.name) {
                continue;
            }
            let heir = after.iter().find(|destination| {
                is_new(&destination.name) && leads_alike(&old.kind, &destination.kind)
            });
            self.parts
                .push(format!("destination `{}` removed", old.name));
            self.removed
                .push((old.name.clone(), heir.map(|heir| heir.name.clone())));
        }
    }

    fn changed(&mut self, what: &str, name: &str, keys: &[String]) {
        if !keys.is_empty() {
            self.parts
                .push(format!("{what} `{name}`: {} changed", keys.join(", ")));
        }
    }
}

/// The keys in which two settings differ, of these.
fn differing<const N: usize>(keys: [(&'static str, bool); N]) -> Vec<&'static str> {
    let differing = keys.into_iter().filter(|(_, is_other)| *is_other);
    differing.map(|(key, _)| key).collect()
}

/// As [`differing`].
fn named<const N: usize>(keys: [(&'static str, bool); N]) -> Vec<String> {
    differing(keys).into_iter().map(str::to_owned).collect()
}

/// The keys in which two destinations of one name differ.
fn keys(old: &DestinationSettings, new: &DestinationSettings) -> Vec<String> {
    let mut keys = match (&old.kind, &new.kind) {
        (Kind::Http(old), Kind::Http(new)) => http_keys(old, new),
        (old, new) if old == new => Vec::new(),
        (Kind::Command(_), Kind::Command(_)) => vec!["command".into()],
        (Kind::JsonLines(_), Kind::JsonLines(_)) => vec!["jsonl".into()],
        (old, new) => vec![format!("{} to {}", kind(old), kind(new))],
    };
    let (before, after) = (&old.limits, &new.limits);
    let (retry, other_retry) = (&before.retry, &after.retry);
    keys.extend(named([
        ("events", old.events != new.events),
        ("concurrency", before.concurrency != after.concurrency),
        ("rate", before.rate != after.rate),
        ("timeout_seconds", before.timeout != after.timeout),
        ("retry_first_seconds", retry.first != other_retry.first),
        ("retry_max_seconds", retry.max != other_retry.max),
        (
            "deadline_hours",
            retry.give_up_after != other_retry.give_up_after,
        ),
        (
            "attempts_max",
            retry.attempts_max != other_retry.attempts_max,
        ),
    ]));
    if keys.is_empty() && old != new {
        keys.push("other settings".into());
    }
    keys
}

fn http_keys(old: &HttpSettings, new: &HttpSettings) -> Vec<String> {
    let url = |settings: &HttpSettings| settings.proxy.as_ref().map(|proxy| proxy.url.clone());
    let user =
        |settings: &HttpSettings| settings.proxy.as_ref().and_then(|proxy| proxy.user.clone());
    let mut keys = named([
        ("url", old.url != new.url),
        (
            "connect_timeout_seconds",
            old.connect_timeout != new.connect_timeout,
        ),
        ("allow_private", old.allow_private != new.allow_private),
        ("ca", old.authorities != new.authorities),
        ("proxy", url(old) != url(new)),
        ("proxy_user or proxy_password", user(old) != user(new)),
    ]);
    keys.extend(secrets(&old.webhooks, &new.webhooks));
    keys
}

fn kind(kind: &Kind) -> &'static str {
    match kind {
        Kind::Http(_) => "url",
        Kind::Command(_) => "command",
        Kind::JsonLines(_) => "jsonl",
    }
}

/// Whether two destinations have the same URL, command or file.
fn leads_alike(old: &Kind, new: &Kind) -> bool {
    match (old, new) {
        (Kind::Http(old), Kind::Http(new)) => old.url == new.url,
        (old, new) => old == new,
    }
}

/// The number of new and of removed secrets, if the secrets differ.
fn secrets(old: &Webhooks, new: &Webhooks) -> Option<String> {
    let (old, new) = (signatures(old), signatures(new));
    let (added, gone) = (new.difference(&old).count(), old.difference(&new).count());
    (added + gone > 0).then(|| format!("secrets ({added} added, {gone} removed)"))
}

/// The signature of one text by each secret. Secrets with equal signatures are equal, in whatever
/// form they are written.
fn signatures(webhooks: &Webhooks) -> BTreeSet<String> {
    let signed = webhooks.sign("", "wh_of_nothing", 0);
    let signed = signed.map_or_else(|_| String::new(), |headers| headers.signature);
    signed.split(' ').map(str::to_owned).collect()
}

/// Warns of endpoints that share a secret: a webhook for one of them is accepted at the other too.
pub(crate) fn warn_of_shared_secrets(endpoints: &[EndpointSettings]) {
    let signed: Vec<_> = endpoints
        .iter()
        .map(|endpoint| (&endpoint.name, signatures(&endpoint.webhooks)))
        .collect();
    for (place, (name, secrets)) in signed.iter().enumerate() {
        let others: Vec<&str> = signed[place + 1..]
            .iter()
            .filter(|(_, others)| !secrets.is_disjoint(others))
            .map(|(other, _)| other.as_str())
            .collect();
        if !others.is_empty() {
            tracing::warn!(
                "the endpoint `{name}` shares a secret with `{}`: a captured webhook for one is accepted as new at the other; create a webhook endpoint at OpenAI for each, and give each its own secret",
                others.join("`, `")
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn webhooks(secret: &str) -> Webhooks {
        Webhooks::new(secret).unwrap()
    }

    #[test]
    fn secrets_that_sign_alike_are_the_same() {
        // The same bytes, as base64 and as they are.
        let raw = "0123456789abcdef01234567";
        let encoded = webhooks("whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3");
        assert_eq!(signatures(&webhooks(raw)), signatures(&encoded));
        assert_eq!(secrets(&webhooks(raw), &encoded), None);
        let other = webhooks("another secret of 24 bytes");
        assert_eq!(
            secrets(&encoded, &other).unwrap(),
            "secrets (1 added, 1 removed)"
        );
    }
}
