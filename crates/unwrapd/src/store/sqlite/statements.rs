//! What each verb of the store means in SQL. What changes something runs inside the writer's transaction.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use rusqlite::{Connection, Row, params};

use super::leases::Held;
use super::seen;
use super::writer::Work;
use crate::crash;
use crate::delivery::{Delivery, Lane, Next, later};
use crate::message::Message;
use crate::store::{Accepted, Attempt, Claimed, Settled, StoreError, Tally};

pub(super) use crate::store::numbers::deliveries_of;

pub(super) fn accept(
    work: &mut Work<'_>,
    message: &Message,
    destinations: &[String],
) -> rusqlite::Result<Result<Accepted, StoreError>> {
    let hash = seen::hash(&message.endpoint, &message.webhook_id);
    accept_hashed(work, hash, message, destinations)
}

fn accept_hashed(
    work: &mut Work<'_>,
    hash: u64,
    message: &Message,
    destinations: &[String],
) -> rusqlite::Result<Result<Accepted, StoreError>> {
    let connection = work.connection;
    for seq in work.memory.seen.candidates(hash) {
        if is_of(connection, seq, message)? {
            return Ok(Ok(Accepted::Duplicate));
        }
    }
    if let Err(full) = work.memory.has_room(destinations.len()) {
        return Ok(Err(full));
    }
    let received_at = message.received_at.as_millisecond();
    let seq = work.memory.seen.add(hash, received_at);
    connection
        .prepare_cached(
            "INSERT INTO message (seq, endpoint, webhook_id, event_type, sent_at, received_at, secret) VALUES (?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            seq,
            message.endpoint,
            message.webhook_id,
            message.event_type,
            message.sent_at.as_millisecond(),
            received_at,
            message.secret,
        ])?;
    connection
        .prepare_cached("INSERT INTO body (seq, payload) VALUES (?, ?)")?
        .execute(params![seq, &*message.payload])?;
    let mut insert = connection.prepare_cached(
        "INSERT INTO delivery (id, message, destination, lane, since, due_at) VALUES (?1, ?2, ?3, ?4, ?5, ?5)",
    )?;
    let lane = Lane::of(message.event_type.as_deref());
    for (id, destination) in deliveries_of(seq).zip(destinations) {
        insert.execute(params![id, seq, destination, lane.as_str(), received_at])?;
    }
    work.memory.pend(message.payload.len(), destinations.len());
    crash::point("written");
    Ok(Ok(Accepted::New))
}

fn is_of(connection: &Connection, seq: i64, message: &Message) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM message WHERE seq = ? AND endpoint = ? AND webhook_id = ?")?
        .exists(params![seq, message.endpoint, message.webhook_id])
}

pub(super) fn claim(
    work: &mut Work<'_>,
    destination: &str,
    lane: Lane,
    now: Timestamp,
    lease: Duration,
    limit: usize,
) -> rusqlite::Result<Claimed> {
    let leases = &mut work.memory.leases;
    let mut waiting = work.connection.prepare_cached(
        "SELECT id, due_at FROM delivery WHERE destination = ? AND lane = ? AND state = 'waiting' ORDER BY due_at, id",
    )?;
    let mut waiting = waiting.query(params![destination, lane.as_str()])?;
    let mut claimed = Claimed::default();
    let mut next_due_at: Option<Timestamp> = None;
    while let Some(row) = waiting.next()? {
        let id = row.get(0)?;
        let held = leases.of(id);
        if let Some(held) = held
            && held.ends_at > now
        {
            next_due_at = Some(next_due_at.map_or(held.ends_at, |next| next.min(held.ends_at)));
            continue;
        }
        let due_at = timestamp(row, 1)?;
        if due_at > now || claimed.deliveries.len() == limit {
            next_due_at = Some(next_due_at.map_or(due_at, |next| next.min(due_at)));
            break;
        }
        let mut delivery = delivery(work.connection, id, destination, lane)?;
        if let Some(held) = held {
            // Whoever held it may still be at it: its settlement must not count.
            let attempt = delivery.attempt.max(held.attempt + 1);
            delivery.earlier += attempt - delivery.attempt;
            delivery.attempt = attempt;
        }
        claimed.deliveries.push(delivery);
    }
    let ends_at = later(now, lease);
    let claim = leases.next_claim();
    for delivery in &mut claimed.deliveries {
        delivery.claim = claim;
        let held = Held {
            attempt: delivery.attempt,
            claim,
            ends_at,
        };
        leases.take(delivery.id, held);
        next_due_at = Some(next_due_at.map_or(ends_at, |next| next.min(ends_at)));
    }
    Ok(Claimed {
        next_due_at,
        ..claimed
    })
}

pub(super) fn settle(work: &mut Work<'_>, attempt: &Attempt) -> rusqlite::Result<Settled> {
    let (state, due_at) = match attempt.next {
        Next::Delivered => ("delivered", attempt.ended_at),
        Next::Dead => ("dead", attempt.ended_at),
        Next::Retry { due_at } => ("waiting", due_at),
    };
    if !work.memory.leases.settle(attempt.delivery, attempt.number) {
        return Ok(Settled::Fenced);
    }
    let connection = work.connection;
    let is_settled = connection
        .prepare_cached(
            "UPDATE delivery SET state = ?, due_at = ?, attempt = ?, earlier = earlier + ?3 - 1 - attempt
             WHERE id = ? AND attempt < ?3 AND state = 'waiting'",
        )?
        .execute(params![
            state,
            due_at.as_millisecond(),
            attempt.number,
            attempt.delivery,
        ])?
        > 0;
    if !is_settled {
        // Or it was settled by the same attempt: its commit stood, and it was told that it did not.
        let is_done = connection
            .prepare_cached("SELECT 1 FROM delivery WHERE id = ? AND attempt = ?")?
            .exists(params![attempt.delivery, attempt.number])?;
        return Ok(if is_done {
            Settled::Settled
        } else {
            Settled::Fenced
        });
    }
    connection
        .prepare_cached(
            "INSERT INTO attempt (delivery, number, ended_at, took_ms, answer, body) VALUES (?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            attempt.delivery,
            attempt.number,
            attempt.ended_at.as_millisecond(),
            i64::try_from(attempt.took.as_millis()).unwrap_or(i64::MAX),
            attempt.answer,
            Some(attempt.said.as_str()).filter(|said| !said.is_empty()),
        ])?;
    if !matches!(attempt.next, Next::Retry { .. }) {
        work.memory.done();
    }
    Ok(Settled::Settled)
}

pub(super) fn ready(
    work: &mut Work<'_>,
    now: Timestamp,
) -> rusqlite::Result<Result<(), StoreError>> {
    work.connection
        .prepare_cached("INSERT OR REPLACE INTO readiness (only, checked_at) VALUES (1, ?)")?
        .execute(params![now.as_millisecond()])?;
    Ok(work.memory.has_room(1))
}

pub(super) fn backlog(connection: &Connection) -> rusqlite::Result<Vec<(String, u64)>> {
    connection
        .prepare_cached(
            "SELECT destination, count(*) FROM delivery WHERE state = 'waiting' GROUP BY destination",
        )?
        .query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

pub(super) fn tally(connection: &Connection) -> rusqlite::Result<Tally> {
    connection
        .prepare_cached(
            "SELECT (SELECT count(*) FROM message),
                    count(*) FILTER (WHERE state = 'waiting'),
                    count(*) FILTER (WHERE state = 'delivered'),
                    count(*) FILTER (WHERE state = 'dead' AND dropped_at IS NULL)
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

fn delivery(
    connection: &Connection,
    id: i64,
    destination: &str,
    lane: Lane,
) -> rusqlite::Result<Delivery> {
    connection
        .prepare_cached(
            "SELECT attempt + 1, since, endpoint, webhook_id, event_type, sent_at, received_at, secret, payload, earlier
             FROM delivery JOIN message ON message.seq = delivery.message JOIN body ON body.seq = message.seq
             WHERE delivery.id = ?",
        )?
        .query_row(params![id], |row| {
            Ok(Delivery {
                id,
                destination: destination.to_owned(),
                lane,
                attempt: row.get(0)?,
                claim: 0,
                earlier: row.get(9)?,
                since: timestamp(row, 1)?,
                message: Message {
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

pub(super) fn timestamp(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    let milliseconds: i64 = row.get(column)?;
    Timestamp::from_millisecond(milliseconds)
        .map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, milliseconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Bounds;
    use crate::store::sqlite::memory::Memory;
    use crate::store::sqlite::schema;

    #[test]
    fn ids_whose_hashes_clash_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let connection = schema::connect(&folder.path().join("store.db")).unwrap();
        let bounds = Bounds::default();
        let mut memory = Memory::read(&connection, Timestamp::MIN, &bounds).unwrap();
        let mut accept = |id: &str, endpoint: &str| {
            let message = Message {
                endpoint: endpoint.into(),
                webhook_id: id.into(),
                event_type: None,
                sent_at: Timestamp::UNIX_EPOCH,
                received_at: Timestamp::UNIX_EPOCH,
                secret: None,
                payload: Bytes::new(),
            };
            let mut work = Work {
                connection: &connection,
                memory: &mut memory,
            };
            let accepted = accept_hashed(&mut work, 42, &message, &[]).unwrap();
            memory.commit();
            accepted.unwrap()
        };
        for expected in [Accepted::New, Accepted::Duplicate, Accepted::Duplicate] {
            assert_eq!(accept("wh_1", "production"), expected);
            assert_eq!(accept("wh_2", "production"), expected);
            assert_eq!(accept("wh_1", "staging"), expected);
        }
    }
}
