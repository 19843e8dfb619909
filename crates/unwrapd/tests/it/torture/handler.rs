//! A handler of webhooks with one planted fault, or none.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use openai_webhooks::{Envelope, EventType, VerificationError, Webhooks};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::support::{openai, unix_now};

/// The fault of a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    VerifiesNothing,
    TakesAnySignatureOfTheRightForm,
    TakesAnEmptySignature,
    RepairsTheBody,
    RoundsTheTimestamp,
    SkipsTheCheckWithoutSignature,
    KnowsNoPast,
    KnowsNoFuture,
    FailsOnForgeries,
    AnswersForgeriesWithGone,
    CountsBeforeItVerifies,
    RefusesBatches,
    FailsOnUnknownTypes,
    HasAStrictSchema,
    WritesTheJsonAgain,
    DecodesAsLatin1,
    TakesSmallBodies,
    TakesTheFirstSignature,
    ChecksTheAgeOfTheEvent,
    WantsEventsInOrder,
    RefusesDuplicates,
    KnowsNoDuplicates,
    LooksBeforeItInserts,
    RecordsBeforeTheWork,
    RecordsBeforeItVerifies,
    TellsCopiesToComeAgain,
    IsSlow,
    AnswersNoContent,
    DropsWhatItAccepts,
    /// Accepts no connection after this number of requests.
    StopsListeningAfter(usize),
}

pub(super) struct Handler {
    pub(super) url: String,
    pub(super) effects: String,
    state: Arc<Shared>,
}

struct Shared {
    fault: Fault,
    webhooks: Webhooks,
    seen: Mutex<HashSet<String>>,
    in_progress: Mutex<HashSet<String>>,
    effects: Mutex<HashMap<String, u64>>,
    /// The sessions that are idle.
    idle: Mutex<HashSet<String>>,
    requests: Mutex<usize>,
    stop: Notify,
    stopped: Notify,
}

impl Handler {
    pub(super) async fn start(fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Shared {
            fault,
            webhooks: openai(),
            seen: Mutex::default(),
            in_progress: Mutex::default(),
            effects: Mutex::default(),
            idle: Mutex::default(),
            requests: Mutex::default(),
            stop: Notify::new(),
            stopped: Notify::new(),
        });
        let limit = if fault == Fault::TakesSmallBodies {
            32 * 1024
        } else {
            1024 * 1024
        };
        let router = Router::new()
            .route("/webhook", post(handle))
            .route("/effects", get(count))
            .layer(DefaultBodyLimit::max(limit))
            .with_state(Arc::clone(&state));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            tokio::select! {
                _ = axum::serve(listener, router).into_future() => {}
                () = shared.stop.notified() => {}
            }
            // The listener is closed, while the connections go on.
            shared.stopped.notify_one();
        });
        Self {
            url: format!("http://{address}/webhook"),
            effects: format!("http://{address}/effects"),
            state,
        }
    }

    pub(super) fn requests(&self) -> usize {
        *self.state.requests.lock().unwrap()
    }
}

async fn count(State(shared): State<Arc<Shared>>, RawQuery(query): RawQuery) -> String {
    let query = query.unwrap();
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    let (_, id) = pairs.find(|(name, _)| name == "webhook-id").unwrap();
    let effects = shared.effects.lock().unwrap();
    effects.get(&*id).copied().unwrap_or_default().to_string()
}

async fn handle(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let number = {
        let mut requests = shared.requests.lock().unwrap();
        *requests += 1;
        *requests
    };
    if shared.fault == Fault::StopsListeningAfter(number) {
        shared.stop.notify_one();
        // The next request comes after the answer to this one.
        shared.stopped.notified().await;
    }
    shared.answer(&headers, &body).await.into_response()
}

impl Shared {
    async fn answer(&self, headers: &HeaderMap, body: &Bytes) -> StatusCode {
        let id = headers
            .get("webhook-id")
            .map_or("", |id| id.to_str().unwrap());
        if self.fault == Fault::RecordsBeforeItVerifies && !id.is_empty() && !self.record(id) {
            return StatusCode::OK;
        }
        if self.fault == Fault::CountsBeforeItVerifies && self.record(id) {
            self.act(id);
        }
        if !self.is_verified(headers, body) {
            return match self.fault {
                Fault::FailsOnForgeries => StatusCode::INTERNAL_SERVER_ERROR,
                Fault::AnswersForgeriesWithGone => StatusCode::GONE,
                _ => StatusCode::BAD_REQUEST,
            };
        }
        if let Some(refusal) = self.refusal(body).await {
            return refusal;
        }
        match self.fault {
            Fault::CountsBeforeItVerifies => {}
            Fault::RefusesDuplicates if !self.record(id) => return StatusCode::CONFLICT,
            Fault::RecordsBeforeItVerifies
            | Fault::KnowsNoDuplicates
            | Fault::RefusesDuplicates => self.act(id),
            Fault::LooksBeforeItInserts => {
                let is_new = !self.seen.lock().unwrap().contains(id);
                work().await;
                if is_new {
                    self.record(id);
                    self.act(id);
                }
            }
            Fault::RecordsBeforeTheWork => {
                if self.record(id) {
                    work().await;
                    self.act(id);
                }
            }
            Fault::TellsCopiesToComeAgain => {
                let Some(_permit) = Permit::new(&self.in_progress, id) else {
                    return StatusCode::SERVICE_UNAVAILABLE;
                };
                work().await;
                if self.record(id) {
                    self.act(id);
                }
            }
            Fault::DropsWhatItAccepts if !is_plain(body) => {}
            _ => {
                if self.record(id) {
                    self.act(id);
                }
            }
        }
        match self.fault {
            Fault::AnswersNoContent => StatusCode::NO_CONTENT,
            _ => StatusCode::OK,
        }
    }

    /// Whether the webhook is new.
    fn record(&self, id: &str) -> bool {
        self.seen.lock().unwrap().insert(id.to_owned())
    }

    fn act(&self, id: &str) {
        *self.effects.lock().unwrap().entry(id.into()).or_default() += 1;
    }

    fn is_verified(&self, headers: &HeaderMap, body: &Bytes) -> bool {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let is_right = |body: &[u8], headers: &HeaderMap| {
            self.webhooks.verify_signature(body, headers).is_ok()
        };
        let with = |name: &'static str, value: String| {
            let mut headers = headers.clone();
            headers.insert(name, value.parse().unwrap());
            headers
        };
        let signature = text("webhook-signature").unwrap_or_default();
        let time = text("webhook-timestamp").and_then(|time| time.parse::<i64>().ok());
        let is_of_its_time = || {
            let time = time.unwrap_or_default();
            self.webhooks
                .verify_signature_at(body, headers, time)
                .is_ok()
        };
        let signed_at = |time: i64| {
            let id = text("webhook-id").unwrap_or_default();
            let signed = self.webhooks.sign(body, id, time);
            signed.is_ok_and(|signed| signed.signature == signature)
        };
        match self.fault {
            Fault::VerifiesNothing => true,
            Fault::TakesAnySignatureOfTheRightForm => {
                match self.webhooks.verify_signature(body, headers) {
                    Err(VerificationError::SignatureMismatch) => {
                        signature.len() == "v1,".len() + 44
                    }
                    verified => verified.is_ok(),
                }
            }
            Fault::TakesAnEmptySignature => is_right(body, headers) || signature == "v1,",
            Fault::SkipsTheCheckWithoutSignature => signature.is_empty() || is_right(body, headers),
            Fault::KnowsNoPast => time <= Some(unix_now() + 300) && is_of_its_time(),
            Fault::KnowsNoFuture => time >= Some(unix_now() - 300) && is_of_its_time(),
            Fault::RoundsTheTimestamp => {
                is_right(body, headers) || time.is_some_and(|time| signed_at(time + 1))
            }
            Fault::RepairsTheBody => {
                let text = String::from_utf8_lossy(body);
                let envelope = Envelope::read(body).unwrap();
                let old = envelope.resource_id().unwrap();
                let repaired = "0123456789abcdef".chars().any(|last| {
                    let new = format!("{}{last}", &old[..old.len() - 1]);
                    is_right(text.replace(old, &new).as_bytes(), headers)
                });
                repaired || is_right(body, headers)
            }
            Fault::WritesTheJsonAgain => {
                let parsed: Value = serde_json::from_slice(body).unwrap();
                is_right(parsed.to_string().as_bytes(), headers)
            }
            Fault::DecodesAsLatin1 => {
                let decoded: String = body.iter().copied().map(char::from).collect();
                is_right(decoded.as_bytes(), headers)
            }
            Fault::TakesTheFirstSignature => {
                let first = signature.split(' ').next().unwrap_or_default();
                is_right(body, &with("webhook-signature", first.into()))
            }
            _ => is_right(body, headers),
        }
    }

    /// The answer to an authentic event that the handler does not take.
    async fn refusal(&self, body: &Bytes) -> Option<StatusCode> {
        let event: Value = serde_json::from_slice(body).unwrap();
        let kind = event["type"].as_str().unwrap();
        let session = || event["data"]["id"].as_str().unwrap().to_owned();
        let fails = match self.fault {
            Fault::RefusesBatches => kind.starts_with("batch."),
            Fault::FailsOnUnknownTypes => kind.parse::<EventType>().is_err(),
            Fault::HasAStrictSchema => {
                let known = ["id", "type", "object", "created_at", "data"];
                let mut keys = event.as_object().unwrap().keys();
                !keys.all(|key| known.contains(&&**key))
            }
            Fault::ChecksTheAgeOfTheEvent => {
                event["created_at"].as_i64().unwrap() < unix_now() - 3600
            }
            Fault::WantsEventsInOrder if kind == "agent.session.idle" => {
                self.idle.lock().unwrap().insert(session());
                false
            }
            Fault::WantsEventsInOrder if kind == "agent.session.in_progress" => {
                self.idle.lock().unwrap().contains(&session())
            }
            Fault::IsSlow if kind == "batch.failed" => {
                tokio::time::sleep(Duration::from_secs(2)).await;
                false
            }
            _ => false,
        };
        fails.then_some(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// Some work on an event. It is longer than a busy machine needs to send copies and to close a
/// connection.
async fn work() {
    tokio::time::sleep(Duration::from_secs(1)).await;
}

/// An id in progress, until this is dropped, also when the client goes away.
struct Permit<'p>(&'p Mutex<HashSet<String>>, String);

impl<'p> Permit<'p> {
    fn new(in_progress: &'p Mutex<HashSet<String>>, id: &str) -> Option<Self> {
        let is_new = in_progress.lock().unwrap().insert(id.to_owned());
        is_new.then(|| Self(in_progress, id.to_owned()))
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.lock().unwrap().remove(&self.1);
    }
}

/// Whether the event has no field that is not documented.
fn is_plain(body: &[u8]) -> bool {
    !String::from_utf8_lossy(body).contains("torture_field")
}
