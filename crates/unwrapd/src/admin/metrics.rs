//! `/metrics`: one scrape of Prometheus.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use tokio::time::timeout;

use super::bounds::Bounds;
use super::json::Refusal;
use super::{Admin, Route};
use crate::metrics::{self, DestinationSnapshot, ProcessUsage, Snapshot};
use crate::store::{DestinationCounts, StoreError, StoreUsage};

/// Longest wait for the store. A scrape without its counts is better than none: Prometheus gives
/// up after 10 s by default.
const STORE_TIME: Duration = Duration::from_secs(3);

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/metrics", Bounds::SCRAPE, scrape)
            .text(
                "get_metrics",
                "Returns the metrics for Prometheus.",
                metrics::CONTENT_TYPE,
            )
            .refuses(StatusCode::NOT_FOUND, "this gateway counts no metrics"),
    ]
}

async fn scrape(State(admin): State<Admin>) -> Result<Response, Refusal> {
    let Some(metrics) = &admin.metrics else {
        return Err(Refusal::new(
            StatusCode::NOT_FOUND,
            "this gateway counts no metrics",
        ));
    };
    let counts = super::destinations::counts(&admin);
    let (counts, usage) = tokio::join!(in_time(counts), in_time(admin.store.usage()));
    let snapshot = snapshot(&admin, counts, usage);
    let text = metrics.encode(&snapshot, &ProcessUsage::read());
    let headers = [
        (CONTENT_TYPE, metrics::CONTENT_TYPE),
        (CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, text).into_response())
}

async fn in_time<T>(answer: impl Future<Output = Result<T, StoreError>>) -> Option<T> {
    timeout(STORE_TIME, answer).await.ok()?.ok()
}

fn snapshot(
    admin: &Admin,
    counts: Option<Vec<DestinationCounts>>,
    usage: Option<StoreUsage>,
) -> Snapshot {
    let mut destinations: BTreeMap<String, DestinationSnapshot> = BTreeMap::new();
    for handle in admin.registry.all() {
        let is_configured = handle.configured().is_some();
        let state = handle.state();
        if is_configured || state.is_paused() {
            let destination = DestinationSnapshot {
                is_up: is_configured.then(|| !state.is_down()),
                is_paused: state.is_paused(),
                stored: counts.as_ref().map(|_| DestinationCounts::default()),
            };
            destinations.insert(handle.name().to_owned(), destination);
        }
    }
    for counts in counts.into_iter().flatten() {
        let destination = destinations.entry(counts.destination.clone());
        destination.or_default().stored = Some(counts);
    }
    Snapshot {
        usage,
        destinations,
        now: admin.clock.now(),
        // A store that is not shared lists none.
        gateways: crate::store::gateways(&*admin.store).len().max(1),
        warnings: admin.warnings.all().len(),
    }
}
