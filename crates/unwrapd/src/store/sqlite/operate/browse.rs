//! Reads stored messages for people.

use std::ops::ControlFlow;

use bytes::Bytes;
use jiff::Timestamp;
use rusqlite::{Connection, params};

use crate::message::{Origin, resource_in};
use crate::store::filter::{Filter, Selection, Status};
use crate::store::ids::deliveries_of;
use crate::store::sqlite::SqliteStore;
use crate::store::sqlite::operate::candidate::lane;
use crate::store::sqlite::operate::scan::{Order, newest, scan};
use crate::store::sqlite::statements::{payload, timestamp};
use crate::store::{
    ATTEMPTS_SHOWN_IN_ALL_MAX, ATTEMPTS_SHOWN_MAX, AttemptView, DeliveryView, MessagePage,
    MessageView, PAGE_MAX, Page, PageBuilder, StoreError,
};

impl SqliteStore {
    pub(crate) async fn find_page(
        &self,
        filter: &Filter,
        now: Timestamp,
        page: Page,
    ) -> Result<MessagePage, StoreError> {
        let selection = filter.select(now);
        let limit = page.limit.clamp(1, PAGE_MAX);
        let mut filling = PageBuilder::default();
        let mut next = match page.after {
            Some(after) => Some(after),
            None => Some(self.read(newest).await?),
        };
        while let Some(from) = next
            && !filling.is_full(limit)
        {
            let selection = selection.clone();
            (filling, next) = self
                .read(move |connection| {
                    let next = find_piece(connection, &selection, from, limit, &mut filling)?;
                    Ok((filling, next))
                })
                .await?;
        }
        let messages = filling.messages;
        Ok(MessagePage { messages, next })
    }

    pub(crate) async fn show_all(
        &self,
        id: &str,
        with_payload: bool,
    ) -> Result<Vec<MessageView>, StoreError> {
        for filter in Filter::for_id(id) {
            let found = self.show_filtered(&filter, with_payload).await?;
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Ok(Vec::new())
    }

    async fn show_filtered(
        &self,
        filter: &Filter,
        with_payload: bool,
    ) -> Result<Vec<MessageView>, StoreError> {
        let selection = filter.select(Timestamp::MIN);
        let mut filling = PageBuilder::default();
        let mut next = Some(0);
        while let Some(from) = next {
            let selection = selection.clone();
            (filling, next) = self
                .read(move |connection| {
                    let next =
                        show_piece(connection, &selection, from, with_payload, &mut filling)?;
                    Ok((filling, next))
                })
                .await?;
        }
        Ok(filling.messages)
    }
}

fn find_piece(
    connection: &Connection,
    selection: &Selection,
    from: i64,
    limit: usize,
    filling: &mut PageBuilder,
) -> rusqlite::Result<Option<i64>> {
    let filter = &selection.filter;
    scan(
        connection,
        selection,
        1..=from,
        Order::NewestFirst,
        |message| {
            let deliveries = deliveries(connection, message.seq, filter, 1)?;
            if !deliveries.is_empty() || !filter.names_deliveries() {
                filling.push(kept(connection, message.seq, deliveries)?);
            }
            Ok(if filling.is_full(limit) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        },
    )
}

fn show_piece(
    connection: &Connection,
    selection: &Selection,
    from: i64,
    with_payload: bool,
    filling: &mut PageBuilder,
) -> rusqlite::Result<Option<i64>> {
    let all = Filter::default();
    scan(
        connection,
        selection,
        from..=i64::MAX,
        Order::OldestFirst,
        |message| {
            let attempts_max = attempts_shown(connection, message.seq, filling)?;
            let deliveries = deliveries(connection, message.seq, &all, attempts_max)?;
            let mut kept = kept(connection, message.seq, deliveries)?;
            if with_payload && !filling.is_heavy() {
                kept.payload = payload(connection, message.seq)?.map(Bytes::from);
            }
            filling.push(kept);
            Ok(ControlFlow::Continue(()))
        },
    )
}

/// How many attempts are shown of each delivery of this message.
fn attempts_shown(
    connection: &Connection,
    seq: i64,
    filling: &PageBuilder,
) -> rusqlite::Result<usize> {
    if filling.is_heavy() {
        return Ok(1);
    }
    let ids = deliveries_of(seq);
    let deliveries: usize = connection
        .prepare_cached("SELECT count(*) FROM delivery WHERE id BETWEEN ? AND ?")?
        .query_row(params![ids.start(), ids.end()], |row| row.get(0))?;
    Ok((ATTEMPTS_SHOWN_IN_ALL_MAX / deliveries.max(1)).clamp(1, ATTEMPTS_SHOWN_MAX))
}

fn kept(
    connection: &Connection,
    seq: i64,
    deliveries: Vec<DeliveryView>,
) -> rusqlite::Result<MessageView> {
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
}

/// The selected deliveries, with their latest attempts in order of time.
fn deliveries(
    connection: &Connection,
    seq: i64,
    filter: &Filter,
    attempts_max: usize,
) -> rusqlite::Result<Vec<DeliveryView>> {
    let mut found = Vec::new();
    let ids = deliveries_of(seq);
    let mut rows = connection.prepare_cached(
        "SELECT id, destination, lane, state, dropped_at, since, due_at, settled_attempt FROM delivery WHERE id BETWEEN ? AND ? ORDER BY id",
    )?;
    let mut rows = rows.query(params![ids.start(), ids.end()])?;
    while let Some(row) = rows.next()? {
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
    Ok(found)
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
