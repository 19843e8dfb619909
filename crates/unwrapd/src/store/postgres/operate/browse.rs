//! Reads stored messages for people.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;

use crate::delivery::Lane;
use crate::message::{Origin, resource_in};
use crate::store::filter::{Filter, Status};
use crate::store::postgres::connect::connection::params;
use crate::store::postgres::connect::failure::Failure;
use crate::store::postgres::connect::pool::{Pool, Purpose};
use crate::store::postgres::operate::scan::{Order, behind, narrow, newest, scan_page};
use crate::store::postgres::rows::{natural, signed, timestamp};
use crate::store::{
    ATTEMPTS_SHOWN_IN_ALL_MAX, ATTEMPTS_SHOWN_MAX, AttemptView, DeliveryView, MessagePage,
    MessageView, PAGE_MAX, Page, PageBuilder,
};

/// Messages fetched at once for a page. Each may have 256 deliveries with 2 KiB of an answer.
const MESSAGES_AT_ONCE_MAX: usize = 32;

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

pub(crate) async fn find(
    pool: &Arc<Pool>,
    filter: &Filter,
    now: Timestamp,
    page: Page,
) -> Result<MessagePage, Failure> {
    let selection = filter.select(now);
    let limit = page.limit.clamp(1, PAGE_MAX);
    let newest = match page.after {
        Some(after) => after,
        None => newest(pool).await?,
    };
    let within = narrow(pool, &selection, 1..=newest).await?;
    let mut filling = PageBuilder::default();
    let mut next = Some(*within.end());
    while let Some(from) = next
        && !filling.is_full(limit)
    {
        let found = scan_page(pool, &selection, *within.start()..=from, Order::NewestFirst).await?;
        next = found.next;
        let mut candidates = &found.candidates[..];
        while !candidates.is_empty() && !filling.is_full(limit) {
            let capacity = (limit - filling.messages.len()).min(MESSAGES_AT_ONCE_MAX);
            let (some, rest) = candidates.split_at(candidates.len().min(capacity));
            let seqs: Vec<i64> = some.iter().map(|candidate| candidate.seq).collect();
            for message in kept(pool, &seqs, filter, 1, false).await? {
                filling.push(message);
            }
            candidates = rest;
            if let Some(last) = seqs.last()
                && filling.is_full(limit)
            {
                next = behind(*last, &within, Order::NewestFirst);
            }
        }
    }
    let messages = filling.messages;
    Ok(MessagePage { messages, next })
}

pub(crate) async fn show(
    pool: &Arc<Pool>,
    id: &str,
    with_payload: bool,
) -> Result<Vec<MessageView>, Failure> {
    for filter in Filter::for_id(id) {
        let found = show_filtered(pool, &filter, with_payload).await?;
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Ok(Vec::new())
}

async fn show_filtered(
    pool: &Arc<Pool>,
    filter: &Filter,
    with_payload: bool,
) -> Result<Vec<MessageView>, Failure> {
    let selection = filter.select(Timestamp::MIN);
    let mut filling = PageBuilder::default();
    let mut next = Some(0);
    while let Some(from) = next {
        let found = scan_page(pool, &selection, from..=i64::MAX, Order::OldestFirst).await?;
        next = found.next;
        let all = Filter::default();
        for candidate in &found.candidates {
            let (attempts_max, with_payload) = if filling.is_heavy() {
                (1, false)
            } else {
                (ATTEMPTS_SHOWN_MAX, with_payload)
            };
            for message in kept(pool, &[candidate.seq], &all, attempts_max, with_payload).await? {
                filling.push(message);
            }
        }
    }
    Ok(filling.messages)
}

/// These messages, in this order, with the deliveries that the filter wants; without those of which it wants none.
async fn kept(
    pool: &Arc<Pool>,
    seqs: &[i64],
    filter: &Filter,
    attempts_max: usize,
    with_payload: bool,
) -> Result<Vec<MessageView>, Failure> {
    let mut deliveries = deliveries(pool, seqs, filter, attempts_max).await?;
    let given = params![seqs => INT8_ARRAY];
    let rows = pool.once(Purpose::Looking, MESSAGES, given).await?;
    let mut found = HashMap::with_capacity(rows.len());
    for row in &rows {
        let seq: i64 = row.try_get(0)?;
        let deliveries = deliveries.remove(&seq).unwrap_or_default();
        if deliveries.is_empty() && filter.names_deliveries() {
            continue;
        }
        let payload: Option<&[u8]> = row.try_get(8)?;
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
            payload: payload.filter(|_| with_payload).map(Bytes::copy_from_slice),
        };
        found.insert(seq, message);
    }
    Ok(seqs.iter().filter_map(|seq| found.remove(seq)).collect())
}

/// The selected deliveries, by message, with their latest attempts in order of time.
async fn deliveries(
    pool: &Arc<Pool>,
    seqs: &[i64],
    filter: &Filter,
    attempts_max: usize,
) -> Result<HashMap<i64, Vec<DeliveryView>>, Failure> {
    let given = params![seqs => INT8_ARRAY];
    let rows = pool.once(Purpose::Looking, DELIVERIES, given).await?;
    let mut wanted = Vec::new();
    for row in &rows {
        let status = Status::of(row.try_get(3)?, row.try_get(4)?);
        if filter.wants(row.try_get(1)?, status) {
            wanted.push((row.try_get::<_, i64>(0)?, status, row));
        }
    }
    let ids: Vec<i64> = wanted.iter().map(|(id, ..)| *id).collect();
    let attempts_max = (ATTEMPTS_SHOWN_IN_ALL_MAX / ids.len().max(1)).clamp(1, attempts_max);
    let mut attempts = attempts(pool, &ids, attempts_max).await?;
    let mut found: HashMap<i64, Vec<DeliveryView>> = HashMap::new();
    for (id, status, row) in wanted {
        found.entry(id >> 8).or_default().push(DeliveryView {
            destination: row.try_get(1)?,
            lane: Lane::named(row.try_get(2)?).unwrap_or(Lane::Standard),
            status,
            since: timestamp(row, 5)?,
            at: timestamp(row, 6)?,
            attempts: natural(row, 7)?,
            latest: attempts.remove(&id).unwrap_or_default(),
        });
    }
    Ok(found)
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
