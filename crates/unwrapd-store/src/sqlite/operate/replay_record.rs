//! The record of a replay under its token: its selection and its progress.

use jiff::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::operate::replay_batch::ReplayBatch;
use crate::operate::replay_record::ReplayRecord;
use crate::replay::{AsOf, Counts, ReplayRun, TOKENS_MAX, Token};
use crate::sqlite::operate::scan::newest;
use crate::sqlite::statements::timestamp;

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
        .prepare_cached(
            "SELECT id, request, started_at, last_message, next_message, messages, deliveries, calls, waiting, gone, ended_at IS NOT NULL
             FROM replay WHERE token = ?",
        )?
        .query_row(params![token.as_str()], |row| {
            let request: String = row.get(1)?;
            Ok(ReplayRecord {
                id: row.get(0)?,
                request: serde_json::from_str(&request).map_err(|error| {
                    rusqlite::Error::FromSqlConversionFailure(1, Type::Text, Box::new(error))
                })?,
                started_at: timestamp(row, 2)?,
                newest: row.get(3)?,
                next: row.get(4)?,
                counts: Counts {
                    messages: row.get(5)?,
                    deliveries: row.get(6)?,
                    calls: row.get(7)?,
                    waiting: row.get(8)?,
                    gone: row.get(9)?,
                },
                has_ended: row.get(10)?,
            })
        })
        .optional()
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
    let newest = newest(connection)?;
    let as_of = run.as_of.map_or(AsOf { at: now, newest }, |as_of| AsOf {
        newest: as_of.newest.min(newest),
        ..as_of
    });
    let request = serde_json::to_string(&run.replay)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    connection.execute(
        "DELETE FROM replay WHERE id <= (SELECT max(id) FROM replay) - ? AND ended_at IS NOT NULL",
        params![TOKENS_MAX],
    )?;
    connection.execute(
        "INSERT INTO replay (token, request, started_at, last_message, next_message) VALUES (?, ?, ?, ?, 0)",
        params![
            token.as_str(),
            request,
            as_of.at.as_millisecond(),
            as_of.newest
        ],
    )?;
    read(connection, token)?.ok_or(rusqlite::Error::QueryReturnedNoRows)
}
