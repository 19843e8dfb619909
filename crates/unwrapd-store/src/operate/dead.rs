//! Drops dead letters, one bounded step at a time.

use jiff::Timestamp;

use super::select::select;
use super::statements::{DeadLetters, Statements};
use crate::error::StoreError;
use crate::filter::Status;
use crate::replay::{DropRun, Dropped};

/// Drops some of the selected dead letters: those of each message as a whole.
pub(crate) async fn step(
    statements: &impl Statements,
    run: &DropRun,
    now: Timestamp,
) -> Result<Dropped, StoreError> {
    let mut filter = run.filter.clone();
    if filter.status.is_empty() {
        filter.status = vec![Status::Dead];
    }
    let dead_at = run.as_of.at;
    let selection = filter.select(dead_at);
    let within = run.after.unwrap_or(0)..=run.as_of.newest;
    let page = select(statements, &selection, within, run.limit, None, |message| {
        let deliveries = message.deliveries.iter();
        deliveries
            .filter(|delivery| delivery.is_dead_and_wanted(&filter))
            .count()
    })
    .await?;
    let deliveries = if page.messages.is_empty() {
        0
    } else {
        let dead = DeadLetters {
            messages: page.messages,
            filter,
            dead_at,
        };
        statements.drop_dead(dead, now).await?
    };
    Ok(Dropped {
        deliveries,
        next: page.next,
    })
}
