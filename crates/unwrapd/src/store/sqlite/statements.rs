//! What each verb of the store means in SQL. All of it runs inside the writer's transaction.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::crash;
use crate::delivery::{Delivery, Lane, Next, later};
use crate::message::Message;
use crate::store::{Accepted, Attempt, Claimed, Settled, Tally};

/// Leases of a process that is gone hold nothing up: whoever opens the store owns it.
pub(super) fn release_leases(connection: &Connection, now: Timestamp) -> rusqlite::Result<()> {
    connection.execute(
        "UPDATE delivery SET state = 'waiting', due_at = ? WHERE state = 'leased'",
        params![now.as_millisecond()],
    )?;
    Ok(())
}

pub(super) fn accept(
    connection: &Connection,
    message: &Message,
    destinations: &[String],
) -> rusqlite::Result<Accepted> {
    let is_new = connection
        .prepare_cached(
            "INSERT INTO seen (endpoint, webhook_id, received_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            message.endpoint,
            message.webhook_id,
            message.received_at.as_millisecond()
        ])?
        > 0;
    if !is_new {
        return Ok(Accepted::Duplicate);
    }
    let seq = connection
        .prepare_cached(
            "INSERT INTO message (endpoint, webhook_id, event_type, sent_at, received_at, payload) VALUES (?, ?, ?, ?, ?, ?)",
        )?
        .insert(params![
            message.endpoint,
            message.webhook_id,
            message.event_type,
            message.sent_at.as_millisecond(),
            message.received_at.as_millisecond(),
            &*message.payload
        ])?;
    let mut insert = connection.prepare_cached(
        "INSERT INTO delivery (message, destination, lane, due_at) VALUES (?, ?, ?, ?)",
    )?;
    let lane = Lane::of(message.event_type.as_deref());
    for destination in destinations {
        insert.execute(params![
            seq,
            destination,
            lane.as_str(),
            message.received_at.as_millisecond()
        ])?;
    }
    crash::point("written");
    Ok(Accepted::New)
}

pub(super) fn claim(
    connection: &Connection,
    destination: &str,
    lane: Lane,
    now: Timestamp,
    lease: Duration,
    limit: usize,
) -> rusqlite::Result<Claimed> {
    let due = connection
        .prepare_cached(
            "SELECT delivery.id, attempt + 1, endpoint, webhook_id, event_type, sent_at, received_at, payload
             FROM delivery JOIN message ON message.seq = delivery.message
             WHERE destination = ? AND lane = ? AND state IN ('waiting', 'leased') AND due_at <= ?
             ORDER BY due_at LIMIT ?",
        )?
        .query_map(
            params![
                destination,
                lane.as_str(),
                now.as_millisecond(),
                i64::try_from(limit).unwrap_or(i64::MAX)
            ],
            |row| delivery(row, destination, lane),
        )?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let lease_end = later(now, lease).as_millisecond();
    let mut lease = connection.prepare_cached(
        "UPDATE delivery SET state = 'leased', attempt = attempt + 1, due_at = ? WHERE id = ?",
    )?;
    for delivery in &due {
        lease.execute(params![lease_end, delivery.id])?;
    }
    let next_due_at = connection
        .prepare_cached(
            "SELECT due_at FROM delivery WHERE destination = ? AND lane = ? AND state IN ('waiting', 'leased') ORDER BY due_at LIMIT 1",
        )?
        .query_row(params![destination, lane.as_str()], |row| timestamp(row, 0))
        .optional()?;
    Ok(Claimed {
        deliveries: due,
        next_due_at,
    })
}

pub(super) fn settle(connection: &Connection, attempt: &Attempt) -> rusqlite::Result<Settled> {
    let (state, due_at) = match attempt.next {
        Next::Delivered => ("delivered", attempt.ended_at),
        Next::Dead => ("dead", attempt.ended_at),
        Next::Retry { due_at } => ("waiting", due_at),
    };
    // The attempt number is the fence: whoever has claimed the delivery since has moved it on.
    let is_settled = connection
        .prepare_cached(
            "UPDATE delivery SET state = ?, due_at = ? WHERE id = ? AND attempt = ? AND state = 'leased'",
        )?
        .execute(params![
            state,
            due_at.as_millisecond(),
            attempt.delivery,
            attempt.number
        ])?
        > 0;
    if !is_settled {
        return Ok(Settled::Fenced);
    }
    connection
        .prepare_cached(
            "INSERT INTO attempt (delivery, number, ended_at, took_ms, answer) VALUES (?, ?, ?, ?, ?)",
        )?
        .execute(params![
            attempt.delivery,
            attempt.number,
            attempt.ended_at.as_millisecond(),
            i64::try_from(attempt.took.as_millis()).unwrap_or(i64::MAX),
            attempt.answer
        ])?;
    Ok(Settled::Settled)
}

pub(super) fn ready(connection: &Connection, now: Timestamp) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO readiness (only, checked_at) VALUES (1, ?)")?
        .execute(params![now.as_millisecond()])?;
    Ok(())
}

pub(super) fn backlog(connection: &Connection) -> rusqlite::Result<Vec<(String, u64)>> {
    connection
        .prepare_cached(
            "SELECT destination, count(*) FROM delivery WHERE state IN ('waiting', 'leased') GROUP BY destination",
        )?
        .query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

pub(super) fn tally(connection: &Connection) -> rusqlite::Result<Tally> {
    connection
        .prepare_cached(
            "SELECT (SELECT count(*) FROM message),
                    count(*) FILTER (WHERE state IN ('waiting', 'leased')),
                    count(*) FILTER (WHERE state = 'delivered'),
                    count(*) FILTER (WHERE state = 'dead')
             FROM delivery",
        )?
        .query_row((), |row| {
            Ok(Tally {
                messages: row.get(0)?,
                pending: row.get(1)?,
                delivered: row.get(2)?,
                dead: row.get(3)?,
            })
        })
}

fn delivery(row: &Row<'_>, destination: &str, lane: Lane) -> rusqlite::Result<Delivery> {
    Ok(Delivery {
        id: row.get(0)?,
        destination: destination.to_owned(),
        lane,
        attempt: row.get(1)?,
        message: Message {
            endpoint: row.get(2)?,
            webhook_id: row.get(3)?,
            event_type: row.get(4)?,
            sent_at: timestamp(row, 5)?,
            received_at: timestamp(row, 6)?,
            payload: Bytes::from(row.get::<_, Vec<u8>>(7)?),
        },
    })
}

fn timestamp(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    let milliseconds: i64 = row.get(column)?;
    Timestamp::from_millisecond(milliseconds)
        .map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, milliseconds))
}
