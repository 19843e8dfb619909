//! The query of a list of messages: a filter and a page.

use crate::admin::json::Refusal;
use crate::admin::operation::Parameter;
use crate::store::filter::{Filter, Types};
use crate::store::{PAGE_MAX, Page};

/// Default number of messages on a page.
const PAGE_LENGTH: usize = 50;
/// Maximum number of values of one kind in a filter. Each id costs a lookup.
const VALUES_MAX: usize = 1_000;

/// The parameters of a list of messages, and of their count, so that one query does for both.
pub(super) const PARAMETERS: &[Parameter] = &[
    Parameter::text("type", "pattern of event types, as in `events`").repeated(),
    Parameter::one_of(
        "status",
        "status of a delivery, or `unrouted` for messages that no destination wanted",
        &["waiting", "delivered", "dead", "dropped", "unrouted"],
    )
    .repeated(),
    Parameter::text("destination", "name of a destination").repeated(),
    Parameter::text("endpoint", "name of an endpoint").repeated(),
    Parameter::text("webhook_id", "a webhook id").repeated(),
    Parameter::text("event_id", "an event id").repeated(),
    Parameter::text("resource", "id of what an event is about").repeated(),
    Parameter::text(
        "id_part",
        "part of a webhook id, of an event id or of a resource, of 4 characters or more",
    ),
    Parameter::text("since", "arrived then or later: a time or an age"),
    Parameter::text("until", "arrived before then: a time or an age"),
    Parameter::within(
        "limit",
        "maximum number of messages on the page",
        1..=PAGE_MAX,
    ),
    Parameter::number("after", "the `next` of the previous page"),
];

/// Parses `type=response.*&since=2h&limit=100`: every key except `since`, `until`, `id_part`,
/// `limit` and `after` may be repeated.
pub(super) fn read_query(query: Option<&str>) -> Result<(Filter, Page), Refusal> {
    let mut filter = Filter::default();
    let mut types = Vec::new();
    let mut page = Page {
        after: None,
        limit: PAGE_LENGTH,
    };
    for (key, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        match &*key {
            "type" => types.push(value.into_owned()),
            "since" => filter.since = Some(value.parse().map_err(Refusal::bad)?),
            "until" => filter.until = Some(value.parse().map_err(Refusal::bad)?),
            "status" => filter.status.push(value.parse().map_err(Refusal::bad)?),
            "destination" => filter.destination.push(value.into_owned()),
            "endpoint" => filter.endpoint.push(value.into_owned()),
            "webhook_id" => filter.webhook_id.push(value.into_owned()),
            "event_id" => filter.event_id.push(value.into_owned()),
            "resource" => filter.resource.push(value.into_owned()),
            "id_part" => filter.id_part = Some(value.parse().map_err(Refusal::bad)?),
            "limit" => page.limit = read_limit(&value)?,
            "after" => {
                let after = value.parse();
                page.after = Some(after.map_err(|_| {
                    Refusal::bad("`after` must be the `next` of the previous page")
                })?);
            }
            _ => {
                return Err(Refusal::bad(
                    "the parameters are type, since, until, status, destination, endpoint, webhook_id, event_id, resource, id_part, limit and after",
                ));
            }
        }
    }
    filter.types = Types::try_from(types).map_err(Refusal::bad)?;
    check(&filter)?;
    Ok((filter, page))
}

fn read_limit(text: &str) -> Result<usize, Refusal> {
    let limit = text.parse().ok();
    limit
        .filter(|limit| (1..=PAGE_MAX).contains(limit))
        .ok_or_else(|| Refusal::bad(format!("`limit` must be 1 to {PAGE_MAX}")))
}

/// Checks the limits of a filter.
pub(in crate::admin) fn check(filter: &Filter) -> Result<(), Refusal> {
    let lengths = [
        filter.destination.len(),
        filter.endpoint.len(),
        filter.webhook_id.len(),
        filter.event_id.len(),
        filter.resource.len(),
        filter.status.len(),
    ];
    if lengths.into_iter().all(|length| length <= VALUES_MAX) {
        return Ok(());
    }
    Err(Refusal::bad(format!(
        "at most {VALUES_MAX} ids or names are allowed in one request"
    )))
}
