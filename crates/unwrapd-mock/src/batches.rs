//! `/batches`: validation, progress and results
//! ([guide](https://developers.openai.com/api/docs/guides/batch)).

mod requests;

use std::time::Duration;

use axum::extract::{Path, RawQuery, State};
use serde_json::{Value, json};

use crate::body::{Answer, Body};
use crate::clock::Moment;
use crate::error::ApiError;
use crate::files;
use crate::http::Shared;
use crate::ids;
use crate::page::Query;
use crate::project::Project;
use crate::rules::Job;
use requests::{BatchRequest, Results};

/// APIs of which the mock runs batches.
const ENDPOINTS: [&str; 2] = ["/v1/responses", "/v1/chat/completions"];
/// The only completion window, and its time.
const WINDOW: (&str, Duration) = ("24h", Duration::from_secs(24 * 60 * 60));
/// Time of the validation, of the run, of the finalization and of a cancellation. OpenAI promises
/// the window only.
const VALIDATES: Duration = Duration::from_secs(2);
const RUNS: Duration = Duration::from_secs(10);
const FINALIZES: Duration = Duration::from_secs(2);
const CANCELS: Duration = Duration::from_secs(2);
/// Default and largest limit of a list.
const LIMITS: (usize, usize) = (20, 100);

pub(crate) struct Batch {
    /// As the API shows it.
    shown: Value,
    endpoint: &'static str,
    input_file_id: String,
    /// Time after its creation at which each result file expires.
    expires_after: Option<Duration>,
    /// Beginning and end of the run, once it has begun.
    run: Option<(Moment, Moment)>,
    /// Result that the run will have.
    result: &'static str,
    /// Part of the requests that are done, in percent, when the batch ends early.
    done_percent: usize,
}

impl Batch {
    fn status(&self) -> &str {
        self.shown["status"].as_str().unwrap_or_default()
    }

    /// Sets the status, and the time at which the batch got it.
    fn set_status(&mut self, status: &str, now: Moment) {
        self.shown["status"] = json!(status);
        self.shown[format!("{status}_at")] = json!(now.seconds());
    }

    fn show(&self) -> Value {
        self.shown.clone()
    }
}

pub(crate) async fn create(State(engine): State<Shared>, body: Body) -> Result<Answer, ApiError> {
    let (window, window_time) = WINDOW;
    let endpoint = body
        .one_of("endpoint", &ENDPOINTS)?
        .ok_or_else(|| ApiError::missing("endpoint"))?;
    body.one_of("completion_window", &[window])?
        .ok_or_else(|| ApiError::missing("completion_window"))?;
    let input_file_id = body.text("input_file_id")?.to_owned();
    let policy = body.object("output_expires_after")?;
    let seconds = policy.integer("seconds")?;
    let expires_after = seconds
        .map(|_| files::expires_after(seconds, "output_expires_after.seconds"))
        .transpose()?;
    let metadata = body.metadata()?;
    let mut project = engine.project();
    let input = project.file(&input_file_id);
    if input.is_none_or(|file| file.purpose != "batch") {
        return Err(ApiError::invalid(
            "input_file_id",
            format!("Invalid 'input_file_id': no file '{input_file_id}' with the purpose 'batch'."),
        ));
    }
    let id = ids::new("batch_");
    let shown = json!({
        "id": id,
        "object": "batch",
        "endpoint": endpoint,
        "errors": null,
        "input_file_id": input_file_id,
        "completion_window": window,
        "status": "validating",
        "output_file_id": null,
        "error_file_id": null,
        "created_at": project.now.seconds(),
        "in_progress_at": null,
        "expires_at": (project.now + window_time).seconds(),
        "finalizing_at": null,
        "completed_at": null,
        "failed_at": null,
        "expired_at": null,
        "cancelling_at": null,
        "cancelled_at": null,
        "request_counts": {"total": 0, "completed": 0, "failed": 0},
        "metadata": metadata,
    });
    let batch = Batch {
        shown: shown.clone(),
        endpoint,
        input_file_id,
        expires_after,
        run: None,
        result: "completed",
        done_percent: 100,
    };
    let at = project.now + VALIDATES;
    project.plan(at, &id, step);
    let forgotten = project.batches.insert(id, body.bytes + 2048, batch);
    project.cancel_steps(&forgotten);
    Ok(Answer(shown))
}

fn step(project: &mut Project, id: &str) {
    let status = project
        .batches
        .get(id)
        .map(|batch| batch.status().to_owned());
    match status.as_deref() {
        Some("validating") => validate(project, id),
        Some("in_progress") => end_run(project, id),
        Some("finalizing") => finish(project, id, "completed"),
        Some("cancelling") => finish(project, id, "cancelled"),
        _ => {}
    }
}

/// The requests of the input file, or the errors that it has.
fn requests_of(project: &Project, batch: &Batch) -> Result<Vec<BatchRequest>, Vec<Value>> {
    let Some(file) = project.file(&batch.input_file_id) else {
        let error = json!({
            "code": null,
            "message": "The input file was deleted.",
            "param": "input_file_id",
            "line": null,
        });
        return Err(vec![error]);
    };
    requests::parse(&file.content, batch.endpoint)
}

fn validate(project: &mut Project, id: &str) {
    let Some(batch) = project.batches.get(id) else {
        return;
    };
    let requests = requests_of(project, batch);
    let mut outcome = project.rules.outcome(Job::Batch);
    let now = project.now;
    let requests = match requests {
        Ok(_) if outcome.result == "failed" => Err(vec![json!({
            "code": null,
            "message": "The batch failed. A rule of the mock says so.",
            "param": null,
            "line": null,
        })]),
        requests => requests,
    };
    let Some(batch) = project.batches.get_mut(id) else {
        return;
    };
    let requests = match requests {
        Ok(requests) => requests,
        Err(errors) => {
            batch.set_status("failed", now);
            batch.shown["errors"] = json!({"object": "list", "data": errors});
            project.emit_thin("batch.failed", id);
            return;
        }
    };
    batch.set_status("in_progress", now);
    batch.shown["request_counts"]["total"] = json!(requests.len());
    batch.shown["model"] = requests
        .first()
        .map_or(Value::Null, |request| request.model.clone().into());
    if outcome.result == "expired" {
        // It was created before its validation.
        outcome.takes = Some(WINDOW.1.saturating_sub(VALIDATES));
    }
    batch.result = outcome.result;
    let end = now + outcome.takes.unwrap_or(RUNS);
    batch.run = Some((now, end));
    project.plan(end, id, step);
}

fn end_run(project: &mut Project, id: &str) {
    let now = project.now;
    let Some(batch) = project.batches.get_mut(id) else {
        return;
    };
    if batch.result == "expired" {
        batch.done_percent = 50;
        finish(project, id, "expired");
        return;
    }
    batch.set_status("finalizing", now);
    project.plan(now + FINALIZES, id, step);
}

/// Writes the files of a batch, and ends it.
fn finish(project: &mut Project, id: &str, status: &str) {
    let Some(batch) = project.batches.get(id) else {
        return;
    };
    let requests = requests_of(project, batch).unwrap_or_default();
    let done = requests.len() * batch.done_percent / 100;
    let expires_after = batch.expires_after;
    let mut results = Results::default();
    for (number, request) in requests.iter().enumerate() {
        if number < done {
            results.run(request, project.now);
        } else if status == "expired" {
            results.expire(request);
        }
    }
    let mut add = |kind: &str, lines: Vec<u8>| {
        let name = format!("{id}_{kind}.jsonl");
        let is_there = !lines.is_empty();
        is_there.then(|| project.add_file("batch_output", &name, lines.into(), expires_after))
    };
    let output = add("output", results.output);
    let errors = add("error", results.errors);
    let now = project.now;
    let Some(batch) = project.batches.get_mut(id) else {
        return;
    };
    batch.set_status(status, now);
    batch.shown["output_file_id"] = json!(output);
    batch.shown["error_file_id"] = json!(errors);
    batch.shown["request_counts"]["completed"] = json!(results.completed);
    batch.shown["request_counts"]["failed"] = json!(results.failed);
    batch.shown["usage"] = json!({
        "input_tokens": results.input_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": results.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": results.input_tokens + results.output_tokens,
    });
    project.emit_thin(&format!("batch.{status}"), id);
}

fn no_batch(id: &str) -> ApiError {
    ApiError::not_found(format!("No batch found with id '{id}'."))
}

pub(crate) async fn list(
    State(engine): State<Shared>,
    RawQuery(query): RawQuery,
) -> Result<Answer, ApiError> {
    let project = engine.project();
    let batches = project.batches.oldest_first();
    let page = Query::parse(query.as_deref()).page(batches, LIMITS, Batch::show)?;
    Ok(Answer(page))
}

pub(crate) async fn retrieve(
    State(engine): State<Shared>,
    Path(id): Path<String>,
) -> Result<Answer, ApiError> {
    let project = engine.project();
    let batch = project.batches.get(&id).ok_or_else(|| no_batch(&id))?;
    Ok(Answer(batch.show()))
}

/// Cancels a batch. The requests that are done by then keep their results.
pub(crate) async fn cancel(
    State(engine): State<Shared>,
    Path(id): Path<String>,
) -> Result<Answer, ApiError> {
    let mut project = engine.project();
    let now = project.now;
    let batch = project.batches.get_mut(&id).ok_or_else(|| no_batch(&id))?;
    if batch.status() == "cancelling" {
        return Ok(Answer(batch.show()));
    }
    if !matches!(batch.status(), "validating" | "in_progress" | "finalizing") {
        return Err(ApiError::conflict(format!(
            "Cannot cancel a batch with status '{}'.",
            batch.status()
        )));
    }
    batch.done_percent = batch.run.map_or(0, |(start, end)| {
        let (passed, whole) = (now.since(start).as_millis(), end.since(start).as_millis());
        let percent = (passed * 100).checked_div(whole).unwrap_or(100);
        usize::try_from(percent.min(100)).unwrap_or(100)
    });
    batch.set_status("cancelling", now);
    let shown = batch.show();
    project.cancel_steps(std::slice::from_ref(&id));
    project.plan(now + CANCELS, &id, step);
    Ok(Answer(shown))
}
