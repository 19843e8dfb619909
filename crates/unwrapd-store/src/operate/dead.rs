//! Drops dead letters, one bounded step at a time.

use jiff::Timestamp;

use super::bulk::BulkStatements;
use super::replay_record::ReplayRecord;
use super::select::select;
use super::statements::{DeadLetters, ReplayPage, SelectedPage, Seqs, Statements};
use crate::error::StoreError;
use crate::filter::{Filter, Status};
use crate::replay::{DropRun, Dropped, ReplayStep};

/// Takes the next step of the bulk run with this record.
pub(super) async fn go_on(
    statements: &impl BulkStatements,
    record: ReplayRecord,
    limit: usize,
    now: Timestamp,
) -> Result<ReplayStep, StoreError> {
    if let Some(end) = record.end() {
        return Ok(end);
    }
    let filter = only_dead(&record.request.filter);
    let within = record.next..=record.newest;
    let selected = select_dead(statements, &filter, record.started_at, within, limit).await?;
    statements
        .drop_page(ReplayPage { record, selected }, now)
        .await
}

/// Drops some of the selected dead letters: those of each message as a whole.
pub(crate) async fn step(
    statements: &impl Statements,
    run: &DropRun,
    now: Timestamp,
) -> Result<Dropped, StoreError> {
    let filter = only_dead(&run.filter);
    let dead_at = run.as_of.at;
    let within = run.after.unwrap_or(0)..=run.as_of.newest;
    let page = select_dead(statements, &filter, dead_at, within, run.limit).await?;
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

/// The next messages with dead letters that the filter wants.
async fn select_dead(
    statements: &impl Statements,
    filter: &Filter,
    dead_at: Timestamp,
    within: Seqs,
    limit: usize,
) -> Result<SelectedPage, StoreError> {
    let selection = filter.select(dead_at);
    select(statements, &selection, within, limit, None, |message| {
        let deliveries = message.deliveries.iter();
        deliveries
            .filter(|delivery| delivery.is_dead_and_wanted(filter))
            .count()
    })
    .await
}

/// The filter, for dead letters unless it names a status.
fn only_dead(filter: &Filter) -> Filter {
    let mut filter = filter.clone();
    if filter.status.is_empty() {
        filter.status = vec![Status::Dead];
    }
    filter
}

impl ReplayPage {
    /// The dead letters of the page of a drop.
    pub(crate) fn dead_letters(&self) -> DeadLetters {
        DeadLetters {
            messages: self.selected.messages.clone(),
            filter: only_dead(&self.record.request.filter),
            dead_at: self.record.started_at,
        }
    }
}
