//! The record of a replay, or of another bulk run, under its token: its selection and its progress.

use jiff::Timestamp;
use rusqlite::types::{FromSqlError, Type};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::bulk::{BulkAction, BulkState};
use crate::operate::replay_batch::ReplayBatch;
use crate::operate::replay_record::{ReplayRecord, select_record};
use crate::replay::{AsOf, Counts, Replay, ReplayRun, TOKENS_MAX, Token};
use crate::sqlite::operate::scan::newest;
use crate::sqlite::statements::{optional_timestamp, timestamp};

/// Whether no other step was quicker.
pub(crate) fn is_current(connection: &Connection, record: &ReplayRecord) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(
            "SELECT 1 FROM replay WHERE id = ? AND next_message = ? AND ended_at IS NULL",
        )?
        .exists(params![record.id, record.next])
}

/// Records the progress of a step.
pub(crate) fn write(
    connection: &Connection,
    record: &ReplayRecord,
    batch: &ReplayBatch,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let counts = &batch.counts;
    connection
        .prepare_cached(
            "UPDATE replay SET next_message = ?, messages = ?, deliveries = ?, calls = ?, waiting = ?, gone = ?, ended_at = ? WHERE id = ?",
        )?
        .execute(params![
            batch.next.unwrap_or(record.newest + 1),
            counts.messages,
            counts.deliveries,
            counts.calls,
            counts.waiting,
            counts.gone,
            batch.next.is_none().then(|| now.as_millisecond()),
            record.id,
        ])?;
    Ok(())
}

/// The record of this token.
pub(crate) fn read(
    connection: &Connection,
    token: &Token,
) -> rusqlite::Result<Option<ReplayRecord>> {
    connection
        .prepare_cached(select_record!("WHERE token = ?"))?
        .query_row(params![token.as_str()], record)
        .optional()
}

/// The latest records, the newest first.
pub(crate) fn list(connection: &Connection, max: usize) -> rusqlite::Result<Vec<ReplayRecord>> {
    connection
        .prepare_cached(select_record!("ORDER BY id DESC LIMIT ?"))?
        .query_map(params![max], record)?
        .collect()
}

fn record(row: &Row<'_>) -> rusqlite::Result<ReplayRecord> {
    let request: String = row.get(3)?;
    let ended_at = optional_timestamp(row, 14)?;
    let ending: Option<String> = row.get(15)?;
    Ok(ReplayRecord {
        id: row.get(0)?,
        token: token(row, 1)?,
        action: action(row, 2)?,
        request: serde_json::from_str(&request).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(3, Type::Text, Box::new(error))
        })?,
        started_at: timestamp(row, 4)?,
        newest: row.get(5)?,
        next: row.get(6)?,
        counts: Counts {
            messages: row.get(7)?,
            deliveries: row.get(8)?,
            calls: row.get(9)?,
            waiting: row.get(10)?,
            gone: row.get(11)?,
        },
        began_at: optional_timestamp(row, 12)?,
        planned: row.get(13)?,
        state: BulkState::of_columns(ended_at.is_some(), ending.as_deref()),
        ended_at,
        reason: row.get(16)?,
    })
}

pub(crate) fn token(row: &Row<'_>, column: usize) -> rusqlite::Result<Token> {
    let text: String = row.get(column)?;
    text.parse()
        .map_err(|error| FromSqlError::Other(Box::new(error)).into())
}

pub(crate) fn action(row: &Row<'_>, column: usize) -> rusqlite::Result<BulkAction> {
    Ok(BulkAction::of_column(row.get_ref(column)?.as_str()?))
}

/// Creates the record of this run, unless another caller was quicker, and fixes the messages that
/// take part.
pub(crate) fn begin(
    connection: &Connection,
    run: &ReplayRun,
    now: Timestamp,
) -> rusqlite::Result<ReplayRecord> {
    let token = &run.token;
    if let Some(record) = read(connection, token)? {
        return Ok(record);
    }
    let as_of = run.as_of.unwrap_or(AsOf {
        at: now,
        newest: i64::MAX,
    });
    insert(connection, token, &run.replay, as_of)?;
    read(connection, token)?.ok_or(rusqlite::Error::QueryReturnedNoRows)
}

/// Creates a record, and forgets the oldest if there are too many.
pub(crate) fn insert(
    connection: &Connection,
    token: &Token,
    request: &Replay,
    as_of: AsOf,
) -> rusqlite::Result<()> {
    let newest = newest(connection)?.min(as_of.newest);
    let request = serde_json::to_string(request)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    connection.execute(
        "DELETE FROM replay WHERE id <= (SELECT max(id) FROM replay) - ? AND ended_at IS NOT NULL",
        params![TOKENS_MAX],
    )?;
    connection.execute(
        "INSERT INTO replay (token, request, started_at, last_message, next_message) VALUES (?, ?, ?, ?, 0)",
        params![token.as_str(), request, as_of.at.as_millisecond(), newest],
    )?;
    Ok(())
}
