//! Scans the messages in the order of their numbers, one bounded page at a time.

use super::statements::{Candidate, Order, ScanRange, Seqs, Statements, behind};
use crate::error::StoreError;
use crate::filter::Selection;

/// Most candidates of a page: a bound for memory.
pub(super) const CANDIDATES_MAX: usize = 1000;

/// The pages of one scan.
pub(super) struct Pages<'s, S> {
    statements: &'s S,
    selection: &'s Selection,
    within: Seqs,
    order: Order,
    next: Option<i64>,
}

impl<'s, S: Statements> Pages<'s, S> {
    /// Begins a scan of the selected messages within these numbers.
    pub(super) async fn open(
        statements: &'s S,
        selection: &'s Selection,
        within: Seqs,
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
        let range = ScanRange {
            within: match self.order {
                Order::OldestFirst => from..=*self.within.end(),
                Order::NewestFirst => *self.within.start()..=from,
            },
            order: self.order,
            max,
        };
        let page = self.statements.scan(self.selection, range).await?;
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
