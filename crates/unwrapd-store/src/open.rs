//! Opens a store of either kind.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::bounds::Bounds;
use super::error::StoreError;
use super::reports::StoreReporter;
use super::settings::{StoreSettings, StoreUrl};
use super::store::Store;
use super::{postgres, sqlite};
use unwrapd_core::clock::Clock;
use unwrapd_core::observe::warnings::Warnings;

/// Interval between attempts to open a store that another program has locked.
const LOCKED_RETRY: Duration = Duration::from_millis(500);
/// Interval between log lines about such a store.
const LOCKED_TOLD_EVERY: Duration = Duration::from_secs(60);

/// Opens the store, creates it if it does not exist, and compares `clock` with the stored time.
/// Lasting problems of the store are reported to `warnings`, and each change in whether it accepts
/// webhooks to `health`.
pub async fn open(
    settings: &StoreSettings,
    clock: &Clock,
    warnings: &Warnings,
    health: &StoreReporter,
) -> Result<Arc<dyn Store>, StoreError> {
    match &settings.url {
        StoreUrl::Postgres(address) => Ok(Arc::new(
            postgres::PostgresStore::open_with(address, &settings.bounds, clock, health).await?,
        )),
        StoreUrl::Sqlite(path) => Ok(Arc::new(
            open_sqlite(path, &settings.bounds, clock, warnings, health).await?,
        )),
    }
}

/// Waits while another program locks the database, and logs that from time to time. Giving up would
/// be a longer outage.
async fn open_sqlite(
    path: &Path,
    bounds: &Bounds,
    clock: &Clock,
    warnings: &Warnings,
    health: &StoreReporter,
) -> Result<sqlite::SqliteStore, StoreError> {
    let mut told_at: Option<Instant> = None;
    loop {
        let (file, bounds, clock, warnings, health) = (
            path.to_owned(),
            bounds.clone(),
            clock.clone(),
            warnings.clone(),
            health.clone(),
        );
        // On a blocking thread, because the disk may not answer.
        let opened = tokio::task::spawn_blocking(move || {
            sqlite::SqliteStore::open_with(&file, &bounds, &clock, &warnings, &health)
        });
        let opened = opened
            .await
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        match opened {
            Err(error) if sqlite::is_locked(&error) => {
                if told_at.is_none_or(|told_at| told_at.elapsed() >= LOCKED_TOLD_EVERY) {
                    told_at = Some(Instant::now());
                    tracing::warn!(
                        "cannot open the store {} yet, trying again; no webhook is received until then: {error}",
                        path.display()
                    );
                }
                tokio::time::sleep(LOCKED_RETRY).await;
            }
            opened => return opened,
        }
    }
}
