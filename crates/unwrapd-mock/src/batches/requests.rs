//! The requests in the input file of a batch, and the lines of its result files.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::body::Body;
use crate::clock::Moment;
use crate::error::ApiError;
use crate::ids;
use crate::responses;

/// Most requests of a batch.
const REQUESTS_MAX: usize = 50_000;
/// Most characters of a model that are kept.
const MODEL_MAX: usize = 256;
/// Most errors of a file that are listed.
const ERRORS_MAX: usize = 100;

pub(super) struct BatchRequest {
    custom_id: String,
    url: &'static str,
    pub(super) model: Option<String>,
    body: Value,
}

/// The requests of an input file, or its errors.
pub(super) fn parse(content: &[u8], url: &'static str) -> Result<Vec<BatchRequest>, Vec<Value>> {
    let mut requests = Vec::new();
    let mut errors = Vec::new();
    let mut known = HashSet::new();
    for (number, line) in content.split(|byte| *byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        match parse_line(line, url) {
            Ok(request) => {
                if !known.insert(request.custom_id.clone()) {
                    let message = "The custom_id is that of an earlier line.";
                    errors.push(error("duplicate_custom_id", message, number));
                }
                requests.push(request);
            }
            Err((code, message)) => errors.push(error(code, message, number)),
        }
        if requests.len() > REQUESTS_MAX || errors.len() >= ERRORS_MAX {
            break;
        }
    }
    if requests.len() > REQUESTS_MAX {
        errors.push(error(
            "too_many_tasks",
            "A batch has up to 50,000 requests.",
            REQUESTS_MAX,
        ));
    } else if requests.is_empty() && errors.is_empty() {
        errors.push(error("empty_file", "The input file is empty.", 0));
    }
    if errors.is_empty() {
        Ok(requests)
    } else {
        Err(errors)
    }
}

fn error(code: &str, message: &str, number: usize) -> Value {
    json!({"code": code, "message": message, "param": null, "line": number + 1})
}

fn parse_line(
    line: &[u8],
    url: &'static str,
) -> Result<BatchRequest, (&'static str, &'static str)> {
    let invalid = ("invalid_json_line", "The line is not a JSON object.");
    let mut value: Value = serde_json::from_slice(line).map_err(|_| invalid)?;
    if !value.is_object() {
        return Err(invalid);
    }
    let Some(custom_id) = value["custom_id"].as_str() else {
        return Err(("missing_required_parameter", "The line has no custom_id."));
    };
    if value["method"] != "POST" {
        return Err(("invalid_method", "The method is not POST."));
    }
    if value["url"] != url {
        return Err(("url_mismatch", "The url is not the endpoint of the batch."));
    }
    if !value["body"].is_object() {
        return Err(("missing_required_parameter", "The line has no body."));
    }
    let model = value["body"]["model"].as_str();
    Ok(BatchRequest {
        custom_id: custom_id.into(),
        url,
        model: model.map(|model| model.chars().take(MODEL_MAX).collect()),
        body: value["body"].take(),
    })
}

/// The lines of the result files.
#[derive(Default)]
pub(super) struct Results {
    pub(super) output: Vec<u8>,
    pub(super) errors: Vec<u8>,
    pub(super) completed: usize,
    pub(super) failed: usize,
    pub(super) input_tokens: u64,
    pub(super) output_tokens: u64,
}

impl Results {
    /// Runs a request, as its API would.
    pub(super) fn run(&mut self, request: &BatchRequest, now: Moment) {
        let answer = Body::parse(request.body.to_string().as_bytes()).and_then(|body| {
            if request.url == "/v1/responses" {
                respond(&body, now)
            } else {
                complete(&body, now)
            }
        });
        let (status, body) = match answer {
            Ok(body) => (200, body),
            Err(error) => (error.status.as_u16(), error.body()),
        };
        let usage = &body["usage"];
        let count = |names: [&str; 2]| {
            names
                .iter()
                .filter_map(|name| usage[*name].as_u64())
                .sum::<u64>()
        };
        self.input_tokens += count(["input_tokens", "prompt_tokens"]);
        self.output_tokens += count(["output_tokens", "completion_tokens"]);
        let line = json!({
            "id": ids::new("batch_req_"),
            "custom_id": request.custom_id,
            "response": {"status_code": status, "request_id": ids::new("req_"), "body": body},
            "error": null,
        });
        if status == 200 {
            self.completed += 1;
            add(&mut self.output, &line);
        } else {
            self.failed += 1;
            add(&mut self.errors, &line);
        }
    }

    /// Records a request for which the time was too short.
    pub(super) fn expire(&mut self, request: &BatchRequest) {
        self.failed += 1;
        let line = json!({
            "id": ids::new("batch_req_"),
            "custom_id": request.custom_id,
            "response": null,
            "error": {
                "code": "batch_expired",
                "message": "This request could not be executed before the completion window expired.",
            },
        });
        add(&mut self.errors, &line);
    }
}

fn add(lines: &mut Vec<u8>, line: &Value) {
    lines.extend_from_slice(line.to_string().as_bytes());
    lines.push(b'\n');
}

fn respond(body: &Body, now: Moment) -> Result<Value, ApiError> {
    if body.flag("background")? == Some(true) {
        let message = "Requests of a batch do not run in the background.";
        return Err(ApiError::invalid("background", message));
    }
    responses::respond(body, now).map(responses::StoredResponse::into_shown)
}

/// A chat completion ([reference](https://developers.openai.com/api/reference/resources/chat)).
fn complete(body: &Body, now: Moment) -> Result<Value, ApiError> {
    let model = body.text("model")?;
    let echo = responses::beginning(Some(body.required("messages")?));
    let text = responses::answer_to(&echo);
    let (prompt_tokens, completion_tokens) = (responses::tokens(&echo), responses::tokens(&text));
    Ok(json!({
        "id": ids::new("chatcmpl-"),
        "object": "chat.completion",
        "created": now.seconds(),
        "model": model,
        "choices": [{
            "index": 0,
            "message": {"role": "assistant", "content": text, "refusal": null},
            "logprobs": null,
            "finish_reason": "stop",
        }],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        },
    }))
}
