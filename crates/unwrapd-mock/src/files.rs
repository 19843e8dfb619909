//! `/files`: input, output and errors of batches
//! ([reference](https://developers.openai.com/api/reference/resources/files)).

use std::time::Duration;

use axum::extract::{Path, RawQuery, Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::body::{self, Answer};
use crate::clock::Moment;
use crate::error::ApiError;
use crate::http::Shared;
use crate::ids;
use crate::multipart::{self, Part};
use crate::page::Query;
use crate::project::Project;

/// Largest body of an upload, in bytes. OpenAI takes 200 MB for a batch.
const UPLOAD_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Most uploads at a time. Further ones wait.
pub(crate) const UPLOADS_MAX: usize = 4;
/// Most bytes of all files together.
pub(crate) const BYTES_MAX: usize = 256 * 1024 * 1024;
/// Longest name of a file, in characters.
const FILENAME_MAX: usize = 256;
/// Default and largest limit of a list.
const LIMITS: (usize, usize) = (10_000, 10_000);
/// Purposes that an upload may have.
const PURPOSES: [&str; 6] = [
    "assistants",
    "batch",
    "evals",
    "fine-tune",
    "user_data",
    "vision",
];
/// Shortest and longest time after which a file may expire, in seconds.
const EXPIRES_AFTER: (u64, u64) = (3_600, 2_592_000);

pub(crate) struct File {
    id: String,
    created_at: Moment,
    expires_at: Option<Moment>,
    filename: String,
    pub(crate) purpose: String,
    pub(crate) content: Bytes,
}

impl File {
    fn show(&self) -> Value {
        json!({
            "id": self.id,
            "object": "file",
            "bytes": self.content.len(),
            "created_at": self.created_at.seconds(),
            "expires_at": self.expires_at.map(Moment::seconds),
            "filename": self.filename,
            "purpose": self.purpose,
            "status": "processed",
        })
    }
}

impl Project {
    /// Stores a file, and returns its id.
    pub(crate) fn add_file(
        &mut self,
        purpose: &str,
        filename: &str,
        content: Bytes,
        expires_after: Option<Duration>,
    ) -> String {
        let id = ids::new("file-");
        let file = File {
            id: id.clone(),
            created_at: self.now,
            expires_at: expires_after.map(|time| self.now + time),
            filename: filename.chars().take(FILENAME_MAX).collect(),
            purpose: purpose.into(),
            content,
        };
        let bytes = file.content.len() + size_of::<File>();
        let forgotten = self.files.insert(id.clone(), bytes, file);
        self.cancel_steps(&forgotten);
        id
    }

    /// A file that has not expired.
    pub(crate) fn file(&self, id: &str) -> Option<&File> {
        let is_there = |file: &&File| file.expires_at.is_none_or(|end| end > self.now);
        self.files.get(id).filter(is_there)
    }
}

fn no_file(id: &str) -> ApiError {
    ApiError::not_found(format!("No such File object: {id}")).with_param("id")
}

pub(crate) async fn create(
    State(engine): State<Shared>,
    request: Request,
) -> Result<Answer, ApiError> {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or_default().to_owned();
    let _permit = engine.uploads.acquire().await;
    let body = body::read(request, UPLOAD_BYTES_MAX).await?;
    let parts = multipart::parse(&content_type, &body)
        .ok_or_else(|| ApiError::bad_request("The body is not a valid multipart/form-data."))?;
    let find = |name: &str| parts.iter().find(|part| part.name == name);
    let file = find("file").ok_or_else(|| ApiError::missing("file"))?;
    let purpose = find("purpose").and_then(text);
    let purpose = purpose.ok_or_else(|| ApiError::missing("purpose"))?;
    if !PURPOSES.contains(&purpose) {
        let purposes = PURPOSES.join("', '");
        return Err(ApiError::invalid(
            "purpose",
            format!("Invalid value: '{purpose}'. Supported values are: '{purposes}'."),
        ));
    }
    let seconds = find("expires_after[seconds]").map(|part| {
        let seconds = text(part).and_then(|text| text.parse().ok());
        expires_after(seconds, "expires_after.seconds")
    });
    // Without a policy, only input of batches expires.
    let usual = (purpose == "batch").then(|| Duration::from_secs(EXPIRES_AFTER.1));
    let expires_after = seconds.transpose()?.or(usual);
    let filename = file.filename.as_deref().unwrap_or("file");
    let mut project = engine.project();
    // A copy of its own, so that a small file does not hold the whole body.
    let content = Bytes::copy_from_slice(&file.content);
    let id = project.add_file(purpose, filename, content, expires_after);
    let file = project.file(&id).ok_or_else(|| no_file(&id))?;
    Ok(Answer(file.show()))
}

fn text(part: &Part) -> Option<&str> {
    std::str::from_utf8(&part.content).ok()
}

/// The time of an expiration policy.
pub(crate) fn expires_after(seconds: Option<u64>, param: &str) -> Result<Duration, ApiError> {
    let (least, most) = EXPIRES_AFTER;
    let seconds = seconds.filter(|seconds| (least..=most).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(|| {
        ApiError::invalid(
            param,
            format!("Invalid '{param}': expected an integer from {least} to {most}."),
        )
    })
}

pub(crate) async fn list(
    State(engine): State<Shared>,
    RawQuery(query): RawQuery,
) -> Result<Answer, ApiError> {
    let query = Query::parse(query.as_deref());
    let project = engine.project();
    let purpose = query.get("purpose");
    let files = project.files.oldest_first().filter(|(id, file)| {
        project.file(id).is_some() && purpose.is_none_or(|purpose| file.purpose == purpose)
    });
    Ok(Answer(query.page(files, LIMITS, File::show)?))
}

pub(crate) async fn retrieve(
    State(engine): State<Shared>,
    Path(id): Path<String>,
) -> Result<Answer, ApiError> {
    let project = engine.project();
    let file = project.file(&id).ok_or_else(|| no_file(&id))?;
    Ok(Answer(file.show()))
}

pub(crate) async fn content(
    State(engine): State<Shared>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let project = engine.project();
    let file = project.file(&id).ok_or_else(|| no_file(&id))?;
    let binary = [(header::CONTENT_TYPE, "application/octet-stream")];
    Ok((binary, file.content.clone()).into_response())
}

pub(crate) async fn delete(
    State(engine): State<Shared>,
    Path(id): Path<String>,
) -> Result<Answer, ApiError> {
    let mut project = engine.project();
    project.file(&id).ok_or_else(|| no_file(&id))?;
    project.files.remove(&id);
    Ok(Answer(json!({"id": id, "object": "file", "deleted": true})))
}
