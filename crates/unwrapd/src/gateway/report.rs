//! The log lines of a gateway at its start, after a reload and at its stop.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use tokio::time::timeout;

use crate::admin::remedy;
use crate::config::{Changes, Config};
use crate::printable::{counted, spoken};
use crate::store::{
    DestinationControl, SUMMARY_MESSAGES_MAX, Store, StoreError, StoreUrl, Summary, waiting,
};

/// Longest wait for the store to count the waiting deliveries, so that a store that hangs delays
/// neither a reload nor a stop.
const COUNT_TIME_MAX: Duration = Duration::from_secs(2);

/// The content of the store when it was opened.
pub(super) struct Opened {
    summary: Option<Summary>,
    is_new: bool,
    /// Waiting deliveries, by destination.
    waiting: Vec<(String, u64)>,
}

/// Whether the file of the store exists. `None`: only the opened store can report whether it is
/// new.
pub(super) fn is_there(url: &StoreUrl) -> Option<bool> {
    match url {
        StoreUrl::Sqlite(path) => Some(std::fs::metadata(path).is_ok_and(|data| data.len() > 0)),
        StoreUrl::Postgres(_) => None,
    }
}

impl Opened {
    pub(super) async fn look(
        store: &dyn Store,
        was_there: Option<bool>,
    ) -> Result<Self, StoreError> {
        let summary = store.summary().await?;
        let is_new = was_there.map(|was_there| !was_there);
        Ok(Self {
            is_new: is_new
                .or(summary.and_then(|summary| summary.is_new))
                .unwrap_or_default(),
            summary,
            waiting: waiting(store).await?,
        })
    }

    /// Waiting deliveries, by destination.
    pub(super) fn waiting(&self) -> &[(String, u64)] {
        &self.waiting
    }

    /// Logs one line about the start, then one for each destination with waiting deliveries.
    pub(super) fn log(&self, file: &Path, config: &Config) {
        let found = if self.is_new { "new" } else { "found" };
        let counts = self.summary.map_or_else(String::new, |summary| {
            format!(
                ", schema version {}, {}",
                summary.schema,
                messages(summary.messages)
            )
        });
        let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        tracing::info!(
            "unwrapd {}: configuration {}, store {} ({found}){counts}, {}",
            crate::VERSION,
            file.display(),
            config.store.url,
            wait(sum(&self.waiting))
        );
        for (name, deliveries) in &self.waiting {
            if is_configured(config, name) {
                tracing::info!("{} for `{name}`", wait(*deliveries));
            } else {
                tracing::warn!(
                    "{} for `{name}`, which is not configured: {}",
                    wait(*deliveries),
                    remedy(name, "NAME")
                );
            }
        }
    }
}

/// Logs the deliveries that wait for destinations that a new configuration has removed. Returns all
/// that wait, by destination, if they could be counted.
pub(super) async fn log_removed(
    store: &dyn DestinationControl,
    changes: &Changes,
) -> Option<Vec<(String, u64)>> {
    let waiting = match timeout(COUNT_TIME_MAX, waiting(store)).await {
        Ok(Ok(waiting)) => waiting,
        Ok(Err(error)) => {
            tracing::warn!(
                "cannot count the deliveries that wait for removed destinations: {error}"
            );
            return None;
        }
        Err(_) => {
            tracing::warn!(
                "cannot count the deliveries that wait for removed destinations: the store hangs"
            );
            return None;
        }
    };
    let counts: BTreeMap<&str, u64> = waiting
        .iter()
        .map(|(name, deliveries)| (name.as_str(), *deliveries))
        .collect();
    for (name, heir) in &changes.removed {
        match (counts.get(name.as_str()), heir) {
            (None, _) => {
                tracing::info!("destination `{name}` is removed; nothing waits for it");
            }
            (Some(deliveries), None) => tracing::warn!(
                "destination `{name}` is removed, and {} for it: {}",
                wait(*deliveries),
                remedy(name, "NAME")
            ),
            (Some(deliveries), Some(heir)) => tracing::warn!(
                "destination `{name}` is removed, and {} for it; `{heir}` has the same target: {}",
                wait(*deliveries),
                remedy(name, heir)
            ),
        }
    }
    Some(waiting)
}

/// Logs a clean stop.
pub(super) async fn log_end(store: &dyn Store, ran: Duration) {
    let counts = async {
        let summary = store.summary().await?;
        Ok::<_, StoreError>((summary, waiting(store).await?))
    };
    let rest = match timeout(COUNT_TIME_MAX, counts).await {
        Ok(Ok((summary, waiting))) => {
            let kept = summary.map_or_else(String::new, |summary| {
                format!(", {} kept", messages(summary.messages))
            });
            format!("{kept}, {}", wait(sum(&waiting)))
        }
        Ok(Err(error)) => format!(", the number of waiting deliveries is unknown: {error}"),
        Err(_) => ", the number of waiting deliveries is unknown: the store hangs".into(),
    };
    tracing::info!(
        "stopped cleanly after {}: nothing is under way{rest}",
        spoken(ran)
    );
}

fn is_configured(config: &Config, name: &str) -> bool {
    let mut destinations = config.destinations.iter();
    destinations.any(|settings| settings.name == name)
}

fn sum(waiting: &[(String, u64)]) -> u64 {
    waiting.iter().map(|(_, deliveries)| deliveries).sum()
}

fn messages(count: u64) -> String {
    match count {
        count if count >= SUMMARY_MESSAGES_MAX => format!("{count} messages or more"),
        count => counted(count, "message", "messages"),
    }
}

fn wait(count: u64) -> String {
    counted(count, "delivery waits", "deliveries wait")
}
