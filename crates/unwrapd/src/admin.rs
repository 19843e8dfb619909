//! The port for operators: `/livez` and `/readyz` for machines, `/api/v1` for who may steer.

mod access;
mod destinations;
mod health;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::destination::Destination;
use crate::progress::Progress;
use crate::store::{Store, StoreError};
use crate::wake::Bells;

pub use access::AdminToken;

/// What operators see and steer.
#[derive(Clone)]
pub struct Admin {
    /// Where messages are kept.
    pub store: Arc<dyn Store>,
    /// The destinations there are.
    pub targets: Targets,
    /// Who to tell that something changed.
    pub bells: Bells,
    /// What an operator has to know. `None`: whoever reaches the port may do anything, so only this machine must reach it.
    pub token: Option<AdminToken>,
}

/// The destinations there are, by name. They may change while the gateway runs.
#[derive(Clone, Default)]
pub struct Targets(Arc<RwLock<BTreeMap<String, Target>>>);

/// One destination.
#[derive(Clone)]
pub struct Target {
    /// Where its deliveries go.
    pub destination: Arc<dyn Destination>,
    /// How it goes there.
    pub progress: Arc<Progress>,
    /// Longest time an attempt may take.
    pub timeout: Duration,
}

impl Targets {
    /// Adds this one, in the place of one of the same name.
    pub fn insert(&self, name: impl Into<String>, target: Target) {
        self.write().insert(name.into(), target);
    }

    /// Takes this one out.
    pub fn remove(&self, name: &str) {
        self.write().remove(name);
    }

    fn all(&self) -> BTreeMap<String, Target> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn get(&self, name: &str) -> Option<Target> {
        let targets = self.0.read().unwrap_or_else(PoisonError::into_inner);
        targets.get(name).cloned()
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<String, Target>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Everything that the port answers. What is under `/api` asks for the token, if there is one.
pub fn router(admin: Admin) -> Router {
    let guarded = Router::new()
        .merge(destinations::router())
        .layer(from_fn_with_state(admin.clone(), access::guard));
    Router::new()
        .merge(health::router())
        .merge(guarded)
        .with_state(admin)
}

/// Why nothing was done. It is answered as `{"error": "…"}`.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("there is no destination `{0}`; `unwrapd destinations ls` lists them")]
    NoSuchDestination(String),
    #[error("{0}")]
    Unreadable(String),
    #[error("{0}")]
    Store(#[from] StoreError),
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = match self {
            Self::NoSuchDestination(_) => StatusCode::NOT_FOUND,
            Self::Unreadable(_) => StatusCode::BAD_REQUEST,
            Self::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        problem(status, &self.to_string())
    }
}

fn problem(status: StatusCode, text: &str) -> Response {
    (status, json(&serde_json::json!({ "error": text }))).into_response()
}

fn json(value: &impl Serialize) -> Response {
    match serde_json::to_string(value) {
        Ok(text) => ([(CONTENT_TYPE, "application/json")], text + "\n").into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
