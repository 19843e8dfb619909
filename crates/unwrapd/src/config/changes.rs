//! Names the keys in which two configurations differ.

use super::{Config, DestinationSettings, EndpointSettings, TraceSettings, store};
use crate::settings_file::differing;

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
        if before.log != after.log {
            changes.parts.push("[log]: format changed".into());
        }
        let tokens = |config: &Config| config.admin_tokens.clone();
        let operate = |config: &Config| tokens(config).map(|tokens| tokens.operate);
        let read = |config: &Config| tokens(config).and_then(|tokens| tokens.read);
        let payloads = |config: &Config| tokens(config).is_none_or(|tokens| tokens.read_payloads);
        changes.at_next_start = differing([
            ("listen", before.listen != after.listen),
            ("admin", before.admin != after.admin),
            ("admin_token", operate(before) != operate(after)),
            ("admin_read_token", read(before) != read(after)),
            ("admin_read_payloads", payloads(before) != payloads(after)),
            (
                "admin_base_path",
                before.admin_base_path != after.admin_base_path,
            ),
            ("admin_url", before.admin_url != after.admin_url),
        ])
        .chain(store::changed_keys(&before.store, &after.store))
        .chain(TraceSettings::changed_keys(
            before.traces.as_ref(),
            after.traces.as_ref(),
        ))
        .chain(before.server.changed_at_next_start(&after.server))
        .collect();
        changes
    }

    fn endpoints(&mut self, before: &[EndpointSettings], after: &[EndpointSettings]) {
        for endpoint in after {
            let name = &endpoint.name;
            let Some(old) = before.iter().find(|old| old.name == *name) else {
                self.parts.push(format!("endpoint `{name}` added"));
                continue;
            };
            self.changed("endpoint", name, &old.changed_keys(endpoint));
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
                Some(old) => self.changed("destination", name, &old.changed_keys(destination)),
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
