//! A collector of OTLP with scripted answers. It decodes spans by messages that were generated from
//! the specification, and shares no code with the gateway.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as SpanStatus;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::support::PATIENCE;

pub(super) struct Collector {
    pub(super) url: String,
    requests: mpsc::UnboundedReceiver<Posted>,
    /// The spans of all requests that were answered 200.
    spans: Vec<Span>,
}

/// A request.
pub(super) struct Posted {
    pub(super) headers: HeaderMap,
    pub(super) request: ExportTraceServiceRequest,
    is_taken: bool,
}

/// An answer of the script: 200 once it is used up.
#[derive(Clone, Copy)]
pub(super) enum Answer {
    Status(u16),
    /// 503 with this `Retry-After`.
    Later(&'static str),
    Rejects(i64),
    Hang,
}

#[derive(Clone)]
struct Script {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    told: mpsc::UnboundedSender<Posted>,
}

impl Collector {
    pub(super) async fn start(answers: impl IntoIterator<Item = Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (told, requests) = mpsc::unbounded_channel();
        let router = Router::new()
            .route("/v1/traces", post(answer))
            .with_state(Script {
                answers: Arc::new(Mutex::new(answers.into_iter().collect())),
                told,
            });
        tokio::spawn(axum::serve(listener, router).into_future());
        Self {
            url,
            requests,
            spans: Vec::new(),
        }
    }

    /// Waits for the next request.
    pub(super) async fn next(&mut self) -> Posted {
        let posted = timeout(PATIENCE, self.requests.recv()).await;
        let posted = posted.expect("a request").unwrap();
        self.keep(&posted);
        posted
    }

    /// Waits until it has this number of spans.
    pub(super) async fn wait_for(&mut self, spans: usize) {
        while self.spans.len() < spans {
            self.next().await;
        }
    }

    /// All spans that it has, ordered by their begin.
    pub(super) fn spans(&mut self) -> Vec<Span> {
        while let Ok(posted) = self.requests.try_recv() {
            self.keep(&posted);
        }
        let mut spans = self.spans.clone();
        spans.sort_by_key(|span| (span.start_time_unix_nano, !span.parent_span_id.is_empty()));
        spans
    }

    fn keep(&mut self, posted: &Posted) {
        if posted.is_taken {
            self.spans.extend(spans_of(&posted.request));
        }
    }
}

fn spans_of(request: &ExportTraceServiceRequest) -> Vec<Span> {
    let scopes = request
        .resource_spans
        .iter()
        .flat_map(|one| &one.scope_spans);
    scopes.flat_map(|scope| scope.spans.clone()).collect()
}

async fn answer(State(script): State<Script>, headers: HeaderMap, body: Bytes) -> Response {
    let answer = script.answers.lock().unwrap().pop_front();
    let request = ExportTraceServiceRequest::decode(body).expect("it is the message");
    let is_taken = matches!(answer, None | Some(Answer::Rejects(_)));
    let posted = Posted {
        headers,
        request,
        is_taken,
    };
    script.told.send(posted).unwrap();
    let success = |partial_success| {
        ExportTraceServiceResponse { partial_success }
            .encode_to_vec()
            .into_response()
    };
    match answer {
        None => success(None),
        Some(Answer::Status(status)) => StatusCode::from_u16(status).unwrap().into_response(),
        Some(Answer::Later(wait)) => {
            (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, wait)]).into_response()
        }
        Some(Answer::Rejects(rejected_spans)) => success(Some(ExportTracePartialSuccess {
            rejected_spans,
            error_message: "hidden".into(),
        })),
        Some(Answer::Hang) => std::future::pending().await,
    }
}

/// The text of an attribute; empty if there is none.
pub(super) fn text(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|one| one.key == key);
    let value = found.and_then(|one| one.value.clone()?.value);
    match value {
        None => String::new(),
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(is_so)) => is_so.to_string(),
        Some(other) => panic!("{key} is {other:?}"),
    }
}

/// The parts of a span that tests read.
pub(super) trait Read {
    fn attribute(&self, key: &str) -> String;
    fn is_error(&self) -> bool;
}

impl Read for Span {
    fn attribute(&self, key: &str) -> String {
        text(&self.attributes, key)
    }

    fn is_error(&self) -> bool {
        let status = self.status.as_ref();
        status.is_some_and(|status| status.code() == SpanStatus::Error)
    }
}
