//! Messages as operators see them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::filter::{Filter, Status};
use crate::ids::message_of;
use crate::operate::statements::ViewRequest;
use crate::postgres::connect::connection::params;
use crate::postgres::connect::failure::Failure;
use crate::postgres::connect::pool::Pool;
use crate::postgres::connect::purpose::Purpose;
use crate::postgres::rows::{natural, signed, timestamp};
use crate::views::{ATTEMPTS_SHOWN_IN_ALL_MAX, AttemptView, DeliveryView, MessageView};
use unwrapd_core::delivery::Lane;
use unwrapd_core::message::{Origin, resource_in};

const MESSAGES: &str = "
    SELECT message.seq, webhook_id, endpoint, event_type, sent_at, received_at, secret, octet_length(bytes)::int8, bytes, origin
    FROM message LEFT JOIN payload ON payload.partition = message.partition AND payload.seq = message.seq WHERE message.seq = ANY ($1)";

/// Message by message, in the order of the index: the planner cannot know how few there are of
/// each, and would read the whole table.
const DELIVERIES: &str = "
    SELECT id, destination, lane, state, dropped_at IS NOT NULL, since, coalesce(dropped_at, due_at), settled_attempt::int8
    FROM unnest($1::int8[]) AS given (seq) CROSS JOIN LATERAL (
        SELECT * FROM delivery WHERE id BETWEEN seq * 256 AND seq * 256 + 255 ORDER BY id LIMIT 256
    ) AS found ORDER BY id";

const ATTEMPTS: &str = "
    SELECT delivery, number::int8, ended_at, took_ms, summary, excerpt
    FROM unnest($1::int8[]) AS given (id) CROSS JOIN LATERAL (
        SELECT * FROM attempt WHERE delivery = given.id ORDER BY number DESC LIMIT $2
    ) AS latest ORDER BY delivery, number";

/// These messages in this order, with the deliveries that the filter selects.
pub(crate) async fn views(
    pool: &Arc<Pool>,
    request: &ViewRequest,
) -> Result<Vec<(i64, MessageView)>, Failure> {
    let ViewRequest {
        messages: seqs,
        filter,
        attempts_max,
        with_payload,
    } = request;
    let Deliveries {
        mut selected,
        routed,
    } = deliveries(pool, seqs, filter, *attempts_max).await?;
    let given = params![seqs => INT8_ARRAY];
    let rows = pool.once(Purpose::Looking, MESSAGES, given).await?;
    let mut found = HashMap::with_capacity(rows.len());
    for row in &rows {
        let seq: i64 = row.try_get(0)?;
        let deliveries = selected.remove(&seq).unwrap_or_default();
        let payload: Option<&[u8]> = row.try_get(8)?;
        if deliveries.is_empty() && filter.names_deliveries() {
            // Pruning deletes the deliveries together with the payload.
            let is_unrouted = !routed.contains(&seq) && payload.is_some();
            if !(filter.wants_unrouted() && is_unrouted) {
                continue;
            }
        }
        let message = MessageView {
            webhook_id: row.try_get(1)?,
            endpoint: row.try_get(2)?,
            event_type: row.try_get(3)?,
            sent_at: timestamp(row, 4)?,
            received_at: timestamp(row, 5)?,
            origin: Origin::of_column(row.try_get(9)?),
            resource: payload.and_then(resource_in),
            secret: row
                .try_get::<_, Option<i64>>(6)?
                .and_then(|secret| u32::try_from(secret).ok()),
            bytes: row
                .try_get::<_, Option<i64>>(7)?
                .and_then(|bytes| u64::try_from(bytes).ok()),
            deliveries,
            payload: payload
                .filter(|_| *with_payload)
                .map(Bytes::copy_from_slice),
        };
        found.insert(seq, message);
    }
    Ok(seqs
        .iter()
        .filter_map(|seq| found.remove_entry(seq))
        .collect())
}

/// Deliveries of some messages.
struct Deliveries {
    /// The selected ones, by message.
    selected: HashMap<i64, Vec<DeliveryView>>,
    /// The messages that have any.
    routed: HashSet<i64>,
}

/// The selected deliveries, with their latest attempts in order of time.
async fn deliveries(
    pool: &Arc<Pool>,
    seqs: &[i64],
    filter: &Filter,
    attempts_max: usize,
) -> Result<Deliveries, Failure> {
    let given = params![seqs => INT8_ARRAY];
    let rows = pool.once(Purpose::Looking, DELIVERIES, given).await?;
    let mut wanted = Vec::new();
    let mut routed = HashSet::new();
    for row in &rows {
        routed.insert(message_of(row.try_get(0)?));
        let status = Status::of(row.try_get(3)?, row.try_get(4)?);
        if filter.wants(row.try_get(1)?, status) {
            wanted.push((row.try_get::<_, i64>(0)?, status, row));
        }
    }
    let ids: Vec<i64> = wanted.iter().map(|(id, ..)| *id).collect();
    let attempts_max = (ATTEMPTS_SHOWN_IN_ALL_MAX / ids.len().max(1)).clamp(1, attempts_max);
    let mut attempts = attempts(pool, &ids, attempts_max).await?;
    let mut selected: HashMap<i64, Vec<DeliveryView>> = HashMap::new();
    for (id, status, row) in wanted {
        let of_message = selected.entry(message_of(id)).or_default();
        of_message.push(DeliveryView {
            destination: row.try_get(1)?,
            lane: Lane::named(row.try_get(2)?).unwrap_or(Lane::Standard),
            status,
            since: timestamp(row, 5)?,
            at: timestamp(row, 6)?,
            attempts: natural(row, 7)?,
            latest: attempts.remove(&id).unwrap_or_default(),
        });
    }
    Ok(Deliveries { selected, routed })
}

async fn attempts(
    pool: &Arc<Pool>,
    deliveries: &[i64],
    max: usize,
) -> Result<HashMap<i64, Vec<AttemptView>>, Failure> {
    if deliveries.is_empty() {
        return Ok(HashMap::new());
    }
    let max = signed(max);
    let given = params![deliveries => INT8_ARRAY, max => INT8];
    let rows = pool.once(Purpose::Looking, ATTEMPTS, given).await?;
    let mut attempts: HashMap<i64, Vec<AttemptView>> = HashMap::new();
    for row in &rows {
        attempts
            .entry(row.try_get(0)?)
            .or_default()
            .push(AttemptView {
                number: natural(row, 1)?,
                ended_at: timestamp(row, 2)?,
                took_ms: natural(row, 3)?,
                answer: row.try_get(4)?,
                body: row.try_get(5)?,
            });
    }
    Ok(attempts)
}
