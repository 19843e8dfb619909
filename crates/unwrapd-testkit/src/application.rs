//! An application with scripted answers.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use openai_webhooks::{VerificationError, Verified, Webhooks};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};

use super::{APP_SECRET, PATIENCE};

/// Reports each request to the test, and answers from its script: with 200 once the script is used
/// up.
pub struct Application {
    pub url: String,
    requests: mpsc::UnboundedReceiver<Delivered>,
}

/// A request that the application received.
#[derive(Clone, Debug)]
pub struct Delivered {
    pub headers: HeaderMap,
    pub payload: Bytes,
}

/// An answer of the script.
#[derive(Clone, Debug)]
pub enum Answer {
    Status(u16),
    /// With this body.
    Body(u16, String),
    RetryAfter(u16, &'static str),
    Redirect(String),
    /// 200 if the signature and its time are right, otherwise 400.
    IfVerified,
    /// No answer.
    Hang,
    /// 200, once the test allows it.
    WhenTold(Arc<Notify>),
    /// This status, once the test allows it.
    StatusWhenTold(u16, Arc<Notify>),
}

#[derive(Clone)]
struct Script {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    told: mpsc::UnboundedSender<Delivered>,
}

impl Application {
    pub async fn start(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), answers).await
    }

    pub async fn start_at(address: SocketAddr, answers: impl IntoIterator<Item = Answer>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let url = format!("http://{}/webhook", listener.local_addr().unwrap());
        let (told, requests) = mpsc::unbounded_channel();
        let router = Router::new()
            .route("/webhook", post(answer))
            .with_state(Script {
                answers: Arc::new(Mutex::new(answers.into_iter().collect())),
                told,
            });
        tokio::spawn(axum::serve(listener, router).into_future());
        Self { url, requests }
    }

    /// Waits for the next request.
    pub async fn next(&mut self) -> Delivered {
        tokio::time::timeout(PATIENCE, self.requests.recv())
            .await
            .expect("a delivery")
            .expect("the application runs")
    }

    /// Waits for so many requests.
    pub async fn skip(&mut self, requests: usize) {
        for _ in 0..requests {
            self.next().await;
        }
    }

    /// Whether an unexpected request has arrived.
    pub fn has_more(&mut self) -> bool {
        self.requests.try_recv().is_ok()
    }
}

impl Delivered {
    pub fn webhook_id(&self) -> &str {
        self.headers["webhook-id"].to_str().unwrap()
    }

    /// Verifies the request as an application does.
    pub fn verified(&self) -> Result<Verified<'_>, VerificationError> {
        Webhooks::new(APP_SECRET)
            .unwrap()
            .verify_signature(&self.payload, &self.headers)
    }
}

async fn answer(State(script): State<Script>, headers: HeaderMap, payload: Bytes) -> Response {
    let answer = script.answers.lock().unwrap().pop_front();
    let delivered = Delivered { headers, payload };
    let is_verified = delivered.verified().is_ok();
    script.told.send(delivered).unwrap();
    let status = |status| StatusCode::from_u16(status).unwrap();
    match answer.unwrap_or(Answer::Status(200)) {
        Answer::Status(code) => status(code).into_response(),
        Answer::Body(code, body) => (status(code), body).into_response(),
        Answer::RetryAfter(code, after) => (status(code), [("retry-after", after)]).into_response(),
        Answer::Redirect(to) => {
            (StatusCode::TEMPORARY_REDIRECT, [("location", to)]).into_response()
        }
        Answer::IfVerified if is_verified => StatusCode::OK.into_response(),
        Answer::IfVerified => StatusCode::BAD_REQUEST.into_response(),
        Answer::Hang => std::future::pending().await,
        Answer::WhenTold(signal) => {
            signal.notified().await;
            StatusCode::OK.into_response()
        }
        Answer::StatusWhenTold(code, signal) => {
            signal.notified().await;
            status(code).into_response()
        }
    }
}
