//! Errors in OpenAI's form ([error
//! codes](https://developers.openai.com/api/docs/guides/error-codes)).

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::body::Answer;

/// The type of an error that the request causes.
pub(crate) const INVALID_REQUEST: &str = "invalid_request_error";

#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
    /// The `type` of the error.
    pub(crate) kind: String,
    pub(crate) param: Option<String>,
    pub(crate) code: Option<String>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            kind: INVALID_REQUEST.into(),
            param: None,
            code: None,
        }
    }

    /// 400 without a parameter.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 400 for the value of a parameter.
    pub(crate) fn invalid(param: &str, message: impl Into<String>) -> Self {
        let error = Self::bad_request(message).with_code("invalid_value");
        error.with_param(param)
    }

    /// 400 for a parameter of another type.
    pub(crate) fn not_a(expected: &str, param: &str) -> Self {
        let message = format!("Invalid type for '{param}': expected {expected}.");
        let error = Self::bad_request(message).with_code("invalid_type");
        error.with_param(param)
    }

    /// 400 for a parameter that is not there.
    pub(crate) fn missing(param: &str) -> Self {
        let message = format!("Missing required parameter: '{param}'.");
        let error = Self::bad_request(message).with_code("missing_required_parameter");
        error.with_param(param)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "You didn't provide an API key. Provide it in an Authorization header: \
             'Authorization: Bearer YOUR_KEY'. The mock takes any key.",
        )
    }

    pub(crate) fn with_code(mut self, code: &str) -> Self {
        self.code = Some(code.into());
        self
    }

    pub(crate) fn with_param(mut self, param: &str) -> Self {
        self.param = Some(param.into());
        self
    }

    /// The body of the answer.
    pub(crate) fn body(&self) -> Value {
        json!({"error": {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }})
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Answer(self.body())).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let realm = HeaderValue::from_static("Bearer realm=\"OpenAI API\"");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, realm);
        }
        response
    }
}
