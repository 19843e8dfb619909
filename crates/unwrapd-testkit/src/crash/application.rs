//! A destination that records what it receives, and fails or hangs from time to time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use bytes::Bytes;
use fastrand::Rng;
use openai_webhooks::{WEBHOOK_ID, WEBHOOK_TIMESTAMP, Webhooks};
use tokio::net::TcpListener;
use tokio::time::sleep;

use crate::crash::ledger::{Ledger, Reception, known};
use crate::crash::verdict::Wrong;
use crate::crash::webhooks::{self, Destination};

/// Percentage of deliveries that fail.
const FAILING_PERCENT: u8 = 4;
/// How an application delays its responses.
#[derive(Clone, Copy)]
pub struct RateLimiter {
    /// Percentage of deliveries with a late response.
    hanging_percent: u8,
    /// Maximum delay of a late response, in milliseconds.
    hanging_ms_max: u64,
    /// Whether the application checks the time of a signature.
    knows_time: bool,
    /// Percentage of copies with a late response, with at least half of the maximum delay.
    copies_percent: u8,
}

impl RateLimiter {
    pub const BRISK: Self = Self {
        hanging_percent: 6,
        hanging_ms_max: 300,
        knows_time: true,
        copies_percent: 0,
    };
    /// [`BRISK`](Self::BRISK), for a gateway whose clock may be wrong.
    #[allow(dead_code, reason = "the tests of faults have no clock that jumps")]
    pub const TIMELESS: Self = Self {
        knows_time: false,
        ..Self::BRISK
    };
    /// Slow enough that deliveries are in progress at every freeze. Those that another gateway took
    /// over are still in progress when the first one resumes.
    pub const SLOW: Self = Self {
        hanging_percent: 20,
        hanging_ms_max: 2_000,
        knows_time: true,
        copies_percent: 50,
    };
}
const FAILURES: [StatusCode; 2] = [
    StatusCode::INTERNAL_SERVER_ERROR,
    StatusCode::TOO_MANY_REQUESTS,
];

pub struct Application {
    pub destination: Destination,
    pub url: String,
}

#[derive(Clone)]
struct Receiving {
    destination: Destination,
    ledger: Ledger,
    webhooks: Webhooks,
    rng: Arc<Mutex<Rng>>,
    pace: RateLimiter,
}

enum Answer {
    Success,
    LateSuccess(Duration),
    Failure(StatusCode),
}

impl Application {
    /// One for each destination.
    pub async fn start_all(ledger: &Ledger, rng: &mut Rng, pace: RateLimiter) -> Vec<Self> {
        let mut applications = Vec::new();
        for destination in Destination::ALL {
            let application = Self::start(destination, ledger.clone(), rng.fork(), pace);
            applications.push(application.await);
        }
        applications
    }

    async fn start(destination: Destination, ledger: Ledger, rng: Rng, pace: RateLimiter) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new()
            .route("/{life}", post(receive))
            .with_state(Receiving {
                destination,
                ledger,
                webhooks: Webhooks::new(destination.secret()).unwrap(),
                rng: Arc::new(Mutex::new(rng)),
                pace,
            });
        tokio::spawn(axum::serve(listener, router).into_future());
        Self { destination, url }
    }
}

async fn receive(
    State(receiving): State<Receiving>,
    Path(life): Path<u32>,
    headers: HeaderMap,
    payload: Bytes,
) -> StatusCode {
    let Receiving {
        destination,
        ledger,
        ..
    } = &receiving;
    let id = headers
        .get(WEBHOOK_ID)
        .and_then(|id| id.to_str().ok())
        .unwrap_or("(no id)");
    let Some(number) = ledger.read(|book| known(book, id)) else {
        ledger.offend(Wrong::Invented, id, life);
        return StatusCode::OK;
    };
    if !destination.wants(number) {
        ledger.offend(Wrong::Stray(*destination), id, life);
    }
    if *payload != *webhooks::payload(number).as_bytes() {
        ledger.offend(Wrong::Altered, id, life);
    }
    let signed_at = headers
        .get(WEBHOOK_TIMESTAMP)
        .and_then(|time| time.to_str().ok()?.parse().ok());
    let proven = match signed_at {
        Some(time) if !receiving.pace.knows_time => receiving
            .webhooks
            .verify_signature_at(&payload, &headers, time),
        _ => receiving.webhooks.verify_signature(&payload, &headers),
    };
    if proven.is_err() {
        ledger.offend(Wrong::Unproven(*destination), id, life);
    }

    let is_copy = ledger.has_received(number, *destination);
    let answer = receiving.draw(is_copy);
    let has_failed = matches!(answer, Answer::Failure(_));
    ledger.receive(number, *destination, Reception { life, has_failed });
    match answer {
        Answer::Failure(status) => return status,
        // If the gateway is killed meanwhile, the task ends here.
        Answer::LateSuccess(delay) => sleep(delay).await,
        Answer::Success => {}
    }
    ledger.deliver(number, *destination);
    StatusCode::OK
}

impl Receiving {
    fn draw(&self, is_copy: bool) -> Answer {
        if self.ledger.is_calm() {
            return Answer::Success;
        }
        let mut rng = self.rng.lock().unwrap();
        let RateLimiter {
            hanging_percent,
            hanging_ms_max,
            copies_percent,
            ..
        } = self.pace;
        if is_copy && rng.u8(..100) < copies_percent {
            let late = rng.u64(hanging_ms_max / 2..=hanging_ms_max);
            return Answer::LateSuccess(Duration::from_millis(late));
        }
        let percent = rng.u8(..100);
        if percent < FAILING_PERCENT {
            Answer::Failure(FAILURES[rng.usize(..FAILURES.len())])
        } else if percent < FAILING_PERCENT + hanging_percent {
            Answer::LateSuccess(Duration::from_millis(rng.u64(1..=hanging_ms_max)))
        } else {
            Answer::Success
        }
    }
}
