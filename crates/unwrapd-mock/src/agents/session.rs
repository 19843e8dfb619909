//! `/agents/sessions`: create, list, retrieve, update and delete.

use axum::extract::{Path, RawQuery, State};
use serde_json::{Value, json};

use crate::agents::Beta;
use crate::agents::turns::Turn;
use crate::body::{Answer, Body};
use crate::error::ApiError;
use crate::http::Shared;
use crate::ids;
use crate::page::Query;
use crate::project::Project;

/// Default and largest limit of a list.
const LIMITS: (usize, usize) = (20, 100);

pub(crate) struct Session {
    /// As the API shows it.
    pub(super) shown: Value,
    pub(super) turn: Option<Turn>,
}

impl Session {
    pub(super) fn status(&self) -> &str {
        self.shown["status"].as_str().unwrap_or_default()
    }

    pub(super) fn environment_type(&self) -> &str {
        let kind = &self.shown["environment"]["type"];
        kind.as_str().unwrap_or_default()
    }

    pub(super) fn environment_id(&self) -> Option<&str> {
        self.shown["environment"]["id"].as_str()
    }

    /// The name of the first function tool.
    pub(super) fn function(&self) -> Option<&str> {
        let tools = self.shown["agent"]["tools"].as_array()?;
        let function = tools.iter().find(|tool| tool["type"] == "function")?;
        function["name"].as_str()
    }

    fn show(&self) -> Value {
        self.shown.clone()
    }

    /// The fields of `data` in its events, without the brackets.
    pub(super) fn data(&self) -> String {
        let id = self.shown["id"].as_str().unwrap_or_default();
        let kind = self.environment_type();
        let environment = self
            .environment_id()
            .map(|id| format!(r#""environment_id": "{id}", "#));
        let environment = environment.unwrap_or_default();
        format!(r#""id": "{id}", {environment}"environment_type": "{kind}""#)
    }
}

pub(crate) async fn create(
    _: Beta,
    State(engine): State<Shared>,
    body: Body,
) -> Result<Answer, ApiError> {
    if body.flag("stream")? == Some(true) {
        let message = "The mock does not stream: leave out 'stream'.";
        return Err(ApiError::invalid("stream", message));
    }
    if let Some(agent) = body.optional_text("agent_id")? {
        let message = format!("No agent found with id '{agent}'. The mock keeps no agents.");
        return Err(ApiError::not_found(message).with_param("agent_id"));
    }
    let agent = agent(&body.object("agent")?)?;
    let has_input = body.get("input").is_some();
    let metadata = body.metadata()?.unwrap_or_else(|| json!({}));
    let id = ids::new("sess_");
    let mut project = engine.project();
    let environment = environment(&mut project, &body, &id)?;
    let now = project.now.seconds();
    let session = Session {
        shown: json!({
            "id": id,
            "object": "agent.session",
            "agent": agent,
            "created_at": now,
            "last_active_at": now,
            "environment": environment,
            "error": null,
            "metadata": metadata,
            "required_actions": [],
            "status": "idle",
            "usage": null,
            "vault_ids": body.get("vault_ids").cloned().unwrap_or_else(|| json!([])),
        }),
        turn: None,
    };
    let mut data = session.data();
    if let Some(url) = environment["remote_url"].as_str() {
        data = format!(r#"{data}, "connect": {{"remote_url": "{url}"}}"#);
    }
    let forgotten = project
        .sessions
        .insert(id.clone(), body.bytes + 2048, session);
    project.cancel_steps(&forgotten);
    project.emit("agent.session.created", &id, &format!("{{{data}}}"));
    if has_input {
        project.start_turn(&id);
    }
    Ok(Answer(project.session(&id)?.show()))
}

/// The agent of a new session.
fn agent(given: &Body) -> Result<Value, ApiError> {
    let model = given.text("model")?;
    let mut agent = json!({
        "id": ids::new("agent_"),
        "instructions": null,
        "model": model,
        "multi_agent": {"enabled": false, "max_concurrent_subagents": null},
        "name": null,
        "reasoning": {"effort": null, "summary": null},
        "service_tier": "auto",
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tools": [],
    });
    change_agent(&mut agent, given);
    Ok(agent)
}

fn change_agent(agent: &mut Value, given: &Body) {
    for name in [
        "instructions",
        "model",
        "multi_agent",
        "reasoning",
        "service_tier",
        "text",
        "tools",
    ] {
        if let Some(value) = given.get(name) {
            agent[name] = value.clone();
        }
    }
}

/// The environment of a new session.
fn environment(project: &mut Project, body: &Body, session_id: &str) -> Result<Value, ApiError> {
    let given = body.object("environment")?;
    let kind = given.one_of("type", &["none", "openai_hosted", "self_hosted"])?;
    match kind {
        None => Err(ApiError::missing("environment.type")),
        Some("none") => {
            body.required("input")?;
            Ok(json!({"type": "none"}))
        }
        Some("self_hosted") => {
            let workspace = given.text("workspace_directory")?.to_owned();
            let id = project.add_environment("self_hosted", "pending", Some(session_id));
            Ok(json!({
                "type": "self_hosted",
                "id": id,
                "capability_directories": [],
                "remote_url": format!("{}/agents/api", project.base_url),
                "workspace_directory": workspace,
            }))
        }
        Some(_) => {
            let id = match given.optional_text("environment_id")? {
                Some(id) => {
                    project.attach(id, session_id)?;
                    id.to_owned()
                }
                None => project.add_environment("openai_hosted", "ready", Some(session_id)),
            };
            Ok(json!({
                "type": "openai_hosted",
                "id": id,
                "capability_directories": [],
                "files": [],
                "network": {"access": "enabled", "allowed_domains": []},
                "packages": {"npm": [], "python": [], "system": []},
                "plugins": [],
                "skills": [],
            }))
        }
    }
}

fn no_session(id: &str) -> ApiError {
    ApiError::not_found(format!("No session found with id '{id}'."))
}

impl Project {
    pub(super) fn session(&mut self, id: &str) -> Result<&mut Session, ApiError> {
        self.sessions.get_mut(id).ok_or_else(|| no_session(id))
    }
}

pub(crate) async fn list(
    _: Beta,
    State(engine): State<Shared>,
    RawQuery(query): RawQuery,
) -> Result<Answer, ApiError> {
    let query = Query::parse(query.as_deref());
    let project = engine.project();
    let agent_id = query.get("agent_id");
    let sessions = project.sessions.oldest_first().filter(|(_, session)| {
        let shown = &session.shown;
        agent_id.is_none_or(|agent| shown["agent"]["id"] == agent)
            && query
                .metadata()
                .all(|(key, value)| shown["metadata"][key] == value)
    });
    Ok(Answer(query.page(sessions, LIMITS, Session::show)?))
}

pub(crate) async fn retrieve(
    _: Beta,
    State(engine): State<Shared>,
    Path(id): Path<String>,
) -> Result<Answer, ApiError> {
    Ok(Answer(engine.project().session(&id)?.show()))
}

pub(crate) async fn update(
    _: Beta,
    State(engine): State<Shared>,
    Path(id): Path<String>,
    body: Body,
) -> Result<Answer, ApiError> {
    let mut project = engine.project();
    let session = project.session(&id)?;
    let agent = body.object("agent")?;
    agent.optional_text("model")?;
    if let Some(metadata) = body.metadata()? {
        session.shown["metadata"] = metadata;
    } else if body.has("metadata") {
        session.shown["metadata"] = json!({});
    }
    change_agent(&mut session.shown["agent"], &agent);
    let shown = session.show();
    let bytes = shown.to_string().len() + 2048;
    let forgotten = project.sessions.resize(&id, bytes);
    project.cancel_steps(&forgotten);
    Ok(Answer(shown))
}

pub(crate) async fn delete(
    _: Beta,
    State(engine): State<Shared>,
    Path(id): Path<String>,
) -> Result<Answer, ApiError> {
    let mut project = engine.project();
    if project.session(&id)?.status() == "in_progress" {
        return Err(ApiError::conflict(
            "The session is in progress: cancel its turn first.",
        ));
    }
    project.sessions.remove(&id);
    project.cancel_steps(std::slice::from_ref(&id));
    Ok(Answer(
        json!({"id": id, "object": "agent.session.deleted", "deleted": true}),
    ))
}
