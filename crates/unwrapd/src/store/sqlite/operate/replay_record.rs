//! The record of a replay under its token: its selection and its progress.

use jiff::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::store::replay::{AsOf, Counts, Replay, TOKENS_MAX, Token};
use crate::store::sqlite::operate::scan::newest;
use crate::store::sqlite::statements::timestamp;

/// The record of a replay.
#[derive(Clone)]
pub(crate) struct Record {
    id: i64,
    pub(crate) asked: Replay,
    pub(crate) begun_at: Timestamp,
    pub(crate) newest: i64,
    pub(crate) next: i64,
    pub(crate) counts: Counts,
    pub(crate) has_ended: bool,
}

impl Record {
    /// Whether nobody has come further meanwhile.
    pub(crate) fn is_current(&self, connection: &Connection) -> rusqlite::Result<bool> {
        connection
            .prepare_cached(
                "SELECT 1 FROM replay WHERE id = ? AND next_message = ? AND ended_at IS NULL",
            )?
            .exists(params![self.id, self.next])
    }

    /// Records that the replay has come to the message `next`, or to its end.
    pub(crate) fn write(
        &self,
        connection: &Connection,
        next: Option<i64>,
        counts: &Counts,
        now: Timestamp,
    ) -> rusqlite::Result<()> {
        connection
            .prepare_cached(
                "UPDATE replay SET next_message = ?, messages = ?, deliveries = ?, calls = ?, waiting = ?, gone = ?, ended_at = ? WHERE id = ?",
            )?
            .execute(params![
                next.unwrap_or(self.newest + 1),
                counts.messages,
                counts.deliveries,
                counts.calls,
                counts.waiting,
                counts.gone,
                next.is_none().then(|| now.as_millisecond()),
                self.id,
            ])?;
        Ok(())
    }
}

pub(crate) fn read_record(
    connection: &Connection,
    token: &Token,
) -> rusqlite::Result<Option<Record>> {
    connection
        .prepare_cached(
            "SELECT id, request, started_at, last_message, next_message, messages, deliveries, calls, waiting, gone, ended_at IS NOT NULL
             FROM replay WHERE token = ?",
        )?
        .query_row(params![token.as_str()], |row| {
            let asked: String = row.get(1)?;
            Ok(Record {
                id: row.get(0)?,
                asked: serde_json::from_str(&asked).map_err(|error| {
                    rusqlite::Error::FromSqlConversionFailure(1, Type::Text, Box::new(error))
                })?,
                begun_at: timestamp(row, 2)?,
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

/// Settles what takes part, unless someone else has meanwhile.
pub(crate) fn begin(
    connection: &Connection,
    replay: &Replay,
    token: &Token,
    as_of: Option<AsOf>,
    now: Timestamp,
) -> rusqlite::Result<Record> {
    if let Some(record) = read_record(connection, token)? {
        return Ok(record);
    }
    let newest = newest(connection)?;
    let as_of = as_of.map_or(AsOf { at: now, newest }, |as_of| AsOf {
        newest: as_of.newest.min(newest),
        ..as_of
    });
    let asked = serde_json::to_string(replay)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    connection.execute(
        "DELETE FROM replay WHERE id <= (SELECT max(id) FROM replay) - ? AND ended_at IS NOT NULL",
        params![TOKENS_MAX],
    )?;
    connection.execute(
        "INSERT INTO replay (token, request, started_at, last_message, next_message) VALUES (?, ?, ?, ?, 0)",
        params![
            token.as_str(),
            asked,
            as_of.at.as_millisecond(),
            as_of.newest
        ],
    )?;
    read_record(connection, token)?.ok_or(rusqlite::Error::QueryReturnedNoRows)
}
