//! A message and what of it is chosen to be delivered again.

use std::collections::BTreeSet;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::clock::Moment;
use crate::delivery::Lane;
use crate::store::filter::Status;
use crate::store::ids::deliveries_of;
use crate::store::replay::{Choice, Existing, Replay};
use crate::store::sqlite::operate::scan::Candidate;

/// A message and its deliveries, as far as a replay wants to know.
pub(crate) struct Chosen {
    pub(crate) seq: i64,
    pub(crate) lane: Lane,
    pub(crate) deliveries: Vec<Existing>,
}

impl Chosen {
    pub(crate) fn of(connection: &Connection, message: &Candidate) -> rusqlite::Result<Self> {
        Ok(Self {
            seq: message.seq,
            lane: Lane::of(message.event_type.as_deref()),
            deliveries: deliveries(connection, message.seq)?,
        })
    }

    /// The message with this number, unless it is forgotten meanwhile.
    pub(crate) fn read(connection: &Connection, seq: i64) -> rusqlite::Result<Option<Self>> {
        let lane = connection
            .prepare_cached("SELECT event_type FROM message WHERE seq = ?")?
            .query_row(params![seq], |row| {
                Ok(Lane::of(row.get_ref(0)?.as_str_or_null()?))
            })
            .optional()?;
        let Some(lane) = lane else {
            return Ok(None);
        };
        Ok(Some(Self {
            seq,
            lane,
            deliveries: deliveries(connection, seq)?,
        }))
    }

    /// The deliveries of the message to be made again, and whether that is possible: it needs a
    /// body, and room for a missing delivery.
    pub(crate) fn choose(
        &self,
        connection: &Connection,
        replay: &Replay,
    ) -> rusqlite::Result<(Choice<'_>, bool)> {
        let choice = replay.choose(&self.deliveries, true);
        let matters = !choice.again.is_empty() || choice.is_missing || self.deliveries.is_empty();
        if !matters {
            return Ok((choice, true));
        }
        let has_body = connection
            .prepare_cached("SELECT 1 FROM payload WHERE seq = ?")?
            .exists(params![self.seq])?;
        let choice = replay.choose(&self.deliveries, has_body);
        let has_room = !choice.is_missing || self.free_id().is_some();
        Ok((choice, has_body && has_room))
    }

    fn free_id(&self) -> Option<i64> {
        let ids = deliveries_of(self.seq);
        let mut taken = self.deliveries.iter().map(|delivery| delivery.id);
        ids.into_iter().find(|id| taken.next() != Some(*id))
    }

    pub(crate) fn make_due(
        &self,
        connection: &Connection,
        choice: &Choice<'_>,
        to: Option<&str>,
        now: Moment,
        due: &mut BTreeSet<(String, Lane)>,
    ) -> rusqlite::Result<()> {
        let (now, since) = (now.now.as_millisecond(), now.stamp.as_millisecond());
        for delivery in &choice.again {
            connection
                .prepare_cached(
                    "UPDATE delivery SET state = 'waiting', since = ?1, due_at = ?2, uncounted_attempts = settled_attempt, dropped_at = NULL WHERE id = ?3",
                )?
                .execute(params![since, now, delivery.id])?;
            due.insert((delivery.destination.clone(), delivery.lane));
        }
        if choice.is_missing
            && let (Some(to), Some(id)) = (to, self.free_id())
        {
            connection
                .prepare_cached(
                    "INSERT INTO delivery (id, message, destination, lane, since, due_at) VALUES (?, ?, ?, ?, ?, ?)",
                )?
                .execute(params![id, self.seq, to, self.lane.as_str(), since, now])?;
            due.insert((to.to_owned(), self.lane));
        }
        Ok(())
    }
}

/// Makes due now what waits for a time to come.
pub(crate) fn hurry(
    connection: &Connection,
    choice: &Choice<'_>,
    now: Timestamp,
    due: &mut BTreeSet<(String, Lane)>,
) -> rusqlite::Result<()> {
    for delivery in &choice.waiting {
        let hurried = connection
            .prepare_cached(
                "UPDATE delivery SET due_at = ?1 WHERE id = ?2 AND state = 'waiting' AND due_at > ?1",
            )?
            .execute(params![now.as_millisecond(), delivery.id])?;
        if hurried > 0 {
            due.insert((delivery.destination.clone(), delivery.lane));
        }
    }
    Ok(())
}

/// The deliveries of a message, in the order of their ids.
pub(crate) fn deliveries(connection: &Connection, seq: i64) -> rusqlite::Result<Vec<Existing>> {
    let ids = deliveries_of(seq);
    connection
        .prepare_cached(
            "SELECT id, destination, lane, state, dropped_at IS NOT NULL FROM delivery WHERE id BETWEEN ? AND ? ORDER BY id",
        )?
        .query_map(params![ids.start(), ids.end()], |row| {
            Ok(Existing {
                id: row.get(0)?,
                destination: row.get(1)?,
                lane: lane(row.get_ref(2)?.as_str()?),
                status: Status::of(row.get_ref(3)?.as_str()?, row.get(4)?),
            })
        })?
        .collect()
}

/// The schema lets only these be.
pub(crate) fn lane(text: &str) -> Lane {
    Lane::named(text).unwrap_or(Lane::Standard)
}
