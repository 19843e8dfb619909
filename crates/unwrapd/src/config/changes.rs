//! Names the keys in which two configurations differ, and the endpoints that share a secret.

use super::{Config, DestinationSettings, EndpointSettings, ServerSettings};
use crate::destinations::changed_secrets;

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
            keys.extend(changed_secrets(&old.webhooks, &endpoint.webhooks));
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
                is_new(&destination.name) && old.kind.has_same_target(&destination.kind)
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
    let mut keys = old.kind.changed_keys(&new.kind);
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

/// Warns of endpoints that share a secret: a webhook for one of them is accepted at the other too.
pub(crate) fn warn_of_shared_secrets(endpoints: &[EndpointSettings]) {
    let signed: Vec<_> = endpoints
        .iter()
        .map(|endpoint| (&endpoint.name, endpoint.webhooks.fingerprints()))
        .collect();
    for (place, (name, secrets)) in signed.iter().enumerate() {
        let others: Vec<&str> = signed[place + 1..]
            .iter()
            .filter(|(_, others)| secrets.iter().any(|secret| others.contains(secret)))
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
