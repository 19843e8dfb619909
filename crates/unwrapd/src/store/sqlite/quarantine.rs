//! The quarantine in SQL.

use std::ops::RangeInclusive;

use bytes::Bytes;
use jiff::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Connection, Row, params};

use super::accept;
use super::job::Work;
use super::statements::timestamp;
use crate::message::Message;
use crate::store::{Accepted, Recipient, SUSPECTS_MAX, StoreError, Suspect, SuspectSummary};

/// Returns how many went for it.
pub(super) fn add(connection: &Connection, suspect: &Suspect) -> rusqlite::Result<u64> {
    let headers = serde_json::to_string(&suspect.headers).expect("texts make JSON");
    connection
        .prepare_cached(
            "INSERT INTO quarantine (endpoint, received_at, reason, headers, size, body) VALUES (?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            suspect.endpoint,
            suspect.received_at.as_millisecond(),
            suspect.reason,
            headers,
            suspect.size.map(|size| i64::try_from(size).unwrap_or(i64::MAX)),
            suspect.body.as_deref(),
        ])?;
    let count: i64 = connection
        .prepare_cached("SELECT count(*) FROM quarantine")?
        .query_row((), |row| row.get(0))?;
    let mut gone = 0;
    for _ in SUSPECTS_MAX..count {
        gone += connection
            .prepare_cached(
                "DELETE FROM quarantine WHERE id = (
                     SELECT id FROM quarantine WHERE endpoint = (
                         SELECT endpoint FROM quarantine GROUP BY endpoint ORDER BY count(*) DESC, endpoint = ? DESC LIMIT 1
                     ) ORDER BY body IS NOT NULL, id LIMIT 1)",
            )?
            .execute(params![suspect.endpoint])?;
    }
    Ok(gone as u64)
}

pub(super) fn list(
    connection: &Connection,
    after: i64,
    limit: usize,
) -> rusqlite::Result<Vec<Suspect>> {
    connection
        .prepare_cached(
            "SELECT id, endpoint, received_at, reason, headers, size, body FROM quarantine WHERE id > ? ORDER BY id LIMIT ?",
        )?
        .query_map(
            params![after, i64::try_from(limit).unwrap_or(i64::MAX)],
            suspect,
        )?
        .collect()
}

/// The size of a value stands in the head of its row: no page of a body is read.
pub(super) fn summaries(
    connection: &Connection,
    after: i64,
    limit: usize,
) -> rusqlite::Result<Vec<SuspectSummary>> {
    connection
        .prepare_cached(
            "SELECT id, endpoint, received_at, reason, headers, size, body IS NOT NULL FROM quarantine WHERE id > ? ORDER BY id LIMIT ?",
        )?
        .query_map(
            params![after, i64::try_from(limit).unwrap_or(i64::MAX)],
            |row| {
                Ok(SuspectSummary {
                    id: row.get(0)?,
                    endpoint: row.get(1)?,
                    received_at: timestamp(row, 2)?,
                    reason: row.get(3)?,
                    headers: headers(row)?,
                    size: row.get(5)?,
                    has_body: row.get(6)?,
                })
            },
        )?
        .collect()
}

pub(super) fn acquit(
    work: &mut Work<'_>,
    suspect: i64,
    message: &Message,
    recipients: &[Recipient],
) -> rusqlite::Result<Result<Accepted, StoreError>> {
    let fate = accept::accept(work, message, recipients)?;
    if fate.is_ok() {
        discard(work.connection, &(suspect..=suspect))?;
    }
    Ok(fate.map(|fate| Accepted::from(&fate)))
}

pub(super) fn discard(
    connection: &Connection,
    suspects: &RangeInclusive<i64>,
) -> rusqlite::Result<u64> {
    let discarded = connection
        .prepare_cached("DELETE FROM quarantine WHERE id BETWEEN ?1 AND ?2")?
        .execute(params![suspects.start(), suspects.end()])?;
    Ok(discarded as u64)
}

fn suspect(row: &Row<'_>) -> rusqlite::Result<Suspect> {
    let received_at: Timestamp = timestamp(row, 2)?;
    Ok(Suspect {
        id: row.get(0)?,
        endpoint: row.get(1)?,
        received_at,
        reason: row.get(3)?,
        headers: headers(row)?,
        size: row.get(5)?,
        body: row.get::<_, Option<Vec<u8>>>(6)?.map(Bytes::from),
    })
}

fn headers(row: &Row<'_>) -> rusqlite::Result<Vec<(String, String)>> {
    let headers: String = row.get(4)?;
    serde_json::from_str(&headers)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(4, Type::Text, Box::new(error)))
}
