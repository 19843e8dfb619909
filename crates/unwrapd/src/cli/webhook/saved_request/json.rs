//! JSON with headers, and mostly with a body: exports of services, events of AWS Lambda, answers of
//! the admin API.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Form, SavedRequest, has_signed};
use crate::cli::webhook::request::MILLISECONDS_MIN;

type Members<'j> = BTreeMap<String, &'j RawValue>;

/// The keys of objects that may hold the request.
const AROUND: [&str; 2] = ["request", "event"];
/// The keys of headers.
const HEADERS: [&str; 3] = ["headers", "multiValueHeaders", "rawHeaders"];
/// The keys of a body as text, or as JSON.
const BODIES: [&str; 5] = ["body", "rawBody", "payload", "content", "data"];
/// The keys of a body in base64.
const BASE64_BODIES: [&str; 2] = ["payload_base64", "body_base64"];
/// The key that says that the body is base64.
const BASE64_FLAG: &str = "isBase64Encoded";
/// The keys of the time of arrival: of this program, and of AWS.
const ARRIVALS: [&str; 3] = ["received_at", "timeEpoch", "requestTimeEpoch"];
/// Deepest nesting of objects around the request.
const DEPTH_MAX: usize = 4;
/// Longest JSON that is read as headers.
const HEADERS_BYTES_MAX: usize = 1024 * 1024;

/// The request in this JSON. The error says what the JSON is.
pub(super) fn read(text: &str) -> Result<SavedRequest, String> {
    let root: &RawValue = serde_json::from_str(text.trim_end()).map_err(|error| {
        format!(
            "this begins like JSON and is not JSON (line {}, column {}): copy it again, or save \
             the request as lines `name: value`, an empty line, and the body",
            error.line(),
            error.column()
        )
    })?;
    if let Some(request) = find(root, DEPTH_MAX)? {
        return Ok(request);
    }
    let members: Members<'_> = parsed(root).unwrap_or_default();
    let problem = if members.contains_key("type") {
        "this is a body without headers, which hold the signature: save the headers too, and name \
         this file with --body"
    } else {
        "this JSON has no headers `webhook-…`, which hold the signature: save one request with its \
         headers, under `headers`"
    };
    Err(problem.into())
}

fn parsed<'j, T: Deserialize<'j>>(value: &'j RawValue) -> Option<T> {
    serde_json::from_str(value.get()).ok()
}

/// The request in this value or within it.
fn find(value: &RawValue, depth_left: usize) -> Result<Option<SavedRequest>, String> {
    let Some(depth_left) = depth_left.checked_sub(1) else {
        return Ok(None);
    };
    let headers = headers_in(value);
    if has_signed(&headers) {
        return Ok(Some(SavedRequest::new(Form::Json, headers, None)));
    }
    if let Some([only]) = parsed::<[&RawValue; 1]>(value) {
        return find(only, depth_left);
    }
    let Some(members) = parsed::<Members<'_>>(value) else {
        return Ok(None);
    };
    let headers = HEADERS.iter().filter_map(|key| members.get(*key));
    let mut headers = headers.map(|headers| headers_in(headers));
    if let Some(headers) = headers.find(|headers| has_signed(headers)) {
        return with_body(headers, &members).map(Some);
    }
    let mut around = AROUND.iter().filter_map(|key| members.get(*key));
    around
        .find_map(|it| find(it, depth_left).transpose())
        .transpose()
}

/// The headers of a value that is a map or a list of them.
fn headers_in(value: &RawValue) -> Vec<(String, String)> {
    if value.get().len() > HEADERS_BYTES_MAX {
        return Vec::new();
    }
    let pairs = match parsed(value) {
        Some(Value::Object(map)) => map.into_iter().collect(),
        Some(Value::Array(items)) => pairs_in(items),
        _ => Vec::new(),
    };
    let headers = pairs.into_iter().flat_map(|(name, value)| {
        let values = match value {
            Value::Array(values) => values,
            value => vec![value],
        };
        let name = unvaried(&name);
        values.into_iter().filter_map(move |value| {
            let value = match value {
                Value::String(text) => text,
                Value::Number(number) => number.to_string(),
                _ => return None,
            };
            Some((name.clone(), value))
        })
    });
    headers.collect()
}

/// The headers of a list of pairs, of objects with a name and a value, or of names and values by
/// turns, as in Node.
fn pairs_in(items: Vec<Value>) -> Vec<(String, Value)> {
    let named = |name: Value, value: Value| Some((name.as_str()?.to_owned(), value));
    if items.iter().all(Value::is_string) {
        let pairs = items.chunks_exact(2);
        let pairs = pairs.filter_map(|pair| named(pair[0].clone(), pair[1].clone()));
        return pairs.collect();
    }
    let pairs = items.into_iter().filter_map(|item| match item {
        Value::Array(pair) => {
            let [name, value] = pair.try_into().ok()?;
            named(name, value)
        }
        Value::Object(mut members) => {
            let name = members.remove("name").or_else(|| members.remove("key"));
            named(name?, members.remove("value")?)
        }
        _ => None,
    });
    pairs.collect()
}

/// The name of a header, also if it has the form of CGI (`HTTP_WEBHOOK_ID`) or of a language.
fn unvaried(name: &str) -> String {
    let name = name.trim().replace('_', "-");
    match name.strip_prefix("HTTP-") {
        Some(name) => name.to_ascii_lowercase(),
        None => name,
    }
}

/// The request with these headers, and with the body of these members.
fn with_body(
    headers: Vec<(String, String)>,
    members: &Members<'_>,
) -> Result<SavedRequest, String> {
    let mut request = SavedRequest::new(Form::Json, headers, None);
    request.arrived_at = arrival(members).or_else(|| {
        let context: Members<'_> = parsed(members.get("requestContext")?)?;
        arrival(&context)
    });
    let flag = members.get(BASE64_FLAG).and_then(|flag| parsed(flag));
    let encoded = BASE64_BODIES.iter().find_map(|key| members.get(*key));
    let is_base64 = encoded.is_some() || flag == Some(true);
    let body = encoded.or_else(|| BODIES.iter().find_map(|key| members.get(*key)));
    let Some(body) = body.filter(|body| body.get() != "null") else {
        return Ok(request);
    };
    let bytes = match parsed::<String>(body) {
        Some(text) if is_base64 => {
            request.note = flag.map(|_| {
                "Its body is base64, which is decoded here; an application must do so before it \
                 verifies."
            });
            let decoded = STANDARD.decode(text.trim());
            decoded.map_err(|_| "the body is marked as base64, and is not: save it again")?
        }
        Some(text) => text.into_bytes(),
        None => {
            request.note =
                Some("Its body is JSON and not a text, so the bytes that arrived may be lost.");
            body.get().as_bytes().to_vec()
        }
    };
    request.body = Some(bytes).filter(|bytes| !bytes.is_empty());
    Ok(request)
}

/// The time of arrival, in Unix seconds.
fn arrival(members: &Members<'_>) -> Option<i64> {
    let value = ARRIVALS.iter().find_map(|key| members.get(*key))?;
    let time = parsed::<i64>(value).or_else(|| {
        let time: Timestamp = parsed::<String>(value)?.parse().ok()?;
        Some(time.as_second())
    })?;
    Some(match time {
        MILLISECONDS_MIN.. => time / 1000,
        _ => time,
    })
}
