//! Turns of agent sessions, and the actions that they require.
//!
//! A turn of an agent with function tools calls the first one, once. A self-hosted environment is
//! connected by a control route, since the mock runs no agent.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::agents::Beta;
use crate::body::Body;
use crate::error::ApiError;
use crate::http::Shared;
use crate::ids;
use crate::project::Project;
use crate::rules::Job;

/// Time of a turn, up to a function call and after it.
const TURN: Duration = Duration::from_secs(2);
/// The action that a session requires whose environment is not connected.
const ENVIRONMENT_CONNECTION: &str = "environment_connection";
/// Most inputs of a request.
const INPUTS_MAX: usize = 100;
/// Prefix of the type of each input.
const INPUT: &str = "agent.session.input.";

pub(super) struct Turn {
    id: String,
    has_called: bool,
    result: &'static str,
    time: Duration,
}

impl Project {
    fn set_session_status(&mut self, id: &str, status: &str, required_actions: Vec<Value>) {
        let now = self.now.seconds();
        if let Some(session) = self.sessions.get_mut(id) {
            session.shown["status"] = json!(status);
            session.shown["last_active_at"] = json!(now);
            session.shown["required_actions"] = required_actions.into();
        }
    }

    /// Sends the webhook that a session has a status.
    fn emit_session(&mut self, id: &str, status: &str) {
        if let Some(session) = self.sessions.get(id) {
            let data = format!("{{{}}}", session.data());
            self.emit(&format!("agent.session.{status}"), id, &data);
        }
    }

    /// Makes a session wait for an action, and sends the webhook of that.
    fn require_action(&mut self, id: &str, action: Value) {
        let kind = &action["type"];
        let data = format!(r#"{{"id": "{id}", "required_action": {{"type": {kind}}}}}"#);
        self.set_session_status(id, "requires_action", vec![action]);
        self.emit("agent.session.action_required", id, &data);
    }

    pub(super) fn start_turn(&mut self, id: &str) {
        let outcome = self.rules.outcome(Job::Session);
        if let Some(session) = self.sessions.get_mut(id) {
            session.turn = Some(Turn {
                id: ids::new("turn_"),
                has_called: false,
                result: outcome.result,
                time: outcome.takes.unwrap_or(TURN),
            });
            self.continue_session(id);
        }
    }

    /// Begins the turn of a session that has waited for the connection of its environment.
    pub(super) fn environment_is_connected(&mut self, id: &str) {
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        if session.shown["required_actions"][0]["type"] == ENVIRONMENT_CONNECTION {
            self.continue_session(id);
        }
    }

    /// Goes on with the turn of a session, or asks for the connection of its environment.
    fn continue_session(&mut self, id: &str) {
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        let Some(turn) = &session.turn else {
            return;
        };
        if session.environment_type() == "self_hosted"
            && let Some(environment_id) = session.environment_id()
            && let Some(environment) = self.environments.get(environment_id)
            && !environment.is_connected()
        {
            let action = json!({
                "type": ENVIRONMENT_CONNECTION,
                "environment_id": environment_id,
            });
            self.require_action(id, action);
            return;
        }
        let end = self.now + turn.time;
        // The webhook says that a turn begins.
        let begins = !turn.has_called;
        self.set_session_status(id, "in_progress", Vec::new());
        if begins {
            self.emit_session(id, "in_progress");
        }
        self.plan(end, id, step);
    }

    fn end_turn(&mut self, id: &str, status: &str) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        session.turn = None;
        if status == "failed" {
            session.shown["error"] = json!("The turn failed. A rule of the mock says so.");
        }
        self.cancel_steps(&[id.to_owned()]);
        self.set_session_status(id, status, Vec::new());
        self.emit_session(id, status);
    }
}

fn step(project: &mut Project, id: &str) {
    let Some(session) = project.sessions.get_mut(id) else {
        return;
    };
    let function = session.function().map(ToOwned::to_owned);
    let Some(turn) = &mut session.turn else {
        return;
    };
    if let Some(name) = function
        && !turn.has_called
        && turn.result == "idle"
    {
        turn.has_called = true;
        let action = json!({
            "type": "function_call",
            "call_id": ids::new("call_"),
            "turn_id": turn.id,
            "name": name,
            "arguments": {},
        });
        project.require_action(id, action);
        return;
    }
    let result = turn.result;
    project.end_turn(id, result);
}

/// Takes input: a message, a cancellation, or the result of a function call.
pub(crate) async fn input(
    _: Beta,
    State(engine): State<Shared>,
    Path(id): Path<String>,
    body: Body,
) -> Result<StatusCode, ApiError> {
    let events = body.required("events")?.as_array();
    let events = events.ok_or_else(|| ApiError::not_a("an array", "events"))?;
    if events.len() > INPUTS_MAX {
        let message = format!("Invalid 'events': the mock takes {INPUTS_MAX} in a request.");
        return Err(ApiError::invalid("events", message));
    }
    let mut project = engine.project();
    for event in events {
        let session = project.session(&id)?;
        let kind = event["type"].as_str().unwrap_or_default();
        match kind.strip_prefix(INPUT) {
            Some("message") if session.status() == "failed" => {
                return Err(ApiError::conflict("The session has failed."));
            }
            // A message during a turn joins it.
            Some("message") if session.turn.is_some() => {}
            Some("message") => project.start_turn(&id),
            Some("cancel") if session.turn.is_some() => project.end_turn(&id, "idle"),
            Some("cancel") => {}
            Some("tool_result") => {
                let fits = |action: &Value| {
                    action["call_id"].is_string()
                        && action["call_id"] == event["call_id"]
                        && action["turn_id"] == event["turn_id"]
                };
                let actions = session.shown["required_actions"].as_array();
                if !actions.is_some_and(|actions| actions.iter().any(fits)) {
                    let message = "No function call with this 'call_id' and 'turn_id' waits.";
                    return Err(ApiError::invalid("events", message));
                }
                project.continue_session(&id);
            }
            _ => {
                let message = format!(
                    "Invalid value: '{kind}'. The mock takes '{INPUT}message', '{INPUT}cancel' and \
                     '{INPUT}tool_result'."
                );
                return Err(ApiError::invalid("events", message));
            }
        }
    }
    Ok(StatusCode::ACCEPTED)
}
