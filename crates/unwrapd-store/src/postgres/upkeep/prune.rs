//! Prunes the store in steps that are too short to delay receiving.
//!
//! A sweep goes through the messages once, the oldest first. Times of arrival come from clocks that
//! may be set, so each message is judged by its own time, and none by its neighbours'. Two gateways
//! may take the same step: the second finds nothing to remove.

use jiff::Timestamp;

use crate::bounds::Bounds;
use crate::maintenance::Pruned;
use crate::postgres::connect::connection::params;
use crate::postgres::connect::failure::Failure;
use crate::postgres::connect::purpose::Purpose;
use crate::postgres::rows::{first_and_last, natural, signed};
use crate::postgres::shared::Shared;
use crate::postgres::traffic;
use crate::postgres::upkeep::payload_partitions;
use crate::retention::{REMOVE_MAX, SweepSchedule, last_read};

/// The range of numbers of the next messages.
const SPAN: &str = "
    SELECT (SELECT seq FROM message WHERE seq > $1 ORDER BY seq LIMIT 1), (SELECT max(seq) FROM message)";

/// Old messages without waiting deliveries. Of a message without content, only the id is stored
/// until the dedupe horizon.
const OLD: &str = "
    SELECT seq FROM message
    WHERE seq BETWEEN $1 AND $2 AND received_at < CASE WHEN partition IS NULL THEN $4 ELSE $3 END AND (partition IS NULL OR NOT EXISTS (
        SELECT FROM delivery
        WHERE id BETWEEN seq * 256 AND seq * 256 + 255 AND (state = 'waiting' OR due_at >= $3) OFFSET 0))
    ORDER BY seq LIMIT $5";

/// Locks the messages against replays. Messages that a replay has locked are skipped.
const LOCK: &str = "SELECT seq FROM message WHERE seq = ANY ($1) FOR UPDATE SKIP LOCKED";

/// Deletes content unless a delivery waits. It sees the effect of replays before the lock.
const FORGET: &str = "
    WITH old AS (
        SELECT seq, partition, received_at FROM message
        WHERE seq = ANY ($1) AND NOT EXISTS (
            SELECT FROM delivery WHERE id BETWEEN seq * 256 AND seq * 256 + 255 AND state = 'waiting' OFFSET 0)
    ), made AS (
        SELECT id FROM old CROSS JOIN LATERAL (
            SELECT id FROM delivery WHERE id BETWEEN old.seq * 256 AND old.seq * 256 + 255 ORDER BY id LIMIT 256
        ) AS found
    ), deliveries AS (
        DELETE FROM delivery WHERE id = ANY (ARRAY (SELECT id FROM made))
    ), attempts AS (
        DELETE FROM attempt WHERE delivery = ANY (ARRAY (SELECT id FROM made))
    ), content AS (
        UPDATE message SET partition = NULL, is_unrouted = NULL WHERE seq = ANY (ARRAY (SELECT seq FROM old WHERE received_at >= $2))
    ), messages AS (
        DELETE FROM message WHERE seq = ANY (ARRAY (SELECT seq FROM old WHERE received_at < $2))
    )
    SELECT count(*) FROM old WHERE partition IS NOT NULL";

/// State of pruning: its schedule and its progress.
#[derive(Debug)]
pub(crate) struct Pruner {
    schedule: SweepSchedule,
    sweep: Option<Sweep>,
}

/// A sweep and its progress.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Sweep {
    /// Old messages with numbers above `after`.
    Old { after: i64 },
    /// Traffic counts, and payloads that no message needs.
    Slots,
}

impl Pruner {
    pub(crate) fn new(bounds: &Bounds) -> Self {
        Self {
            schedule: SweepSchedule::new(bounds),
            sweep: None,
        }
    }

    /// Takes the next step. A failed step is repeated.
    pub(crate) async fn step(
        &mut self,
        shared: &Shared,
        now: Timestamp,
    ) -> Result<Pruned, Failure> {
        if self.sweep.is_none() && self.schedule.begin(now) {
            self.sweep = Some(Sweep::Old { after: 0 });
        }
        let mut messages = 0;
        self.sweep = match self.sweep {
            None => None,
            Some(Sweep::Old { after }) => {
                let (forgotten, after) = self.forget(shared, after, now).await?;
                messages = forgotten;
                Some(after.map_or(Sweep::Slots, |after| Sweep::Old { after }))
            }
            Some(Sweep::Slots) => {
                let before = self.schedule.horizons(now).content;
                let is_more = traffic::delete(&shared.pool, before).await?
                    | payload_partitions::step(&shared.pool, self.schedule.bounds().retention, now)
                        .await?;
                is_more.then_some(Sweep::Slots)
            }
        };
        if self.sweep.is_none() {
            self.schedule.rest(now);
        }
        Ok(Pruned {
            messages,
            is_more: self.sweep.is_some(),
        })
    }

    /// Deletes old content after number `after`. Returns the number of messages whose content was
    /// deleted, and the number up to which it searched; `None`: to the end.
    async fn forget(
        &self,
        shared: &Shared,
        after: i64,
        now: Timestamp,
    ) -> Result<(u64, Option<i64>), Failure> {
        let pool = &shared.pool;
        let horizons = self.schedule.horizons(now);
        let (before, horizon) = (
            horizons.content.as_millisecond(),
            horizons.webhook_id.as_millisecond(),
        );
        let rows = pool
            .once(Purpose::Looking, SPAN, params![after => INT8])
            .await?;
        let Some((first, newest)) = first_and_last(&rows)? else {
            return Ok((0, None));
        };
        let last = last_read(first, newest);
        let limit = signed(REMOVE_MAX);
        let given =
            params![first => INT8, last => INT8, before => INT8, horizon => INT8, limit => INT8];
        let rows = pool.once(Purpose::Looking, OLD, given).await?;
        let old: Vec<i64> = rows
            .iter()
            .map(|row| row.try_get(0))
            .collect::<Result<_, _>>()?;
        let messages = if old.is_empty() {
            0
        } else {
            remove(shared, &old, horizon).await?
        };
        let reached = match old.last() {
            Some(seq) if old.len() == REMOVE_MAX => *seq,
            _ => last,
        };
        Ok((messages, (reached < newest).then_some(reached)))
    }
}

async fn remove(shared: &Shared, old: &[i64], horizon: i64) -> Result<u64, Failure> {
    let transaction = shared.pool.transaction().await?;
    let rows = transaction.query(LOCK, params![old => INT8_ARRAY]).await?;
    let locked: Vec<i64> = rows
        .iter()
        .map(|row| row.try_get(0))
        .collect::<Result<_, _>>()?;
    let given = params![locked => INT8_ARRAY, horizon => INT8];
    let rows = transaction.query(FORGET, given).await?;
    transaction.commit().await?;
    rows.first().map_or(Ok(0), |row| natural(row, 0))
}
