//! Scans the messages in the order of their numbers, one bounded page at a time.

use std::ops::RangeInclusive;

use jiff::Timestamp;

use super::Statements;
use crate::error::StoreError;
use crate::filter::Selection;

/// Most candidates of a page: a bound for memory.
pub(super) const CANDIDATES_MAX: usize = 1000;

/// Direction of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    OldestFirst,
    NewestFirst,
}

/// A message that is selected as far as its own row and its payload show.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) seq: i64,
    pub(crate) webhook_id: String,
    pub(crate) event_type: Option<String>,
    pub(crate) received_at: Timestamp,
}

/// Some candidates, and the number at which the scan continues; `None` at the end.
#[derive(Debug, Default)]
pub(crate) struct ScanPage {
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) next: Option<i64>,
}

/// Messages with selected deliveries, and the number at which the search continues; `None` at the
/// end.
#[derive(Clone, Debug)]
pub(crate) struct SelectedPage {
    pub(crate) messages: Vec<i64>,
    pub(crate) next: Option<i64>,
}

/// The number behind `seq` in this order; `None` if it lies outside `within`.
pub(crate) fn behind(seq: i64, within: &RangeInclusive<i64>, order: Order) -> Option<i64> {
    let next = match order {
        Order::OldestFirst => seq.checked_add(1),
        Order::NewestFirst => seq.checked_sub(1),
    };
    next.filter(|next| within.contains(next))
}

/// The pages of one scan.
pub(super) struct Pages<'s, S> {
    statements: &'s S,
    selection: &'s Selection,
    within: RangeInclusive<i64>,
    order: Order,
    next: Option<i64>,
}

impl<'s, S: Statements> Pages<'s, S> {
    /// Begins a scan of the selected messages within these numbers.
    pub(super) async fn open(
        statements: &'s S,
        selection: &'s Selection,
        within: RangeInclusive<i64>,
        order: Order,
    ) -> Result<Self, StoreError> {
        let within = statements.narrow(selection, within).await?;
        let first = match order {
            Order::OldestFirst => *within.start(),
            Order::NewestFirst => *within.end(),
        };
        Ok(Self {
            statements,
            selection,
            next: Some(first).filter(|first| within.contains(first)),
            within,
            order,
        })
    }

    /// The candidates of the next page, at most `max`; `None` at the end.
    pub(super) async fn next(&mut self, max: usize) -> Result<Option<Vec<Candidate>>, StoreError> {
        let Some(from) = self.next else {
            return Ok(None);
        };
        let rest = match self.order {
            Order::OldestFirst => from..=*self.within.end(),
            Order::NewestFirst => *self.within.start()..=from,
        };
        let page = self
            .statements
            .scan(self.selection, rest, self.order, max)
            .await?;
        self.next = page.next;
        Ok(Some(page.candidates))
    }

    /// Ends the page behind this message, so that the scan continues there.
    pub(super) fn cut_behind(&mut self, seq: i64) {
        self.next = behind(seq, &self.within, self.order);
    }

    /// The number at which the scan continues; `None` at the end.
    pub(super) fn position(&self) -> Option<i64> {
        self.next
    }
}
