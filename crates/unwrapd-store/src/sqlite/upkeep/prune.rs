//! Prunes the store in steps that are too short to delay receiving.
//!
//! A sweep goes through the messages once, the oldest first. A reader finds what is old, and the
//! writer removes it. Times of arrival come from a clock that may be set, so each message is judged
//! by its own time, and none by its neighbours'.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::bounds::Bounds;
use crate::error::StoreError;
use crate::ids::deliveries_of;
use crate::retention::{Horizons, REMOVE_MAX, SweepSchedule, last_read};
use crate::sqlite::connection::bytes_used;
use crate::sqlite::error::store_error;
use crate::sqlite::schema;
use crate::sqlite::traffic;
use crate::sqlite::unrouted;
use crate::sqlite::writer::dedupe_block;
use crate::sqlite::writer::job::Work;
use unwrapd_core::delivery::later;

/// Rest of a store near its limit in which nearly everything waits, before the next sweep for
/// settled messages.
const CROWDED_REST: Duration = Duration::from_secs(10);

/// Condition that no delivery of a message is waiting, or was settled after the time.
const IS_SETTLED: &str = "NOT EXISTS (SELECT 1 FROM delivery
    WHERE id BETWEEN message.seq * 256 AND message.seq * 256 + 255 AND (state = 'waiting' OR due_at >= ?1))";

/// State of pruning: its schedule and its progress.
#[derive(Clone, Debug)]
pub(crate) struct Pruner {
    schedule: SweepSchedule,
    sweep: Option<Sweep>,
    /// Until this time, a store near its limit is left alone, because nearly all of it waits.
    crowded_until: Option<Timestamp>,
}

/// A sweep and its progress.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Sweep {
    /// Expired ids and traffic counts.
    Ids,
    /// Old messages with numbers above `after`.
    Old { after: i64 },
    /// Messages without waiting deliveries with numbers above `after`, until there is room.
    Crowded { after: i64 },
}

/// Rows that a step will delete.
#[derive(Debug, Default)]
pub(crate) struct OldPage {
    horizon: Timestamp,
    block: Option<i64>,
    search_block: Option<i64>,
    /// The end of the minutes whose traffic counts will be deleted.
    traffic_until: Option<i64>,
    messages: Vec<Old>,
}

/// A message to delete completely or in part.
#[derive(Debug)]
struct Old {
    seq: i64,
    /// Whether to delete payload, deliveries and attempts.
    content: bool,
    /// Whether to delete the row of the message, so that its id is forgotten.
    row: bool,
}

impl Pruner {
    pub(crate) fn new(bounds: &Bounds) -> Self {
        Self {
            schedule: SweepSchedule::new(bounds),
            sweep: None,
            crowded_until: None,
        }
    }

    /// Whether a sweep is running.
    pub(crate) fn is_at_it(&self) -> bool {
        self.sweep.is_some()
    }

    /// Takes the next step: finds the rows to delete.
    pub(crate) fn look(
        &mut self,
        connection: &Connection,
        now: Timestamp,
    ) -> rusqlite::Result<OldPage> {
        let horizons = self.schedule.horizons(now);
        let horizon = horizons.webhook_id;
        let mut found = OldPage {
            horizon,
            ..OldPage::default()
        };
        self.begin(bytes_used(connection)?, now);
        match self.sweep {
            None => {}
            Some(Sweep::Ids) => {
                found.block = dedupe_block::old_block(connection, horizon)?;
                found.search_block = empty_search_block(connection)?;
                found.traffic_until = traffic::oldest(connection, horizons.content)?;
                if found.is_nothing() {
                    self.sweep = Some(Sweep::Old { after: 0 });
                }
            }
            Some(Sweep::Old { after }) => {
                let (messages, after) = look(connection, after, horizons.content, horizon)?;
                found.messages = messages;
                self.sweep = after.map(|after| Sweep::Old { after });
            }
            Some(Sweep::Crowded { after }) => {
                let (messages, after) = look(connection, after, Timestamp::MAX, horizon)?;
                found.messages = messages;
                self.sweep = after.map(|after| Sweep::Crowded { after });
                if self.sweep.is_none() {
                    self.rest_crowded(now);
                }
            }
        }
        if self.sweep.is_none() {
            self.schedule.rest(now);
        }
        Ok(found)
    }

    /// Begins or ends a sweep, depending on size and time.
    fn begin(&mut self, size: u64, now: Timestamp) {
        if let Some(size_max) = self.schedule.bounds().size_max {
            // A sweep begins while there is still room for new messages, and ends well below that,
            // so that the next one is not due at once.
            let (high, low) = (size_max / 10 * 9, size_max / 10 * 8);
            if let Some(Sweep::Crowded { .. }) = self.sweep {
                if size <= low {
                    self.sweep = None;
                }
            } else if size > high {
                if self.crowded_until.is_none_or(|until| now >= until)
                    || self.schedule.is_set_back(now)
                {
                    self.sweep = Some(Sweep::Crowded { after: 0 });
                    if self.crowded_until.is_none() {
                        tracing::warn!(
                            "the store is near `size_max_mb`: the oldest messages without waiting deliveries are deleted early"
                        );
                    }
                }
            } else if size <= low {
                self.crowded_until = None;
            }
        }
        if self.sweep.is_none() && self.schedule.begin(now) {
            self.sweep = Some(Sweep::Ids);
        }
    }

    fn rest_crowded(&mut self, now: Timestamp) {
        if self.crowded_until.is_none() {
            tracing::warn!(
                "the store is near `size_max_mb`, and nearly all of it is waiting for delivery: \
                 repair the destinations, or raise `size_max_mb`"
            );
        }
        self.crowded_until = Some(later(now, CROWDED_REST));
    }
}

impl OldPage {
    pub(crate) fn is_nothing(&self) -> bool {
        self.block.is_none()
            && self.search_block.is_none()
            && self.traffic_until.is_none()
            && self.messages.is_empty()
    }

    /// Deletes the rows, and returns the number of messages whose content was deleted. Messages
    /// that were replayed in the meantime stay.
    pub(crate) fn remove(&self, work: &mut Work<'_>) -> rusqlite::Result<u64> {
        if let Some(block) = self.block {
            work.state
                .dedupe_index
                .forget_block(work.connection, block, self.horizon)?;
        }
        if let Some(block) = self.search_block {
            work.connection
                .prepare_cached("DELETE FROM search_block WHERE first_seq = ?")?
                .execute(params![block])?;
        }
        if let Some(until) = self.traffic_until {
            traffic::delete(work.connection, until)?;
        }
        let mut removed = 0;
        for old in &self.messages {
            if old.content && !remove_content(work, old.seq)? {
                continue;
            }
            removed += u64::from(old.content);
            if old.row {
                work.connection
                    .prepare_cached("DELETE FROM message WHERE seq = ?")?
                    .execute(params![old.seq])?;
            }
        }
        Ok(removed)
    }
}

/// A block without any message.
fn empty_search_block(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached(
            "SELECT first_seq FROM search_block WHERE NOT EXISTS (
                 SELECT 1 FROM message WHERE seq BETWEEN first_seq AND first_seq + length(keys) / 8 - 1
             ) ORDER BY first_seq LIMIT 1",
        )?
        .query_row((), |row| row.get(0))
        .optional()
}

/// Deletes the content of a message. Returns false, and deletes nothing, if one of its deliveries
/// is waiting.
fn remove_content(work: &mut Work<'_>, seq: i64) -> rusqlite::Result<bool> {
    let connection = work.connection;
    let (first, last) = deliveries_of(seq).into_inner();
    let waits = connection
        .prepare_cached("SELECT 1 FROM delivery WHERE id BETWEEN ? AND ? AND state = 'waiting'")?
        .exists(params![first, last])?;
    if waits {
        return Ok(false);
    }
    connection
        .prepare_cached("DELETE FROM attempt WHERE delivery BETWEEN ? AND ?")?
        .execute(params![first, last])?;
    connection
        .prepare_cached("DELETE FROM delivery WHERE id BETWEEN ? AND ?")?
        .execute(params![first, last])?;
    connection
        .prepare_cached("DELETE FROM payload WHERE seq = ?")?
        .execute(params![seq])?;
    unrouted::remove(work, seq)?;
    Ok(true)
}

/// Finds the next messages after number `after` that arrived and were settled before `before`, or
/// whose ids arrived before `horizon` and have expired. Returns them with the parts to delete, and
/// the number up to which it searched; `None` at the end.
fn look(
    connection: &Connection,
    after: i64,
    before: Timestamp,
    horizon: Timestamp,
) -> rusqlite::Result<(Vec<Old>, Option<i64>)> {
    let (first, newest): (Option<i64>, Option<i64>) = connection
        .prepare_cached(
            "SELECT (SELECT min(seq) FROM message WHERE seq > ?), (SELECT max(seq) FROM message)",
        )?
        .query_row(params![after], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let (Some(first), Some(newest)) = (first, newest) else {
        return Ok((Vec::new(), None));
    };
    let last = last_read(first, newest);
    let mut statement = connection.prepare_cached(&format!(
        "SELECT seq, received_at, EXISTS (SELECT 1 FROM payload WHERE payload.seq = message.seq) FROM message
         WHERE seq BETWEEN ?3 AND ?4 AND received_at < max(?1, ?2) AND {IS_SETTLED} ORDER BY seq"
    ))?;
    let (before, horizon) = (before.as_millisecond(), horizon.as_millisecond());
    let mut rows = statement.query(params![before, horizon, first, last])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let seq = row.get(0)?;
        let received_at: i64 = row.get(1)?;
        let has_content = row.get(2)?;
        let content = has_content && received_at < before;
        // The newest row stays, because the next number is derived from it.
        let row = received_at < horizon && (content || !has_content) && seq != newest;
        if content || row {
            found.push(Old { seq, content, row });
        }
        if found.len() == REMOVE_MAX {
            return Ok((found, Some(seq)));
        }
    }
    Ok((found, (last < newest).then_some(last)))
}

/// Counts the messages that pruning would delete at `now`, and the bytes of their payloads. Only
/// reads, beside a running writer.
pub fn prunable(path: &Path, bounds: &Bounds, now: Timestamp) -> Result<(u64, u64), StoreError> {
    let connection = schema::connect_to_look(path)?;
    schema::check_present(&connection)?;
    connection
        .query_row(
            &format!(
                "SELECT count(*), coalesce(sum(length(bytes)), 0) FROM message JOIN payload ON payload.seq = message.seq
                 WHERE received_at < ?1 AND {IS_SETTLED}"
            ),
            params![Horizons::at(now, bounds).content.as_millisecond()],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .map_err(|error| store_error(&error))
}
