//! `/api/v1/quarantine`: what could not be proven, to look at, prove again, or drop.

use axum::Router;
use axum::extract::{RawQuery, Request, State};
use axum::response::Response;
use axum::routing::{get, post};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Admin;
use super::ask::{Refusal, answer, read};
use crate::store::Suspect;

/// Requests on a page.
const PAGE: usize = 100;

pub(super) fn router() -> Router<Admin> {
    Router::new()
        .route("/api/v1/quarantine", get(list))
        .route("/api/v1/quarantine/retry", post(retry))
        .route("/api/v1/quarantine/drop", post(discard))
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

impl From<Suspect> for ShownSuspect {
    fn from(suspect: Suspect) -> Self {
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
            has_body: suspect.body.is_some(),
        }
    }
}

/// Which requests: `{"id": NUMBER}` or `{"all": true}`. Nothing at all is a slip, and means none.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    #[serde(default)]
    id: Option<i64>,
    #[serde(default)]
    all: bool,
}

impl Which {
    /// The one that is meant; `None`: all.
    fn chosen(&self) -> Result<Option<i64>, Refusal> {
        if self.id.is_some() == self.all {
            return Err(Refusal::bad(
                "say which: `{\"id\": NUMBER}`, or `{\"all\": true}` for all of them",
            ));
        }
        Ok(self.id)
    }
}

async fn list(State(admin): State<Admin>, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    let after = match query.as_deref().unwrap_or_default() {
        "" => 0,
        query => query
            .strip_prefix("after=")
            .and_then(|after| after.parse().ok())
            .ok_or_else(|| Refusal::bad("all that can be asked here is `after=NUMBER`"))?,
    };
    let suspects = admin.store.suspects(after, PAGE).await?;
    let next = suspects
        .last()
        .filter(|_| suspects.len() == PAGE)
        .map(|suspect| suspect.id);
    Ok(answer(&Suspects {
        suspects: suspects.into_iter().map(ShownSuspect::from).collect(),
        next,
    }))
}

async fn retry(State(admin): State<Admin>, request: Request) -> Result<Response, Refusal> {
    let which: Which = read(request).await?;
    Ok(answer(&admin.quarantine.retry(which.chosen()?).await?))
}

/// How many were dropped.
#[derive(Serialize, Deserialize)]
pub(crate) struct DroppedSuspects {
    pub(crate) dropped: u64,
}

async fn discard(State(admin): State<Admin>, request: Request) -> Result<Response, Refusal> {
    let which: Which = read(request).await?;
    let dropped = admin.store.discard(which.chosen()?).await?;
    Ok(answer(&DroppedSuspects { dropped }))
}
