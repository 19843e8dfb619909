//! Every route of every port has bounds: concurrent requests, time, body size, and so memory. The
//! tests go through the tables from which the ports are built.

mod attack;

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use h2::client::SendRequest;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Frame;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use openai_webhooks::EventType;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use unwrapd::admin::{Admin, Class, Route, routes};
use unwrapd::bulk::BulkRunner;
use unwrapd::clock::Clock;
use unwrapd::delivery::{Delivery, Outcome};
use unwrapd::destinations::{Configured, Destination, Registry};
use unwrapd::intake::{Intake, Rules};
use unwrapd::pipeline_events::{EventBus, LiveEvents};
use unwrapd::quarantine::Quarantine;
use unwrapd::trace_context::AttemptTrace;

use crate::support::stuck_store::StuckStore;
use crate::support::wire::{head, request, send, statuses, until_closed};
use crate::support::{PATIENCE, TestGateway, Webhook, client};

/// The path with values for its parameters.
fn path(route: &Route) -> String {
    let path = route.path();
    // Only deliveries of a destination that is not configured can be given up.
    let name = if path.ends_with("/give-up") {
        "gone"
    } else {
        "app"
    };
    path.replace("{name}", name)
        .replace("{id}", "1")
        .replace("{webhook_id}", "wh_1")
        .replace("{token}", "t")
}

/// A body with which the route does its work. A new route needs one here.
fn body(route: &Route) -> &'static str {
    match (route.method().as_str(), route.path()) {
        ("GET", _) | ("POST", "/login" | "/logout" | "/api/v1/replays/{token}/stop") => "",
        // Without a number there is nothing to drop.
        ("POST", "/refused/drop") => "up_to=1",
        ("POST", "/replay" | "/drop") => "token=t&at=2026-11-24T08:00:00Z&newest=1&q=",
        ("POST", _) if route.is_page() => "",
        ("POST", "/api/v1/destinations/{name}/give-up") => "{}",
        ("POST", path) if path.starts_with("/api/v1/destinations/{name}/") => "",
        ("POST", "/api/v1/replays" | "/api/v1/dead/replay") => r#"{"token": "t"}"#,
        ("POST", "/api/v1/quarantine/retry" | "/api/v1/quarantine/drop" | "/api/v1/dead/drop") => {
            r#"{"all": true}"#
        }
        (method, path) => panic!("which body has {method} {path}?"),
    }
}

fn asked(route: &Route, body: impl Into<Body>) -> Request<Body> {
    let content_type = if route.is_page() {
        "application/x-www-form-urlencoded"
    } else {
        "application/json"
    };
    Request::builder()
        .method(route.method())
        .uri(path(route))
        .header("host", "localhost")
        .header("content-type", content_type)
        .body(body.into())
        .unwrap()
}

struct StuckDestination;

#[async_trait]
impl Destination for StuckDestination {
    async fn send(&self, _: &Delivery, _: Option<AttemptTrace>) -> Outcome {
        std::future::pending().await
    }

    fn kind(&self) -> &'static str {
        "http"
    }
}

/// The admin port over a store and a destination that never answer.
fn stuck() -> TowerToHyperService<Router> {
    let rules = Rules {
        endpoints: [].into(),
        destinations: Vec::new(),
    };
    let intake = Intake::new(
        rules,
        Arc::new(StuckStore),
        EventBus::default(),
        Clock::default(),
    );
    let registry = Registry::default();
    registry.of("app").configure(Some(Configured {
        destination: Arc::new(StuckDestination),
        timeout: Duration::from_secs(600),
        description: Arc::default(),
    }));
    let intake = Arc::new(intake);
    let bulk = BulkRunner::new(Arc::new(StuckStore), Clock::default(), registry.clone());
    TowerToHyperService::new(unwrapd::admin::router(Admin {
        store: Arc::new(StuckStore),
        intake: Arc::clone(&intake),
        quarantine: Arc::new(Quarantine::new(
            intake,
            Arc::new(StuckStore),
            Arc::default(),
        )),
        readiness: Arc::default(),
        warnings: unwrapd::observe::warnings::Warnings::default(),
        clock: Clock::default(),
        registry,
        bulk,
        config: Arc::default(),
        counts: Arc::default(),
        live: Arc::new(LiveEvents::new(
            EventBus::default(),
            Clock::default(),
            CancellationToken::new(),
        )),
        refusals: Arc::default(),
        metrics: Some(unwrapd::admin::Metrics::default()),
        access: Arc::default(),
        base_path: Arc::default(),
    }))
}

async fn problem(response: Response<Body>) -> Value {
    let content_type = response.headers()["content-type"].clone();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
    assert_eq!(content_type, "application/problem+json", "{body:?}");
    assert_eq!(problem["type"], "about:blank");
    assert_eq!(problem["status"], status);
    assert!(problem["title"].is_string() && problem["detail"].is_string());
    problem
}

/// Otherwise a route outside the tables could be added.
#[test]
fn routes_are_defined_in_two_files_only() {
    fn look(folder: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                look(&path, found);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let makes = [".route(", ".nest(", "_service("];
            if makes.iter().any(|make| text.contains(make)) {
                found.push(path.file_name().unwrap().to_string_lossy().into_owned());
            }
        }
    }
    let mut found = Vec::new();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    look(&sources, &mut found);
    found.sort();
    // The first is the application that `dev` starts if there is none, not a port of the gateway.
    assert_eq!(found, ["app.rs", "receive.rs", "route.rs"]);
}

/// Routes that wait for nothing, in the order of the table.
const FROM_MEMORY: &[&str] = &[
    "/api/v1/endpoints",
    "/api/v1/gateways",
    "/api/v1/events/stream",
    "/api/v1/config",
    "/api/v1/openapi.json",
    "/login",
    "/logout",
    "/assets/style.css",
    "/assets/script.js",
    // Without the store, it tells that the store does not answer.
    "/",
    "/system",
];

#[tokio::test(start_paused = true)]
async fn every_admin_route_answers_in_its_time_while_the_store_hangs() {
    let mut at_once = Vec::new();
    for route in routes() {
        let router = stuck();
        let began = Instant::now();
        let response = router.call(asked(&route, body(&route))).await.unwrap();
        let took = began.elapsed();
        assert!(took <= route.bounds().time, "{route:?} took {took:?}");
        if !response.status().is_server_error() {
            at_once.push(route.path());
            continue;
        }
        assert_eq!(response.status(), 503, "{route:?}");
        assert!(response.headers().contains_key("retry-after"), "{route:?}");
        if route.bounds().class != Class::Ready {
            let problem = problem(response).await;
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains("no answer within"), "{route:?}: {detail}");
        }
    }
    // Its time is that of an attempt, and its answer reports the failure.
    at_once.retain(|path| *path != "/api/v1/destinations/{name}/test");
    // A form, and its target.
    at_once.dedup();
    // `/metrics` answers without the counts of the store.
    let expected = [&["/livez", "/metrics"][..], FROM_MEMORY].concat();
    assert_eq!(at_once, expected);
}

#[tokio::test(start_paused = true)]
async fn every_admin_route_refuses_more_body_than_its_bound_announced_or_not() {
    for route in routes() {
        let router = stuck();
        let most = route.bounds().body_bytes_max;
        let announced = asked(&route, "x".repeat(most + 1));
        let pieces = Body::new(Unannounced::Pieces(most / 8 + 1));
        for request in [announced, asked(&route, pieces)] {
            let response = router.call(request).await.unwrap();
            assert_eq!(response.status(), 413, "{route:?}");
            problem(response).await;
        }
        if most > 0 {
            let began = Instant::now();
            let never = Body::new(Unannounced::Never);
            let response = router.call(asked(&route, never)).await.unwrap();
            assert_eq!(response.status(), 408, "{route:?}");
            assert!(began.elapsed() <= Duration::from_secs(10), "{route:?}");
            problem(response).await;
        }
    }
}

/// The bounds are those of the right method. A body must not hide that the method is wrong.
#[tokio::test(start_paused = true)]
async fn a_wrong_method_with_a_large_body_is_answered_with_the_right_one() {
    for route in routes() {
        let body = "x".repeat(route.bounds().body_bytes_max + 1);
        let mut request = asked(&route, body);
        *request.method_mut() = Method::DELETE;
        let response = stuck().call(request).await.unwrap();
        assert_eq!(response.status(), 405, "{route:?}");
        let allow = response.headers()["allow"].to_str().unwrap();
        assert!(
            allow.contains(route.method().as_str()),
            "{route:?}: {allow}"
        );
        problem(response).await;
    }
}

#[tokio::test(start_paused = true)]
async fn every_admin_route_refuses_more_requests_at_once_than_its_bound() {
    for route in routes() {
        let class = route.bounds().class;
        if class == Class::Alive {
            // It waits for nothing, so no request is ever in progress.
            continue;
        }
        if FROM_MEMORY.contains(&route.path()) {
            // Neither do these routes, but their responses are held: see below.
            continue;
        }
        let router = stuck();
        let mut waiting = JoinSet::new();
        for _ in 0..class.at_once() {
            let (router, request) = (router.clone(), asked(&route, body(&route)));
            waiting.spawn(async move { router.call(request).await });
        }
        // Each round of the runtime polls some of them.
        for _ in 0..class.at_once() {
            tokio::task::yield_now().await;
        }
        let began = Instant::now();
        let response = router.call(asked(&route, body(&route))).await.unwrap();
        assert_eq!(began.elapsed(), Duration::ZERO, "{route:?}");
        assert_eq!(response.status(), 503, "{route:?}");
        assert!(response.headers().contains_key("retry-after"), "{route:?}");
        let problem = problem(response).await;
        assert!(
            problem["detail"].as_str().unwrap().contains("in progress"),
            "{route:?}: {problem}"
        );
        let alive = Request::get("/livez").body(Body::empty()).unwrap();
        assert_eq!(router.call(alive).await.unwrap().status(), 200);
    }
}

/// The initial window of HTTP/2, in bytes.
pub(crate) const HTTP2_WINDOW: u32 = 65_535;

/// An HTTP/2 client with windows of this size for responses.
pub(crate) async fn http2(address: std::net::SocketAddr, window: u32) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (client, connection) = h2::client::Builder::new()
        .initial_window_size(window)
        // As hyper's client does: too many streams before our settings are read are refused.
        .initial_max_send_streams(100)
        .handshake(stream)
        .await
        .unwrap();
    tokio::spawn(connection);
    client
}

/// Sends the request and waits for the head of its response.
async fn headed(
    client: &SendRequest<Bytes>,
    method: &Method,
    path: &str,
) -> Response<h2::RecvStream> {
    let mut client = client.clone().ready().await.unwrap();
    let request = Request::builder()
        .method(method)
        .uri(format!("http://localhost{path}"))
        .body(())
        .unwrap();
    client.send_request(request, true).unwrap().0.await.unwrap()
}

#[tokio::test]
async fn an_unread_answer_holds_its_slot_and_leaves_probes_alone() {
    let test = TestGateway::start(vec![]).await;
    let address = test.gateway.admin().unwrap();
    let status = async |method: &Method, path: &str| {
        let url = format!("http://{address}{path}");
        let answer = test.client().request(method.clone(), url).send().await;
        let answer = answer.unwrap();
        (
            answer.status(),
            answer.headers().contains_key("retry-after"),
        )
    };
    for route in routes() {
        let class = route.bounds().class;
        let stalled = http2(address, 0).await;
        let mut held = Vec::new();
        for _ in 0..class.at_once() {
            held.push(headed(&stalled, route.method(), &path(&route)).await);
        }
        // An answer that leads to another page has no body, so it is read with its head.
        let has_body = held.iter().any(|answer| !answer.body().is_end_stream());
        let full = status(route.method(), &path(&route)).await;
        if class.holds_answer() && has_body {
            assert_eq!(full, (StatusCode::SERVICE_UNAVAILABLE, true), "{route:?}");
        } else {
            assert_ne!(full.0, StatusCode::SERVICE_UNAVAILABLE, "{route:?}");
        }
        for probe in ["/livez", "/readyz"] {
            assert_eq!(status(&Method::GET, probe).await.0, 200, "{probe}");
        }
        drop((held, stalled));
        let deadline = Instant::now() + PATIENCE;
        while status(route.method(), &path(&route)).await.0 == StatusCode::SERVICE_UNAVAILABLE {
            assert!(
                Instant::now() < deadline,
                "{route:?}: the places stay taken"
            );
        }
    }
}

/// Any client may begin as many of these as there are connections.
#[tokio::test]
async fn a_body_that_never_ends_does_not_hold_up_probes_and_log_ins() {
    let test = TestGateway::start(vec![]).await;
    let address = test.gateway.admin().unwrap();
    for route in routes().into_iter().filter(Route::is_open) {
        let (method, path) = (route.method(), route.path());
        let mut held = Vec::new();
        for _ in 0..=route.bounds().class.at_once() {
            let begun = format!(
                "{method} {path} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
            );
            held.push(send(address, begun).await);
        }
        // Connections are read in the order of their arrival, or the next one would find it
        // waiting.
        for _ in 0..3 {
            let url = format!("http://{address}{path}");
            let answer = client().request(method.clone(), url).send().await.unwrap();
            assert_ne!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "{path}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_never_read_ends_its_connection() {
    let test = TestGateway::served(|server| server.idle_timeout = Duration::from_secs(1)).await;
    let stalled = http2(test.gateway.admin().unwrap(), 0).await;
    let held = headed(&stalled, &Method::GET, "/api/v1/gateways").await;
    let ended = async { held.into_body().data().await };
    let ended = tokio::time::timeout(PATIENCE, ended)
        .await
        .expect("it ends");
    assert!(ended.is_none_or(|data| data.is_err()));
}

#[tokio::test]
async fn streams_of_a_connection_are_bounded_on_both_ports() {
    let test = TestGateway::start(vec![]).await;
    for address in [test.gateway.public(), test.gateway.admin().unwrap()] {
        let client = http2(address, HTTP2_WINDOW).await;
        drop(headed(&client, &Method::GET, "/livez").await);
        assert_eq!(client.current_max_send_streams(), 128);
    }
}

#[tokio::test]
async fn every_public_route_has_its_bounds() {
    for public in unwrapd::receive::PATHS {
        let at = public.replace("{endpoint}", "production");
        let elsewhere = |text: String| text.replacen("/webhooks/production", &at, 1);
        let test = TestGateway::served(|server| {
            server.requests_max = 1;
            server.body_timeout = Duration::from_secs(2);
        })
        .await;
        let address = test.gateway.public();
        let webhook = Webhook::new("wh_1", EventType::BatchCompleted);
        let large = elsewhere(head(&webhook, "content-length: 99999999\r\n"));
        assert_eq!(
            statuses(&until_closed(send(address, large).await).await),
            [413]
        );
        let slow = elsewhere(head(&webhook, "content-length: 1000\r\n"));
        assert_eq!(
            statuses(&until_closed(send(address, &slow).await).await),
            [408]
        );

        // While another program holds the lock, received webhooks wait for it.
        let lock = rusqlite::Connection::open(test.folder.path().join("unwrapd.db")).unwrap();
        lock.execute_batch("BEGIN IMMEDIATE").unwrap();
        let first = elsewhere(request(&webhook));
        let first = tokio::spawn(until_closed(send(address, first).await));
        let url = format!("http://{address}{at}");
        let deadline = Instant::now() + PATIENCE;
        let refused = loop {
            let other = Webhook::new("wh_2", EventType::BatchCompleted);
            let answer = other.request(&client(), &url).send();
            // A request that arrived before the first waits for the lock instead.
            match tokio::time::timeout(Duration::from_secs(1), answer).await {
                Ok(answer) => break answer.unwrap(),
                Err(_) => assert!(Instant::now() < deadline),
            }
        };
        assert_eq!(refused.status(), 503);
        assert!(refused.headers().contains_key("retry-after"));
        lock.execute_batch("ROLLBACK").unwrap();
        first.abort();
    }
}

/// A body of this many pieces of eight bytes without an announced length, or one that never
/// arrives.
enum Unannounced {
    Pieces(usize),
    Never,
}

impl hyper::body::Body for Unannounced {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        match &mut *self {
            Self::Never => Poll::Pending,
            Self::Pieces(0) => Poll::Ready(None),
            Self::Pieces(left) => {
                *left -= 1;
                Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"xxxxxxxx")))))
            }
        }
    }
}
