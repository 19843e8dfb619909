//! The payload or body in an answer: only if the request asks for it, and as text or in base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::json::Refusal;

/// Whether the query asks for the payload.
pub(super) fn is_wanted(query: Option<&str>) -> Result<bool, Refusal> {
    match query.unwrap_or_default() {
        "" | "payload=false" => Ok(false),
        "payload=true" => Ok(true),
        _ => Err(Refusal::bad(
            "this path takes only the parameter `payload=true`",
        )),
    }
}

/// The bytes as text if they are UTF-8, or else in base64.
pub(super) fn text_or_base64(bytes: Option<Bytes>) -> (Option<String>, Option<String>) {
    match bytes.map(|bytes| String::from_utf8(bytes.into())) {
        Some(Ok(text)) => (Some(text), None),
        Some(Err(error)) => (None, Some(STANDARD.encode(error.into_bytes()))),
        None => (None, None),
    }
}
