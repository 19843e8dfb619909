//! `/webhook_endpoints` and `/webhook_event_types`
//! ([reference](https://developers.openai.com/api/reference/resources/webhooks)).
//!
//! With `keep_old_secret_active_for_24_hours` a webhook has one signature for each active secret,
//! the newest first. OpenAI does not document the header during that time.

mod parameters;

use std::time::Duration;

use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use openai_webhooks::{EventType, Secret, UnwrapWebhookEvent, Webhooks};
use reqwest::Url;
use serde_json::{Value, json};

use crate::body::{Answer, Body};
use crate::clock::Moment;
use crate::deliveries;
use crate::error::ApiError;
use crate::http::Shared;
use crate::ids;
use crate::page::Query;
use crate::project::Project;
pub(crate) use parameters::check_url;
use parameters::{event_type, event_types, is_subscribable, is_type, name, url};

/// Most endpoints. One more is refused.
pub(crate) const COUNT_MAX: usize = 100;
/// Time for which the old secret stays active.
const OVERLAP: Duration = Duration::from_secs(24 * 60 * 60);
/// Most active secrets.
const SECRETS_MAX: usize = 8;
/// Size of a secret's key, in bytes.
const KEY_BYTES: usize = 32;
/// Default and largest limit of a list.
const LIMITS: (usize, usize) = (20, 100);

#[derive(Clone)]
pub(crate) struct Endpoint {
    id: String,
    created_at: Moment,
    updated_at: Moment,
    name: String,
    url: Url,
    /// The URL as it was given.
    url_text: String,
    event_types: Vec<String>,
    /// Whether the endpoint also gets events of types that are not in the list.
    wants_all: bool,
    secret: Secret,
    /// Earlier secrets, the newest first, with their ends.
    old_secrets: Vec<(Secret, Moment)>,
}

impl Endpoint {
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    pub(crate) fn wants(&self, kind: &str) -> bool {
        self.wants_all || self.event_types.iter().any(|wanted| wanted == kind)
    }

    /// The signer with the secrets that are active at this time.
    pub(crate) fn signer(&self, at: Moment) -> Webhooks {
        let old = self.old_secrets.iter();
        let old = old.filter_map(|(secret, end)| (*end > at).then_some(secret));
        std::iter::once(&self.secret).chain(old).cloned().collect()
    }

    pub(crate) fn show(&self) -> Value {
        let secret = self.secret.expose();
        let hint = &secret[secret.len() - 4..];
        json!({
            "id": self.id,
            "object": "webhook_endpoint",
            "created_at": self.created_at.seconds(),
            "updated_at": self.updated_at.seconds(),
            "name": self.name,
            "url": self.url_text,
            "event_types": self.event_types,
            "signing_secret_hint": format!("whsec_...{hint}"),
        })
    }

    fn show_with_secret(&self) -> Value {
        let mut shown = self.show();
        shown["signing_secret"] = json!(*self.secret.expose());
        shown
    }
}

impl Project {
    /// Adds an endpoint for these types, or for all.
    pub(crate) fn add_endpoint(
        &mut self,
        name: &str,
        (url, url_text): (Url, &str),
        event_types: Option<Vec<String>>,
        secret: Secret,
    ) -> Result<&Endpoint, ApiError> {
        if self.endpoints.oldest_first().count() >= COUNT_MAX {
            return Err(ApiError::bad_request(format!(
                "The mock keeps {COUNT_MAX} webhook endpoints: delete one first."
            )));
        }
        let id = ids::new("whe_");
        let all = || EventType::ALL.iter().map(ToString::to_string).collect();
        let endpoint = Endpoint {
            id: id.clone(),
            created_at: self.now,
            updated_at: self.now,
            name: name.into(),
            url,
            url_text: url_text.into(),
            wants_all: event_types.is_none(),
            event_types: event_types.unwrap_or_else(all),
            secret,
            old_secrets: Vec::new(),
        };
        let forgotten = self.endpoints.insert(id.clone(), 0, endpoint);
        debug_assert!(forgotten.is_empty());
        self.endpoint(&id)
    }

    pub(crate) fn endpoint(&self, id: &str) -> Result<&Endpoint, ApiError> {
        self.endpoints.get(id).ok_or_else(|| no_endpoint(id))
    }

    fn endpoint_mut(&mut self, id: &str) -> Result<&mut Endpoint, ApiError> {
        self.endpoints.get_mut(id).ok_or_else(|| no_endpoint(id))
    }
}

fn no_endpoint(id: &str) -> ApiError {
    ApiError::not_found(format!("No webhook endpoint found with id '{id}'."))
}

pub(crate) async fn create(State(engine): State<Shared>, body: Body) -> Result<Answer, ApiError> {
    let mut project = engine.project();
    let name = name(&body)?.ok_or_else(|| ApiError::missing("name"))?;
    let url = url(&body, project.settings.allow_remote)?;
    let url = url.ok_or_else(|| ApiError::missing("url"))?;
    let types = event_types(&body, is_subscribable)?;
    let types = types.ok_or_else(|| ApiError::missing("event_types"))?;
    let endpoint = project.add_endpoint(name, url, Some(types), new_secret()?)?;
    Ok(Answer(endpoint.show_with_secret()))
}

/// Creates an endpoint as the dashboard does: for any event type, or for all.
pub(crate) async fn create_in_dashboard(
    State(engine): State<Shared>,
    body: Body,
) -> Result<Answer, ApiError> {
    let mut project = engine.project();
    let name = name(&body)?.unwrap_or("dashboard");
    let url = url(&body, project.settings.allow_remote)?;
    let url = url.ok_or_else(|| ApiError::missing("url"))?;
    let types = event_types(&body, is_type)?;
    let endpoint = project.add_endpoint(name, url, types, new_secret()?)?;
    Ok(Answer(endpoint.show_with_secret()))
}

pub(crate) async fn list(
    State(engine): State<Shared>,
    RawQuery(query): RawQuery,
) -> Result<Answer, ApiError> {
    let project = engine.project();
    let endpoints = project.endpoints.oldest_first();
    let page = Query::parse(query.as_deref()).page(endpoints, LIMITS, Endpoint::show)?;
    Ok(Answer(page))
}

pub(crate) async fn retrieve(
    State(engine): State<Shared>,
    Path(id): Path<String>,
) -> Result<Answer, ApiError> {
    Ok(Answer(engine.project().endpoint(&id)?.show()))
}

pub(crate) async fn update(
    State(engine): State<Shared>,
    Path(id): Path<String>,
    body: Body,
) -> Result<Answer, ApiError> {
    let mut project = engine.project();
    let (now, allow_remote) = (project.now, project.settings.allow_remote);
    let endpoint = project.endpoint_mut(&id)?;
    let mut updated = endpoint.clone();
    if let Some(name) = name(&body)? {
        updated.name = name.into();
    }
    if let Some((url, text)) = url(&body, allow_remote)? {
        updated.url = url;
        updated.url_text = text.into();
    }
    if let Some(types) = event_types(&body, is_subscribable)? {
        updated.event_types = types;
        updated.wants_all = false;
    }
    // Without a change, `updated_at` must not move.
    if updated.show() != endpoint.show() || updated.wants_all != endpoint.wants_all {
        updated.updated_at = now;
        *endpoint = updated;
    }
    Ok(Answer(endpoint.show()))
}

pub(crate) async fn delete(
    State(engine): State<Shared>,
    Path(id): Path<String>,
) -> Result<Answer, ApiError> {
    let deleted = engine.project().endpoints.remove(&id);
    deleted.ok_or_else(|| no_endpoint(&id))?;
    Ok(Answer(
        json!({"id": id, "object": "webhook_endpoint.deleted", "deleted": true}),
    ))
}

pub(crate) async fn rotate_secret(
    State(engine): State<Shared>,
    Path(id): Path<String>,
    body: Body,
) -> Result<Answer, ApiError> {
    let keeps_old = body.flag("keep_old_secret_active_for_24_hours")?;
    let mut project = engine.project();
    let now = project.now;
    let endpoint = project.endpoint_mut(&id)?;
    let old = std::mem::replace(&mut endpoint.secret, new_secret()?);
    if keeps_old == Some(true) {
        endpoint.old_secrets.insert(0, (old, now + OVERLAP));
        endpoint.old_secrets.retain(|(_, end)| *end > now);
        endpoint.old_secrets.truncate(SECRETS_MAX - 1);
    } else {
        endpoint.old_secrets.clear();
    }
    endpoint.updated_at = now;
    Ok(Answer(endpoint.show_with_secret()))
}

/// Sends a sample once. Any answer is a success; the status says more.
pub(crate) async fn test(
    State(engine): State<Shared>,
    Path(id): Path<String>,
    body: Body,
) -> Result<Answer, ApiError> {
    let (endpoint, now) = {
        let project = engine.project();
        (project.endpoint(&id)?.clone(), project.now)
    };
    let event_type = event_type(&body)?;
    let created_at = i64::try_from(now.seconds()).unwrap_or(i64::MAX);
    let event = UnwrapWebhookEvent::sample(event_type, ids::new("evt_"), created_at);
    let answer = deliveries::send_sample(&engine, &endpoint, &event.to_json(), now).await;
    let status = answer.map_err(|problem| {
        let message = format!("The sample event could not be sent to the endpoint: {problem}.");
        let mut error = ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, message);
        error.kind = "server_error".into();
        error
    })?;
    Ok(Answer(json!({
        "object": "webhook_endpoint.test",
        "webhook_endpoint_id": id,
        "event_type": event_type.as_str(),
        "status_code": status,
        "success": true,
    })))
}

pub(crate) async fn list_event_types() -> Answer {
    let types = EventType::ALL.iter().map(|event_type| event_type.as_str());
    let types: Vec<&str> = types.filter(|kind| is_subscribable(kind)).collect();
    Answer(json!({"object": "list", "data": types}))
}

fn new_secret() -> Result<Secret, ApiError> {
    let mut key = [0; KEY_BYTES];
    let no_random = || ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "No random source.");
    getrandom::fill(&mut key).map_err(|_| no_random())?;
    Secret::from_key(key).map_err(|_| no_random())
}
