//! The port for operators.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use jiff::Timestamp;

use crate::store::Store;

/// `/livez`: the process answers. `/readyz`: it can keep what it receives, or why not.
pub fn router(store: Arc<dyn Store>) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(store)
}

async fn ready(State(store): State<Arc<dyn Store>>) -> (StatusCode, String) {
    match store.ready(Timestamp::now()).await {
        Ok(()) => (StatusCode::OK, "ok\n".into()),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
    }
}
