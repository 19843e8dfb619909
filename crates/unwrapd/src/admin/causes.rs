//! The causes of refusals, for requests in the quarantine. They are found when they are read, with
//! the secrets of that time.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use openai_webhooks::{VerificationError, WEBHOOK_ID};
use tokio::task::spawn_blocking;

use super::Admin;
use crate::diagnosis::{Cause, KeyOrders, Refused, Secrets, Work};
use crate::intake::{Endpoint, Rules};
use crate::store::filter::Filter;
use crate::store::{
    MessageView, PAGE_MAX, Page, QuarantinedRequest, QuarantinedSummary, StoreError,
};

/// Most bytes that are hashed for one answer: some milliseconds.
const HASHED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most bytes of these for one request of a page, so that a large one leaves some to the others.
const HASHED_FOR_ONE_MAX: usize = 1024 * 1024;
/// Requests that are read at once: at most 1 MiB of bodies.
const READ_MAX: usize = 16;

/// A request whose cause is searched.
struct Case {
    number: i64,
    endpoint: String,
    headers: Vec<(String, String)>,
    body: Option<Bytes>,
    /// Time of arrival, in Unix seconds.
    arrived_at: i64,
}

/// A search for causes, within a limit of work.
struct Search {
    rules: Arc<Rules>,
    work: Work,
    orders: KeyOrders,
    /// Most bytes that are hashed for one request.
    bytes_for_one_max: usize,
}

/// The cause for one request.
pub(super) async fn of_one(
    admin: &Admin,
    quarantined: &QuarantinedRequest,
) -> Result<Option<Cause>, StoreError> {
    let case = Case {
        number: quarantined.id,
        endpoint: quarantined.endpoint.clone(),
        headers: quarantined.headers.clone(),
        body: quarantined.body.clone(),
        arrived_at: quarantined.received_at.as_second(),
    };
    let search = Search::new(admin, KeyOrders::All, HASHED_BYTES_MAX);
    let searched = search.run(vec![case]).await;
    let found = searched.map_or_else(Vec::new, |(_, found)| found);
    let mut causes = marked(admin, found).await?;
    Ok(causes.remove(&quarantined.id))
}

/// The causes for the requests of a page, by number.
pub(super) async fn of_page(
    admin: &Admin,
    page: &[QuarantinedSummary],
) -> Result<BTreeMap<i64, Cause>, StoreError> {
    // Hundreds of trials for each request would take too long.
    let mut search = Search::new(admin, KeyOrders::Documented, HASHED_FOR_ONE_MAX);
    let mut found = Vec::new();
    for part in page.chunks(READ_MAX) {
        let mut cases: Vec<Case> = part.iter().map(Case::without_body).collect();
        let wanted =
            |(case, summary): (&Case, &QuarantinedSummary)| summary.body && search.needs_body(case);
        if !search.work.is_done() && cases.iter().zip(part).any(wanted) {
            let mut bodies = read_bodies(admin, part).await?;
            for case in &mut cases {
                // A request may have been dropped since.
                case.body = bodies.remove(&case.number);
            }
        }
        let Some((rest, more)) = search.run(cases).await else {
            break;
        };
        search = rest;
        found.extend(more);
    }
    marked(admin, found).await
}

/// The bodies of a part of a page, by number.
async fn read_bodies(
    admin: &Admin,
    part: &[QuarantinedSummary],
) -> Result<BTreeMap<i64, Bytes>, StoreError> {
    let oldest = part.iter().map(|quarantined| quarantined.id).min();
    let before = oldest.unwrap_or_default().saturating_sub(1);
    let found = admin.store.read_quarantined(before, part.len()).await?;
    let bodies = found.into_iter();
    let bodies = bodies.filter_map(|found| Some((found.id, found.body?)));
    Ok(bodies.collect())
}

impl Case {
    fn without_body(quarantined: &QuarantinedSummary) -> Self {
        Self {
            number: quarantined.id,
            endpoint: quarantined.endpoint.clone(),
            headers: quarantined.headers.clone(),
            body: None,
            arrived_at: quarantined.received_at.as_second(),
        }
    }

    fn refused(&self) -> Refused<'_> {
        Refused {
            headers: &self.headers,
            body: self.body.as_deref(),
            arrived_at: self.arrived_at,
        }
    }
}

impl Search {
    fn new(admin: &Admin, orders: KeyOrders, bytes_for_one_max: usize) -> Self {
        Self {
            rules: admin.intake.rules(),
            work: Work::of_bytes(HASHED_BYTES_MAX),
            orders,
            bytes_for_one_max,
        }
    }

    /// Whether a body may show more than the headers alone.
    fn needs_body(&self, case: &Case) -> bool {
        let own = self.rules.endpoints.get(&case.endpoint);
        own.is_some_and(|own| {
            !matches!(
                case.refused().cause_in_headers(own.webhooks()),
                Some(Cause::Header(VerificationError::MissingHeader { .. }))
            )
        })
    }

    /// Searches beside the workers of the runtime, which serve webhooks meanwhile. `None`: it did
    /// not end.
    async fn run(mut self, cases: Vec<Case>) -> Option<(Self, Vec<(Case, Cause)>)> {
        let searched = spawn_blocking(move || {
            let found = cases.into_iter().filter_map(|case| {
                let cause = self.cause(&case)?;
                Some((case, cause))
            });
            let found = found.collect();
            (self, found)
        });
        searched.await.ok()
    }

    /// The cause; `None` also if the limit is reached, and for an endpoint that is not configured.
    fn cause(&mut self, case: &Case) -> Option<Cause> {
        let own = self.rules.endpoints.get(&case.endpoint)?;
        let mut others: Vec<(&String, &Endpoint)> = self
            .rules
            .endpoints
            .iter()
            .filter(|(name, _)| **name != case.endpoint)
            .collect();
        others.sort_unstable_by_key(|(name, _)| *name);
        let others = others.into_iter().map(|(name, other)| {
            let matching = Cause::OtherEndpoint {
                received: case.endpoint.clone(),
                signed: name.clone(),
            };
            (matching, secrets(other))
        });
        let mut work = self.work.part(self.bytes_for_one_max);
        let diagnosis = case
            .refused()
            .diagnose(secrets(own), others, self.orders, &mut work);
        self.work.give_back(&work);
        diagnosis.cause
    }
}

fn secrets(endpoint: &Endpoint) -> Secrets<'_> {
    Secrets {
        webhooks: endpoint.webhooks(),
        count: endpoint.secrets(),
    }
}

/// The causes by number. An old request was replayed if its webhook was accepted.
async fn marked(
    admin: &Admin,
    found: Vec<(Case, Cause)>,
) -> Result<BTreeMap<i64, Cause>, StoreError> {
    let id = |case: &Case| {
        let (_, id) = case.headers.iter().find(|(name, _)| name == WEBHOOK_ID)?;
        Some(id.trim().to_owned())
    };
    let old = found
        .iter()
        .filter(|(_, cause)| matches!(cause, Cause::Time { age: 1.., .. }));
    let webhook_id: Vec<String> = old.filter_map(|(case, _)| id(case)).collect();
    let accepted = accepted(admin, webhook_id).await?;
    let causes = found.into_iter().map(|(case, cause)| {
        let Cause::Time { age: age @ 1.., .. } = cause else {
            return (case.number, cause);
        };
        let id = id(&case);
        let mut accepted = accepted.iter();
        let copied = accepted.find(|message| {
            Some(&message.webhook_id) == id.as_ref() && message.endpoint == case.endpoint
        });
        let cause = copied.map_or(cause, |copied| Cause::Replayed {
            age,
            accepted_at: copied.received_at,
        });
        (case.number, cause)
    });
    Ok(causes.collect())
}

/// The accepted webhooks with these ids.
async fn accepted(admin: &Admin, ids: Vec<String>) -> Result<Vec<MessageView>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let filter = Filter {
        webhook_id: ids.into_iter().collect(),
        ..Filter::default()
    };
    let page = Page::new(None, PAGE_MAX);
    let now = admin.clock.now();
    let page = admin.store.list_messages(&filter, now, page).await?;
    Ok(page.messages)
}
