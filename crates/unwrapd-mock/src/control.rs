//! The control routes: what happens at OpenAI without a request to its API. They are below a path
//! that OpenAI does not have, and need no key.

use std::str::FromStr as _;
use std::time::Duration;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::routing::{get, post};
use openai_webhooks::{EventType, UnwrapWebhookEvent};
use serde_json::json;

use crate::agents::environments;
use crate::body::{Answer, Body};
use crate::deliveries::Delivery;
use crate::error::ApiError;
use crate::http::Shared;
use crate::ids;
use crate::page::Query;
use crate::rules::{Rule, RuleError, parse_duration};
use crate::{calls, webhook_endpoints};

/// Default and largest limit of a list.
const LIMITS: (usize, usize) = (20, 100);
/// Most by which a request advances the clock.
const ADVANCE_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// Longest type of an event, in characters.
const TYPE_MAX: usize = 128;

pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/_mock/calls", get(calls::list).post(calls::place))
        .route("/_mock/clock", get(show_clock).post(advance_clock))
        .route("/_mock/deliveries", get(list_deliveries))
        .route("/_mock/events", post(send_event))
        .route(
            "/_mock/rules",
            get(list_rules).post(add_rule).delete(clear_rules),
        )
        .route(
            "/_mock/webhook_endpoints",
            post(webhook_endpoints::create_in_dashboard),
        )
        .route(
            "/_mock/agents/environments/{id}",
            post(environments::change),
        )
}

async fn show_clock(State(engine): State<Shared>) -> Answer {
    let now = engine.project().now.seconds();
    Answer(json!({"now": now, "speed": engine.clock.speed()}))
}

async fn advance_clock(State(engine): State<Shared>, body: Body) -> Result<Answer, ApiError> {
    let by = parse_duration(body.text("advance")?);
    let by = by.filter(|by| *by <= ADVANCE_MAX).ok_or_else(|| {
        let message =
            "Invalid 'advance': expected a time such as 500ms, 2s, 10m, 2h or 3d, up to 366d.";
        ApiError::invalid("advance", message)
    })?;
    engine.clock.advance(by);
    Ok(show_clock(State(engine)).await)
}

async fn list_deliveries(
    State(engine): State<Shared>,
    RawQuery(query): RawQuery,
) -> Result<Answer, ApiError> {
    let project = engine.project();
    let deliveries = project.deliveries.oldest_first();
    let page = Query::parse(query.as_deref()).page(deliveries, LIMITS, Delivery::show)?;
    Ok(Answer(page))
}

/// Sends an event of any type: a sample of a known one, or one with the given `data`.
async fn send_event(State(engine): State<Shared>, body: Body) -> Result<Answer, ApiError> {
    let kind = body.optional_text_of("type", 1..=TYPE_MAX)?;
    let kind = kind.ok_or_else(|| ApiError::missing("type"))?;
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_');
    if !kind.bytes().all(is_name) {
        let message = "Invalid 'type': expected letters, digits, dots and underscores.";
        return Err(ApiError::invalid("type", message));
    }
    let mut project = engine.project();
    let id = if let Some(data) = body.get("data") {
        let resource = data["id"].as_str().unwrap_or_default();
        project.emit(kind, resource, &data.to_string())
    } else {
        let event_type: Option<EventType> = kind.parse().ok();
        let event_type = event_type.ok_or_else(|| {
            let message = "OpenAI has no event of this type: add its 'data'.";
            ApiError::invalid("type", message)
        })?;
        let id = ids::new("evt_");
        let created_at = i64::try_from(project.now.seconds()).unwrap_or(i64::MAX);
        let event = UnwrapWebhookEvent::sample(event_type, &*id, created_at);
        project.send_event(&id, kind, "sample", event.to_json());
        id
    };
    Ok(Answer(json!({"id": id})))
}

async fn list_rules(State(engine): State<Shared>) -> Answer {
    Answer(engine.project().rules.list())
}

async fn add_rule(State(engine): State<Shared>, body: Body) -> Result<Answer, ApiError> {
    let refused = |error: RuleError| ApiError::invalid("rule", error.to_string());
    let rule = Rule::from_str(body.text("rule")?).map_err(refused)?;
    let mut project = engine.project();
    project.rules.add(rule).map_err(refused)?;
    Ok(Answer(project.rules.list()))
}

async fn clear_rules(State(engine): State<Shared>) -> Answer {
    let mut project = engine.project();
    project.rules.clear();
    Answer(project.rules.list())
}
