//! Makes selected deliveries due, or drops them, in one transaction.

use std::sync::Arc;

use jiff::Timestamp;

use crate::filter::Status;
use crate::operate::replay_batch::ReplayBatch;
use crate::operate::statements::{DeadLetters, ReplayPage};
use crate::postgres::connect::connection::params;
use crate::postgres::connect::failure::Failure;
use crate::postgres::connect::pool::{Pool, Transaction};
use crate::postgres::connect::purpose::Purpose;
use crate::postgres::operate::{candidate, replay_record};
use crate::postgres::rows::{all_storable, natural};
use crate::postgres::shared::Shared;
use crate::replay::ReplayStep;
use unwrapd_core::clock::Moment;
use unwrapd_core::crash::{self, CrashPoint};

/// Drops the deliveries of these messages that were dead then and still are.
const DROP: &str = "
    WITH dropped AS (
        UPDATE delivery SET dropped_at = $2
        WHERE id = ANY (ARRAY (
                SELECT id FROM unnest($1::int8[]) AS given (seq) CROSS JOIN LATERAL (
                    SELECT id FROM delivery WHERE id BETWEEN seq * 256 AND seq * 256 + 255 ORDER BY id LIMIT 256
                ) AS found))
            AND state = 'dead' AND dropped_at IS NULL AND (due_at <= $3 OR due_at > $2)
            AND (cardinality($4::text[]) = 0 OR destination = ANY ($4))
        RETURNING id
    )
    SELECT count(*) FROM dropped";

/// Makes a page due and records the progress.
pub(crate) async fn make_due(
    shared: &Shared,
    page: &ReplayPage,
    now: Moment,
) -> Result<ReplayStep, Failure> {
    let ReplayPage { record, selected } = page;
    let transaction = shared.pool.transaction().await?;
    if !replay_record::lock(&transaction, record).await? {
        transaction.commit().await?;
        return Ok(record.overtaken());
    }
    let messages = candidate::lock(&transaction, &selected.messages).await?;
    let mut reserved = Vec::new();
    let batch = ReplayBatch::decide(page, &messages, |deliveries| {
        reserved.push(shared.capacity.reserve_to_replay(deliveries)?);
        Ok(())
    })
    .map_err(Failure::OfAChange)?;
    let to = record.request.to.as_deref();
    let due = candidate::make_due(&transaction, &batch, to, now).await?;
    replay_record::write(&transaction, record, &batch, now.stamp).await?;
    crash::point(CrashPoint::Replayed);
    transaction.commit().await?;
    for reservation in reserved {
        reservation.keep();
    }
    for (destination, lane) in &due {
        shared.claim_floors.forget(destination, *lane);
        shared.notifications.notify_all([destination], *lane);
    }
    Ok(batch.step(due))
}

/// Drops these dead letters within the transaction, or in one of its own, and returns their number.
pub(crate) async fn drop_dead(
    pool: &Arc<Pool>,
    transaction: Option<&Transaction>,
    dead: &DeadLetters,
    now: Timestamp,
) -> Result<u64, Failure> {
    if !dead.filter.status.contains(&Status::Dead) {
        return Ok(0);
    }
    let (now, dead_at) = (now.as_millisecond(), dead.dead_at.as_millisecond());
    let destinations = all_storable(&dead.filter.destination);
    let given = params![
        dead.messages => INT8_ARRAY, now => INT8, dead_at => INT8, destinations => TEXT_ARRAY,
    ];
    let rows = match transaction {
        Some(transaction) => transaction.query(DROP, given).await?,
        None => pool.once(Purpose::Looking, DROP, given).await?,
    };
    rows.first().map_or(Ok(0), |row| natural(row, 0))
}
