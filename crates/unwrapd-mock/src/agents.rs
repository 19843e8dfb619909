//! The Agents API, as far as it ends in webhooks: sessions and their environments
//! ([guide](https://developers.openai.com/api/docs/guides/agents-api/sessions/webhooks)).

pub(crate) mod environments;
pub(crate) mod session;
pub(crate) mod turns;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use crate::error::ApiError;

/// The beta header that each request needs.
const BETA: (&str, &str) = ("openai-beta", "agents=v1");

/// Proof of the beta header.
pub(crate) struct Beta;

impl<S: Sync> FromRequestParts<S> for Beta {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let (name, value) = BETA;
        let is_beta = parts.headers.get_all(name).iter().any(|given| {
            let given = given.to_str().unwrap_or_default();
            given.split(',').any(|one| one.trim() == value)
        });
        if is_beta {
            return Ok(Self);
        }
        Err(ApiError::bad_request(format!(
            "The Agents API needs the header 'OpenAI-Beta: {value}'."
        )))
    }
}
