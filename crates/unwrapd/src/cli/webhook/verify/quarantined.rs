//! A request in the quarantine of a running gateway.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use openai_webhooks::{WEBHOOK_ID, WEBHOOK_TIMESTAMP};

use super::Named;
use super::checks::Arrival;
use super::report::{Check, Report};
use crate::api::QuarantinedDetail;
use crate::cli::failure::{Failure, usage};
use crate::cli::operate::Admin;
use crate::cli::webhook::saved_request::{Form, SavedRequest};

/// The cause of a request that the gateway verifies by now.
const VERIFIED: &str = "secrets_corrected";
/// The name of the check that the gateway made.
const GATEWAY: &str = "gateway";
/// The cause if the gateway found none.
const UNKNOWN: &str = "unknown";

pub(super) async fn read(
    admin: &Admin,
    number: i64,
    with_payload: bool,
) -> Result<QuarantinedDetail, Failure> {
    if number < 1 {
        return Err(usage(
            "a number must be 1 or more; `unwrapd quarantine ls` lists them",
        ));
    }
    let query = [("payload", "true".to_owned())];
    let query = if with_payload { &query[..] } else { &[] };
    let number = number.to_string();
    admin.get(&["quarantine", &number], query).await
}

/// The request, to be verified here.
pub(super) fn saved(detail: QuarantinedDetail) -> Result<Named, Failure> {
    let name = name(&detail);
    let body = match (detail.payload, detail.payload_base64) {
        (Some(text), _) => text.into_bytes(),
        (None, Some(base64)) => STANDARD.decode(base64)?,
        (None, None) => {
            return Err(Failure::NotFound(anyhow::anyhow!(
                "the gateway has no body of {name}: without --secret-env, --secret-file and \
                 --endpoint this command shows what the gateway found"
            )));
        }
    };
    Ok(Named {
        name,
        request: SavedRequest::new(Form::Http, detail.headers.unwrap_or_default(), None),
        body,
        arrival: Arrival::Known(detail.received_at.as_second()),
    })
}

/// Result of the gateway with its own secrets.
pub(super) fn report(detail: QuarantinedDetail) -> Report {
    let authentic = detail.cause_name.as_deref() == Some(VERIFIED);
    let headers = detail.headers.as_deref();
    let value = |name: &str| {
        let (_, value) = headers?.iter().find(|(header, _)| header == name)?;
        Some(value.clone())
    };
    let size = detail
        .size
        .map_or_else(String::new, |size| format!(", {size} bytes"));
    let stored = Check::ok(
        "request",
        format!(
            "arrived at `{}` at {:.0}{size}",
            detail.endpoint, detail.received_at
        ),
    );
    let finding = match (&detail.cause, detail.has_body) {
        (Some(cause), _) => format!("{cause}."),
        (None, true) => "The gateway found no cause within its limit of trials.".into(),
        (None, false) => "The body is not stored, so the signature cannot be tried.".into(),
    };
    let refusal = format!("refused it: {}", detail.reason);
    let gateway = if authentic {
        Check::ok(GATEWAY, refusal)
    } else {
        Check::failed(GATEWAY, refusal)
    };
    Report {
        request: name(&detail),
        form: "quarantined",
        authentic,
        webhook_id: value(WEBHOOK_ID),
        sent_at: value(WEBHOOK_TIMESTAMP)
            .and_then(|time| Timestamp::from_second(time.parse().ok()?).ok()),
        arrived_at: Some(detail.received_at),
        secret: None,
        checks: vec![stored, gateway.finding(finding)],
        tried: None,
        cause: detail
            .cause_name
            .filter(|cause| !authentic && cause != UNKNOWN),
    }
}

fn name(detail: &QuarantinedDetail) -> String {
    format!("quarantined request {}", detail.id)
}
