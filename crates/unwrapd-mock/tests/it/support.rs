//! A mock with a client of its API, and an application that receives its webhooks.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use openai_webhooks::{Secret, UnwrapWebhookEvent, Webhooks};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, mpsc};
use tokio::time::timeout;
use unwrapd_mock::{Mock, Report, Settings};

/// Time after which a test that waits fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// The secret of the endpoint that exists from the start.
pub(crate) const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";

/// A mock, and a client of it.
pub(crate) struct Api {
    pub(crate) mock: Mock,
    client: reqwest::Client,
    reports: broadcast::Receiver<Report>,
}

impl Api {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// Starts a mock that sends all of its webhooks to this application.
    pub(crate) async fn sending_to(application: &Application) -> Self {
        Self::with(|settings| settings.endpoints.push(application.endpoint())).await
    }

    /// Starts a mock whose clock stands still, unless `change` says otherwise.
    pub(crate) async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::default();
        settings.speed = 0;
        change(&mut settings);
        let mock = Mock::start(settings).await.unwrap();
        let reports = mock.subscribe();
        // A client needs a TLS provider, although these tests use no TLS.
        drop(rustls::crypto::ring::default_provider().install_default());
        Self {
            mock,
            client: reqwest::Client::builder()
                .timeout(PATIENCE)
                .build()
                .unwrap(),
            reports,
        }
    }

    /// A request with a key, to a path such as `/v1/files`.
    pub(crate) fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let url = format!("http://{}{path}", self.mock.address());
        self.client
            .request(method.parse().unwrap(), url)
            .header("authorization", "Bearer test")
            .header("openai-beta", "agents=v1")
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        answer(self.request("GET", path)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> (u16, Value) {
        answer(self.request("DELETE", path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        let request = self.request("POST", path);
        let request = request.header("content-type", "application/json");
        answer(request.body(body.to_string())).await
    }

    /// Posts, and expects 200.
    pub(crate) async fn make(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.post(path, body).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    pub(crate) async fn advance(&self, by: &str) {
        self.make("/_mock/clock", json!({"advance": by})).await;
    }

    pub(crate) async fn rule(&self, rule: &str) {
        self.make("/_mock/rules", json!({"rule": rule})).await;
    }

    /// Uploads a file for a batch, and returns its id.
    pub(crate) async fn upload(&self, lines: &str) -> String {
        let body = format!(
            "--b\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--b\r\n\
             content-disposition: form-data; name=\"file\"; filename=\"input.jsonl\"\r\n\r\n\
             {lines}\r\n--b--\r\n"
        );
        let request = self.request("POST", "/v1/files");
        let request = request.header("content-type", "multipart/form-data; boundary=b");
        let (status, file) = answer(request.body(body)).await;
        assert_eq!(status, 200, "{file}");
        file["id"].as_str().unwrap().to_owned()
    }

    /// The lines of a file.
    pub(crate) async fn lines(&self, file_id: &Value) -> Vec<Value> {
        let path = format!("/v1/files/{}/content", file_id.as_str().unwrap());
        let answer = self.request("GET", &path).send().await.unwrap();
        let text = answer.text().await.unwrap();
        let lines = text.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Waits for the next attempt to deliver a webhook.
    pub(crate) async fn next_attempt(&mut self) -> Value {
        loop {
            let report = timeout(PATIENCE, self.reports.recv()).await;
            let report = report.expect("an attempt").unwrap();
            if matches!(report, Report::Attempt { .. }) {
                return serde_json::to_value(report).unwrap();
            }
        }
    }
}

async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    (
        status,
        serde_json::from_str(&text).unwrap_or(Value::String(text)),
    )
}

/// An application with scripted answers.
pub(crate) struct Application {
    pub(crate) url: String,
    requests: mpsc::UnboundedReceiver<Delivered>,
}

/// A request that the application received.
pub(crate) struct Delivered {
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Bytes,
}

/// An answer of the script. Once the script is used up, the last one stays.
#[derive(Clone)]
pub(crate) enum Reply {
    Status(u16),
    Redirect(String),
    Hang,
}

#[derive(Clone)]
struct Script {
    replies: Arc<Mutex<VecDeque<Reply>>>,
    received: mpsc::UnboundedSender<Delivered>,
}

impl Application {
    pub(crate) async fn start() -> Self {
        Self::answering([Reply::Status(200)]).await
    }

    pub(crate) async fn answering(replies: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/webhook", listener.local_addr().unwrap());
        let (received, requests) = mpsc::unbounded_channel();
        let replies = Arc::new(Mutex::new(replies.into_iter().collect()));
        let router = Router::new()
            .route("/webhook", post(reply))
            .with_state(Script { replies, received });
        tokio::spawn(axum::serve(listener, router).into_future());
        Self { url, requests }
    }

    /// As an endpoint for [`Settings::endpoints`].
    pub(crate) fn endpoint(&self) -> (reqwest::Url, Secret) {
        (self.url.parse().unwrap(), Secret::parse(SECRET).unwrap())
    }

    /// Waits for the next webhook.
    pub(crate) async fn next(&mut self) -> Delivered {
        let next = timeout(PATIENCE, self.requests.recv()).await;
        next.expect("a webhook").unwrap()
    }

    /// Whether no webhook has arrived.
    pub(crate) fn is_untouched(&mut self) -> bool {
        self.requests.try_recv().is_err()
    }

    /// Waits for the next webhook, and unwraps it as a known event.
    pub(crate) async fn event(&mut self) -> Value {
        let delivered = self.next().await;
        let event = delivered.unwrap_with(SECRET).expect("authentic");
        assert!(event.event_type().is_some(), "{event:?}");
        serde_json::from_slice(&delivered.payload).unwrap()
    }

    /// Waits for so many webhooks, in any order. Returns their events, sorted by type.
    pub(crate) async fn events(&mut self, count: usize) -> Vec<Value> {
        let mut events = Vec::new();
        for _ in 0..count {
            events.push(self.event().await);
        }
        events.sort_by_key(|event| event["type"].as_str().unwrap().to_owned());
        events
    }
}

impl Delivered {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    /// The event, if one of the signatures is by this secret.
    pub(crate) fn unwrap_with(&self, secret: &str) -> Option<UnwrapWebhookEvent> {
        let webhooks = Webhooks::new(secret).unwrap();
        webhooks.unwrap(&self.payload, &self.headers).ok()
    }
}

async fn reply(State(script): State<Script>, headers: HeaderMap, payload: Bytes) -> Response {
    let reply = {
        let mut replies = script.replies.lock().unwrap();
        match replies.len() {
            1 => replies.front().cloned(),
            _ => replies.pop_front(),
        }
    };
    script
        .received
        .send(Delivered { headers, payload })
        .unwrap();
    match reply.unwrap() {
        Reply::Status(status) => StatusCode::from_u16(status).unwrap().into_response(),
        Reply::Redirect(to) => (StatusCode::FOUND, [("location", to)]).into_response(),
        Reply::Hang => std::future::pending().await,
    }
}
