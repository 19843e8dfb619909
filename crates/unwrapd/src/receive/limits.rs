//! How much may be received at once, and the reading of a body within that.

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
use crate::places::{Place, Places};

/// Bytes of the body that every request may hold: twice OpenAI's largest. Only a larger body needs
/// the room below, so a client that fills that room does not delay OpenAI.
const BODY_BYTES_SHARE: usize = 32 * 1024;
/// Room for all that is larger, together.
const BODIES_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How much may be received at once.
pub struct Limits {
    requests: Arc<Places>,
    endpoints: RwLock<HashMap<String, (usize, Arc<Places>)>>,
    room: Arc<AtomicUsize>,
    body_timeout: Duration,
}

impl Limits {
    /// So many requests of all endpoints, and so long for a body to arrive.
    #[must_use]
    pub fn new(requests_max: usize, body_timeout: Duration) -> Self {
        Self {
            requests: Places::new(requests_max),
            endpoints: RwLock::default(),
            room: Arc::new(AtomicUsize::new(BODIES_BYTES_MAX)),
            body_timeout,
        }
    }

    /// From now on so many requests of each of these endpoints. Where that is unchanged, those under way go on counting.
    pub fn follow(&self, endpoints: impl IntoIterator<Item = (String, usize)>) {
        let mut places = self
            .endpoints
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *places);
        for (name, max) in endpoints {
            let known = before.remove(&name).filter(|(known, _)| *known == max);
            places.insert(name, known.unwrap_or_else(|| (max, Places::new(max))));
        }
    }

    /// Lets a request in. If need be, the one whose body has been under way the longest is refused for it.
    pub(super) async fn admit(&self, endpoint: &str) -> Result<Admission, Refusal> {
        let endpoint = {
            let endpoints = self
                .endpoints
                .read()
                .unwrap_or_else(PoisonError::into_inner);
            let (_, places) = endpoints.get(endpoint).ok_or(Refusal::Broke)?;
            Arc::clone(places)
        };
        let endpoint = endpoint.try_take().await.ok_or(Refusal::Full)?;
        let all = self.requests.try_take().await.ok_or(Refusal::Full)?;
        Ok(Admission {
            places: [endpoint, all],
            share: Share {
                room: Arc::clone(&self.room),
                taken: 0,
            },
            body_timeout: self.body_timeout,
        })
    }
}

/// Permits that a request holds while it is received and stored.
pub(super) struct Admission {
    places: [Place; 2],
    share: Share,
    body_timeout: Duration,
}

impl Admission {
    /// Reads the body.
    pub(super) async fn read(&mut self, body: Body) -> Result<Bytes, Refusal> {
        if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
            return Err(Refusal::TooLarge);
        }
        let [endpoint, all] = &self.places;
        let payload = tokio::select! {
            biased;
            read = timeout(self.body_timeout, gather(body, &mut self.share)) => {
                read.map_err(|_| Refusal::TooSlow(self.body_timeout.as_secs()))??
            }
            () = endpoint.asked() => return Err(Refusal::Full),
            () = all.asked() => return Err(Refusal::Full),
        };
        endpoint.works();
        all.works();
        Ok(payload)
    }
}

async fn gather(mut body: Body, share: &mut Share) -> Result<Bytes, Refusal> {
    // Most come in one piece, which is then not copied. A thousand small ones would each hold a piece of a larger buffer.
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
            // Twice as much, so that it is seldom moved, but never more than could come.
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

/// The part of the room for large bodies that one request has taken.
struct Share {
    room: Arc<AtomicUsize>,
    taken: usize,
}

impl Share {
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

impl Drop for Share {
    fn drop(&mut self) {
        self.room.fetch_add(self.taken, Ordering::Relaxed);
    }
}
