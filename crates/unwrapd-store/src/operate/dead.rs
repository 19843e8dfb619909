//! Drops dead letters, one bounded step at a time.

use jiff::Timestamp;

use super::Statements;
use super::select::select;
use crate::error::StoreError;
use crate::filter::{Filter, Status};
use crate::replay::{AsOf, Dropped};

/// Drops up to `limit` selected dead letters, or a few more: a message is dropped as a whole.
pub(crate) async fn step(
    statements: &impl Statements,
    filter: &Filter,
    as_of: AsOf,
    after: Option<i64>,
    now: Timestamp,
    limit: usize,
) -> Result<Dropped, StoreError> {
    let mut filter = filter.clone();
    if filter.status.is_empty() {
        filter.status = vec![Status::Dead];
    }
    let selection = filter.select(as_of.at);
    let within = after.unwrap_or(0)..=as_of.newest;
    let page = select(statements, &selection, within, limit, None, |message| {
        let deliveries = message.deliveries.iter();
        deliveries
            .filter(|delivery| delivery.is_dead_and_wanted(&filter))
            .count()
    })
    .await?;
    let deliveries = if page.messages.is_empty() {
        0
    } else {
        statements
            .drop_dead(&filter, &page.messages, as_of.at, now)
            .await?
    };
    Ok(Dropped {
        deliveries,
        next: page.next,
    })
}
