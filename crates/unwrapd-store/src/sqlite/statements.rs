//! SQL statements of the store's operations. Changes run inside the writer's transaction.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::error::StoreError;
use crate::maintenance::{SUMMARY_MESSAGES_MAX, StoreUsage, Summary};
use crate::queue::{Attempt, Settled};
use crate::sqlite::migration;
use crate::sqlite::writer::job::Work;
use unwrapd_core::delivery::{Delivery, Lane, Next};
use unwrapd_core::message::{Message, Origin};

pub(crate) fn settle(work: &mut Work<'_>, attempt: &Attempt) -> rusqlite::Result<Settled> {
    let (state, due_at) = consequence(attempt);
    let connection = work.connection;
    if !work.state.leases.settle(attempt.delivery, attempt.number) {
        return settled_before(connection, attempt);
    }
    let is_settled = connection
        .prepare_cached(
            "UPDATE delivery SET state = ?, due_at = ?, settled_attempt = ?,
                 uncounted_attempts = uncounted_attempts + ?3 - 1 - settled_attempt
             WHERE id = ? AND settled_attempt < ?3 AND state = 'waiting'",
        )?
        .execute(params![
            state,
            due_at.as_millisecond(),
            attempt.number,
            attempt.delivery,
        ])?
        > 0;
    if !is_settled {
        return settled_before(connection, attempt);
    }
    connection
        .prepare_cached(
            "INSERT INTO attempt (delivery, number, ended_at, took_ms, summary, excerpt) VALUES (?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            attempt.delivery,
            attempt.number,
            attempt.ended_at.as_millisecond(),
            milliseconds(attempt.took),
            attempt.answer,
            Some(attempt.said.as_str()).filter(|said| !said.is_empty()),
        ])?;
    if !matches!(attempt.next, Next::Retry { .. }) {
        work.state.done();
    }
    Ok(Settled::Settled)
}

/// Checks whether the same settlement, with equal details, was committed before. This happens when
/// the caller got an error because the disk blocked the commit, and repeats the call.
fn settled_before(connection: &Connection, attempt: &Attempt) -> rusqlite::Result<Settled> {
    let (state, due_at) = consequence(attempt);
    let is_settled = connection
        .prepare_cached(
            "SELECT 1 FROM delivery JOIN attempt ON attempt.delivery = delivery.id AND number = settled_attempt
             WHERE id = ? AND number = ? AND state = ? AND due_at = ? AND ended_at = ? AND took_ms = ?",
        )?
        .exists(params![
            attempt.delivery,
            attempt.number,
            state,
            due_at.as_millisecond(),
            attempt.ended_at.as_millisecond(),
            milliseconds(attempt.took),
        ])?;
    Ok(if is_settled {
        Settled::Settled
    } else {
        Settled::Fenced
    })
}

/// The state and the due time of the delivery after the attempt.
fn consequence(attempt: &Attempt) -> (&'static str, Timestamp) {
    match attempt.next {
        Next::Delivered => ("delivered", attempt.ended_at),
        Next::Dead => ("dead", attempt.ended_at),
        Next::Retry { due_at } => ("waiting", due_at),
    }
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

pub(crate) fn ready(
    work: &mut Work<'_>,
    now: Timestamp,
) -> rusqlite::Result<Result<(), StoreError>> {
    work.connection
        .prepare_cached("INSERT OR REPLACE INTO readiness (only, checked_at) VALUES (1, ?)")?
        .execute(params![now.as_millisecond()])?;
    Ok(work.state.has_room(1))
}

pub(crate) fn summary(connection: &Connection) -> rusqlite::Result<Summary> {
    connection
        .prepare_cached("SELECT count(*) FROM (SELECT 1 FROM message LIMIT ?)")?
        .query_row(params![SUMMARY_MESSAGES_MAX], |row| {
            Ok(Summary {
                schema: migration::version(),
                is_new: None,
                messages: row.get(0)?,
            })
        })
}

/// The size of the database and of its log, and the number of requests in the quarantine.
pub(crate) fn usage(connection: &Connection) -> rusqlite::Result<StoreUsage> {
    let log = connection.path().map(|path| format!("{path}-wal"));
    let log_bytes = log.and_then(|log| std::fs::metadata(log).ok());
    let ask = |sql| {
        connection
            .prepare_cached(sql)?
            .query_row((), |row| row.get(0))
    };
    let pages: u64 = ask("PRAGMA page_count")?;
    let page_bytes: u64 = ask("PRAGMA page_size")?;
    Ok(StoreUsage {
        bytes: pages * page_bytes,
        log_bytes: Some(log_bytes.map_or(0, |log| log.len())),
        quarantined: ask("SELECT count(*) FROM quarantine")?,
    })
}

pub(crate) fn delivery(
    connection: &Connection,
    id: i64,
    destination: &str,
    lane: Lane,
) -> rusqlite::Result<Delivery> {
    connection
        .prepare_cached(
            "SELECT settled_attempt + 1, since, endpoint, webhook_id, event_type, sent_at, received_at, secret, bytes, uncounted_attempts, origin
             FROM delivery JOIN message ON message.seq = delivery.message JOIN payload ON payload.seq = message.seq
             WHERE delivery.id = ?",
        )?
        .query_row(params![id], |row| {
            Ok(Delivery {
                id,
                destination: destination.to_owned(),
                lane,
                attempt: row.get(0)?,
                claim: 0,
                uncounted_attempts: row.get(9)?,
                since: timestamp(row, 1)?,
                message: Message {
                    origin: Origin::of_column(row.get_ref(10)?.as_str_or_null()?),
                    endpoint: row.get(2)?,
                    webhook_id: row.get(3)?,
                    event_type: row.get(4)?,
                    sent_at: timestamp(row, 5)?,
                    received_at: timestamp(row, 6)?,
                    secret: row.get(7)?,
                    payload: Bytes::from(row.get::<_, Vec<u8>>(8)?),
                },
            })
        })
}

/// The payload. `None` if it was deleted.
pub(crate) fn payload(connection: &Connection, seq: i64) -> rusqlite::Result<Option<Vec<u8>>> {
    connection
        .prepare_cached("SELECT bytes FROM payload WHERE seq = ?")?
        .query_row(params![seq], |row| row.get(0))
        .optional()
}

pub(crate) fn optional_timestamp(
    row: &Row<'_>,
    column: usize,
) -> rusqlite::Result<Option<Timestamp>> {
    let milliseconds: Option<i64> = row.get(column)?;
    milliseconds.map(|_| timestamp(row, column)).transpose()
}

pub(crate) fn timestamp(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    let milliseconds: i64 = row.get(column)?;
    Timestamp::from_millisecond(milliseconds)
        .map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, milliseconds))
}
