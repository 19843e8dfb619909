//! Keeps requests that could not be verified, so that a wrong secret loses no webhook. They are not
//! delivered. They are accepted only if a later verification, at their arrival time, succeeds.

mod budget;

use std::sync::Arc;

use axum::http::HeaderMap;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use openai_webhooks::{
    SIGNATURES_MAX, VerificationError, WEBHOOK_ID, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP,
};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::Level;
use utoipa::ToSchema;

use crate::intake::Intake;
use crate::message::{Message, ReadMessage};
use crate::observe::refusals::Refusals;
use crate::pipeline_events::PipelineEvent;
use crate::store::{Accepted, QUARANTINED_MAX, QuarantineStore, QuarantinedRequest, StoreError};
use budget::Budget;

/// Largest body that is kept, in bytes. OpenAI's largest, calls with many SIP headers, have about
/// ten thousand.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Most bytes of a header that are kept, its lines together: more than the longest list of
/// signatures that is verified, or a retry could refuse what was right.
const HEADER_BYTES_MAX: usize = 2048;
/// Most lines of a header that are kept, empty ones included.
const HEADER_LINES_MAX: usize = SIGNATURES_MAX + 1;
/// The headers that are kept. Others may hold secrets of a proxy or a sender.
const HEADERS: [&str; 5] = [
    WEBHOOK_ID,
    WEBHOOK_TIMESTAMP,
    WEBHOOK_SIGNATURE,
    "content-type",
    "user-agent",
];
/// Greatest age of a request that is accepted. OpenAI sends no copy after this time. The store
/// remembers ids for at least as long.
const AGE_MAX: SignedDuration = SignedDuration::from_hours(72);
/// Most requests that are being written into the store. Others wait, within the bounds of
/// [`budget`].
const WRITES_MAX: usize = 16;
/// Requests that one step of a retry reads: at most 1 MiB of bodies.
const PAGE: usize = 16;
/// Beginning of the log line for a request that was not kept.
const NOT_KEPT: &str = "a refused request was not kept in the quarantine";
/// Beginning of the log line for a request that a newer one has replaced.
const EVICTED: &str = "dropped a request from the quarantine for a newer one (full)";

/// Keeps and retries requests that could not be verified.
pub struct Quarantine {
    intake: Arc<Intake>,
    store: Arc<dyn QuarantineStore>,
    refusals: Arc<Refusals>,
    writes: Arc<Semaphore>,
    budget: Budget,
}

/// Results of a retry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RetryQuarantinedResult {
    /// Verified and accepted.
    pub accepted: u64,
    /// Verified, and a duplicate of an accepted webhook.
    pub duplicates: u64,
    /// Not verified, and still in the quarantine.
    pub unproven: u64,
    /// Too old to accept: the store may have forgotten the id, and would accept it twice.
    pub too_old: u64,
    /// Kept without a body, which was too large or was not read. Such a request cannot be verified.
    pub without_body: u64,
}

impl Quarantine {
    /// A quarantine in `store`. Requests that are verified later go to `intake`. Requests that are
    /// not stored are counted in `refusals`.
    #[must_use]
    pub fn new(
        intake: Arc<Intake>,
        store: Arc<dyn QuarantineStore>,
        refusals: Arc<Refusals>,
    ) -> Self {
        Self {
            intake,
            store,
            refusals,
            writes: Arc::new(Semaphore::new(WRITES_MAX)),
            budget: Budget::default(),
        }
    }

    /// Keeps the request if there is room for it. Does not wait, because the sender is refused in
    /// any case. `endpoint` must be configured. `body` is `None` where it was not read.
    pub(crate) fn add(
        &self,
        endpoint: &str,
        headers: &HeaderMap,
        body: Option<&Bytes>,
        error: &VerificationError,
        received_at: Timestamp,
    ) {
        let rules = self.intake.rules();
        let now = Instant::now();
        let place = match self
            .budget
            .take(endpoint, body.is_some(), now, &rules.endpoints)
        {
            Ok(place) => place,
            Err(full) => {
                self.refusals
                    .count(full.kind(), Some(endpoint), || full.to_string());
                return;
            }
        };
        let quarantined = QuarantinedRequest {
            id: 0,
            endpoint: endpoint.to_owned(),
            received_at,
            reason: error.to_string(),
            headers: kept_headers(headers),
            size: size(headers, body),
            body: body.filter(|body| body.len() <= BODY_BYTES_MAX).cloned(),
        };
        let store = Arc::clone(&self.store);
        let (writes, refusals) = (Arc::clone(&self.writes), Arc::clone(&self.refusals));
        let endpoint = endpoint.to_owned();
        let events = self.intake.events().clone();
        let event = events
            .is_observed(Level::TRACE)
            .then(|| PipelineEvent::Quarantined {
                endpoint: endpoint.clone(),
                reason: quarantined.reason.clone(),
            });
        tokio::spawn(async move {
            // The semaphore is never closed.
            let _write = writes.acquire().await;
            let kept = store.quarantine(quarantined).await;
            if kept.is_ok()
                && let Some(event) = event
            {
                events.emit(Level::TRACE, || event);
            }
            match kept {
                Ok(0) => {}
                Ok(_) => refusals.count(EVICTED, None, || {
                    format!(
                        "the quarantine holds {QUARANTINED_MAX}, so the oldest of the endpoint \
                         with the most is dropped; if a secret is wrong, correct it and run \
                         `unwrapd quarantine retry --all`"
                    )
                }),
                Err(error) => refusals.count(NOT_KEPT, Some(&endpoint), || error.to_string()),
            }
            drop(place);
        });
    }

    /// Waits until each added request is stored, or counted as not stored.
    pub(crate) async fn written(&self) {
        self.budget.is_empty().await;
    }

    /// Verifies requests again with the current secrets at their arrival times, and accepts those
    /// that succeed. With `id`, only that request.
    pub async fn retry(&self, id: Option<i64>) -> Result<RetryQuarantinedResult, StoreError> {
        let mut retried = RetryQuarantinedResult::default();
        let mut after = id.map_or(0, |id| id.saturating_sub(1));
        loop {
            let limit = if id.is_some() { 1 } else { PAGE };
            let page = self.store.read_quarantined(after, limit).await?;
            let Some(last) = page.last() else {
                return Ok(retried);
            };
            after = last.id;
            for quarantined in page {
                if id.is_none_or(|id| id == quarantined.id) {
                    self.retry_one(quarantined, &mut retried).await?;
                }
            }
            if id.is_some() {
                return Ok(retried);
            }
        }
    }

    async fn retry_one(
        &self,
        quarantined: QuarantinedRequest,
        retried: &mut RetryQuarantinedResult,
    ) -> Result<(), StoreError> {
        let Some(body) = &quarantined.body else {
            retried.without_body += 1;
            return Ok(());
        };
        let now = self.intake.clock().believed();
        if now.duration_since(quarantined.received_at) > AGE_MAX {
            retried.too_old += 1;
            return Ok(());
        }
        let rules = self.intake.rules();
        let arrived = quarantined.received_at.as_second();
        let proven = rules
            .endpoints
            .get(&quarantined.endpoint)
            .and_then(|endpoint| {
                endpoint
                    .webhooks()
                    .verify_signature_at(body, &quarantined.headers, arrived)
                    .ok()
            });
        let Some(verified) = proven else {
            retried.unproven += 1;
            return Ok(());
        };
        let ReadMessage {
            message, oddity, ..
        } = Message::read(
            &quarantined.endpoint,
            &verified,
            body,
            quarantined.received_at,
        );
        match self
            .intake
            .accept_quarantined(&*self.store, quarantined.id, message)
            .await?
        {
            Accepted::New => {
                retried.accepted += 1;
                if let Some(oddity) = &oddity {
                    self.intake.oddities().count(&quarantined.endpoint, oddity);
                }
            }
            Accepted::Duplicate => retried.duplicates += 1,
        }
        Ok(())
    }
}

fn kept_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    let mut kept = Vec::new();
    for name in HEADERS {
        let mut budget = HEADER_BYTES_MAX;
        for value in headers.get_all(name).iter().take(HEADER_LINES_MAX) {
            let bytes = value.as_bytes();
            let bytes = &bytes[..bytes.len().min(budget)];
            budget -= bytes.len();
            kept.push((name.to_owned(), String::from_utf8_lossy(bytes).into_owned()));
        }
    }
    kept
}

/// Size of the body, or its `content-length` if the body was not read.
fn size(headers: &HeaderMap, body: Option<&Bytes>) -> Option<u64> {
    match body {
        Some(body) => Some(body.len() as u64),
        None => headers.get("content-length")?.to_str().ok()?.parse().ok(),
    }
}
