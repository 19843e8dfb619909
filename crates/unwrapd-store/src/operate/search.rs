//! Searches for a part of an id: a whole id is found by an index, and only another text reads
//! payloads.

use super::scan::Pages;
use super::statements::{Order, Statements};
use crate::error::StoreError;
use crate::filter::Filter;

/// The same filter, with the whole id in place of a part if a stored message has that id.
pub(super) async fn resolve(
    statements: &impl Statements,
    filter: &Filter,
) -> Result<Filter, StoreError> {
    let Some(part) = &filter.id_part else {
        return Ok(filter.clone());
    };
    if !filter.names_ids() {
        for whole in Filter::for_id(part.as_str()) {
            if is_known(statements, &whole).await? {
                return Ok(Filter {
                    id_part: None,
                    webhook_id: whole.webhook_id,
                    event_id: whole.event_id,
                    resource: whole.resource,
                    ..filter.clone()
                });
            }
        }
    }
    Ok(filter.clone())
}

async fn is_known(statements: &impl Statements, id: &Filter) -> Result<bool, StoreError> {
    let selection = id.select(jiff::Timestamp::MIN);
    let mut pages = Pages::open(statements, &selection, 0..=i64::MAX, Order::OldestFirst).await?;
    while let Some(candidates) = pages.next(1).await? {
        if !candidates.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}
