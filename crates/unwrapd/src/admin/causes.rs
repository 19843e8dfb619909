//! The causes of refusals, for requests in the quarantine. They are found when they are read, with
//! the secrets of that time.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Admin;
use crate::diagnosis::{Cause, Refused};
use crate::intake::Rules;
use crate::store::{QuarantinedRequest, QuarantinedSummary, StoreError};

/// Most bytes that are hashed for one answer: some milliseconds.
const HASHED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes that one trial hashes at least: the keys and the headers.
const TRIAL_BYTES_MIN: usize = 512;
/// Requests that are read at once: at most 1 MiB of bodies.
const READ_MAX: usize = 16;

/// Finds causes, within a limit of work.
struct Trier {
    rules: Arc<Rules>,
    /// Bytes that may still be hashed.
    left: usize,
}

/// The cause for one request.
pub(super) fn of_one(admin: &Admin, quarantined: &QuarantinedRequest) -> Option<String> {
    let body = quarantined.body.as_deref();
    let refused = Refused {
        endpoint: &quarantined.endpoint,
        headers: &quarantined.headers,
        body,
        arrived_at: quarantined.received_at.as_second(),
    };
    Trier::new(admin).cause(&refused)
}

/// The causes for the requests of a page, in its order, by number.
pub(super) async fn of_page(
    admin: &Admin,
    page: &[QuarantinedSummary],
) -> Result<BTreeMap<i64, String>, StoreError> {
    let mut trier = Trier::new(admin);
    let mut causes = BTreeMap::new();
    for part in page.chunks(READ_MAX) {
        let mut whole = None;
        for quarantined in part {
            let mut refused = Refused {
                endpoint: &quarantined.endpoint,
                headers: &quarantined.headers,
                body: None,
                arrived_at: quarantined.received_at.as_second(),
            };
            if quarantined.body && trier.left > 0 && trier.needs_body(&refused) {
                if whole.is_none() {
                    whole = Some(read(admin, part).await?);
                }
                // A request may have been dropped since.
                let found = whole.as_ref().and_then(|whole| whole.get(&quarantined.id));
                refused.body = found.and_then(|found| found.body.as_deref());
                if let Some(cause) = trier.cause(&refused) {
                    causes.insert(quarantined.id, cause);
                }
                // Other work goes on between the trials.
                tokio::task::yield_now().await;
            } else if let Some(cause) = trier.cause(&refused) {
                causes.insert(quarantined.id, cause);
            }
        }
    }
    Ok(causes)
}

/// The requests of a part of a page, with their bodies, by number.
async fn read(
    admin: &Admin,
    part: &[QuarantinedSummary],
) -> Result<BTreeMap<i64, QuarantinedRequest>, StoreError> {
    let oldest = part.iter().map(|quarantined| quarantined.id).min();
    let before = oldest.unwrap_or_default().saturating_sub(1);
    let found = admin.store.read_quarantined(before, part.len()).await?;
    let by_number = found.into_iter().map(|found| (found.id, found));
    Ok(by_number.collect())
}

impl Trier {
    fn new(admin: &Admin) -> Self {
        Self {
            rules: admin.intake.rules(),
            left: HASHED_BYTES_MAX,
        }
    }

    /// Whether the headers alone do not show the cause.
    fn needs_body(&self, refused: &Refused<'_>) -> bool {
        let own = self.rules.endpoints.get(refused.endpoint);
        own.is_some_and(|own| {
            let cause = refused.cause_in_headers(own.webhooks());
            !matches!(cause, Some(Cause::Header(_)))
        })
    }

    /// The cause; `None` also if the limit is reached, and for an endpoint that is not configured.
    fn cause(&mut self, refused: &Refused<'_>) -> Option<String> {
        let own = self.rules.endpoints.get(refused.endpoint)?;
        let endpoints = self.rules.endpoints.iter();
        let mut others: Vec<_> = endpoints
            .filter(|(name, _)| *name != refused.endpoint)
            .collect();
        others.sort_unstable_by_key(|(name, _)| *name);
        if let Some(body) = refused.body {
            let of_others: usize = others.iter().map(|(_, other)| other.secrets()).sum();
            let trials = 2 * own.secrets() + of_others;
            let bytes = trials.saturating_mul(body.len().saturating_add(TRIAL_BYTES_MIN));
            if bytes > self.left {
                self.left = 0;
                return None;
            }
            self.left -= bytes;
        }
        let others = others
            .into_iter()
            .map(|(name, other)| (&**name, other.webhooks()));
        let cause = refused.cause(own.webhooks(), others)?;
        Some(cause.to_string())
    }
}
