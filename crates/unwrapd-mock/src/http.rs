//! The HTTP server: routes, authentication, faults and the headers of each answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::agents::{environments, session, turns};
use crate::engine::Engine;
use crate::error::ApiError;
use crate::report::Report;
use crate::rules::Fault;
use crate::{batches, calls, control, files, ids, responses, webhook_endpoints};

pub(crate) type Shared = Arc<Engine>;

/// Most connections. Further ones wait.
const CONNECTIONS_MAX: usize = 256;
/// Longest time for a connection to be idle, or to send the head of a request.
const HEAD_WAIT_MAX: Duration = Duration::from_secs(300);
/// Delay after a failure to accept a connection, for example for lack of open files.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// Most characters of a method and of a path in a report.
const REPORTED_MAX: usize = 256;

/// Accepts connections without end.
pub(crate) async fn serve(listener: TcpListener, engine: Shared) {
    let service = TowerToHyperService::new(router(engine));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_WAIT_MAX);
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let permit = Arc::clone(&permits).acquire_owned().await;
        let Ok((stream, _)) = listener.accept().await else {
            sleep(ACCEPT_AGAIN_AFTER).await;
            continue;
        };
        let connection = http.serve_connection(TokioIo::new(stream), service.clone());
        connections.spawn(async move {
            let _permit = permit;
            // A client may end its connection at any time.
            drop(connection.await);
        });
        while connections.try_join_next().is_some() {}
    }
}

fn router(engine: Shared) -> Router {
    Router::new()
        .route("/v1/responses", post(responses::create))
        .route(
            "/v1/responses/{id}",
            get(responses::retrieve).delete(responses::delete),
        )
        .route("/v1/responses/{id}/cancel", post(responses::cancel))
        .route("/v1/files", get(files::list).post(files::create))
        .route("/v1/files/{id}", get(files::retrieve).delete(files::delete))
        .route("/v1/files/{id}/content", get(files::content))
        .route("/v1/batches", get(batches::list).post(batches::create))
        .route("/v1/batches/{id}", get(batches::retrieve))
        .route("/v1/batches/{id}/cancel", post(batches::cancel))
        .route(
            "/v1/realtime/calls/{id}/{action}",
            post(calls::control_realtime),
        )
        .route("/v1/live/sessions/{id}/{action}", post(calls::control_live))
        .route(
            "/v1/agents/sessions",
            get(session::list).post(session::create),
        )
        .route(
            "/v1/agents/sessions/{id}",
            get(session::retrieve)
                .post(session::update)
                .delete(session::delete),
        )
        .route("/v1/agents/sessions/{id}/events", post(turns::input))
        .route(
            "/v1/agents/environments",
            get(environments::list).post(environments::create),
        )
        .route("/v1/agents/environments/{id}", get(environments::retrieve))
        .route(
            "/v1/webhook_endpoints",
            get(webhook_endpoints::list).post(webhook_endpoints::create),
        )
        .route(
            "/v1/webhook_endpoints/{id}",
            get(webhook_endpoints::retrieve)
                .post(webhook_endpoints::update)
                .delete(webhook_endpoints::delete),
        )
        .route(
            "/v1/webhook_endpoints/{id}/rotate_secret",
            post(webhook_endpoints::rotate_secret),
        )
        .route(
            "/v1/webhook_endpoints/{id}/test",
            post(webhook_endpoints::test),
        )
        .route(
            "/v1/webhook_event_types",
            get(webhook_endpoints::list_event_types),
        )
        .merge(control::routes())
        .fallback(unknown_url)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(Arc::clone(&engine), around))
        .with_state(engine)
}

async fn unknown_url(method: Method, uri: Uri) -> ApiError {
    ApiError::not_found(format!(
        "Invalid URL ({method} {}). The mock has responses, files, batches, calls, agent sessions \
         and webhook endpoints under /v1, and its control routes under /_mock.",
        uri.path()
    ))
}

async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("Not allowed to {method} on {}.", uri.path()),
    )
}

/// Checks the key of each request, applies faults, and adds the headers of OpenAI's answers.
async fn around(State(engine): State<Shared>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().as_str().to_owned();
    let path = request.uri().path().to_owned();
    // Only pages of browsers send it. The page of a stranger must not make the mock post anywhere.
    if request.headers().contains_key(header::ORIGIN) {
        let message = "The mock is not for pages of a browser.";
        return ApiError::new(StatusCode::FORBIDDEN, message).into_response();
    }
    if path.starts_with("/_mock/") {
        return next.run(request).await;
    }
    let request_id = ids::new("req_");
    let mut fault = None;
    let mut response = if has_key(request.headers()) {
        fault = engine.project().rules.fault(&method, &path);
        answer(fault.as_ref(), &path, request, next).await
    } else {
        ApiError::unauthorized().into_response()
    };
    let milliseconds = started.elapsed().as_millis().to_string();
    let headers = response.headers_mut();
    for (name, value) in [
        ("x-request-id", &*request_id),
        ("openai-version", "2020-10-01"),
        ("openai-processing-ms", &milliseconds),
    ] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    let project = engine.project();
    project.report(Report::Request {
        at: project.now.seconds(),
        request_id,
        method: method.chars().take(REPORTED_MAX).collect(),
        path: path.chars().take(REPORTED_MAX).collect(),
        status: response.status().as_u16(),
        scripted: fault.is_some(),
    });
    response
}

/// The answer of the route, or that of a fault.
async fn answer(fault: Option<&Fault>, path: &str, request: Request, next: Next) -> Response {
    let Some(fault) = fault else {
        return next.run(request).await;
    };
    if !fault.delay.is_zero() {
        sleep(fault.delay).await;
    }
    match fault
        .status
        .and_then(|status| StatusCode::from_u16(status).ok())
    {
        Some(status) => fault_answer(fault, status, path),
        None => next.run(request).await,
    }
}

fn fault_answer(fault: &Fault, status: StatusCode, path: &str) -> Response {
    let (kind, code, message) = match status {
        StatusCode::TOO_MANY_REQUESTS if fault.code.as_deref() == Some("insufficient_quota") => (
            "insufficient_quota",
            None,
            "You exceeded your current quota. A rule of the mock says so.",
        ),
        StatusCode::TOO_MANY_REQUESTS => (
            "rate_limit_error",
            Some("rate_limit_exceeded"),
            "Rate limit reached. A rule of the mock says so.",
        ),
        StatusCode::SERVICE_UNAVAILABLE => (
            "service_unavailable_error",
            Some("server_is_overloaded"),
            "The server is overloaded. A rule of the mock says so.",
        ),
        status if status.is_server_error() => (
            "server_error",
            None,
            "The server had an error. A rule of the mock says so.",
        ),
        _ => (
            crate::error::INVALID_REQUEST,
            None,
            "The request is refused. A rule of the mock says so.",
        ),
    };
    // The specification has plain text here.
    let mut response =
        if status == StatusCode::INTERNAL_SERVER_ERROR && path.starts_with("/v1/realtime/") {
            (status, message).into_response()
        } else {
            let mut error = ApiError::new(status, message);
            error.kind = kind.into();
            error.code = fault.code.clone().or_else(|| code.map(Into::into));
            error.into_response()
        };
    if let Some(seconds) = fault.retry_after {
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Whether the request has an API key. Any will do.
fn has_key(headers: &HeaderMap) -> bool {
    let value = headers.get(header::AUTHORIZATION);
    let value = value.and_then(|value| value.to_str().ok());
    let Some((scheme, key)) = value.and_then(|value| value.split_once(' ')) else {
        return false;
    };
    scheme.eq_ignore_ascii_case("bearer") && !key.trim().is_empty()
}
