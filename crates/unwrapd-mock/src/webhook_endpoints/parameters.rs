//! Parameters of webhook endpoints.

use std::net::IpAddr;

use openai_webhooks::EventType;
use reqwest::Url;

use crate::body::Body;
use crate::error::ApiError;

/// Longest name and URL, in characters.
const NAME_MAX: usize = 256;
const URL_MAX: usize = 2048;
/// Most event types of an endpoint, and the longest type, in bytes. Only the dashboard takes
/// unknown ones.
const TYPES_MAX: usize = 200;
const TYPE_MAX: usize = 128;

/// Whether the API takes the type. Others are subscribed to in OpenAI's dashboards only.
pub(super) fn is_subscribable(kind: &str) -> bool {
    let families = [
        "agent.",
        "batch.",
        "eval.",
        "fine_tuning.",
        "realtime.",
        "response.",
        "safety.alert.",
        "video.",
    ];
    let is_known = kind.parse::<EventType>().is_ok();
    is_known && families.iter().any(|family| kind.starts_with(family))
}

fn unknown_type(param: &str, kind: &str) -> ApiError {
    ApiError::invalid(
        param,
        format!(
            "Invalid value: '{kind}'. It is not one of the event types of GET /v1/webhook_event_types."
        ),
    )
}

pub(super) fn name(body: &Body) -> Result<Option<&str>, ApiError> {
    body.optional_text_of("name", 1..=NAME_MAX)
}

pub(super) fn url(body: &Body, allow_remote: bool) -> Result<Option<(Url, &str)>, ApiError> {
    let Some(text) = body.optional_text_of("url", 1..=URL_MAX)? else {
        return Ok(None);
    };
    let url = Url::parse(text).map_err(|_| invalid_url("expected a URL"))?;
    check_url(&url, allow_remote)?;
    Ok(Some((url, text)))
}

/// OpenAI accepts HTTPS only. The mock also posts to loopback without TLS.
pub(crate) fn check_url(url: &Url, allow_remote: bool) -> Result<(), ApiError> {
    match url.scheme() {
        "https" => Ok(()),
        "http" if allow_remote || is_loopback(url) => Ok(()),
        "http" => Err(invalid_url(
            "expected HTTPS; the mock also accepts http:// with a loopback host, and with any host \
             if it runs with --allow-remote",
        )),
        _ => Err(invalid_url("expected HTTPS")),
    }
}

fn invalid_url(message: &str) -> ApiError {
    ApiError::invalid("url", format!("Invalid 'url': {message}."))
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address: Result<IpAddr, _> = host.trim_matches(['[', ']']).parse();
    address.map_or(host == "localhost", |address| address.is_loopback())
}

pub(super) fn event_types(
    body: &Body,
    is_accepted: impl Fn(&str) -> bool,
) -> Result<Option<Vec<String>>, ApiError> {
    let Some(value) = body.get("event_types") else {
        return Ok(None);
    };
    let not_a_list = || ApiError::not_a("an array of strings", "event_types");
    let mut types: Vec<String> = Vec::new();
    for kind in value.as_array().ok_or_else(not_a_list)? {
        let kind = kind.as_str().ok_or_else(not_a_list)?;
        if !is_accepted(kind) {
            return Err(unknown_type("event_types", kind));
        }
        if !types.iter().any(|known| known == kind) {
            types.push(kind.into());
        }
    }
    if !(1..=TYPES_MAX).contains(&types.len()) {
        return Err(ApiError::invalid(
            "event_types",
            format!("Invalid 'event_types': expected 1 to {TYPES_MAX} event types."),
        ));
    }
    Ok(Some(types))
}

/// Whether the dashboard takes the type.
pub(super) fn is_type(kind: &str) -> bool {
    kind.len() <= TYPE_MAX
}

/// The type of a test.
pub(super) fn event_type(body: &Body) -> Result<EventType, ApiError> {
    let kind = body.text("event_type")?;
    let event_type = kind.parse().ok().filter(|_| is_subscribable(kind));
    event_type.ok_or_else(|| unknown_type("event_type", kind))
}
