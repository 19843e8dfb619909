//! Incoming calls, and their control by the Realtime API
//! ([guide](https://developers.openai.com/api/docs/guides/realtime-sip)) and the Live API
//! ([guide](https://developers.openai.com/api/docs/guides/voice-sip)).
//!
//! One call may send a webhook for each API, with ids of their own. The first accept decides.

mod place;

use std::time::Duration;

use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::body::{Answer, Body};
use crate::clock::Moment;
use crate::error::ApiError;
use crate::http::Shared;
use crate::page::Query;
use crate::project::Project;
use crate::rules::Job;
pub(crate) use place::place;

const REALTIME: &str = "rtc_u0_";
const LIVE: &str = "live_u0_";
/// Time after which a call ends whose session was malformed.
const FAILS_AFTER: Duration = Duration::from_secs(1);
/// Largest request to accept a call whose session is stored, in bytes.
const SESSION_BYTES_MAX: usize = 16 * 1024;
/// Longest target of a transfer, in characters.
const TARGET_MAX: usize = 2048;
/// Default and largest limit of a list.
const LIMITS: (usize, usize) = (20, 100);

pub(crate) struct Call {
    /// The ids of the call after their prefixes.
    token: String,
    created_at: Moment,
    state: CallState,
    /// The API that accepted or rejected the call.
    decided_by: Option<&'static str>,
    /// The session with which the call was accepted.
    session: Option<Value>,
    sip_status: Option<u64>,
    target_uri: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CallState {
    Ringing,
    Accepted,
    Rejected,
    Referred,
    HungUp,
    /// The caller gave up.
    Missed,
    /// The call ended because its session was malformed.
    Failed,
}

impl Call {
    fn show(&self) -> Value {
        json!({
            "call_id": format!("{REALTIME}{}", self.token),
            "session_id": format!("{LIVE}{}", self.token),
            "created_at": self.created_at.seconds(),
            "state": match self.state {
                CallState::Ringing => "ringing",
                CallState::Accepted => "accepted",
                CallState::Rejected => "rejected",
                CallState::Referred => "referred",
                CallState::HungUp => "hung_up",
                CallState::Missed => "missed",
                CallState::Failed => "failed",
            },
            "decided_by": self.decided_by,
            "session": self.session,
            "sip_status": self.sip_status,
            "target_uri": self.target_uri,
        })
    }
}

fn step(project: &mut Project, token: &str) {
    if let Some(call) = project.calls.get_mut(token) {
        call.state = match call.state {
            CallState::Ringing => CallState::Missed,
            _ => CallState::Failed,
        };
    }
}

pub(crate) async fn list(
    State(engine): State<Shared>,
    RawQuery(query): RawQuery,
) -> Result<Answer, ApiError> {
    let project = engine.project();
    let calls = project.calls.oldest_first();
    let page = Query::parse(query.as_deref()).page(calls, LIMITS, Call::show)?;
    Ok(Answer(page))
}

pub(crate) async fn control_realtime(
    State(engine): State<Shared>,
    Path((id, action)): Path<(String, String)>,
    body: Body,
) -> Result<StatusCode, ApiError> {
    let mut project = engine.project();
    match &*action {
        "accept" => {
            // OpenAI answers 200 to a malformed session too, and the call fails later.
            let is_valid = body.get("type") == Some(&json!("realtime"))
                && body.get("model").is_some_and(Value::is_string);
            let session = (body.bytes <= SESSION_BYTES_MAX).then(|| body.value());
            project.accept(&id, REALTIME, session, is_valid)
        }
        "reject" => {
            let status = body.integer("status_code")?.unwrap_or(603);
            project.reject(&id, REALTIME, status)
        }
        "refer" => project.refer(&id, REALTIME, target(&body)?),
        "hangup" => project.hang_up(&id, REALTIME),
        _ => Err(unknown_action(&action)),
    }
}

pub(crate) async fn control_live(
    State(engine): State<Shared>,
    Path((id, action)): Path<(String, String)>,
    body: Body,
) -> Result<StatusCode, ApiError> {
    let mut project = engine.project();
    match &*action {
        "accept" => {
            let session = body.object("session")?;
            body.required("session")?;
            session
                .one_of("type", &["live"])
                .and_then(|kind| kind.ok_or_else(|| ApiError::missing("type")))
                .and_then(|_| session.text("model").map(drop))
                .map_err(|error| {
                    let param = error.param.as_deref().unwrap_or_default();
                    let param = format!("session.{param}");
                    error.with_param(&param)
                })?;
            if session.object("audio")?.get("format").is_some() {
                let message = "SIP negotiates the format: leave out 'session.audio.format'.";
                return Err(ApiError::invalid("session.audio.format", message));
            }
            let session = (body.bytes <= SESSION_BYTES_MAX).then(|| session.value());
            project.accept(&id, LIVE, session, true)
        }
        "reject" => {
            let status = body.integer("status_code")?;
            let status = status.ok_or_else(|| ApiError::missing("status_code"))?;
            if !(300..700).contains(&status) {
                let message = "Invalid 'status_code': expected an integer from 300 to 699.";
                return Err(ApiError::invalid("status_code", message));
            }
            project.reject(&id, LIVE, status)
        }
        "refer" => {
            let target = target(&body)?;
            if target.trim().is_empty() {
                let message = "Invalid 'target_uri': expected a URI.";
                return Err(ApiError::invalid("target_uri", message));
            }
            project.refer(&id, LIVE, target)
        }
        "hangup" => project.hang_up(&id, LIVE),
        _ => Err(unknown_action(&action)),
    }
}

/// The target of a transfer.
fn target(body: &Body) -> Result<&str, ApiError> {
    let target = body.optional_text_of("target_uri", 1..=TARGET_MAX)?;
    target.ok_or_else(|| ApiError::missing("target_uri"))
}

fn unknown_action(action: &str) -> ApiError {
    ApiError::not_found(format!(
        "Invalid URL: a call has accept, reject, refer and hangup, not {action}."
    ))
}

fn no_call() -> ApiError {
    let error = ApiError::not_found("No session found for the provided call_id.");
    error.with_code("call_id_not_found")
}

impl Project {
    fn call(&mut self, id: &str, prefix: &str) -> Result<&mut Call, ApiError> {
        let token = id.strip_prefix(prefix).ok_or_else(no_call)?;
        self.calls.get_mut(token).ok_or_else(no_call)
    }

    /// A call that waits for a decision.
    fn ringing(&mut self, id: &str, prefix: &str) -> Result<&mut Call, ApiError> {
        let call = self.call(id, prefix)?;
        match call.state {
            CallState::Ringing => Ok(call),
            CallState::Accepted => Err(ApiError::conflict(
                "The call can no longer accept this operation.",
            )),
            _ => Err(no_call()),
        }
    }

    /// A call that was accepted and goes on.
    fn active(&mut self, id: &str, prefix: &str) -> Result<&mut Call, ApiError> {
        let call = self.call(id, prefix)?;
        if call.state == CallState::Accepted {
            Ok(call)
        } else {
            Err(no_call())
        }
    }

    fn accept(
        &mut self,
        id: &str,
        prefix: &'static str,
        session: Option<Value>,
        is_valid: bool,
    ) -> Result<StatusCode, ApiError> {
        let fails_at = self.now + FAILS_AFTER;
        let call = self.ringing(id, prefix)?;
        call.state = CallState::Accepted;
        call.decided_by = Some(api(prefix));
        call.session = session;
        let token = call.token.clone();
        self.cancel_steps(std::slice::from_ref(&token));
        if !is_valid {
            self.plan(fails_at, &token, step);
        }
        Ok(StatusCode::OK)
    }

    fn reject(
        &mut self,
        id: &str,
        prefix: &'static str,
        status: u64,
    ) -> Result<StatusCode, ApiError> {
        let call = self.ringing(id, prefix)?;
        call.state = CallState::Rejected;
        call.decided_by = Some(api(prefix));
        call.sip_status = Some(status);
        let token = call.token.clone();
        self.cancel_steps(&[token]);
        Ok(StatusCode::OK)
    }

    fn refer(&mut self, id: &str, prefix: &str, target: &str) -> Result<StatusCode, ApiError> {
        self.active(id, prefix)?;
        let is_ignored = self.rules.outcome(Job::Refer).result == "ignored";
        let call = self.active(id, prefix)?;
        call.target_uri = Some(target.into());
        if !is_ignored {
            call.state = CallState::Referred;
        }
        Ok(StatusCode::OK)
    }

    fn hang_up(&mut self, id: &str, prefix: &str) -> Result<StatusCode, ApiError> {
        self.active(id, prefix)?.state = CallState::HungUp;
        Ok(StatusCode::OK)
    }
}

/// The API whose ids have this prefix.
fn api(prefix: &str) -> &'static str {
    if prefix == LIVE { "live" } else { "realtime" }
}
