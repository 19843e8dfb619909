//! Limits of concurrent requests, and the reading of bodies within them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use tokio::time::timeout;

use super::BODY_BYTES_MAX;
use super::refusal::Refusal;
use crate::evicting_limiter::{EvictingLimiter, Permit};

/// Bytes of a body that every request may hold: twice OpenAI's largest. A larger body needs the
/// shared room below, so a client that fills that room does not delay OpenAI.
const BODY_BYTES_SHARE: usize = 32 * 1024;
/// Shared room for the parts of bodies beyond that, in bytes.
const BODIES_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Limits of concurrent requests.
pub(crate) struct Limits {
    requests: Arc<EvictingLimiter>,
    endpoints: RwLock<HashMap<String, (usize, Arc<EvictingLimiter>)>>,
    room: Arc<AtomicUsize>,
    body_timeout: Duration,
}

impl Limits {
    /// `requests_max` limits the requests of all endpoints, `body_timeout` the arrival of a body.
    #[must_use]
    pub(crate) fn new(requests_max: usize, body_timeout: Duration) -> Self {
        Self {
            requests: EvictingLimiter::new(requests_max),
            endpoints: RwLock::default(),
            room: Arc::new(AtomicUsize::new(BODIES_BYTES_MAX)),
            body_timeout,
        }
    }

    /// Sets the maximum number of requests of each endpoint. If that is unchanged, running requests
    /// still count.
    pub(crate) fn set_limits(&self, endpoints: impl IntoIterator<Item = (String, usize)>) {
        let mut limiter = self
            .endpoints
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *limiter);
        for (name, max) in endpoints {
            let known = before.remove(&name).filter(|(known, _)| *known == max);
            limiter.insert(
                name,
                known.unwrap_or_else(|| (max, EvictingLimiter::new(max))),
            );
        }
    }

    /// Admits a request. At the limit, the request whose body has been arriving longest is refused
    /// instead.
    pub(super) async fn admit(&self, endpoint: &str) -> Result<Admission, Refusal> {
        let endpoint = {
            let endpoints = self
                .endpoints
                .read()
                .unwrap_or_else(PoisonError::into_inner);
            let (_, limiter) = endpoints.get(endpoint).ok_or(Refusal::Broke)?;
            Arc::clone(limiter)
        };
        let endpoint = endpoint.try_acquire().await.ok_or(Refusal::Full)?;
        let all = self.requests.try_acquire().await.ok_or(Refusal::Full)?;
        Ok(Admission {
            limiter: [endpoint, all],
            share: LimitShare {
                room: Arc::clone(&self.room),
                taken: 0,
            },
            body_timeout: self.body_timeout,
        })
    }
}

/// Permits that a request holds while it is received and stored.
pub(super) struct Admission {
    limiter: [Permit; 2],
    share: LimitShare,
    body_timeout: Duration,
}

impl Admission {
    /// Reads the body.
    pub(super) async fn read(&mut self, body: Body) -> Result<Bytes, Refusal> {
        if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
            return Err(Refusal::TooLarge);
        }
        let [endpoint, all] = &self.limiter;
        let payload = tokio::select! {
            biased;
            read = timeout(self.body_timeout, gather(body, &mut self.share)) => {
                read.map_err(|_| Refusal::TooSlow(self.body_timeout.as_secs()))??
            }
            () = endpoint.evicted() => return Err(Refusal::Full),
            () = all.evicted() => return Err(Refusal::Full),
        };
        endpoint.set_busy();
        all.set_busy();
        Ok(payload)
    }
}

async fn gather(mut body: Body, share: &mut LimitShare) -> Result<Bytes, Refusal> {
    // Most bodies arrive in one piece, which is not copied. A thousand small pieces would each keep
    // a part of a larger buffer alive.
    let mut first = Bytes::new();
    let mut whole: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Refusal::Broken)?.into_data() else {
            continue;
        };
        let length = first.len().max(whole.len()) + data.len();
        if length > BODY_BYTES_MAX {
            return Err(Refusal::TooLarge);
        }
        if first.is_empty() && whole.is_empty() {
            first = data;
            continue;
        }
        if length > whole.capacity() {
            // Doubled, so that the body is rarely moved, but never above the maximum size.
            let capacity = length.max(2 * whole.capacity()).min(BODY_BYTES_MAX);
            share.hold(capacity)?;
            whole.reserve_exact(capacity - whole.len());
        }
        whole.extend_from_slice(&std::mem::take(&mut first));
        whole.extend_from_slice(&data);
    }
    if whole.is_empty() {
        return Ok(first);
    }
    Ok(whole.into())
}

/// The part of the shared room that one request occupies.
struct LimitShare {
    room: Arc<AtomicUsize>,
    taken: usize,
}

impl LimitShare {
    fn hold(&mut self, bytes: usize) -> Result<(), Refusal> {
        let wanted = bytes.saturating_sub(BODY_BYTES_SHARE);
        let more = wanted.saturating_sub(self.taken);
        let take = |room: usize| room.checked_sub(more);
        self.room
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .map_err(|_| Refusal::Full)?;
        self.taken += more;
        Ok(())
    }
}

impl Drop for LimitShare {
    fn drop(&mut self) {
        self.room.fetch_add(self.taken, Ordering::Relaxed);
    }
}
