//! Bodies as JSON: parameters of a request, and answers.

use std::ops::RangeInclusive;
use std::time::Duration;

use axum::body::to_bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use crate::error::ApiError;

/// Largest JSON body of a request, in bytes.
const JSON_BYTES_MAX: usize = 1024 * 1024;
/// Longest time for a body to arrive.
const BODY_WAIT_MAX: Duration = Duration::from_secs(60);
/// Most pairs of `metadata`, and the most characters of a key and of a value
/// ([reference](https://developers.openai.com/api/reference/resources/batches/methods/create)).
const METADATA_MAX: (usize, usize, usize) = (16, 64, 512);

/// A JSON body of an answer.
pub(crate) struct Answer(pub(crate) Value);

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let json = [(header::CONTENT_TYPE, "application/json")];
        (json, self.0.to_string()).into_response()
    }
}

/// The body of a request, a JSON object. A missing body is an empty object.
pub(crate) struct Body {
    fields: Map<String, Value>,
    /// Its length.
    pub(crate) bytes: usize,
}

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let bytes = read(request, JSON_BYTES_MAX).await?;
        Self::parse(&bytes)
    }
}

/// The bytes of a body.
pub(crate) async fn read(request: Request, bytes_max: usize) -> Result<Bytes, ApiError> {
    let bytes = timeout(BODY_WAIT_MAX, to_bytes(request.into_body(), bytes_max)).await;
    let Ok(bytes) = bytes else {
        return Err(ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "The body of the request did not arrive.",
        ));
    };
    bytes.map_err(|_| {
        ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("The body is incomplete, or larger than the {bytes_max} bytes that the mock accepts."),
        )
    })
}

impl Body {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, ApiError> {
        let value = match bytes {
            [] => Ok(json!({})),
            bytes => serde_json::from_slice(bytes),
        };
        match value {
            Ok(Value::Object(fields)) => Ok(Self {
                fields,
                bytes: bytes.len(),
            }),
            _ => Err(ApiError::bad_request(
                "We could not parse the JSON body of your request. The API expects a JSON object.",
            )),
        }
    }

    /// The whole object.
    pub(crate) fn value(&self) -> Value {
        self.fields.clone().into()
    }

    /// Whether the parameter is there, even as `null`.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.fields.contains_key(name)
    }

    /// The value of a parameter. `null` counts as missing.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    pub(crate) fn required(&self, name: &str) -> Result<&Value, ApiError> {
        self.get(name).ok_or_else(|| ApiError::missing(name))
    }

    pub(crate) fn text(&self, name: &str) -> Result<&str, ApiError> {
        self.optional_text(name)?
            .ok_or_else(|| ApiError::missing(name))
    }

    pub(crate) fn optional_text(&self, name: &str) -> Result<Option<&str>, ApiError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let text = value.as_str();
        text.map(Some)
            .ok_or_else(|| ApiError::not_a("a string", name))
    }

    /// A text whose number of characters is in this range.
    pub(crate) fn optional_text_of(
        &self,
        name: &str,
        length: RangeInclusive<usize>,
    ) -> Result<Option<&str>, ApiError> {
        let text = self.optional_text(name)?;
        if text.is_some_and(|text| !length.contains(&text.chars().count())) {
            let (least, most) = length.into_inner();
            return Err(ApiError::invalid(
                name,
                format!("Invalid '{name}': expected a string of {least} to {most} characters."),
            ));
        }
        Ok(text)
    }

    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, ApiError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let flag = value.as_bool();
        flag.map(Some)
            .ok_or_else(|| ApiError::not_a("a boolean", name))
    }

    pub(crate) fn integer(&self, name: &str) -> Result<Option<u64>, ApiError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let integer = value.as_u64();
        integer
            .map(Some)
            .ok_or_else(|| ApiError::not_a("an integer", name))
    }

    /// One of these texts, if the parameter is there.
    pub(crate) fn one_of<'n>(
        &self,
        name: &str,
        choices: &[&'n str],
    ) -> Result<Option<&'n str>, ApiError> {
        let Some(text) = self.optional_text(name)? else {
            return Ok(None);
        };
        let choice = choices.iter().find(|choice| **choice == text);
        choice.copied().map(Some).ok_or_else(|| {
            let choices = choices.join("', '");
            ApiError::invalid(
                name,
                format!("Invalid value: '{text}'. Supported values are: '{choices}'."),
            )
        })
    }

    /// An object as parameter, empty if it is missing.
    pub(crate) fn object(&self, name: &str) -> Result<Self, ApiError> {
        let fields = match self.get(name) {
            None => Map::new(),
            Some(Value::Object(fields)) => fields.clone(),
            Some(_) => return Err(ApiError::not_a("an object", name)),
        };
        Ok(Self { fields, bytes: 0 })
    }

    /// `metadata`: pairs of texts within OpenAI's limits.
    pub(crate) fn metadata(&self) -> Result<Option<Value>, ApiError> {
        let Some(value) = self.get("metadata") else {
            return Ok(None);
        };
        let (pairs_max, key_max, value_max) = METADATA_MAX;
        let is_pair = |(key, value): (&String, &Value)| {
            let is_text = |text: &str| text.chars().count() <= value_max;
            key.chars().count() <= key_max && value.as_str().is_some_and(is_text)
        };
        let pairs = value.as_object();
        if !pairs.is_some_and(|pairs| pairs.len() <= pairs_max && pairs.iter().all(is_pair)) {
            return Err(ApiError::invalid(
                "metadata",
                format!(
                    "Invalid 'metadata': expected up to {pairs_max} pairs of strings, with keys of \
                     up to {key_max} and values of up to {value_max} characters."
                ),
            ));
        }
        Ok(Some(value.clone()))
    }
}
