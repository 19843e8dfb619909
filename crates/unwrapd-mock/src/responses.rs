//! `/responses`: background responses, and immediate ones
//! ([guide](https://developers.openai.com/api/docs/guides/background)).

use std::time::Duration;

use axum::extract::{Path, RawQuery, State};
use serde_json::{Value, json};

use crate::body::{Answer, Body};
use crate::clock::Moment;
use crate::error::ApiError;
use crate::http::Shared;
use crate::ids;
use crate::page::Query;
use crate::project::Project;
use crate::rules::Job;

/// Time of a background response from its creation to its end, for each completion window. OpenAI
/// promises the window only.
const WINDOWS: [(&str, Duration); 3] = [
    ("soonest", Duration::from_secs(3)),
    ("2h", Duration::from_secs(90 * 60)),
    ("8h", Duration::from_secs(6 * 60 * 60)),
];
/// Part of its time for which a background response is queued.
const QUEUED_PART: u32 = 4;
/// Most characters of the input in the output.
const ECHO_MAX: usize = 200;
/// Parameters of the request that the response repeats.
const REPEATED: [&str; 14] = [
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "parallel_tool_calls",
    "previous_response_id",
    "prompt_cache_key",
    "reasoning",
    "safety_identifier",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_p",
    "truncation",
];

pub(crate) struct StoredResponse {
    /// As the API shows it.
    shown: Value,
    is_background: bool,
    /// Beginning of the input.
    echo: String,
    result: &'static str,
    end: Moment,
    keep_for: Duration,
}

impl StoredResponse {
    pub(crate) fn into_shown(self) -> Value {
        self.shown
    }

    fn status(&self) -> &str {
        self.shown["status"].as_str().unwrap_or_default()
    }

    fn is_open(&self) -> bool {
        matches!(self.status(), "queued" | "in_progress")
    }

    fn finish(&mut self, status: &str, now: Moment) {
        self.shown["status"] = json!(status);
        self.end = now;
        match status {
            "completed" => self.shown["completed_at"] = json!(now.seconds()),
            "incomplete" => {
                self.shown["incomplete_details"] = json!({"reason": "max_output_tokens"});
            }
            "failed" => {
                self.shown["error"] = json!({
                    "code": "server_error",
                    "message": "The model failed. A rule of the mock says so.",
                });
            }
            _ => {}
        }
        if matches!(status, "completed" | "incomplete") {
            (self.shown["output"], self.shown["usage"]) = output(&self.echo, status);
        }
    }
}

/// The output that the mock gives to an input that begins so, and its usage.
fn output(echo: &str, status: &str) -> (Value, Value) {
    let text = answer_to(echo);
    let (input_tokens, output_tokens) = (tokens(echo), tokens(&text));
    let output = json!([{
        "id": ids::new("msg_"),
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": [{"type": "output_text", "text": text, "annotations": []}],
    }]);
    let usage = json!({
        "input_tokens": input_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": input_tokens + output_tokens,
    });
    (output, usage)
}

/// The text with which the mock answers.
pub(crate) fn answer_to(echo: &str) -> String {
    format!("Answer of the mock to: {echo}")
}

/// About the number of tokens of a text.
pub(crate) fn tokens(text: &str) -> usize {
    text.len().div_ceil(4)
}

/// The response to a request at this time, whose status is `queued` or `completed`.
pub(crate) fn respond(body: &Body, now: Moment) -> Result<StoredResponse, ApiError> {
    let model = body.text("model")?;
    if body.flag("stream")? == Some(true) {
        return Err(no_streams());
    }
    let is_background = body.flag("background")? == Some(true);
    let mut shown = json!({
        "id": ids::new("resp_"),
        "object": "response",
        "created_at": now.seconds(),
        "status": "queued",
        "background": is_background,
        "error": null,
        "incomplete_details": null,
        "instructions": null,
        "max_output_tokens": null,
        "metadata": body.metadata()?.unwrap_or_else(|| json!({})),
        "model": model,
        "output": [],
        "parallel_tool_calls": true,
        "previous_response_id": null,
        "service_tier": "default",
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": null,
    });
    for name in REPEATED {
        if let Some(value) = body.get(name) {
            shown[name] = value.clone();
        }
    }
    let mut response = StoredResponse {
        shown,
        is_background,
        echo: beginning(body.get("input")),
        result: "completed",
        end: now,
        keep_for: Duration::ZERO,
    };
    if !is_background {
        response.finish("completed", now);
    }
    Ok(response)
}

pub(crate) async fn create(State(engine): State<Shared>, body: Body) -> Result<Answer, ApiError> {
    let window = completion_window(&body)?;
    let store = body.flag("store")?;
    let mut project = engine.project();
    let now = project.now;
    let mut response = respond(&body, now)?;
    response.keep_for = project.settings.retention.of(store);
    let id = response.shown["id"].as_str().unwrap_or_default().to_owned();
    let shown = response.shown.clone();
    if response.is_background {
        let outcome = project.rules.outcome(Job::Response);
        let time = outcome.takes.unwrap_or(window);
        response.result = outcome.result;
        response.end = now + time;
        project.plan(now + time / QUEUED_PART, &id, step);
    } else if store == Some(false) {
        return Ok(Answer(shown));
    }
    let forgotten = project.responses.insert(id, body.bytes + 2048, response);
    project.cancel_steps(&forgotten);
    Ok(Answer(shown))
}

/// The usual time in the completion window of the request.
fn completion_window(body: &Body) -> Result<Duration, ApiError> {
    let options = body.object("background_options")?;
    let names = WINDOWS.map(|(name, _)| name);
    let name = options
        .one_of("completion_window", &names)
        .map_err(|error| error.with_param("background_options.completion_window"))?
        .unwrap_or("soonest");
    let is_standard = matches!(
        body.optional_text("service_tier")?,
        None | Some("auto" | "default")
    );
    if name != "soonest" && !(body.flag("background")? == Some(true) && is_standard) {
        return Err(ApiError::invalid(
            "background_options.completion_window",
            format!("'{name}' needs 'background': true and standard processing."),
        ));
    }
    let window = WINDOWS.iter().find(|(known, _)| *known == name);
    Ok(window.map_or(Duration::ZERO, |(_, time)| *time))
}

fn step(project: &mut Project, id: &str) {
    let now = project.now;
    let Some(response) = project.responses.get_mut(id) else {
        return;
    };
    if response.status() == "queued" {
        response.shown["status"] = json!("in_progress");
        let end = response.end;
        project.plan(end, id, step);
        return;
    }
    let result = response.result;
    response.finish(result, now);
    project.emit_thin(&format!("response.{result}"), id);
}

impl Project {
    /// A response that has not vanished.
    fn response(&mut self, id: &str) -> Result<&mut StoredResponse, ApiError> {
        let now = self.now;
        let response = self.responses.get_mut(id);
        response
            .filter(|response| response.is_open() || response.end + response.keep_for > now)
            .ok_or_else(|| ApiError::not_found(format!("Response with id '{id}' not found.")))
    }
}

fn no_streams() -> ApiError {
    ApiError::invalid("stream", "The mock does not stream: leave out 'stream'.")
}

pub(crate) async fn retrieve(
    State(engine): State<Shared>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Answer, ApiError> {
    if Query::parse(query.as_deref()).get("stream") == Some("true") {
        return Err(no_streams());
    }
    let mut project = engine.project();
    Ok(Answer(project.response(&id)?.shown.clone()))
}

pub(crate) async fn delete(
    State(engine): State<Shared>,
    Path(id): Path<String>,
) -> Result<Answer, ApiError> {
    let mut project = engine.project();
    project.response(&id)?;
    project.responses.remove(&id);
    project.cancel_steps(std::slice::from_ref(&id));
    Ok(Answer(
        json!({"id": id, "object": "response", "deleted": true}),
    ))
}

/// Cancels a background response. One that has ended is returned as it is.
pub(crate) async fn cancel(
    State(engine): State<Shared>,
    Path(id): Path<String>,
) -> Result<Answer, ApiError> {
    let mut project = engine.project();
    let now = project.now;
    let response = project.response(&id)?;
    if !response.is_background {
        return Err(ApiError::bad_request(
            "Only responses created with 'background': true can be cancelled.",
        ));
    }
    let was_open = response.is_open();
    if was_open {
        response.finish("cancelled", now);
    }
    let shown = response.shown.clone();
    if was_open {
        project.cancel_steps(std::slice::from_ref(&id));
        project.emit_thin("response.cancelled", &id);
    }
    Ok(Answer(shown))
}

/// The beginning of the last text in an input.
pub(crate) fn beginning(input: Option<&Value>) -> String {
    let text = input.map_or("", last_text);
    text.chars().take(ECHO_MAX).collect()
}

/// The last text in an input: text, or a list of items or parts with `content` or `text`.
fn last_text(input: &Value) -> &str {
    match input {
        Value::String(text) => text,
        Value::Array(items) => items.last().map_or("", last_text),
        Value::Object(item) => {
            let inner = item.get("content").or_else(|| item.get("text"));
            inner.map_or("", last_text)
        }
        _ => "",
    }
}
