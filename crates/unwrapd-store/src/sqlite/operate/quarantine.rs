//! The quarantine in SQL.

use std::ops::RangeInclusive;

use bytes::Bytes;
use rusqlite::types::Type;
use rusqlite::{Connection, Row, params};

use crate::error::StoreError;
use crate::inbox::{Accepted, Recipient};
use crate::quarantine::{QUARANTINED_MAX, Quarantined, QuarantinedRequest, QuarantinedSummary};
use crate::sqlite::queue::accept;
use crate::sqlite::statements::timestamp;
use crate::sqlite::writer::id_hashes::IdHashes;
use crate::sqlite::writer::job::Work;
use unwrapd_core::message::Message;

/// Returns how many went for it.
pub(crate) fn add(
    connection: &Connection,
    quarantined: &QuarantinedRequest,
) -> rusqlite::Result<u64> {
    let headers = serde_json::to_string(&quarantined.headers).expect("texts make JSON");
    connection
        .prepare_cached(
            "INSERT INTO quarantine (endpoint, received_at, reason, headers, size, body) VALUES (?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            quarantined.endpoint,
            quarantined.received_at.as_millisecond(),
            quarantined.reason,
            headers,
            quarantined.size.map(|size| i64::try_from(size).unwrap_or(i64::MAX)),
            quarantined.body.as_deref(),
        ])?;
    let count: i64 = connection
        .prepare_cached("SELECT count(*) FROM quarantine")?
        .query_row((), |row| row.get(0))?;
    let mut gone = 0;
    for _ in QUARANTINED_MAX..count {
        gone += connection
            .prepare_cached(
                "DELETE FROM quarantine WHERE id = (
                     SELECT id FROM quarantine WHERE endpoint = (
                         SELECT endpoint FROM quarantine GROUP BY endpoint ORDER BY count(*) DESC, endpoint = ? DESC LIMIT 1
                     ) ORDER BY body IS NOT NULL, id LIMIT 1)",
            )?
            .execute(params![quarantined.endpoint])?;
    }
    Ok(gone as u64)
}

pub(crate) fn list(
    connection: &Connection,
    after: i64,
    limit: usize,
) -> rusqlite::Result<Vec<QuarantinedRequest>> {
    let rest = "id > ? ORDER BY id";
    select(connection, "body", rest, after, limit, |row| {
        Ok(row.get::<_, Option<Vec<u8>>>(6)?.map(Bytes::from))
    })
}

/// The newest first. The size of a value stands in the head of its row: no page of a body is read.
pub(crate) fn summaries(
    connection: &Connection,
    after: Option<i64>,
    limit: usize,
) -> rusqlite::Result<Vec<QuarantinedSummary>> {
    let after = after.unwrap_or(i64::MAX);
    let rest = "id < ? ORDER BY id DESC";
    select(connection, "body IS NOT NULL", rest, after, limit, |row| {
        row.get(6)
    })
}

/// The number of requests, or `max` if there are more.
pub(crate) fn count(connection: &Connection, max: u64) -> rusqlite::Result<u64> {
    connection
        .prepare_cached("SELECT count(*) FROM (SELECT 1 FROM quarantine LIMIT ?)")?
        .query_row(params![i64::try_from(max).unwrap_or(i64::MAX)], |row| {
            row.get(0)
        })
}

/// The requests on one side of a number, in the order of `rest`.
fn select<B>(
    connection: &Connection,
    body_column: &str,
    rest: &str,
    after: i64,
    limit: usize,
    body: impl Fn(&Row<'_>) -> rusqlite::Result<B>,
) -> rusqlite::Result<Vec<Quarantined<B>>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let sql = format!(
        "SELECT id, endpoint, received_at, reason, headers, size, {body_column} FROM quarantine WHERE {rest} LIMIT ?"
    );
    connection
        .prepare_cached(&sql)?
        .query_map(params![after, limit], |row| {
            Ok(Quarantined {
                id: row.get(0)?,
                endpoint: row.get(1)?,
                received_at: timestamp(row, 2)?,
                reason: row.get(3)?,
                headers: headers(row)?,
                size: row.get(5)?,
                body: body(row)?,
            })
        })?
        .collect()
}

pub(crate) fn accept_quarantined(
    work: &mut Work<'_>,
    quarantined: i64,
    message: &Message,
    recipients: &[Recipient],
) -> rusqlite::Result<Result<Accepted, StoreError>> {
    let outcome = accept::accept(work, IdHashes::of(message), message, recipients)?;
    if outcome.is_ok() {
        delete_quarantined(work.connection, &(quarantined..=quarantined))?;
    }
    Ok(outcome.map(|outcome| Accepted::from(&outcome)))
}

pub(crate) fn delete_quarantined(
    connection: &Connection,
    quarantined_requests: &RangeInclusive<i64>,
) -> rusqlite::Result<u64> {
    let discarded = connection
        .prepare_cached("DELETE FROM quarantine WHERE id BETWEEN ?1 AND ?2")?
        .execute(params![
            quarantined_requests.start(),
            quarantined_requests.end()
        ])?;
    Ok(discarded as u64)
}

fn headers(row: &Row<'_>) -> rusqlite::Result<Vec<(String, String)>> {
    let headers: String = row.get(4)?;
    serde_json::from_str(&headers)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(4, Type::Text, Box::new(error)))
}
