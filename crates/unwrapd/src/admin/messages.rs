//! `/api/v1/messages` and `/api/v1/dead`: stored messages and dead letters.

use std::sync::Arc;

use axum::extract::{FromRef, Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;
use openai_webhooks::{Envelope, PayloadProblem, UnwrapWebhookEvent};

use super::bounds::Bounds;
use super::json::{Refusal, answer};
use super::operation::Parameter;
use super::query::{Query, parsed};
use super::route::Undescribed;
use super::siblings::Siblings;
use super::tokens::Rights;
use super::{Admin, Route, payload, replay};
use crate::api::{
    DeadLetter, DeadPage, DropDeadRequest, DropDeadResult, MessageDetail, MessageDetails,
    ReplayPlan, ReplayProgress, ReplayRequest, Sibling,
};
use crate::clock::Clock;
use crate::destinations::Registry;
use crate::store::filter::{Filter, Status, Types};
use crate::store::{MessageCount, MessagePage, MessageView, Operations, PAGE_MAX, Page};

/// Default number of messages on a page.
const PAGE_LENGTH: usize = 50;
/// Maximum number of messages that are counted. A person reads no further digit.
const COUNTED_MAX: u64 = 10_000;
/// Maximum number of values of one kind in a filter. Each id costs a lookup.
const VALUES_MAX: usize = 1_000;

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

/// The parameters of a list of messages, and of their count, so that one query does for both.
const PARAMETERS: &[Parameter] = &[
    Parameter::text("type", "pattern of event types, as in `events`").repeated(),
    Parameter::one_of(
        "status",
        "status of a delivery, or `unrouted` for messages that no destination wanted",
        &["waiting", "delivered", "dead", "dropped", "unrouted"],
    )
    .repeated(),
    Parameter::text("destination", "name of a destination").repeated(),
    Parameter::text("endpoint", "name of an endpoint").repeated(),
    Parameter::text("webhook_id", "a webhook id").repeated(),
    Parameter::text("event_id", "an event id").repeated(),
    Parameter::text("resource", "id of what an event is about").repeated(),
    Parameter::text(
        "id_part",
        "part of a webhook id, of an event id or of a resource, of 4 characters or more",
    ),
    Parameter::text("since", "arrived then or later: a time or an age"),
    Parameter::text("until", "arrived before then: a time or an age"),
    Parameter::within(
        "limit",
        "maximum number of messages on the page",
        1..=PAGE_MAX,
    ),
    Parameter::number("after", "the `next` of the previous page"),
];
/// The parameter of one message.
const PAYLOAD: &[Parameter] = &[Parameter::flag(
    "payload",
    "whether the answer has the payload; 403 if the token may not see it",
)];

pub(super) fn routes() -> Vec<Route> {
    let (read, change) = (Bounds::READ_MUCH, Bounds::CHANGE_MUCH);
    vec![
        Route::get("/api/v1/messages", read, find)
            .json::<MessagePage>(
                "list_messages",
                "Lists messages with their deliveries, the newest first.",
            )
            .parameters(PARAMETERS),
        Route::get("/api/v1/message-count", read, find_count)
            .json::<MessageCount>(
                "count_messages",
                "Counts the messages of a list, up to 10,000. `limit` and `after` have no effect.",
            )
            .parameters(PARAMETERS),
        Route::get("/api/v1/messages/{id}", read, show)
            .json::<MessageDetails>(
                "get_message",
                "Returns the messages with a webhook id, an event id or a resource.",
            )
            .parameters(PAYLOAD)
            .refuses(StatusCode::NOT_FOUND, "no stored message has this id"),
        Route::get("/api/v1/dead", read, find_dead)
            .json::<DeadPage>("list_dead", "Lists dead letters, the newest first.")
            .parameters(PARAMETERS),
        replays(
            Route::post("/api/v1/dead/replay", change, replay::replay_dead),
            "replay_dead",
            "Plans or runs a replay of dead letters.",
        ),
        Route::post("/api/v1/dead/drop", change, replay::drop_dead)
            .json::<DropDeadResult>("drop_dead", "Counts or drops dead letters.")
            .accepts::<DropDeadResult>()
            .takes::<DropDeadRequest>()
            .refuses(StatusCode::CONFLICT, "the token was used for another run"),
        replays(
            Route::post("/api/v1/replays", change, replay::replay),
            "replay",
            "Plans or runs a replay of messages.",
        ),
    ]
}

fn replays(route: Undescribed, id: &'static str, summary: &'static str) -> Route {
    route
        .json::<ReplayProgress>(id, summary)
        .or::<ReplayPlan>()
        .accepts::<ReplayProgress>()
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
    rights: Rights,
) -> Result<Response, Refusal> {
    let (filter, page) = read_query(query.as_deref())?;
    let mut page = list(&stored, &filter, page).await?;
    for message in &mut page.messages {
        payload::withhold(message, rights);
    }
    Ok(answer(&page))
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
    rights: Rights,
) -> Result<Response, Refusal> {
    let with_payload = payload::is_wanted(query.as_deref(), rights)?;
    Ok(answer(&details(&stored, &id, with_payload, rights).await?))
}

/// The messages with this webhook id, event id or resource, as far as the client may see them.
pub(super) async fn details(
    stored: &Stored,
    id: &str,
    with_payload: bool,
    rights: Rights,
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
        details.push(shown(kept, siblings, with_payload, rights));
    }
    Ok(MessageDetails { messages: details })
}

fn shown(
    mut kept: MessageView,
    siblings: Vec<Sibling>,
    with_payload: bool,
    rights: Rights,
) -> MessageDetail {
    let oddity = kept.payload.as_deref().and_then(PayloadProblem::find);
    let oddity = oddity.map(|problem| problem.to_string());
    let envelope = kept.payload.as_deref().and_then(Envelope::read);
    let event_id = envelope.and_then(|envelope| Some(envelope.event_id()?.to_owned()));
    let created_at = kept.payload.as_deref().and_then(created_at);
    payload::withhold(&mut kept, rights);
    let bytes = kept.payload.take();
    let (payload, payload_base64) = payload::text_or_base64(bytes.filter(|_| with_payload));
    MessageDetail {
        message: kept,
        event_id,
        created_at,
        oddity,
        payload,
        payload_base64,
        siblings,
    }
}

/// `created_at` of the event in a payload.
fn created_at(payload: &[u8]) -> Option<Timestamp> {
    let event: UnwrapWebhookEvent = serde_json::from_slice(payload).ok()?;
    Timestamp::from_second(event.created_at()?).ok()
}

fn read_query(query: Option<&str>) -> Result<(Filter, Page), Refusal> {
    let query = Query::of(query);
    let filter = Filter {
        types: Types::try_from(query.texts("type")).map_err(Refusal::bad)?,
        since: query.one("since", parsed)?,
        until: query.one("until", parsed)?,
        status: query.all("status", parsed)?,
        destination: query.texts("destination"),
        endpoint: query.texts("endpoint"),
        webhook_id: query.texts("webhook_id"),
        event_id: query.texts("event_id"),
        resource: query.texts("resource"),
        id_part: query.one("id_part", parsed)?,
    };
    check(&filter)?;
    let limit = query.one("limit", read_limit)?.unwrap_or(PAGE_LENGTH);
    let page = Page::new(query.one("after", read_after)?, limit);
    Ok((filter, page))
}

fn read_after(text: &str) -> Result<i64, Refusal> {
    let after = text.parse();
    after.map_err(|_| Refusal::bad("`after` must be the `next` of the previous page"))
}

fn read_limit(text: &str) -> Result<usize, Refusal> {
    let limit = text.parse().ok();
    limit
        .filter(|limit| (1..=PAGE_MAX).contains(limit))
        .ok_or_else(|| Refusal::bad(format!("`limit` must be 1 to {PAGE_MAX}")))
}

/// Checks the limits of a filter.
pub(super) fn check(filter: &Filter) -> Result<(), Refusal> {
    let lengths = [
        filter.destination.len(),
        filter.endpoint.len(),
        filter.webhook_id.len(),
        filter.event_id.len(),
        filter.resource.len(),
        filter.status.len(),
    ];
    if lengths.into_iter().all(|length| length <= VALUES_MAX) {
        return Ok(());
    }
    Err(Refusal::bad(format!(
        "at most {VALUES_MAX} ids or names are allowed in one request"
    )))
}
