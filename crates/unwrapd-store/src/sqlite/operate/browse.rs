//! Messages as operators see them.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::filter::{Filter, Status};
use crate::ids::deliveries_of;
use crate::operate::statements::ViewRequest;
use crate::sqlite::operate::candidate::lane;
use crate::sqlite::statements::{payload, timestamp};
use crate::views::{ATTEMPTS_SHOWN_IN_ALL_MAX, AttemptView, DeliveryView, MessageView};
use unwrapd_core::message::{Origin, resource_in};

/// These messages with the deliveries that the filter selects.
pub(crate) fn views(
    connection: &Connection,
    request: &ViewRequest,
) -> rusqlite::Result<Vec<(i64, MessageView)>> {
    let filter = &request.filter;
    let mut views = Vec::new();
    for &seq in &request.messages {
        let attempts_max = attempts_shown(connection, seq, request.attempts_max)?;
        let (deliveries, has_any) = deliveries(connection, seq, filter, attempts_max)?;
        let is_selected = !filter.names_deliveries() || !deliveries.is_empty();
        if !is_selected && (has_any || !filter.wants_unrouted()) {
            continue;
        }
        if let Some(mut view) = view(connection, seq, deliveries)? {
            // Pruning deletes the deliveries together with the payload.
            if !is_selected && view.bytes.is_none() {
                continue;
            }
            if request.with_payload {
                view.payload = payload(connection, seq)?.map(Bytes::from);
            }
            views.push((seq, view));
        }
    }
    Ok(views)
}

/// Number of attempts to show of each delivery of this message, at most `max`.
fn attempts_shown(connection: &Connection, seq: i64, max: usize) -> rusqlite::Result<usize> {
    if max == 1 {
        return Ok(1);
    }
    let ids = deliveries_of(seq);
    let deliveries: usize = connection
        .prepare_cached("SELECT count(*) FROM delivery WHERE id BETWEEN ? AND ?")?
        .query_row(params![ids.start(), ids.end()], |row| row.get(0))?;
    Ok((ATTEMPTS_SHOWN_IN_ALL_MAX / deliveries.max(1)).clamp(1, max))
}

/// `None`: the message was pruned meanwhile.
fn view(
    connection: &Connection,
    seq: i64,
    deliveries: Vec<DeliveryView>,
) -> rusqlite::Result<Option<MessageView>> {
    connection
        .prepare_cached(
            "SELECT webhook_id, endpoint, event_type, sent_at, received_at, secret, length(bytes), origin, bytes
             FROM message LEFT JOIN payload USING (seq) WHERE seq = ?",
        )?
        .query_row(params![seq], |row| {
            Ok(MessageView {
                webhook_id: row.get(0)?,
                endpoint: row.get(1)?,
                event_type: row.get(2)?,
                sent_at: timestamp(row, 3)?,
                received_at: timestamp(row, 4)?,
                origin: Origin::of_column(row.get_ref(7)?.as_str_or_null()?),
                resource: row.get_ref(8)?.as_blob_or_null()?.and_then(resource_in),
                secret: row.get(5)?,
                bytes: row.get(6)?,
                deliveries,
                payload: None,
            })
        })
        .optional()
}

/// The selected deliveries, with their latest attempts in order of time, and whether the message has
/// any delivery.
fn deliveries(
    connection: &Connection,
    seq: i64,
    filter: &Filter,
    attempts_max: usize,
) -> rusqlite::Result<(Vec<DeliveryView>, bool)> {
    let mut found = Vec::new();
    let mut has_any = false;
    let ids = deliveries_of(seq);
    let mut rows = connection.prepare_cached(
        "SELECT id, destination, lane, state, dropped_at, since, due_at, settled_attempt \
         FROM delivery WHERE id BETWEEN ? AND ? ORDER BY id",
    )?;
    let mut rows = rows.query(params![ids.start(), ids.end()])?;
    while let Some(row) = rows.next()? {
        has_any = true;
        let is_dropped = row.get_ref(4)? != rusqlite::types::ValueRef::Null;
        let status = Status::of(row.get_ref(3)?.as_str()?, is_dropped);
        if filter.wants(row.get_ref(1)?.as_str()?, status) {
            found.push(DeliveryView {
                destination: row.get(1)?,
                lane: lane(row.get_ref(2)?.as_str()?),
                status,
                since: timestamp(row, 5)?,
                at: timestamp(row, if is_dropped { 4 } else { 6 })?,
                attempts: row.get(7)?,
                latest: attempts(connection, row.get(0)?, attempts_max)?,
            });
        }
    }
    Ok((found, has_any))
}

fn attempts(
    connection: &Connection,
    delivery: i64,
    max: usize,
) -> rusqlite::Result<Vec<AttemptView>> {
    let mut attempts: Vec<AttemptView> = connection
        .prepare_cached(
            "SELECT number, ended_at, took_ms, summary, excerpt FROM attempt WHERE delivery = ? ORDER BY number DESC LIMIT ?",
        )?
        .query_map(params![delivery, max], |row| {
            Ok(AttemptView {
                number: row.get(0)?,
                ended_at: timestamp(row, 1)?,
                took_ms: row.get(2)?,
                answer: row.get(3)?,
                body: row.get(4)?,
            })
        })?
        .collect::<rusqlite::Result<_>>()?;
    attempts.reverse();
    Ok(attempts)
}
