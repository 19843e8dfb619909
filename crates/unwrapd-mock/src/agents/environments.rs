//! `/agents/environments`: prewarmed environments, and those of sessions
//! ([guide](https://developers.openai.com/api/docs/guides/agents-api/environments/lifecycle)).

use std::time::Duration;

use axum::extract::{Path, RawQuery, State};
use serde_json::{Value, json};

use crate::agents::Beta;
use crate::body::{Answer, Body};
use crate::error::ApiError;
use crate::http::Shared;
use crate::ids;
use crate::page::Query;
use crate::project::Project;
use crate::rules::Job;

/// Time until an environment is set up.
const SETS_UP: Duration = Duration::from_secs(5);
/// Time after which an environment without a session expires
/// ([guide](https://developers.openai.com/api/docs/guides/agents-api/environments/prewarmed)).
const UNATTACHED: Duration = Duration::from_secs(5 * 60);
/// Default and largest limit of a list.
const LIMITS: (usize, usize) = (20, 100);
/// Every status of an environment.
const STATUSES: [&str; 7] = [
    "pending",
    "ready",
    "connected",
    "disconnected",
    "suspended",
    "expired",
    "failed",
];

pub(crate) struct Environment {
    kind: &'static str,
    status: &'static str,
    /// Status after the set-up.
    result: &'static str,
    session_id: Option<String>,
}

impl Environment {
    pub(super) fn is_connected(&self) -> bool {
        self.status == "connected"
    }

    fn show(&self, id: &str) -> Value {
        json!({
            "id": id,
            "object": "agent.environment",
            "type": self.kind,
            "status": self.status,
            "files": [],
            "plugins": [],
            "skills": [],
        })
    }
}

impl Project {
    /// Adds an environment with this status, and returns its id.
    pub(super) fn add_environment(
        &mut self,
        kind: &'static str,
        status: &'static str,
        session_id: Option<&str>,
    ) -> String {
        let id = ids::new("ccarenv_");
        let environment = Environment {
            kind,
            status,
            result: status,
            session_id: session_id.map(Into::into),
        };
        let forgotten = self.environments.insert(id.clone(), 512, environment);
        self.cancel_steps(&forgotten);
        id
    }

    /// Attaches a prewarmed environment to a session.
    pub(super) fn attach(&mut self, id: &str, session_id: &str) -> Result<(), ApiError> {
        let environment = self.environments.get_mut(id);
        let environment = environment.ok_or_else(|| no_environment(id))?;
        if environment.session_id.is_some() || environment.status != "ready" {
            return Err(ApiError::invalid(
                "environment.environment_id",
                "The environment is not ready, or another session has it.",
            ));
        }
        environment.session_id = Some(session_id.into());
        self.cancel_steps(&[id.to_owned()]);
        Ok(())
    }

    /// Gives an environment a status, which may send a webhook.
    fn set_status(&mut self, id: &str, status: &'static str) {
        let Some(environment) = self.environments.get_mut(id) else {
            return;
        };
        environment.status = status;
        if matches!(status, "ready" | "failed" | "suspended" | "expired") {
            self.emit_thin(&format!("agent.environment.{status}"), id);
        }
    }
}

fn no_environment(id: &str) -> ApiError {
    ApiError::not_found(format!("No environment found with id '{id}'."))
}

pub(crate) async fn create(
    _: Beta,
    State(engine): State<Shared>,
    body: Body,
) -> Result<Answer, ApiError> {
    let kind = body
        .object("environment")?
        .one_of("type", &["openai_hosted"])?;
    let kind = kind.ok_or_else(|| ApiError::missing("environment.type"))?;
    let mut project = engine.project();
    let outcome = project.rules.outcome(Job::Environment);
    let id = project.add_environment(kind, "pending", None);
    let ready_at = project.now + outcome.takes.unwrap_or(SETS_UP);
    project.plan(ready_at, &id, step);
    let environment = project.environments.get_mut(&id);
    let environment = environment.ok_or_else(|| no_environment(&id))?;
    environment.result = outcome.result;
    Ok(Answer(environment.show(&id)))
}

fn step(project: &mut Project, id: &str) {
    let Some(environment) = project.environments.get(id) else {
        return;
    };
    if environment.status != "pending" {
        project.set_status(id, "expired");
        return;
    }
    let result = environment.result;
    project.set_status(id, result);
    if result == "ready" {
        project.plan(project.now + UNATTACHED, id, step);
    }
}

pub(crate) async fn retrieve(
    _: Beta,
    State(engine): State<Shared>,
    Path(id): Path<String>,
) -> Result<Answer, ApiError> {
    let project = engine.project();
    let environment = project.environments.get(&id);
    let environment = environment.ok_or_else(|| no_environment(&id))?;
    Ok(Answer(environment.show(&id)))
}

pub(crate) async fn list(
    _: Beta,
    State(engine): State<Shared>,
    RawQuery(query): RawQuery,
) -> Result<Answer, ApiError> {
    let project = engine.project();
    let hosted: Vec<(&str, Value)> = project
        .environments
        .oldest_first()
        .filter(|(_, environment)| environment.kind == "openai_hosted")
        .map(|(id, environment)| (id, environment.show(id)))
        .collect();
    let hosted = hosted.iter().map(|(id, shown)| (*id, shown));
    let page = Query::parse(query.as_deref()).page(hosted, LIMITS, Value::clone)?;
    Ok(Answer(page))
}

/// Changes the status of an environment, as its host would.
pub(crate) async fn change(
    State(engine): State<Shared>,
    Path(id): Path<String>,
    body: Body,
) -> Result<Answer, ApiError> {
    let status = body.one_of("status", &STATUSES)?;
    let status = status.ok_or_else(|| ApiError::missing("status"))?;
    let mut project = engine.project();
    let environment = project.environments.get(&id);
    let environment = environment.ok_or_else(|| no_environment(&id))?;
    let session_id = environment.session_id.clone();
    project.cancel_steps(std::slice::from_ref(&id));
    project.set_status(&id, status);
    if status == "connected"
        && let Some(session_id) = session_id
    {
        project.environment_is_connected(&session_id);
    }
    let environment = project.environments.get(&id);
    let environment = environment.ok_or_else(|| no_environment(&id))?;
    Ok(Answer(environment.show(&id)))
}
