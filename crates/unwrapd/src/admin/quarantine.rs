//! `/api/v1/quarantine`: requests that could not be verified: list, verify again, or drop.

use std::ops::RangeInclusive;

use axum::extract::{Path, RawQuery, Request, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::bounds::Bounds;
use super::json::{Refusal, answer, read};
use super::operation::Parameter;
use super::query::Query;
use super::tokens::Rights;
use super::{Admin, Route, causes, payload};
use crate::api::{
    DropQuarantinedResult, QuarantinePage, QuarantineSelection, QuarantinedDetail, QuarantinedView,
};
use crate::diagnosis::Cause;
use crate::quarantine::RetryQuarantinedResult;
use crate::store::{QuarantinedRequest, QuarantinedSummary};

/// Maximum number of requests on a page.
const PAGE_MAX: usize = 100;

/// Maximum number of requests that are counted.
const COUNTED_MAX: u64 = 10_000;

/// The parameters of the list.
const PAGE: &[Parameter] = &[
    Parameter::number("after", "the `next` of the previous page"),
    Parameter::within(
        "limit",
        "maximum number of requests on the page",
        1..=PAGE_MAX,
    ),
];
/// The parameter of one request.
const PAYLOAD: &[Parameter] = &[Parameter::flag(
    "payload",
    "whether the answer has the body; 403 if the token may not see it",
)];

pub(super) fn routes() -> Vec<Route> {
    let (much, change) = (Bounds::READ_MUCH, Bounds::CHANGE_MUCH);
    vec![
        Route::get("/api/v1/quarantine", much, list)
            .json::<QuarantinePage>(
                "list_quarantined",
                "Lists the requests that could not be verified, the newest first.",
            )
            .parameters(PAGE),
        Route::get("/api/v1/quarantine/{id}", much, show)
            .json::<QuarantinedDetail>(
                "get_quarantined",
                "Returns one request that could not be verified.",
            )
            .by_number()
            .parameters(PAYLOAD)
            .refuses(StatusCode::NOT_FOUND, "no request has this number"),
        Route::post("/api/v1/quarantine/retry", change, retry)
            .json::<RetryQuarantinedResult>(
                "retry_quarantined",
                "Verifies requests again, and accepts those that succeed.",
            )
            .takes::<QuarantineSelection>(),
        Route::post("/api/v1/quarantine/drop", change, delete_quarantined)
            .json::<DropQuarantinedResult>(
                "drop_quarantined",
                "Deletes requests that could not be verified.",
            )
            .takes::<QuarantineSelection>(),
    ]
}

impl From<QuarantinedSummary> for QuarantinedView {
    fn from(quarantined: QuarantinedSummary) -> Self {
        let webhook_id = quarantined
            .headers
            .iter()
            .find(|(name, _)| name == openai_webhooks::WEBHOOK_ID);
        Self {
            id: quarantined.id,
            webhook_id: webhook_id.map(|(_, value)| value.clone()),
            endpoint: quarantined.endpoint,
            received_at: quarantined.received_at,
            reason: quarantined.reason,
            cause: None,
            cause_name: None,
            size: quarantined.size,
            has_body: quarantined.body,
        }
    }
}

/// The numbers of the selected requests.
fn numbers(selection: QuarantineSelection) -> Result<RangeInclusive<i64>, Refusal> {
    match (selection.id, selection.all, selection.up_to) {
        (Some(id @ 1..), false, None) => Ok(id..=id),
        (None, true, None) => Ok(1..=i64::MAX),
        (None, true, Some(newest @ 1..)) => Ok(1..=newest),
        _ => Err(Refusal::bad(
            "name one request with `id`, a number of 1 or more, or all with `all: true`, and \
             `up_to` with the number of the newest if not all",
        )),
    }
}

async fn list(State(admin): State<Admin>, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    let query = Query::of(query.as_deref());
    let after = query.one("after", |text| {
        let after = text.parse::<i64>();
        after.map_err(|_| Refusal::bad("`after` must be the `next` of the previous page"))
    })?;
    let limit = query.one("limit", |text| {
        let limit = text.parse().ok();
        limit
            .filter(|limit| (1..=PAGE_MAX).contains(limit))
            .ok_or_else(|| Refusal::bad(format!("`limit` must be 1 to {PAGE_MAX}")))
    })?;
    let page = page(&admin, after, limit.unwrap_or(PAGE_MAX)).await?;
    Ok(answer(&page))
}

/// A page of the requests in the quarantine, the newest first.
pub(super) async fn page(
    admin: &Admin,
    after: Option<i64>,
    limit: usize,
) -> Result<QuarantinePage, Refusal> {
    let quarantined_requests = admin.store.list_quarantined(after, limit).await?;
    let next = quarantined_requests
        .last()
        .filter(|_| quarantined_requests.len() == limit)
        .map(|quarantined| quarantined.id);
    let counted = admin.store.count_quarantined(COUNTED_MAX + 1).await?;
    let mut causes = causes::of_page(admin, &quarantined_requests).await?;
    let requests = quarantined_requests.into_iter();
    let requests = requests.map(|quarantined| {
        let cause = causes.remove(&quarantined.id);
        QuarantinedView {
            cause: cause.as_ref().map(Cause::to_string),
            cause_name: cause.as_ref().map(|cause| cause.name().to_owned()),
            ..QuarantinedView::from(quarantined)
        }
    });
    Ok(QuarantinePage {
        total: counted.min(COUNTED_MAX),
        is_exact: counted <= COUNTED_MAX,
        requests: requests.collect(),
        next,
    })
}

async fn show(
    State(admin): State<Admin>,
    Path(id): Path<i64>,
    RawQuery(query): RawQuery,
    rights: Rights,
) -> Result<Response, Refusal> {
    let with_payload = payload::is_wanted(query.as_deref(), rights)?;
    Ok(answer(&one(&admin, id, with_payload, rights).await?))
}

/// The request with this number, as far as the client may see it.
pub(super) async fn one(
    admin: &Admin,
    id: i64,
    with_payload: bool,
    rights: Rights,
) -> Result<QuarantinedDetail, Refusal> {
    let found = admin
        .store
        .read_quarantined(id.saturating_sub(1), 1)
        .await?;
    let Some(quarantined) = found.into_iter().find(|quarantined| quarantined.id == id) else {
        return Err(Refusal::new(
            StatusCode::NOT_FOUND,
            "no request with this number is in the quarantine",
        ));
    };
    let cause = causes::of_one(admin, &quarantined).await?;
    Ok(whole(quarantined, cause.as_ref(), with_payload, rights))
}

fn whole(
    quarantined: QuarantinedRequest,
    cause: Option<&Cause>,
    with_payload: bool,
    rights: Rights,
) -> QuarantinedDetail {
    let has_body = quarantined.body.is_some();
    let is_shown = with_payload && rights.may_see_payloads;
    let body = quarantined.body.filter(|_| is_shown);
    let (payload, payload_base64) = payload::text_or_base64(body);
    QuarantinedDetail {
        id: quarantined.id,
        endpoint: quarantined.endpoint,
        received_at: quarantined.received_at,
        reason: quarantined.reason,
        cause: cause.map(Cause::to_string),
        cause_name: cause.map(|cause| cause.name().to_owned()),
        headers: rights.may_see_payloads.then_some(quarantined.headers),
        size: quarantined.size,
        has_body,
        payload,
        payload_base64,
    }
}

async fn retry(State(admin): State<Admin>, request: Request) -> Result<Response, Refusal> {
    let selection: QuarantineSelection = read(request).await?;
    numbers(selection)?;
    if selection.up_to.is_some() {
        return Err(Refusal::bad("`up_to` is for `drop`"));
    }
    Ok(answer(&admin.quarantine.retry(selection.id).await?))
}

async fn delete_quarantined(
    State(admin): State<Admin>,
    request: Request,
) -> Result<Response, Refusal> {
    let numbers = numbers(read(request).await?)?;
    let dropped = admin.store.delete_quarantined(numbers).await?;
    Ok(answer(&DropQuarantinedResult { dropped }))
}
