//! `/api/v1/messages` and `/api/v1/dead`: stored messages and dead letters.

mod query;

use std::sync::Arc;

use axum::extract::{FromRef, Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use openai_webhooks::PayloadProblem;

use super::bounds::Bounds;
use super::json::{Refusal, answer};
use super::operation::{Operation, Parameter};
use super::siblings::Siblings;
use super::{Admin, Route, payload, replay};
use crate::api::{
    DeadLetter, DeadPage, DropDeadRequest, DropDeadResult, MessageDetail, MessageDetails,
    ReplayPlan, ReplayProgress, ReplayRequest, Sibling,
};
use crate::clock::Clock;
use crate::destinations::Registry;
use crate::store::filter::{Filter, Status};
use crate::store::{MessageCount, MessagePage, MessageView, Operations, Page};
pub(super) use query::check;
use query::{PARAMETERS, read_query};

/// Maximum number of messages that are counted. A person reads no further digit.
const COUNTED_MAX: u64 = 10_000;

/// State of these routes.
#[derive(Clone)]
pub(super) struct Stored {
    pub(super) store: Arc<dyn Operations>,
    pub(super) registry: Registry,
    pub(super) clock: Clock,
}

impl FromRef<Admin> for Stored {
    fn from_ref(admin: &Admin) -> Self {
        Self {
            store: Arc::clone(&admin.store) as _,
            registry: admin.registry.clone(),
            clock: admin.clock.clone(),
        }
    }
}

/// The parameter of one message.
const PAYLOAD: &[Parameter] = &[Parameter::flag(
    "payload",
    "whether the answer has the payload",
)];

pub(super) fn routes() -> Vec<Route> {
    let (read, change) = (Bounds::READ_MUCH, Bounds::CHANGE_MUCH);
    vec![
        Route::get(
            "/api/v1/messages",
            read,
            find,
            Operation::json::<MessagePage>(
                "list_messages",
                "Lists messages with their deliveries, the newest first.",
            )
            .parameters(PARAMETERS),
        ),
        Route::get(
            "/api/v1/messages/count",
            read,
            find_count,
            Operation::json::<MessageCount>(
                "count_messages",
                "Counts the messages of a list, up to 10,000. `limit` and `after` have no effect.",
            )
            .parameters(PARAMETERS),
        ),
        Route::get(
            "/api/v1/messages/{id}",
            read,
            show,
            Operation::json::<MessageDetails>(
                "get_message",
                "Returns the messages with a webhook id, an event id or a resource.",
            )
            .parameters(PAYLOAD)
            .refuses(StatusCode::NOT_FOUND, "no stored message has this id"),
        ),
        Route::get(
            "/api/v1/dead",
            read,
            find_dead,
            Operation::json::<DeadPage>("list_dead", "Lists dead letters, the newest first.")
                .parameters(PARAMETERS),
        ),
        Route::post(
            "/api/v1/dead/replay",
            change,
            replay::replay_dead,
            replays("replay_dead", "Plans or runs a replay of dead letters."),
        ),
        Route::post(
            "/api/v1/dead/drop",
            change,
            replay::drop_dead,
            Operation::json::<DropDeadResult>("drop_dead", "Counts or drops dead letters.")
                .takes::<DropDeadRequest>(),
        ),
        Route::post(
            "/api/v1/replays",
            change,
            replay::replay,
            replays("replay", "Plans or runs a replay of messages."),
        ),
    ]
}

fn replays(id: &'static str, summary: &'static str) -> Operation {
    Operation::json::<ReplayProgress>(id, summary)
        .or::<ReplayPlan>()
        .takes::<ReplayRequest>()
        .refuses(
            StatusCode::CONFLICT,
            "the token was used for another replay",
        )
        .refuses(
            StatusCode::UNPROCESSABLE_ENTITY,
            "`to` names no configured destination",
        )
}

async fn find(
    State(stored): State<Stored>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let (filter, page) = read_query(query.as_deref())?;
    Ok(answer(&list(&stored, &filter, page).await?))
}

/// A page of the messages that match the filter.
pub(super) async fn list(
    stored: &Stored,
    filter: &Filter,
    page: Page,
) -> Result<MessagePage, Refusal> {
    let now = stored.clock.now();
    Ok(stored.store.list_messages(filter, now, page).await?)
}

async fn find_count(
    State(stored): State<Stored>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let (filter, _) = read_query(query.as_deref())?;
    Ok(answer(&count(&stored, &filter).await?))
}

/// The number of messages that match the filter, up to [`COUNTED_MAX`].
pub(super) async fn count(stored: &Stored, filter: &Filter) -> Result<MessageCount, Refusal> {
    let now = stored.clock.now();
    let counted = stored.store.count_messages(filter, now, COUNTED_MAX);
    Ok(counted.await?)
}

async fn find_dead(
    State(Stored { store, clock, .. }): State<Stored>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let (mut filter, page) = read_query(query.as_deref())?;
    only_dead(&mut filter)?;
    let MessagePage { messages, next } = store.list_messages(&filter, clock.now(), page).await?;
    let letters = messages.into_iter().flat_map(letters).collect();
    Ok(answer(&DeadPage { letters, next }))
}

fn letters(message: MessageView) -> impl Iterator<Item = DeadLetter> {
    let deliveries = message.deliveries.into_iter();
    deliveries.map(move |delivery| DeadLetter {
        webhook_id: message.webhook_id.clone(),
        endpoint: message.endpoint.clone(),
        event_type: message.event_type.clone(),
        resource: message.resource.clone(),
        received_at: message.received_at,
        destination: delivery.destination,
        status: delivery.status,
        at: delivery.at,
        attempts: delivery.attempts,
        answer: delivery
            .latest
            .into_iter()
            .next_back()
            .map(|attempt| attempt.answer),
    })
}

/// Restricts a filter to dead letters.
pub(super) fn only_dead(filter: &mut Filter) -> Result<(), Refusal> {
    if filter.status.is_empty() {
        filter.status = vec![Status::Dead];
    }
    let is_dead = |status: &Status| matches!(status, Status::Dead | Status::Dropped);
    if filter.status.iter().all(is_dead) {
        return Ok(());
    }
    Err(Refusal::bad(
        "for dead letters a status must be `dead` or `dropped`",
    ))
}

async fn show(
    State(stored): State<Stored>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let with_payload = payload::is_wanted(query.as_deref())?;
    Ok(answer(&details(&stored, &id, with_payload).await?))
}

/// The messages with this webhook id, event id or resource.
pub(super) async fn details(
    stored: &Stored,
    id: &str,
    with_payload: bool,
) -> Result<MessageDetails, Refusal> {
    let messages = stored.store.get_message(id, true).await?;
    if messages.is_empty() {
        return Err(Refusal::new(
            StatusCode::NOT_FOUND,
            "no stored message has this webhook id, event id or resource",
        ));
    }
    let mut siblings = Siblings::default();
    let mut details = Vec::with_capacity(messages.len());
    for kept in messages {
        let siblings = siblings.of(stored, &kept).await?;
        details.push(shown(kept, siblings, with_payload));
    }
    Ok(MessageDetails { messages: details })
}

fn shown(mut kept: MessageView, siblings: Vec<Sibling>, with_payload: bool) -> MessageDetail {
    let bytes = kept.payload.take();
    let oddity = bytes.as_deref().and_then(PayloadProblem::find);
    let oddity = oddity.map(|problem| problem.to_string());
    let (payload, payload_base64) = payload::text_or_base64(bytes.filter(|_| with_payload));
    MessageDetail {
        message: kept,
        oddity,
        payload,
        payload_base64,
        siblings,
    }
}
