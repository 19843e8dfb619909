//! The routes for the state of each destination, and for changing it.

mod view;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;
use openai_webhooks::{EventType, UnwrapWebhookEvent};
use tokio::time::{Instant, timeout};

use super::bounds::Bounds;
use super::json::{Refusal, answer, read_or_default};
use super::{Admin, Route};
use crate::api::{
    DestinationList, DestinationView, PauseResult, TestOutcome, TestRequest, TestResult,
};
use crate::clock::milliseconds;
use crate::delivery::{Delivery, Outcome};
use crate::destinations::Configured;
use crate::message::{Message, Origin};
use crate::observe::refusals::shown;
use crate::route::nearest_type;
use crate::store::{DestinationCounts, Failures, StoreError};
use view::{configured, view};

/// Reason for 404 in the OpenAPI document.
const NOT_CONFIGURED: &str = "the destination is not configured here";

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/api/v1/destinations", Bounds::READ_MUCH, list).json::<DestinationList>(
            "list_destinations",
            "Lists the destinations, with their state and their counts.",
        ),
        Route::get(
            "/api/v1/destinations/{name}/failures",
            Bounds::READ_MUCH,
            show_failures,
        )
        .json::<Failures>(
            "list_failures",
            "Groups the failed deliveries of a destination by the answer of their latest attempt.",
        )
        .refuses(
            StatusCode::NOT_FOUND,
            "the destination is not configured here, and has no failed delivery",
        ),
        Route::post(
            "/api/v1/destinations/{name}/pause",
            Bounds::CHANGE_WITHOUT_BODY,
            pause,
        )
        .json::<PauseResult>("pause", "Pauses a destination.")
        .refuses(StatusCode::NOT_FOUND, NOT_CONFIGURED),
        Route::post(
            "/api/v1/destinations/{name}/resume",
            Bounds::CHANGE_WITHOUT_BODY,
            resume,
        )
        .json::<PauseResult>("resume", "Resumes a destination.")
        .refuses(StatusCode::NOT_FOUND, NOT_CONFIGURED),
        Route::post("/api/v1/destinations/{name}/test", Bounds::SEND, test)
            .json::<TestResult>("test", "Sends one sample event to a destination.")
            .may_take::<TestRequest>()
            .refuses(StatusCode::NOT_FOUND, NOT_CONFIGURED),
    ]
}

async fn list(State(admin): State<Admin>) -> Result<Response, Refusal> {
    Ok(answer(&all(&admin).await?))
}

/// All destinations: the configured ones, and others with deliveries or a pause in the store.
pub(super) async fn all(admin: &Admin) -> Result<DestinationList, Refusal> {
    let handles = admin.registry.all().into_iter();
    let handles: Vec<_> = handles
        .filter_map(|handle| Some((handle.configured()?, handle)))
        .collect();
    let names: Vec<String> = handles
        .iter()
        .map(|(_, handle)| handle.name().to_owned())
        .collect();
    let (paused, counts, histories) = tokio::try_join!(
        admin.store.paused(),
        counts(admin),
        admin.store.attempt_histories(&names),
    )?;
    let mut paused: BTreeMap<String, Timestamp> = paused.into_iter().collect();
    let mut destination_counts: BTreeMap<String, DestinationCounts> = counts
        .into_iter()
        .map(|standing| (standing.destination.clone(), standing))
        .collect();
    let mut destinations: Vec<DestinationView> = Vec::new();
    for ((target, handle), history) in handles.into_iter().zip(histories) {
        let name = handle.name().to_owned();
        let standing = destination_counts.remove(&name).unwrap_or_default();
        let paused_since = paused.remove(&name);
        let configured = configured(&target, handle.state(), &history);
        destinations.push(view(name, Some(configured), paused_since, &standing));
    }
    for (name, standing) in destination_counts {
        let paused_since = paused.remove(&name);
        destinations.push(view(name, None, paused_since, &standing));
    }
    for (name, paused_since) in paused {
        destinations.push(view(
            name,
            None,
            Some(paused_since),
            &DestinationCounts::default(),
        ));
    }
    Ok(DestinationList { destinations })
}

async fn show_failures(
    State(admin): State<Admin>,
    Path(name): Path<String>,
) -> Result<Response, Refusal> {
    Ok(answer(&failures(&admin, &name).await?))
}

/// The deliveries of each destination, from a count that several requests share.
pub(super) async fn counts(admin: &Admin) -> Result<Vec<DestinationCounts>, StoreError> {
    let store = Arc::clone(&admin.store);
    let count = async move { store.destination_counts().await };
    admin.counts.get(count).await
}

/// The failed deliveries to a destination, by cause. A destination that is not configured may have
/// some too.
pub(super) async fn failures(admin: &Admin, name: &str) -> Result<Failures, Refusal> {
    let failures = admin.store.failures(name).await?;
    if failures.causes.is_empty() {
        target(admin, name)?;
    }
    Ok(failures)
}

async fn pause(State(admin): State<Admin>, Path(name): Path<String>) -> Result<Response, Refusal> {
    Ok(answer(&switch(admin, name, true).await?))
}

async fn resume(State(admin): State<Admin>, Path(name): Path<String>) -> Result<Response, Refusal> {
    Ok(answer(&switch(admin, name, false).await?))
}

/// Pauses or resumes a destination. The change is durable before the answer.
pub(super) async fn switch(
    admin: Admin,
    name: String,
    is_paused: bool,
) -> Result<PauseResult, Refusal> {
    // A pause outlives its destination, and must be removable without it.
    if is_paused || !is_paused_in(&admin, &name).await? {
        target(&admin, &name)?;
    }
    let done = PauseResult {
        name: name.clone(),
        paused: is_paused,
    };
    // A task of its own makes the change: once durable, it must take effect even if the operator
    // disconnects.
    let switched = tokio::spawn(async move {
        let _one_at_a_time = admin.registry.hold_pauses().await;
        if is_paused {
            admin.store.pause(&name, admin.clock.now()).await?;
        } else {
            admin.store.resume(&name).await?;
        }
        admin.registry.of(&name).switch(is_paused, false);
        Ok::<_, StoreError>(())
    });
    let broke_off = |_| StoreError::Unavailable("an internal error occurred; try again".into());
    switched.await.map_err(broke_off)??;
    Ok(done)
}

async fn is_paused_in(admin: &Admin, name: &str) -> Result<bool, StoreError> {
    let paused = admin.store.paused().await?;
    Ok(paused.iter().any(|(paused, _)| paused == name))
}

fn target(admin: &Admin, name: &str) -> Result<Configured, Refusal> {
    let handle = admin.registry.get(name);
    handle
        .and_then(|handle| handle.configured())
        .ok_or_else(|| {
            Refusal::new(
                StatusCode::NOT_FOUND,
                format!(
                    "there is no destination `{}`; `unwrapd destinations ls` lists them",
                    shown(name)
                ),
            )
        })
}

async fn test(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Refusal> {
    let wanted: TestRequest = read_or_default(request).await?;
    Ok(answer(&send_sample(&admin, name, wanted).await?))
}

/// Sends one sample to the destination, whatever its state, and stores nothing.
pub(super) async fn send_sample(
    admin: &Admin,
    name: String,
    wanted: TestRequest,
) -> Result<TestResult, Refusal> {
    let target = target(admin, &name)?;
    let event_type = match wanted.event_type {
        None => EventType::ResponseCompleted,
        Some(text) => text.parse().map_err(|_| {
            Refusal::bad(format!(
                "there is no event type `{}`; did you mean `{}`? (`unwrapd trigger --list` lists all)",
                shown(&text),
                nearest_type(&text)
            ))
        })?,
    };
    let delivery = sample(name, event_type, admin.clock.now());
    let begun_at = Instant::now();
    let outcome = match timeout(target.timeout, target.destination.send(&delivery, None)).await {
        Ok(outcome) => outcome,
        Err(_) => Outcome::failed("no answer in time"),
    };
    let result = match outcome {
        Outcome::Delivered { .. } => TestOutcome::Delivered,
        Outcome::Failed { .. } => TestOutcome::Failed,
        Outcome::Refused { .. } => TestOutcome::Refused,
    };
    Ok(TestResult {
        outcome: result,
        answer: outcome.answer().to_owned(),
        took_ms: milliseconds(begun_at.elapsed()),
        webhook_id: delivery.message.webhook_id,
        event_type: event_type.as_str().to_owned(),
    })
}

fn sample(destination: String, event_type: EventType, now: Timestamp) -> Delivery {
    let id = uuid::Uuid::now_v7().simple();
    let event = UnwrapWebhookEvent::sample(event_type, format!("evt_test_{id}"), now.as_second());
    let message = Message {
        origin: Origin::Gateway,
        endpoint: "test".into(),
        webhook_id: format!("wh_test_{id}"),
        event_type: Some(event_type.as_str().to_owned()),
        sent_at: now,
        received_at: now,
        secret: None,
        payload: event.to_json().into(),
    };
    Delivery::unstored(destination, message)
}
