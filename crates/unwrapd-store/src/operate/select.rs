//! Selects messages by their deliveries.

use std::collections::HashSet;

use super::replay_batch::StoredMessage;
use super::scan::{CANDIDATES_MAX, Pages};
use super::statements::{Candidate, Order, SelectedPage, Seqs, Statements};
use crate::error::StoreError;
use crate::filter::{Filter, Selection};
use crate::replay::Replay;

/// Most pages that one step reads. A page takes some ten milliseconds, so a step is over long
/// before its request, and records its progress.
const STEP_PAGES_MAX: usize = 64;

/// These messages with their deliveries, for a replay.
pub(super) async fn for_replay(
    statements: &impl Statements,
    candidates: &[Candidate],
    replay: &Replay,
) -> Result<Vec<StoredMessage>, StoreError> {
    let mut messages = with_deliveries(statements, candidates).await?;
    let depending: Vec<i64> = messages
        .iter()
        .filter(|message| replay.depends_on_payload(&message.deliveries))
        .map(|message| message.seq)
        .collect();
    if !depending.is_empty() {
        let stored = statements.with_payload(&depending).await?;
        for message in &mut messages {
            message.has_payload =
                stored.contains(&message.seq) || !depending.contains(&message.seq);
        }
    }
    Ok(messages)
}

/// These messages with their deliveries, as if each had its payload.
pub(super) async fn with_deliveries(
    statements: &impl Statements,
    candidates: &[Candidate],
) -> Result<Vec<StoredMessage>, StoreError> {
    if candidates.is_empty() {
        return Ok(Vec::new());
    }
    let seqs: Vec<i64> = candidates.iter().map(|candidate| candidate.seq).collect();
    let deliveries = statements.deliveries(&seqs).await?;
    Ok(StoredMessage::of_candidates(candidates, deliveries))
}

/// Those of these candidates that the filter selects by their deliveries, or because they have none.
pub(super) async fn matching(
    statements: &impl Statements,
    filter: &Filter,
    mut candidates: Vec<Candidate>,
) -> Result<Vec<Candidate>, StoreError> {
    // The list of unrouted messages has no others.
    if !filter.names_deliveries() || filter.names_unrouted_only() {
        return Ok(candidates);
    }
    // Views are dear; the deliveries of many messages are read at once.
    let messages = with_deliveries(statements, &candidates).await?;
    let mut unrouted = HashSet::new();
    if filter.wants_unrouted() {
        let bare = messages.iter().filter(|it| it.deliveries.is_empty());
        let bare: Vec<i64> = bare.map(|message| message.seq).collect();
        if !bare.is_empty() {
            // The others were pruned.
            unrouted = statements.with_payload(&bare).await?;
        }
    }
    let mut selected = messages.iter().map(|message| {
        let mut deliveries = message.deliveries.iter();
        unrouted.contains(&message.seq)
            || deliveries.any(|delivery| filter.wants(&delivery.destination, delivery.status))
    });
    candidates.retain(|_| selected.next().unwrap_or(false));
    Ok(candidates)
}

/// The next messages with selected deliveries, until there are `limit` such deliveries, or the step
/// has read enough. `selected` counts those of a message. Payloads matter for a replay only.
pub(super) async fn select(
    statements: &impl Statements,
    selection: &Selection,
    within: Seqs,
    limit: usize,
    replay: Option<&Replay>,
    selected: impl Fn(&StoredMessage) -> usize,
) -> Result<SelectedPage, StoreError> {
    let mut pages = Pages::open(statements, selection, within, Order::OldestFirst).await?;
    let mut messages = Vec::new();
    let mut deliveries = 0;
    for _ in 0..STEP_PAGES_MAX {
        let Some(candidates) = pages.next(CANDIDATES_MAX).await? else {
            break;
        };
        let found = match replay {
            Some(replay) => for_replay(statements, &candidates, replay).await?,
            None => with_deliveries(statements, &candidates).await?,
        };
        for message in &found {
            let count = selected(message);
            if count > 0 {
                messages.push(message.seq);
                deliveries += count;
            }
            if deliveries >= limit {
                pages.cut_behind(message.seq);
                let next = pages.position();
                return Ok(SelectedPage { messages, next });
            }
        }
    }
    Ok(SelectedPage {
        messages,
        next: pages.position(),
    })
}
