//! Finds selected messages by their ids, by time, and by their own rows.

use std::sync::Arc;

use jiff::Timestamp;

use crate::filter::{Filter, IdPart, Selection};
use crate::operate::statements::{Candidate, Order, ScanPage, ScanRange, Seqs, behind};
use crate::postgres::connect::connection::params;
use crate::postgres::connect::failure::Failure;
use crate::postgres::connect::pool::Pool;
use crate::postgres::connect::purpose::Purpose;
use crate::postgres::operate::conditions::{PAYLOAD, like, listed_numbers, search_keys, wanted};
use crate::postgres::rows::{all_storable, first_and_last, signed, timestamp};

/// Most numbers looked at in one piece: some ten milliseconds.
const SPAN_MAX: i64 = 20_000;
/// Most numbers whose payloads are searched in one piece.
const SEARCH_SPAN_MAX: i64 = 2_000;
/// Most dead letters or unrouted messages in one piece: as many candidates as a page takes.
const LISTED_MAX: i64 = 1_000;
/// Fewer numbers than these are not searched for an end of a time: a page reads more.
const NARROWED_BY_MIN: i64 = 2_000;
/// Most messages of a page with their payloads, of up to 1 MiB each.
const PAYLOADS_MAX: i64 = 64;

/// The part of `within` that can hold messages of the selected time.
pub(crate) async fn narrow(
    pool: &Arc<Pool>,
    selection: &Selection,
    within: Seqs,
) -> Result<Seqs, Failure> {
    if !is_narrowed_by_time(&selection.filter) || within.is_empty() {
        return Ok(within);
    }
    let sql = "SELECT first, last FROM narrow_to_time($1, $2, $3, $4, $5)";
    let (since, until) = times(selection);
    let (from, to) = within.into_inner();
    let given =
        params![since => INT8, until => INT8, from => INT8, to => INT8, NARROWED_BY_MIN => INT8];
    let rows = pool.once(Purpose::Looking, sql, given).await?;
    let found = first_and_last(&rows)?;
    Ok(found.map_or(Seqs::new(1, 0), |(first, last)| first..=last))
}

/// Whether the filter names a time, and no ids, which find their few messages by themselves.
fn is_narrowed_by_time(filter: &Filter) -> bool {
    (filter.since.is_some() || filter.until.is_some()) && !filter.names_ids()
}

/// The next candidates of the range.
pub(crate) async fn scan_page(
    pool: &Arc<Pool>,
    selection: &Selection,
    range: ScanRange,
) -> Result<ScanPage, Failure> {
    let ScanRange { within, order, max } = range;
    let Some(span) = span(pool, selection, &within, order).await? else {
        return Ok(ScanPage::default());
    };
    let (first, last) = (*span.start(), *span.end());
    let (since, until) = times(selection);
    let filter = &selection.filter;
    let (payload, rows_max) = if filter.reads_payloads() {
        (PAYLOAD, PAYLOADS_MAX.min(signed(max)))
    } else {
        ("NULL::bytea", signed(max))
    };
    let (wanted, direction) = (wanted(filter), direction(order));
    let sql = format!(
        "SELECT seq, endpoint, webhook_id, event_type, received_at, {payload} FROM message
         WHERE seq BETWEEN $1 AND $2 AND received_at BETWEEN $3 AND $4 AND {wanted}
         ORDER BY seq {direction} LIMIT {rows_max}"
    );
    // `Selection::wants` compares the texts themselves, so a text with NUL selects nothing.
    let endpoints = all_storable(&filter.endpoint);
    let ids = all_storable(&filter.webhook_id);
    let (events, resources) = search_keys(filter);
    let part = filter.id_part.as_ref().map(IdPart::as_str);
    let part_bytes = part.map(str::as_bytes);
    let (types, types_excluded) = like(&filter.types);
    let destinations = all_storable(&filter.destination);
    let statuses: Vec<&str> = filter.status.iter().map(|status| status.as_str()).collect();
    let given = params![
        first => INT8, last => INT8, since => INT8, until => INT8, endpoints => TEXT_ARRAY, ids => TEXT_ARRAY,
        events => INT4_ARRAY, resources => INT4_ARRAY, part => TEXT, part_bytes => BYTEA,
        types => TEXT_ARRAY, types_excluded => TEXT_ARRAY, destinations => TEXT_ARRAY, statuses => TEXT_ARRAY,
    ];
    let rows = pool.once(Purpose::Looking, &*sql, given).await?;
    let mut candidates = Vec::with_capacity(rows.len());
    let mut last_seen = None;
    for row in &rows {
        let seq = row.try_get(0)?;
        last_seen = Some(seq);
        let candidate = Candidate {
            seq,
            webhook_id: row.try_get(2)?,
            event_type: row.try_get(3)?,
            received_at: timestamp(row, 4)?,
        };
        let event_type = candidate.event_type.as_deref();
        let matches = selection.wants(
            row.try_get(1)?,
            row.try_get(2)?,
            event_type,
            candidate.received_at,
        );
        if matches && selection.wants_payload(&candidate.webhook_id, row.try_get(5)?) {
            candidates.push(candidate);
        }
    }
    let is_cut = i64::try_from(rows.len()).is_ok_and(|rows| rows >= rows_max);
    let end = match order {
        Order::OldestFirst => last,
        Order::NewestFirst => first,
    };
    let reached = last_seen.filter(|_| is_cut).unwrap_or(end);
    Ok(ScanPage {
        candidates,
        next: behind(reached, &within, order),
    })
}

fn direction(order: Order) -> &'static str {
    match order {
        Order::OldestFirst => "",
        Order::NewestFirst => "DESC",
    }
}

/// The number of the newest message; 0 where there is none.
pub(crate) async fn newest(pool: &Arc<Pool>) -> Result<i64, Failure> {
    let sql = "SELECT coalesce(max(seq), 0) FROM message";
    let rows = pool.once(Purpose::Looking, sql, &[]).await?;
    rows.first().map_or(Ok(0), |row| Ok(row.try_get(0)?))
}

/// The next numbers to read: past those of deleted messages, and a bounded number of those that the
/// filter may select.
async fn span(
    pool: &Arc<Pool>,
    selection: &Selection,
    within: &Seqs,
    order: Order,
) -> Result<Option<Seqs>, Failure> {
    let (first, last) = (*within.start(), *within.end());
    let filter = &selection.filter;
    if first > last || filter.names_ids() {
        // Ids are found by an index.
        return Ok((first <= last).then_some(first..=last));
    }
    let direction = direction(order);
    let given = params![first => INT8, last => INT8];
    if let Some(numbers) = listed_numbers(filter) {
        let skipped = LISTED_MAX - 1;
        let sql = format!("{numbers} ORDER BY 1 {direction} OFFSET {skipped} LIMIT 1");
        let rows = pool.once(Purpose::Looking, &*sql, given).await?;
        let end: Option<i64> = rows.first().map(|row| row.try_get(0)).transpose()?;
        return Ok(Some(match (end, order) {
            (None, _) => first..=last,
            (Some(end), Order::OldestFirst) => first..=end,
            (Some(end), Order::NewestFirst) => end..=last,
        }));
    }
    let sql = format!(
        "SELECT seq FROM message WHERE seq BETWEEN $1 AND $2 ORDER BY seq {direction} LIMIT 1"
    );
    let rows = pool.once(Purpose::Looking, &*sql, given).await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let seq: i64 = row.try_get(0)?;
    let span_max = match filter.id_part {
        Some(_) => SEARCH_SPAN_MAX,
        None => SPAN_MAX,
    };
    Ok(Some(match order {
        Order::OldestFirst => seq..=seq.saturating_add(span_max - 1).min(last),
        Order::NewestFirst => seq.saturating_sub(span_max - 1).max(first)..=seq,
    }))
}

/// In milliseconds, and rather too wide: exactly, the selection itself tells.
fn times(selection: &Selection) -> (i64, i64) {
    let since = selection.since.as_millisecond().saturating_sub(1);
    let until = selection.until.map_or(i64::MAX, Timestamp::as_millisecond);
    (since, until)
}
