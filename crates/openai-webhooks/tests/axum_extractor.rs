//! The extractors in a real router: most tests use `oneshot`, those that depend on the network a
//! socket.

#![expect(clippy::unwrap_used, reason = "the helpers of tests fail as tests do")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{DefaultBodyLimit, FromRef, Request};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::post;
use openai_webhooks::axum::{Event, Webhook};
use openai_webhooks::{EventType, PayloadProblem, WebhookHeaders, Webhooks};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt as _;

const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
const OTHER_SECRET: &str = "whsec_FxYVFBMSERAPDg0MCwoJCAcGBQQDAgEA";
const BODY_BYTES_MAX: usize = 1024;

/// Authentic when signed, but no event; no part of it may appear in an answer.
const NO_EVENT: &str = r#"{"id":"evt_private","created_at":"private","private":"private"}"#;

#[tokio::test]
async fn a_proven_request_reaches_the_handler_as_a_typed_event() {
    let body = EventType::ResponseCompleted.sample();
    let answer = send("/event", signed(body), body).await;
    assert_eq!(
        answer,
        (
            StatusCode::OK,
            "response.completed evt_685343a1381c819085d44c354e1b330e".into()
        )
    );
}

#[tokio::test]
async fn the_whole_webhook_has_the_exact_bytes_the_id_and_the_time() {
    // Blanks and an escape, which a new serialisation would lose.
    let body = "{ \"id\": \"evt_1\",\t\"type\": \"batch\\u002ecompleted\", \"created_at\": 1, \"data\": {\"id\": \"b\"} }\n";
    let now = unix_now();
    let headers = webhooks().sign(body, "wh_exact", now).unwrap();

    let (status, answer) = send("/webhook", headers, body).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(answer, format!("wh_exact {now} batch.completed {body}"));
}

#[tokio::test]
async fn a_request_without_one_of_the_headers_is_answered_400_with_its_name() {
    let body = EventType::ResponseCompleted.sample();
    for missing in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        let mut request = request("/event", &signed(body), body);
        request.headers_mut().remove(missing);
        let (status, answer) = read(app().oneshot(request).await.unwrap()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(answer.contains(missing), "{answer}");
    }
}

#[tokio::test]
async fn a_request_with_two_different_ids_is_answered_400() {
    let body = EventType::ResponseCompleted.sample();
    let mut request = request("/event", &signed(body), body);
    request
        .headers_mut()
        .append("webhook-id", "wh_other".parse().unwrap());
    let (status, _) = read(app().oneshot(request).await.unwrap()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_signature_by_another_secret_is_answered_401() {
    let body = EventType::ResponseCompleted.sample();
    let someone_else = Webhooks::new(OTHER_SECRET).unwrap();
    let headers = someone_else.sign(body, "wh_1", unix_now()).unwrap();
    assert_eq!(
        send("/event", headers, body).await.0,
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn a_body_changed_on_its_way_is_answered_401() {
    let headers = signed(EventType::ResponseCompleted.sample());
    let changed = EventType::ResponseCompleted
        .sample()
        .replace("resp_abc123", "resp_abc124");
    assert_eq!(
        send("/event", headers, &changed).await.0,
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn a_request_ten_minutes_old_or_early_is_answered_401() {
    let body = EventType::ResponseCompleted.sample();
    for timestamp in [unix_now() - 600, unix_now() + 600] {
        let headers = webhooks().sign(body, "wh_1", timestamp).unwrap();
        assert_eq!(
            send("/event", headers, body).await.0,
            StatusCode::UNAUTHORIZED
        );
    }
}

#[tokio::test]
async fn the_tolerance_set_on_webhooks_is_the_extractors() {
    let body = EventType::ResponseCompleted.sample();
    let headers = webhooks().sign(body, "wh_1", unix_now() - 600).unwrap();
    let patient = webhooks().tolerance(Duration::from_secs(3600));
    let answer = app_of(patient)
        .oneshot(request("/event", &headers, body))
        .await;
    assert_eq!(answer.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_body_at_the_limit_is_accepted_and_one_byte_more_is_answered_413() {
    let event = EventType::ResponseCompleted.sample();
    let at_limit = format!("{event:BODY_BYTES_MAX$}");
    assert_eq!(
        send("/event", signed(&at_limit), &at_limit).await.0,
        StatusCode::OK
    );

    let beyond = format!("{at_limit} ");
    let answer = send("/event", signed(&beyond), &beyond).await;
    assert_eq!(answer.0, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn a_body_too_large_is_answered_413_also_when_it_comes_in_chunks_without_a_length() {
    let event = EventType::ResponseCompleted.sample();
    let beyond = format!("{event:0$}", BODY_BYTES_MAX + 1);
    assert!(send_in_chunks(&beyond).await.starts_with("HTTP/1.1 413 "));
}

#[tokio::test]
async fn a_body_in_chunks_is_put_together_before_it_is_verified() {
    let event = EventType::ResponseCompleted.sample();
    assert!(send_in_chunks(event).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn an_authentic_body_that_is_no_event_is_answered_422_by_event() {
    let (status, answer) = send("/event", signed(NO_EVENT), NO_EVENT).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(answer.contains("authentic"), "{answer}");
}

#[tokio::test]
async fn an_authentic_body_that_is_no_event_can_be_parked_by_webhook() {
    let (status, answer) = send("/park", signed(NO_EVENT), NO_EVENT).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(answer, format!("parked wh_1 {NO_EVENT}"));
}

#[tokio::test]
async fn an_event_of_a_type_unknown_to_us_is_an_event() {
    let body = r#"{"id":"evt_1","type":"note.taken","note":"n"}"#;
    let answer = send("/event", signed(body), body).await;
    assert_eq!(answer, (StatusCode::OK, "note.taken evt_1".into()));
}

#[tokio::test]
async fn no_refusal_holds_a_secret_a_signature_or_a_piece_of_the_body() {
    let someone_else = Webhooks::new(OTHER_SECRET).unwrap();
    let now = unix_now();
    let beyond = format!("{NO_EVENT:0$}", BODY_BYTES_MAX + 1);
    let mut too_many = signed(NO_EVENT);
    too_many.signature = format!("{} ", too_many.signature).repeat(33);
    let mut no_time = signed(NO_EVENT);
    no_time.timestamp = "private".to_owned();
    let mut bad_id = signed(NO_EVENT);
    bad_id.id = "wh.private".to_owned();
    let refused = [
        (
            someone_else.sign(NO_EVENT, "wh_1", now).unwrap(),
            NO_EVENT,
            401,
        ),
        (
            webhooks().sign(NO_EVENT, "wh_1", now - 600).unwrap(),
            NO_EVENT,
            401,
        ),
        (
            webhooks().sign(NO_EVENT, "wh_1", now + 600).unwrap(),
            NO_EVENT,
            401,
        ),
        (too_many, NO_EVENT, 401),
        (no_time, NO_EVENT, 400),
        (bad_id, NO_EVENT, 400),
        (signed(&beyond), &beyond, 413),
        (signed(NO_EVENT), NO_EVENT, 422),
    ];
    for (headers, body, expected) in refused {
        let response = app()
            .oneshot(request("/event", &headers, body))
            .await
            .unwrap();
        let response_headers = format!("{:?}", response.headers());
        let (status, text) = read(response).await;
        assert_eq!(status, expected, "{text}");
        for answer in [response_headers, text] {
            let signature = headers.signature.split(' ').next().unwrap();
            let signature = signature.trim_start_matches("v1,");
            for content in [signature, &SECRET["whsec_".len()..], "private", "evt_"] {
                assert!(!answer.contains(content), "{expected}: {answer}");
            }
        }
    }
}

/// A state of the application: [`FromRef`] is all that the extractor needs.
#[derive(Clone)]
struct State(Webhooks);

impl FromRef<State> for Webhooks {
    fn from_ref(state: &State) -> Self {
        state.0.clone()
    }
}

fn app() -> Router {
    app_of(webhooks())
}

fn app_of(webhooks: Webhooks) -> Router {
    Router::new()
        .route("/event", post(answer_with_event))
        .route("/webhook", post(answer_with_webhook))
        .route("/park", post(park))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(State(webhooks))
}

async fn answer_with_event(Event(event): Event) -> String {
    format!("{} {}", event.kind(), event.id())
}

async fn answer_with_webhook(webhook: Webhook) -> String {
    format!(
        "{} {} {} {}",
        webhook.webhook_id,
        webhook.timestamp,
        webhook.event.unwrap().kind(),
        text(&webhook.payload)
    )
}

async fn park(webhook: Webhook) -> String {
    let error = webhook.event.unwrap_err();
    assert_eq!(
        error.problem(),
        &PayloadProblem::MissingField {
            field: "type".to_owned()
        }
    );
    format!("parked {} {}", error.webhook_id(), text(&webhook.payload))
}

fn webhooks() -> Webhooks {
    Webhooks::new(SECRET).unwrap()
}

fn signed(body: &str) -> WebhookHeaders {
    webhooks().sign(body, "wh_1", unix_now()).unwrap()
}

fn request(path: &str, headers: &WebhookHeaders, body: &str) -> Request {
    let mut request = Request::post(path);
    for (name, value) in headers.pairs() {
        request = request.header(name, value);
    }
    request.body(Body::from(body.to_owned())).unwrap()
}

async fn send(path: &str, headers: WebhookHeaders, body: &str) -> (StatusCode, String) {
    read(app().oneshot(request(path, &headers, body)).await.unwrap()).await
}

/// Sends it over a socket, as HTTP/1.1 with `transfer-encoding: chunked`; returns the raw answer.
async fn send_in_chunks(body: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, app()).await });

    let headers = signed(body)
        .pairs()
        .map(|(name, value)| format!("{name}: {value}\r\n"));
    let chunks = body
        .as_bytes()
        .chunks(100)
        .map(|chunk| format!("{:x}\r\n{}\r\n", chunk.len(), text(chunk)));
    let request = format!(
        "POST /event HTTP/1.1\r\nhost: test\r\nconnection: close\r\ntransfer-encoding: chunked\r\n{}\r\n{}0\r\n\r\n",
        headers.concat(),
        chunks.collect::<String>(),
    );

    let mut connection = TcpStream::connect(address).await.unwrap();
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn read(response: Response) -> (StatusCode, String) {
    let status = response.status();
    let body: Bytes = to_bytes(response.into_body(), 64 * 1024).await.unwrap();
    (status, text(&body).to_owned())
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}
