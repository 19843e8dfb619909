//! `/api/v1/quarantine`: what could not be proven, to look at, prove again, or drop.

use std::ops::RangeInclusive;

use axum::extract::{Path, RawQuery, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ask::{Refusal, answer, read};
use super::bounds::Bounds;
use super::{Admin, Route};
use crate::store::{Suspect, SuspectSummary};

/// Most requests on a page.
const PAGE_MAX: usize = 100;

pub(super) fn routes() -> Vec<Route> {
    let (much, change) = (Bounds::READ_MUCH, Bounds::CHANGE_MUCH);
    vec![
        Route::get("/api/v1/quarantine", much, list),
        Route::get("/api/v1/quarantine/{id}", much, show),
        Route::post("/api/v1/quarantine/retry", change, retry),
        Route::post("/api/v1/quarantine/drop", change, discard),
    ]
}

/// A page of the quarantine.
#[derive(Serialize, Deserialize)]
pub(crate) struct Suspects {
    /// In the order of their arrival.
    pub(crate) suspects: Vec<ShownSuspect>,
    /// Where the next page begins; `None`: there is none.
    pub(crate) next: Option<i64>,
}

/// A request that could not be proven, as it is shown. What its sender wrote is hostile text.
#[derive(Serialize, Deserialize)]
pub(crate) struct ShownSuspect {
    pub(crate) id: i64,
    pub(crate) endpoint: String,
    pub(crate) received_at: Timestamp,
    pub(crate) reason: String,
    pub(crate) webhook_id: Option<String>,
    /// Size of its body in bytes, where that is known.
    pub(crate) size: Option<u64>,
    /// Whether its body is kept, so that it can be proven.
    pub(crate) has_body: bool,
}

impl From<SuspectSummary> for ShownSuspect {
    fn from(suspect: SuspectSummary) -> Self {
        let webhook_id = suspect
            .headers
            .iter()
            .find(|(name, _)| name == openai_webhooks::WEBHOOK_ID);
        Self {
            id: suspect.id,
            webhook_id: webhook_id.map(|(_, value)| value.clone()),
            endpoint: suspect.endpoint,
            received_at: suspect.received_at,
            reason: suspect.reason,
            size: suspect.size,
            has_body: suspect.has_body,
        }
    }
}

/// One request with what is kept of it. All of it is hostile text.
#[derive(Serialize)]
struct WholeSuspect {
    id: i64,
    endpoint: String,
    received_at: Timestamp,
    reason: String,
    headers: Vec<(String, String)>,
    size: Option<u64>,
    has_body: bool,
    /// The body, if it was requested and is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
    /// The body, if it was requested and is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
}

/// Which requests: one by its number, or, said in so many words, all, or all up to a number.
#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Which {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<i64>,
    pub(crate) all: bool,
    /// From a list: what has arrived since is left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) up_to: Option<i64>,
}

impl Which {
    /// The numbers of the requests.
    fn numbers(&self) -> Result<RangeInclusive<i64>, Refusal> {
        match (self.id, self.all, self.up_to) {
            (Some(id @ 1..), false, None) => Ok(id..=id),
            (None, true, None) => Ok(1..=i64::MAX),
            (None, true, Some(newest @ 1..)) => Ok(1..=newest),
            _ => Err(Refusal::bad(
                "name one request with `id`, a number of 1 or more, or all with `all: true`, and `up_to` with the number of the newest if not all",
            )),
        }
    }
}

async fn list(State(admin): State<Admin>, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    let (mut after, mut limit) = (0, PAGE_MAX);
    for (key, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        match (&*key, value.parse::<i64>()) {
            ("after", Ok(number)) => after = number,
            ("limit", Ok(number)) => {
                limit = usize::try_from(number)
                    .ok()
                    .filter(|limit| (1..=PAGE_MAX).contains(limit))
                    .ok_or_else(|| Refusal::bad(format!("`limit` must be 1 to {PAGE_MAX}")))?;
            }
            _ => {
                return Err(Refusal::bad(
                    "this path takes only the parameters `after=NUMBER` and `limit=NUMBER`",
                ));
            }
        }
    }
    let suspects = admin.store.list_suspects(after, limit).await?;
    let next = suspects
        .last()
        .filter(|_| suspects.len() == limit)
        .map(|suspect| suspect.id);
    Ok(answer(&Suspects {
        suspects: suspects.into_iter().map(ShownSuspect::from).collect(),
        next,
    }))
}

async fn show(
    State(admin): State<Admin>,
    Path(id): Path<i64>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let with_payload = match query.as_deref().unwrap_or_default() {
        "" | "payload=false" => false,
        "payload=true" => true,
        _ => {
            return Err(Refusal::bad(
                "this path takes only the parameter `payload=true`",
            ));
        }
    };
    let found = admin.store.suspects(id.saturating_sub(1), 1).await?;
    let Some(suspect) = found.into_iter().find(|suspect| suspect.id == id) else {
        return Err(Refusal::new(
            StatusCode::NOT_FOUND,
            "no request with this number is in the quarantine",
        ));
    };
    Ok(answer(&whole(suspect, with_payload)))
}

fn whole(suspect: Suspect, with_payload: bool) -> WholeSuspect {
    let has_body = suspect.body.is_some();
    let body = suspect.body.filter(|_| with_payload);
    let (payload, payload_base64) = match body.map(|body| String::from_utf8(body.into())) {
        Some(Ok(text)) => (Some(text), None),
        Some(Err(error)) => (None, Some(STANDARD.encode(error.into_bytes()))),
        None => (None, None),
    };
    WholeSuspect {
        id: suspect.id,
        endpoint: suspect.endpoint,
        received_at: suspect.received_at,
        reason: suspect.reason,
        headers: suspect.headers,
        size: suspect.size,
        has_body,
        payload,
        payload_base64,
    }
}

async fn retry(State(admin): State<Admin>, request: Request) -> Result<Response, Refusal> {
    let which: Which = read(request).await?;
    which.numbers()?;
    if which.up_to.is_some() {
        return Err(Refusal::bad("`up_to` is for `drop`"));
    }
    Ok(answer(&admin.quarantine.retry(which.id).await?))
}

/// How many were dropped.
#[derive(Serialize, Deserialize)]
pub(crate) struct DroppedSuspects {
    pub(crate) dropped: u64,
}

async fn discard(State(admin): State<Admin>, request: Request) -> Result<Response, Refusal> {
    let numbers = read::<Which>(request).await?.numbers()?;
    let dropped = admin.store.discard(numbers).await?;
    Ok(answer(&DroppedSuspects { dropped }))
}
