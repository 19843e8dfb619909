//! Messages and deliveries as a replay sees them, and the statements that make them due.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use tokio_postgres::Row;

use crate::filter::Status;
use crate::operate::replay_batch::{ReplayBatch, StoredMessage, by_message};
use crate::postgres::connect::connection::params;
use crate::postgres::connect::failure::Failure;
use crate::postgres::connect::pool::{Pool, Transaction};
use crate::postgres::connect::purpose::Purpose;
use crate::replay::Existing;
use unwrapd_core::clock::Moment;
use unwrapd_core::delivery::Lane;

/// The deliveries of some messages. Message by message, in the order of the index: the planner
/// cannot know how few there are of each, and would read the whole table.
const DELIVERIES: &str = "
    SELECT id, destination, lane, state, dropped_at IS NOT NULL
    FROM unnest($1::int8[]) AS given (seq) CROSS JOIN LATERAL (
        SELECT * FROM delivery WHERE id BETWEEN seq * 256 AND seq * 256 + 255 ORDER BY id LIMIT 256
    ) AS found ORDER BY id";

/// Keeps messages from being pruned, or replayed by another, until the transaction ends.
const LOCK: &str = "
    SELECT seq, event_type, partition IS NOT NULL FROM message WHERE seq = ANY ($1) ORDER BY seq FOR NO KEY UPDATE";

const AGAIN: &str = "
    UPDATE delivery SET state = 'waiting', since = $2, due_at = $3, ready_at = $3, uncounted_attempts = settled_attempt, dropped_at = NULL
    WHERE id = ANY ($1) AND state <> 'waiting'";

const MISSING: &str = "
    INSERT INTO delivery (id, destination, lane, since, due_at, ready_at)
    SELECT id, $2, lane, $4, $5, $5 FROM unnest($1::int8[], $3::text[]) AS given (id, lane)";

const ROUTED: &str = "UPDATE message SET is_unrouted = NULL WHERE seq = ANY ($1) AND is_unrouted";

/// Leased deliveries are under way, and stay.
const HURRY: &str = "
    UPDATE delivery SET due_at = $2, ready_at = $2
    WHERE id = ANY ($1) AND state = 'waiting' AND gateway IS NULL AND due_at > $2
    RETURNING destination, lane";

/// The deliveries of these messages.
pub(crate) async fn deliveries(pool: &Arc<Pool>, seqs: &[i64]) -> Result<Vec<Existing>, Failure> {
    let given = params![seqs => INT8_ARRAY];
    let rows = pool.once(Purpose::Looking, DELIVERIES, given).await?;
    rows.iter().map(existing).collect()
}

/// Numbers of those of these messages whose payload is stored.
pub(crate) async fn with_payload(pool: &Arc<Pool>, seqs: &[i64]) -> Result<HashSet<i64>, Failure> {
    let sql = "SELECT seq FROM message WHERE seq = ANY ($1) AND partition IS NOT NULL";
    let given = params![seqs => INT8_ARRAY];
    let rows = pool.once(Purpose::Looking, sql, given).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// These messages as they are now, and stay until the transaction ends.
pub(crate) async fn lock(
    transaction: &Transaction,
    seqs: &[i64],
) -> Result<Vec<StoredMessage>, Failure> {
    let messages = transaction.query(LOCK, params![seqs => INT8_ARRAY]).await?;
    let rows = transaction
        .query(DELIVERIES, params![seqs => INT8_ARRAY])
        .await?;
    let mut deliveries = by_message(rows.iter().map(existing).collect::<Result<_, _>>()?);
    messages
        .iter()
        .map(|row| {
            let seq = row.try_get(0)?;
            Ok(StoredMessage {
                seq,
                lane: Lane::of(row.try_get(1)?),
                has_payload: row.try_get(2)?,
                deliveries: deliveries.remove(&seq).unwrap_or_default(),
            })
        })
        .collect()
}

/// Makes the deliveries of a batch due, and returns the queues with due deliveries.
pub(crate) async fn make_due(
    transaction: &Transaction,
    batch: &ReplayBatch,
    to: Option<&str>,
    now: Moment,
) -> Result<BTreeSet<(String, Lane)>, Failure> {
    let (now, since) = (now.now.as_millisecond(), now.stamp.as_millisecond());
    let mut due = batch.due(to);
    let waiting = ids(&batch.waiting);
    if !waiting.is_empty() {
        let given = params![waiting => INT8_ARRAY, now => INT8];
        for row in &transaction.query(HURRY, given).await? {
            if let Some(lane) = Lane::named(row.try_get(1)?) {
                due.insert((row.try_get(0)?, lane));
            }
        }
    }
    let again = ids(&batch.again);
    if !again.is_empty() {
        let given = params![again => INT8_ARRAY, since => INT8, now => INT8];
        transaction.query(AGAIN, given).await?;
    }
    if let Some(to) = to
        && !batch.missing.is_empty()
    {
        let new = batch.missing.iter();
        let (missing, lanes): (Vec<i64>, Vec<&str>) = new
            .map(|delivery| (delivery.id, delivery.lane.as_str()))
            .unzip();
        let given = params![
            missing => INT8_ARRAY, to => TEXT, lanes => TEXT_ARRAY, since => INT8, now => INT8,
        ];
        transaction.query(MISSING, given).await?;
        let routed = batch.missing.iter().map(|delivery| delivery.message);
        let routed: Vec<i64> = routed.collect();
        transaction
            .query(ROUTED, params![routed => INT8_ARRAY])
            .await?;
    }
    Ok(due)
}

fn ids(deliveries: &[Existing]) -> Vec<i64> {
    deliveries.iter().map(|delivery| delivery.id).collect()
}

fn existing(row: &Row) -> Result<Existing, Failure> {
    Ok(Existing {
        id: row.try_get(0)?,
        destination: row.try_get(1)?,
        lane: Lane::named(row.try_get(2)?).unwrap_or(Lane::Standard),
        status: Status::of(row.try_get(3)?, row.try_get(4)?),
    })
}
