//! Requests that could not be proven, kept for a while so that a wrong secret costs nothing: never delivered, and accepted only if
//! they prove authentic after all, at the time they arrived.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::HeaderMap;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use openai_webhooks::{VerificationError, WEBHOOK_ID, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::intake::Intake;
use crate::message::Message;
use crate::store::{Accepted, StoreError, Suspect};

/// Largest body that is kept. OpenAI's largest, calls with many SIP headers, have some ten thousand bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Longest value of a header that is kept: a few signatures.
const HEADER_BYTES_MAX: usize = 1024;
/// The headers that are kept. Others may hold what is nobody's business here.
const HEADERS: [&str; 5] = [
    WEBHOOK_ID,
    WEBHOOK_TIMESTAMP,
    WEBHOOK_SIGNATURE,
    "content-type",
    "user-agent",
];
/// Most requests kept and told of a second over a while: anyone can send these, and each is a write and a line of the log.
const RATE: f64 = 10.0;
/// Most of them at once: what OpenAI may send before someone sees that a secret is wrong.
const BURST: f64 = 100.0;
/// Oldest request that is accepted after all. OpenAI sends no copy of it later, an id is known for at least as long, and beyond it no
/// delivery is tried again.
const AGE_MAX: SignedDuration = SignedDuration::from_hours(72);
/// Most requests on their way into the store.
const WRITES_MAX: usize = 16;
/// Requests looked at in one step of a retry.
const PAGE: usize = 64;

/// Keeps what could not be proven.
pub struct Quarantine {
    intake: Arc<Intake>,
    writes: Arc<Semaphore>,
    /// One for requests whose body was read, which may prove authentic yet, and one for the others: who sends nothing but noise takes no
    /// room from them.
    with_body: Mutex<Bucket>,
    without_body: Mutex<Bucket>,
}

/// What a retry came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retried {
    /// Proven and accepted.
    pub accepted: u64,
    /// Proven, and a copy of what had been accepted.
    pub duplicates: u64,
    /// Not proven, and still in the quarantine.
    pub unproven: u64,
    /// So old that its copies may be forgotten: to accept it could be to accept it twice.
    pub too_old: u64,
    /// Kept without a body, which was too large or was never read: nothing to prove.
    pub without_body: u64,
}

impl Quarantine {
    /// What is proven later goes to `intake`.
    #[must_use]
    pub fn new(intake: Arc<Intake>) -> Self {
        Self {
            intake,
            writes: Arc::new(Semaphore::new(WRITES_MAX)),
            with_body: Mutex::new(Bucket::full(Instant::now())),
            without_body: Mutex::new(Bucket::full(Instant::now())),
        }
    }

    /// Tells of the request and keeps it if there is room, and does not wait for it: the sender is refused all the same. `body` is
    /// `None` where it was not read.
    pub fn add(
        &self,
        endpoint: &str,
        headers: &HeaderMap,
        body: Option<&Bytes>,
        error: &VerificationError,
        received_at: Timestamp,
    ) {
        let bucket = match body {
            Some(_) => &self.with_body,
            None => &self.without_body,
        };
        let took = bucket
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take(Instant::now());
        match took {
            Took::Token => tracing::warn!(endpoint, "refused a request: {error}"),
            Took::NoneForOnce => {
                tracing::warn!(
                    endpoint,
                    "more requests are refused than are told of: {error}"
                );
                return;
            }
            Took::NoneAgain => return,
        }
        let Ok(slot) = Arc::clone(&self.writes).try_acquire_owned() else {
            return;
        };
        let suspect = Suspect {
            id: 0,
            endpoint: endpoint.to_owned(),
            received_at,
            reason: error.to_string(),
            headers: kept_headers(headers),
            size: size(headers, body),
            body: body.filter(|body| body.len() <= BODY_BYTES_MAX).cloned(),
        };
        let store = Arc::clone(self.intake.store());
        tokio::spawn(async move {
            if let Err(error) = store.quarantine(suspect).await {
                tracing::debug!("a refused request was not quarantined: {error}");
            }
            drop(slot);
        });
    }

    /// Tries to prove what is in the quarantine with the secrets of today, at the time it arrived, and accepts what succeeds. Only the
    /// request `id`, if there is one.
    pub async fn retry(&self, id: Option<i64>) -> Result<Retried, StoreError> {
        let mut retried = Retried::default();
        let mut after = id.map_or(0, |id| id - 1);
        loop {
            let limit = if id.is_some() { 1 } else { PAGE };
            let page = self.intake.store().suspects(after, limit).await?;
            let Some(last) = page.last() else {
                return Ok(retried);
            };
            after = last.id;
            for suspect in page {
                if id.is_none_or(|id| id == suspect.id) {
                    self.retry_one(suspect, &mut retried).await?;
                }
            }
            if id.is_some() {
                return Ok(retried);
            }
        }
    }

    async fn retry_one(&self, suspect: Suspect, retried: &mut Retried) -> Result<(), StoreError> {
        let Some(body) = &suspect.body else {
            retried.without_body += 1;
            return Ok(());
        };
        let now = self.intake.clock().believed();
        if now.duration_since(suspect.received_at) > AGE_MAX {
            retried.too_old += 1;
            return Ok(());
        }
        let rules = self.intake.rules();
        let arrived = u64::try_from(suspect.received_at.as_second()).unwrap_or_default();
        let proven = rules.endpoints.get(&suspect.endpoint).and_then(|endpoint| {
            endpoint
                .verify_signature_at(body, &suspect.headers, arrived)
                .ok()
        });
        let Some(verified) = proven else {
            retried.unproven += 1;
            return Ok(());
        };
        let message = Message::new(&suspect.endpoint, &verified, body, suspect.received_at);
        match self.intake.acquit(suspect.id, message).await? {
            Accepted::New => retried.accepted += 1,
            Accepted::Duplicate => retried.duplicates += 1,
        }
        Ok(())
    }
}

fn kept_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    HEADERS
        .iter()
        .flat_map(|name| {
            headers
                .get_all(*name)
                .iter()
                .take(2)
                .map(move |value| (name, value))
        })
        .map(|(name, value)| {
            let bytes = value.as_bytes();
            let kept = &bytes[..bytes.len().min(HEADER_BYTES_MAX)];
            let text = String::from_utf8_lossy(kept).into_owned();
            ((*name).to_owned(), text)
        })
        .collect()
}

/// How large the body is, or says it is.
fn size(headers: &HeaderMap, body: Option<&Bytes>) -> Option<u64> {
    match body {
        Some(body) => Some(body.len() as u64),
        None => headers.get("content-length")?.to_str().ok()?.parse().ok(),
    }
}

/// Fills at [`RATE`] up to [`BURST`].
struct Bucket {
    tokens: f64,
    at: Instant,
    /// Since the last one who found it so, it has not been full again.
    is_empty: bool,
}

enum Took {
    Token,
    NoneForOnce,
    NoneAgain,
}

impl Bucket {
    fn full(now: Instant) -> Self {
        Self {
            tokens: BURST,
            at: now,
            is_empty: false,
        }
    }

    fn take(&mut self, now: Instant) -> Took {
        let passed: Duration = now.duration_since(self.at);
        self.at = now;
        self.tokens = (self.tokens + passed.as_secs_f64() * RATE).min(BURST);
        if self.tokens < 1.0 {
            return if std::mem::replace(&mut self.is_empty, true) {
                Took::NoneAgain
            } else {
                Took::NoneForOnce
            };
        }
        // Else there would be a line about it for every token while requests flood in.
        self.is_empty &= self.tokens < BURST;
        self.tokens -= 1.0;
        Took::Token
    }
}
