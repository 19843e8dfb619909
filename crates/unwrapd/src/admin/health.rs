//! For whoever watches over the process.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use jiff::Timestamp;

use super::Admin;

/// `/livez`: the process answers. `/readyz`: it can keep what it receives, or why not.
pub(super) fn router() -> Router<Admin> {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
}

async fn ready(State(admin): State<Admin>) -> (StatusCode, String) {
    match admin.store.ready(Timestamp::now()).await {
        Ok(()) => (StatusCode::OK, "ok\n".into()),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
    }
}
