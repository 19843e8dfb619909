//! Places a call.

use std::time::Duration;

use axum::extract::State;
use serde_json::Value;

use super::{Call, CallState, LIVE, REALTIME, step};
use crate::body::{Answer, Body};
use crate::error::ApiError;
use crate::http::Shared;
use crate::ids;

/// Time for which a caller waits, unless the call says another. OpenAI documents none; callers and
/// trunks give up within tens of seconds.
const RINGS: Duration = Duration::from_secs(30);
/// Longest time for which a caller waits, in seconds.
const RINGS_MAX: u64 = 3_600;
/// The webhooks that a call may send, and the field with its id.
const WEBHOOKS: [(&str, &str); 3] = [
    ("realtime.call.incoming", REALTIME),
    ("live.transport.incoming", LIVE),
    ("live.call.incoming", LIVE),
];
/// Most SIP headers of a call.
const HEADERS_MAX: usize = 200;

/// Places a call, which sends its webhooks.
pub(crate) async fn place(State(engine): State<Shared>, body: Body) -> Result<Answer, ApiError> {
    let webhooks = webhooks(&body)?;
    let token = ids::hex();
    let headers = sip_headers(&body, &token)?;
    let security = body.optional_text("sip_media_security")?.unwrap_or("srtp");
    let security = Value::from(security);
    let rings = match body.integer("ring_seconds")? {
        None => RINGS,
        Some(seconds) => Duration::from_secs(seconds.min(RINGS_MAX)),
    };
    let mut project = engine.project();
    let now = project.now;
    let call = Call {
        token: token.clone(),
        created_at: now,
        state: CallState::Ringing,
        decided_by: None,
        session: None,
        sip_status: None,
        target_uri: None,
    };
    let shown = call.show();
    let forgotten = project.calls.insert(token.clone(), 4096, call);
    project.cancel_steps(&forgotten);
    project.plan(now + rings, &token, step);
    for (kind, prefix) in webhooks {
        let id = format!("{prefix}{token}");
        let names = match kind {
            "realtime.call.incoming" => format!(r#""call_id": "{id}""#),
            "live.transport.incoming" => format!(r#""type": "sip", "session_id": "{id}""#),
            _ => format!(r#""session_id": "{id}""#),
        };
        let data =
            format!(r#"{{{names}, "sip_media_security": {security}, "sip_headers": [{headers}]}}"#);
        project.emit(kind, &id, &data);
    }
    Ok(Answer(shown))
}

/// The webhooks that the call sends: those of both APIs, unless it names others.
fn webhooks(body: &Body) -> Result<Vec<(&'static str, &'static str)>, ApiError> {
    let Some(value) = body.get("webhooks") else {
        return Ok(WEBHOOKS[..2].to_vec());
    };
    let kinds = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let known = |kind: &Value| WEBHOOKS.into_iter().find(|(known, _)| kind == known);
    let webhooks: Option<Vec<_>> = kinds.iter().map(known).collect();
    webhooks
        .filter(|webhooks| (1..=WEBHOOKS.len()).contains(&webhooks.len()))
        .ok_or_else(|| {
            let kinds = WEBHOOKS.map(|(kind, _)| kind).join("', '");
            ApiError::invalid(
                "webhooks",
                format!("Invalid 'webhooks': expected an array of '{kinds}'."),
            )
        })
}

/// The SIP headers of a call, as the elements of a JSON array.
fn sip_headers(body: &Body, token: &str) -> Result<String, ApiError> {
    let from = body.optional_text("from")?.unwrap_or("+14155550100");
    let to = body.optional_text("to")?.unwrap_or("+14155550123");
    let mut headers = vec![
        (
            "From".to_owned(),
            format!("<sip:{from}@sip.example.com>;tag={}", &token[..8]),
        ),
        ("To".to_owned(), format!("<sip:{to}@sip.example.com>")),
        ("Call-ID".to_owned(), format!("{token}@sip.example.com")),
        ("CSeq".to_owned(), "1 INVITE".to_owned()),
        ("Max-Forwards".to_owned(), "63".to_owned()),
    ];
    if let Some(value) = body.get("sip_headers") {
        let pair = |header: &Value| {
            let (name, value) = (header["name"].as_str()?, header["value"].as_str()?);
            Some((name.to_owned(), value.to_owned()))
        };
        let given = value.as_array().filter(|given| given.len() <= HEADERS_MAX);
        let given: Option<Vec<_>> = given.and_then(|given| given.iter().map(pair).collect());
        headers = given
            .ok_or_else(|| ApiError::not_a("an array of {\"name\", \"value\"}", "sip_headers"))?;
    }
    let headers = headers.into_iter().map(|(name, value)| {
        let (name, value) = (Value::from(name), Value::from(value));
        format!(r#"{{"name": {name}, "value": {value}}}"#)
    });
    Ok(headers.collect::<Vec<_>>().join(", "))
}
