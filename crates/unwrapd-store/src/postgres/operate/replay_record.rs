//! The record of a replay, or of another bulk run, under its token: its selection and its progress.

use std::sync::Arc;

use jiff::Timestamp;
use tokio_postgres::Row;

use crate::bulk::{BulkAction, BulkState};
use crate::error::StoreError;
use crate::operate::replay_batch::ReplayBatch;
use crate::operate::replay_record::{ReplayRecord, select_record};
use crate::postgres::connect::connection::params;
use crate::postgres::connect::failure::Failure;
use crate::postgres::connect::pool::{Pool, Transaction};
use crate::postgres::connect::purpose::Purpose;
use crate::postgres::rows::{natural, optional_timestamp, signed, timestamp};
use crate::replay::{Counts, Replay, ReplayRun, TOKENS_MAX, Token};

const READ: &str = select_record!("WHERE token = $1");

const LIST: &str = select_record!("ORDER BY id DESC LIMIT $1");

/// Begins a record. A second one with the same token changes nothing.
const BEGIN: &str = "
    WITH newest AS (SELECT coalesce(max(seq), 0) AS seq FROM message), forgotten AS (
        DELETE FROM replay WHERE id <= (SELECT max(id) FROM replay) - $5 AND ended_at IS NOT NULL
    )
    INSERT INTO replay (token, request, started_at, last_message)
    SELECT $1, $2, $3, least($4, seq) FROM newest ON CONFLICT (token) DO NOTHING";

const LOCK: &str =
    "SELECT 1 FROM replay WHERE id = $1 AND next_message = $2 AND ended_at IS NULL FOR UPDATE";

const WRITE: &str = "
    UPDATE replay SET next_message = $2, messages = $3, deliveries = $4, calls = $5, waiting = $6, gone = $7, ended_at = $8
    WHERE id = $1";

/// The record of this run. If there is none, it is created, and the messages of the replay are
/// fixed.
pub(crate) async fn read_or_begin(
    pool: &Arc<Pool>,
    run: &ReplayRun,
    now: Timestamp,
) -> Result<ReplayRecord, Failure> {
    let token = &run.token;
    if let Some(record) = read(pool, token).await? {
        return Ok(record);
    }
    let token_text = token.as_str();
    let request = written(&run.replay)?;
    let at = run.as_of.map_or(now, |as_of| as_of.at).as_millisecond();
    let newest = run.as_of.map_or(i64::MAX, |as_of| as_of.newest);
    let given = params![token_text => TEXT, request => TEXT, at => INT8, newest => INT8, TOKENS_MAX => INT8];
    pool.once(Purpose::Looking, BEGIN, given).await?;
    read(pool, token)
        .await?
        .ok_or_else(|| Failure::unavailable("the replay was deleted as it began; run it again"))
}

/// Whether no other step was quicker. If so, other steps wait until the transaction ends.
pub(crate) async fn lock(
    transaction: &Transaction,
    record: &ReplayRecord,
) -> Result<bool, Failure> {
    let given = params![record.id => INT8, record.next => INT8];
    Ok(!transaction.query(LOCK, given).await?.is_empty())
}

/// Records the progress of a step.
pub(crate) async fn write(
    transaction: &Transaction,
    record: &ReplayRecord,
    batch: &ReplayBatch,
    now: Timestamp,
) -> Result<(), Failure> {
    let ended_at = batch.next.is_none().then(|| now.as_millisecond());
    let next = batch.next.unwrap_or(record.newest + 1);
    let counts = &batch.counts;
    let [messages, deliveries, calls, waiting, gone] = [
        counts.messages,
        counts.deliveries,
        counts.calls,
        counts.waiting,
        counts.gone,
    ]
    .map(signed);
    let given = params![
        record.id => INT8, next => INT8, messages => INT8, deliveries => INT8, calls => INT8, waiting => INT8,
        gone => INT8, ended_at => INT8,
    ];
    transaction.query(WRITE, given).await.map(drop)
}

/// The record of this token.
pub(crate) async fn read(pool: &Arc<Pool>, token: &Token) -> Result<Option<ReplayRecord>, Failure> {
    let token = token.as_str();
    let rows = pool
        .once(Purpose::Looking, READ, params![token => TEXT])
        .await?;
    rows.first().map(record).transpose()
}

/// The latest records, the newest first.
pub(crate) async fn list(pool: &Arc<Pool>, max: usize) -> Result<Vec<ReplayRecord>, Failure> {
    let max = signed(max);
    let rows = pool
        .once(Purpose::Looking, LIST, params![max => INT8])
        .await?;
    rows.iter().map(record).collect()
}

/// The request as a text of the database.
pub(crate) fn written(request: &Replay) -> Result<String, Failure> {
    serde_json::to_string(request)
        .map_err(|error| Failure::OfAChange(StoreError::Unavailable(error.to_string())))
}

fn record(row: &Row) -> Result<ReplayRecord, Failure> {
    let ended_at = optional_timestamp(row, 14)?;
    let planned: Option<i64> = row.try_get(13)?;
    Ok(ReplayRecord {
        id: row.try_get(0)?,
        token: token(row, 1)?,
        action: BulkAction::of_column(row.try_get(2)?),
        request: serde_json::from_str(row.try_get(3)?)
            .map_err(|_| Failure::unavailable("the record of the replay cannot be read"))?,
        started_at: timestamp(row, 4)?,
        newest: row.try_get(5)?,
        next: row.try_get(6)?,
        counts: Counts {
            messages: natural(row, 7)?,
            deliveries: natural(row, 8)?,
            calls: natural(row, 9)?,
            waiting: natural(row, 10)?,
            gone: natural(row, 11)?,
        },
        began_at: optional_timestamp(row, 12)?,
        planned: planned.and_then(|planned| planned.try_into().ok()),
        state: BulkState::of_columns(ended_at.is_some(), row.try_get(15)?),
        ended_at,
        reason: row.try_get(16)?,
    })
}

pub(crate) fn token(row: &Row, column: usize) -> Result<Token, Failure> {
    let text: &str = row.try_get(column)?;
    text.parse()
        .map_err(|_| Failure::unavailable("a token in the database is invalid"))
}
