//! The admin port: `/livez` and `/readyz` for health checks, `/api/v1` for operators.

mod access;
mod base_path;
mod bounds;
mod bulk;
mod causes;
mod config;
mod dashboard;
mod destinations;
mod endpoints;
mod gateways;
mod health;
mod html;
mod json;
mod live;
mod login;
mod messages;
mod metrics;
mod openapi;
mod operation;
mod origin;
mod payload;
mod quarantine;
mod query;
mod replay;
mod route;
mod session;
mod settings;
mod shared_counts;
mod shared_run;
mod siblings;
mod tokens;
mod traffic;
mod unconfigured;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::WWW_AUTHENTICATE;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use openai_webhooks::WEBHOOK_SIGNATURE;

use crate::bulk::BulkRunner;
use crate::clock::Clock;
use crate::destinations::Registry;
use crate::intake::Intake;
pub use crate::metrics::Metrics;
use crate::observe::refusals::{Refusals, shown};
use crate::observe::warnings::Warnings;
use crate::pipeline_events::LiveEvents;
use crate::quarantine::Quarantine;
use crate::store::Store;

pub use access::Access;
pub use bounds::{Bounds, Class};
pub use config::LoadedConfig;
pub use health::Readiness;
pub use openapi::openapi_json;
pub use route::{Needs, Route};
pub(crate) use settings::{AdminKeys, AdminSettings};
pub use shared_counts::SharedCounts;
pub use tokens::{AdminToken, AdminTokens};
pub(crate) use unconfigured::{note as note_unconfigured, remedy, watch as watch_unconfigured};

/// The parts of the gateway that the admin port shows and changes.
#[derive(Clone)]
pub struct Admin {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The endpoints.
    pub intake: Arc<Intake>,
    /// The quarantine.
    pub quarantine: Arc<Quarantine>,
    /// Whether the store is writable.
    pub readiness: Arc<Readiness>,
    /// Lasting conditions that an operator must know of.
    pub warnings: Warnings,
    /// The clock of the gateway.
    pub clock: Clock,
    /// The destinations.
    pub registry: Registry,
    /// Carries on bulk runs.
    pub bulk: BulkRunner,
    /// The metrics.
    pub metrics: Option<Metrics>,
    /// The configuration that was loaded last.
    pub config: Arc<LoadedConfig>,
    /// Counts of deliveries for frequent requests.
    pub counts: Arc<SharedCounts>,
    /// The live stream of pipeline events.
    pub live: Arc<LiveEvents>,
    /// Counts refusals for the log.
    pub refusals: Arc<Refusals>,
    /// The tokens of the port, if there are some.
    pub access: Arc<Access>,
    /// A prefix of every path, which links on pages have. Empty if there is none.
    pub base_path: Arc<str>,
}

/// All routes of the port, which [`router`] serves, each within its bounds. There are no others.
#[must_use]
pub fn routes() -> Vec<Route> {
    [
        health::routes(),
        metrics::routes(),
        destinations::routes(),
        endpoints::routes(),
        gateways::routes(),
        quarantine::routes(),
        messages::routes(),
        bulk::routes(),
        unconfigured::routes(),
        traffic::routes(),
        live::routes(),
        config::routes(),
        openapi::routes(),
        login::routes(),
        dashboard::routes(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The router of the port. Each route requires the right that it [needs](Route::needs).
pub fn router(admin: Admin) -> Router {
    let permits = bounds::Permits::default();
    let base_path = Arc::clone(&admin.base_path);
    let router = routes()
        .into_iter()
        .fold(Router::new(), |router, route| {
            router.merge(route.served(&permits, &admin))
        })
        .fallback(access::no_such_path)
        .layer(from_fn_with_state(admin.clone(), explain))
        .with_state(admin);
    if base_path.is_empty() {
        return router;
    }
    base_path::serve_below(base_path, router)
}

/// Converts every error to a problem, and for browsers to a page, and counts it for the log.
async fn explain(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let is_webhook = request.headers().contains_key(WEBHOOK_SIGNATURE);
    let wants_page = origin::wants_page(&request);
    let response = json::as_problem(next.run(request).await);
    let is_probe = response.extensions().get::<json::PlainText>().is_some();
    let kind = match response.status() {
        _ if is_probe => None,
        StatusCode::NOT_FOUND if is_webhook => {
            Some("refused a webhook with 404 (sent to the admin port)")
        }
        StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS => {
            Some("refused a request of the admin port (no token, or a wrong one)")
        }
        StatusCode::FORBIDDEN if needs_another_token(&response) => {
            Some("refused a request of the admin port (the token may not do this)")
        }
        StatusCode::FORBIDDEN => {
            Some("refused a request of the admin port (from a web page, or by a host name)")
        }
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
            Some("refused a request of the admin port (no such path or entry)")
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            Some("refused a request of the admin port (unavailable)")
        }
        status if status.is_server_error() => {
            Some("refused a request of the admin port (internal error)")
        }
        status if status.is_client_error() => Some("refused a request of the admin port (invalid)"),
        _ => None,
    };
    if let Some(kind) = kind {
        let request = format!("{} {}", shown(method.as_str()), shown(uri.path()));
        admin.refusals.count_request(kind, &request, || {
            if is_webhook {
                "webhooks are received at the port that `listen` in [server] sets. Correct the URL at OpenAI or in the reverse proxy".into()
            } else {
                format!("the answer was {}", response.status().as_u16())
            }
        });
    }
    if wants_page {
        html::as_page(&admin.base_path, response)
    } else {
        response
    }
}

/// Whether another token has the right that this refused request lacked.
fn needs_another_token(response: &Response) -> bool {
    let challenge = response.headers().get(WWW_AUTHENTICATE);
    challenge.is_some_and(|challenge| challenge == json::INSUFFICIENT_SCOPE)
}
