//! The configuration for operators: the keys of the file, and the defaults of those that it does not
//! set.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Config, DestinationSettings, EndpointSettings, StoreUrl};
use crate::api::{ConfigSetting, ConfigTable, ConfigView};
use crate::settings_file::{REDACTED, WrittenTable, shown_path};
use crate::telemetry::LogFormat;

impl Config {
    /// The configuration, loaded at this time, without secrets. `after_restart` has the keys that
    /// take effect only after a restart.
    pub(crate) fn shown(&self, loaded_at: Timestamp, after_restart: &[&str]) -> ConfigView {
        let single = |name: &str, defaults| {
            let written = self.written.named(name).next();
            table(name, None, written, defaults)
        };
        let mut tables = vec![
            single("server", self.server_defaults()),
            single("log", self.log_defaults()),
            single("traces", vec![("url", Value::Null), ("sample", 1.0.into())]),
            self.shown_store(single("store", self.store_defaults())),
        ];
        // A valid configuration has its endpoints and destinations in the order of the file.
        let mut written = self.written.named("endpoint");
        for endpoint in &self.endpoints {
            let name = Some(endpoint.name.clone());
            let defaults = endpoint_defaults(endpoint);
            tables.push(table("endpoint", name, written.next(), defaults));
        }
        let mut written = self.written.named("destination");
        for destination in &self.destinations {
            let name = Some(destination.name.clone());
            let defaults = destination_defaults(destination);
            tables.push(table("destination", name, written.next(), defaults));
        }
        ConfigView {
            file: self.written.file.as_deref().map(shown_file),
            loaded_at,
            after_restart: after_restart.iter().map(|&key| key.to_owned()).collect(),
            tables,
        }
    }

    /// The URL of a store may name several hosts and has its own form without a password. The password
    /// may come from the environment.
    fn shown_store(&self, mut store: ConfigTable) -> ConfigTable {
        for setting in &mut store.settings {
            if setting.key == "url" {
                setting.value = self.store.url.to_string().into();
            }
        }
        let has_password = store.settings.iter().any(|one| one.key == "password");
        let is_postgres = matches!(self.store.url, StoreUrl::Postgres(_));
        if is_postgres && !has_password && std::env::var_os("PGPASSWORD").is_some() {
            store.settings.push(ConfigSetting {
                key: "password".into(),
                value: REDACTED.into(),
                line: None,
                secrets_from: vec!["the environment variable PGPASSWORD".into()],
            });
        }
        store
    }

    fn server_defaults(&self) -> Vec<Fallback> {
        let server = &self.server;
        vec![
            ("listen", self.listen.to_string().into()),
            (
                "admin",
                self.admin.map(|address| address.to_string()).into(),
            ),
            ("admin_token", Value::Null),
            ("admin_read_token", Value::Null),
            ("admin_read_payloads", true.into()),
            ("admin_base_path", Value::Null),
            ("admin_url", Value::Null),
            ("connections_max", server.connections_max.into()),
            ("requests_max", server.requests_max.into()),
            ("head_timeout_seconds", seconds(server.head_timeout)),
            ("body_timeout_seconds", seconds(server.body_timeout)),
            ("idle_timeout_seconds", seconds(server.idle_timeout)),
            ("drain_seconds", seconds(server.drain)),
        ]
    }

    fn log_defaults(&self) -> Vec<Fallback> {
        let format = match self.log.format {
            LogFormat::Human => "human",
            LogFormat::Json => "json",
        };
        vec![("format", format.into())]
    }

    fn store_defaults(&self) -> Vec<Fallback> {
        let bounds = &self.store.bounds;
        let days = |time: Duration| Value::from(time.as_secs() / (24 * 3600));
        let mebibytes = bounds.size_max.map(|bytes| bytes / (1024 * 1024));
        vec![
            ("url", self.store.url.to_string().into()),
            ("dedupe_days", days(bounds.dedupe)),
            ("retention_days", days(bounds.retention)),
            ("undelivered_max", bounds.undelivered_max.into()),
            ("size_max_mb", mebibytes.into()),
        ]
    }
}

/// The path of the file, from the root. A reload reads it from the folder in which the process was
/// started, which the process never leaves.
fn shown_file(path: &Path) -> String {
    let absolute = std::path::absolute(path);
    shown_path(absolute.as_deref().unwrap_or(path))
}

/// A key and the value that it has if the file does not set it.
type Fallback = (&'static str, Value);

fn endpoint_defaults(endpoint: &EndpointSettings) -> Vec<Fallback> {
    vec![
        ("requests_max", endpoint.requests_max.into()),
        (
            "silent_after_hours",
            endpoint
                .silent_after
                .map(|time| time.as_secs() / 3_600)
                .into(),
        ),
    ]
}

fn destination_defaults(destination: &DestinationSettings) -> Vec<Fallback> {
    let (limits, retry) = (&destination.limits, &destination.limits.retry);
    vec![
        ("events", json!(["*"])),
        ("concurrency", limits.concurrency.into()),
        ("rate", limits.rate.into()),
        ("timeout_seconds", seconds(limits.timeout)),
        ("retry_first_seconds", seconds(retry.first)),
        ("retry_max_seconds", seconds(retry.max)),
        (
            "deadline_hours",
            (retry.give_up_after.as_secs() / 3600).into(),
        ),
        ("attempts_max", retry.attempts_max.into()),
    ]
}

fn seconds(time: Duration) -> Value {
    time.as_secs().into()
}

fn table(
    table: &str,
    name: Option<String>,
    written: Option<&WrittenTable>,
    defaults: Vec<Fallback>,
) -> ConfigTable {
    let written = written.map_or(&[][..], |table| &table.keys);
    let mut settings: Vec<ConfigSetting> = written
        .iter()
        .map(|key| ConfigSetting {
            key: key.name.clone(),
            value: key.value.clone(),
            line: Some(key.line),
            secrets_from: key.secrets_from.clone(),
        })
        .collect();
    for (key, value) in defaults {
        if !settings.iter().any(|setting| setting.key == key) {
            settings.push(ConfigSetting {
                key: key.to_owned(),
                value,
                line: None,
                secrets_from: Vec::new(),
            });
        }
    }
    ConfigTable {
        table: table.to_owned(),
        name,
        settings,
    }
}
