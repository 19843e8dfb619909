//! Makes selected deliveries due, or drops them, inside a transaction of the writer.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::error::StoreError;
use crate::operate::replay_batch::{ReplayBatch, StoredMessage};
use crate::operate::statements::{DeadLetters, ReplayPage};
use crate::replay::ReplayStep;
use crate::sqlite::operate::candidate::deliveries;
use crate::sqlite::operate::replay_record;
use crate::sqlite::operate::scan::has_payload;
use crate::sqlite::unrouted;
use crate::sqlite::writer::job::Work;
use unwrapd_core::clock::Moment;
use unwrapd_core::delivery::Lane;

/// Makes a page due and records the progress. The inner error refuses the step for lack of room.
pub(crate) fn make_due(
    work: &mut Work<'_>,
    page: &ReplayPage,
    now: Moment,
) -> rusqlite::Result<Result<ReplayStep, StoreError>> {
    let connection = work.connection;
    let ReplayPage { record, selected } = page;
    if !replay_record::is_current(connection, record)? {
        return Ok(Ok(record.overtaken()));
    }
    let mut messages = Vec::with_capacity(selected.messages.len());
    for &seq in &selected.messages {
        messages.extend(stored(connection, seq)?);
    }
    let state = &mut *work.state;
    let batch = ReplayBatch::decide(page, &messages, |deliveries| {
        state.has_room_to_replay(deliveries)?;
        state.pend(0, usize::try_from(deliveries).unwrap_or(usize::MAX));
        Ok(())
    });
    let batch = match batch {
        Ok(batch) => batch,
        Err(full) => return Ok(Err(full)),
    };
    let to = record.request.to.as_deref();
    let mut due = batch.due(to);
    begin_again(work, &batch, to, now)?;
    for delivery in &batch.waiting {
        let is_due_now = connection
            .prepare_cached(
                "UPDATE delivery SET due_at = ?1 WHERE id = ?2 AND state = 'waiting' AND due_at > ?1",
            )?
            .execute(params![now.now.as_millisecond(), delivery.id])?;
        // A leased delivery is claimed after its lease, as before.
        if is_due_now > 0 {
            due.insert((delivery.destination.clone(), delivery.lane));
        }
    }
    replay_record::write(connection, record, &batch, now.stamp)?;
    Ok(Ok(batch.step(due)))
}

fn begin_again(
    work: &mut Work<'_>,
    batch: &ReplayBatch,
    to: Option<&str>,
    now: Moment,
) -> rusqlite::Result<()> {
    let connection = work.connection;
    let (now, since) = (now.now.as_millisecond(), now.stamp.as_millisecond());
    for delivery in &batch.again {
        connection
            .prepare_cached(
                "UPDATE delivery SET state = 'waiting', since = ?1, due_at = ?2, \
                 uncounted_attempts = settled_attempt, dropped_at = NULL WHERE id = ?3",
            )?
            .execute(params![since, now, delivery.id])?;
    }
    for delivery in &batch.missing {
        connection
            .prepare_cached(
                "INSERT INTO delivery (id, message, destination, lane, since, due_at) VALUES (?, ?, ?, ?, ?, ?)",
            )?
            .execute(params![delivery.id, delivery.message, to, delivery.lane.as_str(), since, now])?;
        unrouted::remove(work, delivery.message)?;
    }
    Ok(())
}

/// The message with this number; `None`: it was pruned meanwhile.
fn stored(connection: &Connection, seq: i64) -> rusqlite::Result<Option<StoredMessage>> {
    let lane = connection
        .prepare_cached("SELECT event_type FROM message WHERE seq = ?")?
        .query_row(params![seq], |row| {
            Ok(Lane::of(row.get_ref(0)?.as_str_or_null()?))
        })
        .optional()?;
    let Some(lane) = lane else {
        return Ok(None);
    };
    Ok(Some(StoredMessage {
        seq,
        lane,
        has_payload: has_payload(connection, seq)?,
        deliveries: deliveries(connection, seq)?,
    }))
}

/// Drops these dead letters, and returns their number.
pub(crate) fn drop_dead(
    connection: &Connection,
    dead: &DeadLetters,
    now: Timestamp,
) -> rusqlite::Result<u64> {
    let mut dropped = 0;
    for &seq in &dead.messages {
        for delivery in deliveries(connection, seq)? {
            if delivery.is_dead_and_wanted(&dead.filter) {
                // A delivery that died after the plan stays. One with a time in the future died
                // before: the clock was ahead then.
                dropped += connection
                    .prepare_cached(
                        "UPDATE delivery SET dropped_at = ?1 WHERE id = ?2 AND (due_at <= ?3 OR due_at > ?1)",
                    )?
                    .execute(params![
                        now.as_millisecond(),
                        delivery.id,
                        dead.dead_at.as_millisecond()
                    ])? as u64;
            }
        }
    }
    Ok(dropped)
}
