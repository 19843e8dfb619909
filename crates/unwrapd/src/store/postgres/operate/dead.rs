//! Dropping dead letters.

use std::sync::Arc;

use jiff::Timestamp;

use crate::store::filter::{Filter, Status};
use crate::store::postgres::connect::connection::params;
use crate::store::postgres::connect::failure::Failure;
use crate::store::postgres::connect::pool::{Pool, Purpose};
use crate::store::postgres::operate::replay::find;
use crate::store::replay::{AsOf, Dropped};

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

pub(crate) async fn step(
    pool: &Arc<Pool>,
    filter: &Filter,
    as_of: AsOf,
    after: Option<i64>,
    now: Timestamp,
    limit: usize,
) -> Result<Dropped, Failure> {
    let mut filter = filter.clone();
    if filter.status.is_empty() {
        filter.status = vec![Status::Dead];
    }
    let selection = filter.select(as_of.at);
    let within = after.unwrap_or(0)..=as_of.newest;
    let dead = find(pool, &selection, within, limit, |message| {
        let deliveries = message.deliveries.iter();
        deliveries
            .filter(|delivery| delivery.is_dead_and_wanted(&filter))
            .count()
    })
    .await?;
    // Whoever asks for others than dead ones asks for nothing.
    if dead.messages.is_empty() || !filter.status.contains(&Status::Dead) {
        return Ok(Dropped {
            deliveries: 0,
            next: dead.next,
        });
    }
    let (now, dead_at) = (now.as_millisecond(), as_of.at.as_millisecond());
    let destinations = &filter.destination;
    let given = params![
        dead.messages => INT8_ARRAY, now => INT8, dead_at => INT8, destinations => TEXT_ARRAY,
    ];
    let rows = pool.once(Purpose::Looking, DROP, given).await?;
    let deliveries = rows
        .first()
        .map_or(Ok(0), |row| crate::store::postgres::rows::natural(row, 0))?;
    Ok(Dropped {
        deliveries,
        next: dead.next,
    })
}
