//! The partitions of payloads, which are filled in turn. A partition that was closed longer ago
//! than the retention holds few payloads that are still needed. Those are moved into the current
//! partition, and the rest is truncated as a whole.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::postgres::connect::connection::params;
use crate::postgres::connect::failure::Failure;
use crate::postgres::connect::pool::{Pool, Transaction};
use crate::postgres::rows::signed;
use unwrapd_core::delivery::earlier;

/// Number of partitions that hold the messages of the whole retention. There are twelve, so some
/// are left if partitions are emptied late.
const PARTITIONS_FILLED: u32 = 8;
/// Minimum time that a partition is open, and then closed before it is emptied: longer than any
/// transaction that uses it.
const TIME_MIN: Duration = Duration::from_secs(3600);
/// Payloads moved in one step.
const MOVE_MAX: i64 = 256;
/// Longest wait for transactions that read the partition to be emptied, in milliseconds. Later
/// transactions wait as long.
const LOCK_TIME_MS: u32 = 200;
/// Key of the advisory lock for this work.
const LOCK: i64 = 0x736C_6F74;

/// Lets one gateway at a time do this work. The others do not wait.
const ALONE: &str = "SELECT pg_try_advisory_xact_lock($1 # hashtext(current_schema())::int8)";

/// Sets the opening time of the current partition if it has none, or if it is in the future (a
/// clock was set back).
const DATE: &str = "
    UPDATE payload_partition SET opened_at = $1
    WHERE partition = (SELECT partition FROM current_partition) AND (opened_at IS NULL OR opened_at > $1)";

/// Opens the next empty partition if the one being filled is old enough.
const TURN: &str = "
    WITH next AS (
        SELECT empty.partition AS partition, filled.partition AS before
        FROM payload_partition AS empty, payload_partition AS filled
        WHERE empty.opened_at IS NULL AND filled.partition = (SELECT partition FROM current_partition) AND filled.opened_at <= $2
        ORDER BY empty.partition LIMIT 1
    ), opened AS (
        UPDATE payload_partition SET opened_at = CASE WHEN payload_partition.partition = next.partition THEN $1 ELSE opened_at END,
                             closed_at = CASE WHEN payload_partition.partition = next.before THEN $1 END
        FROM next WHERE payload_partition.partition IN (next.partition, next.before)
    )
    UPDATE current_partition SET partition = next.partition FROM next";

/// Finds the partition to empty next.
const OLDEST: &str = "
    SELECT partition::int8 FROM payload_partition WHERE closed_at < $1 ORDER BY closed_at LIMIT 1";

/// Takes a step: opens a partition, moves some payloads or empties a partition. Returns whether
/// more is left to do.
pub(crate) async fn step(
    pool: &Arc<Pool>,
    retention: Duration,
    now: Timestamp,
) -> Result<bool, Failure> {
    let transaction = pool.transaction().await?;
    let alone = transaction.query(ALONE, params![LOCK => INT8]).await?;
    let is_alone = match alone.first() {
        Some(row) => row.try_get(0)?,
        None => false,
    };
    let is_more = is_alone && turn(&transaction, retention, now).await?;
    transaction.commit().await?;
    Ok(is_more)
}

async fn turn(
    transaction: &Transaction,
    retention: Duration,
    now: Timestamp,
) -> Result<bool, Failure> {
    let filled_for = (retention / PARTITIONS_FILLED).max(TIME_MIN);
    let kept_for = retention.max(TIME_MIN);
    let now_ms = now.as_millisecond();
    let opened_before = earlier(now, filled_for).as_millisecond();
    let closed_before = earlier(now, kept_for).as_millisecond();
    transaction.query(DATE, params![now_ms => INT8]).await?;
    transaction
        .query(TURN, params![now_ms => INT8, opened_before => INT8])
        .await?;
    let oldest = transaction
        .query(OLDEST, params![closed_before => INT8])
        .await?;
    let Some(row) = oldest.first() else {
        return Ok(false);
    };
    let partition: i64 = row.try_get(0)?;
    if move_some(transaction, partition).await? {
        return Ok(true);
    }
    empty(transaction, partition).await
}

/// Moves some payloads that are still needed. Returns whether there were any.
async fn move_some(transaction: &Transaction, partition: i64) -> Result<bool, Failure> {
    // Waits for a transaction that prunes or replays the message, which must not lose its payload.
    let sql = format!(
        "WITH needed AS (
             SELECT message.seq FROM message JOIN payload_{partition} AS old ON old.seq = message.seq
             WHERE message.partition = $1::int8 LIMIT $2 FOR NO KEY UPDATE OF message
         ), current AS (SELECT partition FROM current_partition), moved AS (
             UPDATE message SET partition = current.partition FROM current WHERE seq = ANY (ARRAY (SELECT seq FROM needed))
             RETURNING seq, message.partition
         ), copied AS (
             INSERT INTO payload (partition, seq, event_key, resource_key, bytes)
             SELECT moved.partition, seq, event_key, resource_key, bytes FROM moved JOIN payload_{partition} AS old USING (seq)
         )
         SELECT count(*) FROM moved"
    );
    let limit = signed(MOVE_MAX);
    let rows = transaction
        .query(&sql, params![partition => INT8, limit => INT8])
        .await?;
    rows.first()
        .map_or(Ok(false), |row| Ok(row.try_get::<_, i64>(0)? > 0))
}

/// Truncates the partition, unless a transaction reads it or a message needs a payload in it.
/// Returns `false` if it must be tried later.
async fn empty(transaction: &Transaction, partition: i64) -> Result<bool, Failure> {
    transaction.query("SAVEPOINT before", &[]).await?;
    let lock = format!("SET LOCAL lock_timeout TO {LOCK_TIME_MS}");
    transaction.query(&lock, &[]).await?;
    let lock = format!("LOCK TABLE payload_{partition} IN ACCESS EXCLUSIVE MODE");
    if let Err(failure) = transaction.query(&lock, &[]).await {
        tracing::debug!("cannot empty a partition of old payloads yet: {failure:?}");
        transaction
            .query("ROLLBACK TO SAVEPOINT before", &[])
            .await?;
        return Ok(false);
    }
    // From here on no transaction uses the partition. Payloads that were added since the search
    // would show.
    let needed = format!(
        "SELECT 1 FROM message JOIN payload_{partition} AS old ON old.seq = message.seq WHERE message.partition = $1::int8 LIMIT 1"
    );
    if !transaction
        .query(&needed, params![partition => INT8])
        .await?
        .is_empty()
    {
        return Ok(true);
    }
    transaction
        .query(&format!("TRUNCATE payload_{partition}"), &[])
        .await?;
    let note = "UPDATE payload_partition SET opened_at = NULL, closed_at = NULL WHERE partition = $1::int8";
    transaction.query(note, params![partition => INT8]).await?;
    tracing::info!("the space of old payloads was freed");
    Ok(true)
}
