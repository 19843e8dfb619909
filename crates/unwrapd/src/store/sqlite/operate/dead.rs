//! Dropping dead letters: readers find them, the writer marks them.

use jiff::Timestamp;
use rusqlite::{Connection, params};

use crate::store::StoreError;
use crate::store::filter::{Filter, Status};
use crate::store::replay::{AsOf, Dropped};
use crate::store::sqlite::SqliteStore;
use crate::store::sqlite::operate::candidate::{Chosen, deliveries};
use crate::store::sqlite::operate::replay::{ScanPage, find_piece};
use crate::store::sqlite::writer::job::Urgency;

impl SqliteStore {
    pub(crate) async fn step_drop(
        &self,
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
        let piece = self
            .read(move |connection| {
                let from = after.unwrap_or(0);
                let dead = |message: &Chosen| {
                    let deliveries = message.deliveries.iter();
                    Ok(deliveries
                        .filter(|delivery| delivery.is_dead_and_wanted(&filter))
                        .count())
                };
                let piece = find_piece(connection, &selection, from, as_of.newest, limit, dead)?;
                Ok((piece, filter))
            })
            .await?;
        let (ScanPage { messages, next }, filter) = piece;
        let deliveries = if messages.is_empty() {
            0
        } else {
            self.ask(Urgency::NextCommit, move |work| {
                drop_dead(work.connection, &filter, &messages, as_of.at, now)
            })
            .await?
        };
        Ok(Dropped { deliveries, next })
    }
}

fn drop_dead(
    connection: &Connection,
    filter: &Filter,
    messages: &[i64],
    dead_at: Timestamp,
    now: Timestamp,
) -> rusqlite::Result<u64> {
    let mut dropped = 0;
    for &seq in messages {
        for delivery in deliveries(connection, seq)? {
            if delivery.is_dead_and_wanted(filter) {
                dropped += connection
                    .prepare_cached(
                        // What died in between stays. What a clock that was ahead has stamped died before.
                        "UPDATE delivery SET dropped_at = ?1 WHERE id = ?2 AND (due_at <= ?3 OR due_at > ?1)",
                    )?
                    .execute(params![
                        now.as_millisecond(),
                        delivery.id,
                        dead_at.as_millisecond()
                    ])? as u64;
            }
        }
    }
    Ok(dropped)
}
