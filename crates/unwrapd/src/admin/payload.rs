//! The content of webhooks in answers: payloads, headers, and the bodies of answers of
//! destinations. A payload is there only if the request asks for it, and as text or in base64.
//!
//! A client without the right to content gets 403 if it asks for content. Content that it did not
//! ask for is left out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::json::Refusal;
use super::query::Query;
use super::tokens::Rights;
use crate::store::MessageView;

/// Whether the query asks for the payload.
pub(super) fn is_wanted(query: Option<&str>, rights: Rights) -> Result<bool, Refusal> {
    let is_wanted = Query::of(query).one("payload", |text| {
        let flag = text.parse::<bool>();
        flag.map_err(|_| Refusal::bad("`payload` must be true or false"))
    })?;
    if is_wanted == Some(true) && !rights.may_see_payloads {
        return Err(Refusal::another_token(
            "`admin_read_payloads = false` in [server] denies payloads to the token for reading: \
             send the token that `admin_token` names",
        ));
    }
    Ok(is_wanted.unwrap_or_default())
}

/// Leaves out the content that the client may not see.
pub(super) fn withhold(message: &mut MessageView, rights: Rights) {
    if rights.may_see_payloads {
        return;
    }
    message.payload = None;
    let attempts = message.deliveries.iter_mut();
    for attempt in attempts.flat_map(|delivery| &mut delivery.latest) {
        attempt.body = None;
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
