//! `/api/v1/endpoints`: what this gateway has received at each endpoint.

use axum::extract::State;
use axum::response::Response;
use jiff::SignedDuration;

use super::bounds::Bounds;
use super::json::answer;
use super::{Admin, Route};
use crate::api::{EndpointList, EndpointView, SecretView};
use crate::intake::EndpointRecord;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/api/v1/endpoints", Bounds::READ_LITTLE, list).json::<EndpointList>(
            "list_endpoints",
            "Lists the endpoints, with the latest webhook and the use of each secret.",
        ),
    ]
}

async fn list(State(admin): State<Admin>) -> Response {
    answer(&all(&admin))
}

/// All endpoints.
pub(super) fn all(admin: &Admin) -> EndpointList {
    let records = admin.intake.endpoint_records().into_iter();
    EndpointList {
        endpoints: records.map(|(name, record)| view(name, record)).collect(),
    }
}

fn view(name: String, record: EndpointRecord) -> EndpointView {
    let secrets = record.secrets.into_iter();
    EndpointView {
        name,
        last_webhook_at: record.received_at,
        lateness_ms: record.lateness.map(milliseconds),
        clock_ahead_ms: record.shortest_arrival.map(milliseconds),
        secrets: secrets
            .map(|(fingerprint, last_used_at)| SecretView {
                fingerprint,
                last_used_at,
            })
            .collect(),
    }
}

fn milliseconds(duration: SignedDuration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
