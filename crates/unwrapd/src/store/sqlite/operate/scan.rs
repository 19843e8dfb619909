//! Goes through the messages in the order of their numbers, past those that cannot be meant, a bounded piece at a time.

use std::collections::HashSet;
use std::ops::{ControlFlow, RangeInclusive};

use jiff::Timestamp;
use rusqlite::{Connection, Row, params};

use crate::store::filter::{Filter, Selection, Status};
use crate::store::search_keys::SearchKeys;
use crate::store::sqlite::statements::{payload, timestamp};
use crate::store::sqlite::writer::dedupe_index;

/// Most rows looked at in one piece: some ten milliseconds, in which a reader keeps the log from beginning anew.
const ROWS_MAX: usize = 20_000;
/// Bytes of payloads that count as one row.
const ROW_BYTES: usize = 256;
/// Messages in a block of `message_block`, as a power of two.
const BLOCK_BITS: u32 = 12;

/// Which way to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    OldestFirst,
    NewestFirst,
}

/// A message that is meant, as far as its own row tells.
pub(crate) struct Candidate {
    pub(crate) seq: i64,
    pub(crate) event_type: Option<String>,
    pub(crate) received_at: Timestamp,
}

/// Visits the messages within these numbers that are meant, until the visitor breaks off or the
/// piece is long enough. Gives the number to go on from, or `None` at the end.
pub(crate) fn scan(
    connection: &Connection,
    selection: &Selection,
    within: RangeInclusive<i64>,
    order: Order,
    mut visit: impl FnMut(Candidate) -> rusqlite::Result<ControlFlow<()>>,
) -> rusqlite::Result<Option<i64>> {
    let mut ranges = ranges(connection, selection, &within)?;
    if order == Order::NewestFirst {
        ranges.reverse();
    }
    let mut rows_left = ROWS_MAX;
    let mut query = connection.prepare_cached(&query(&selection.filter, order))?;
    for range in ranges {
        let mut rows = query.query(params![range.start(), range.end()])?;
        let mut last = None;
        while let Some(row) = rows.next()? {
            let seq = row.get(0)?;
            if last == Some(seq) {
                continue;
            }
            last = Some(seq);
            let candidate = match wanted(row, seq, selection)? {
                Some(candidate) if selection.filter.names_payloads() => {
                    let payload = payload(connection, seq)?;
                    let bytes = payload.as_ref().map_or(0, Vec::len);
                    rows_left = rows_left.saturating_sub(bytes / ROW_BYTES).max(1);
                    selection
                        .wants_payload(payload.as_deref())
                        .then_some(candidate)
                }
                candidate => candidate,
            };
            let is_over = match candidate {
                Some(candidate) => visit(candidate)?.is_break(),
                None => false,
            };
            rows_left -= 1;
            if is_over || rows_left == 0 {
                let next = match order {
                    Order::OldestFirst => seq + 1,
                    Order::NewestFirst => seq - 1,
                };
                return Ok(within.contains(&next).then_some(next));
            }
        }
    }
    Ok(None)
}

/// The number of the newest message; 0 where there is none.
pub(crate) fn newest(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT coalesce(max(seq), 0) FROM message", (), |row| {
        row.get(0)
    })
}

fn wanted(row: &Row<'_>, seq: i64, selection: &Selection) -> rusqlite::Result<Option<Candidate>> {
    let event_type = row.get_ref(3)?.as_str_or_null()?;
    let received_at = timestamp(row, 4)?;
    let is_wanted = selection.wants(
        row.get_ref(1)?.as_str()?,
        row.get_ref(2)?.as_str()?,
        event_type,
        received_at,
    );
    Ok(is_wanted.then(|| Candidate {
        seq,
        event_type: event_type.map(str::to_owned),
        received_at,
    }))
}

fn query(filter: &Filter, order: Order) -> String {
    let (by_message, by_seq) = match order {
        Order::OldestFirst => ("message", "seq"),
        Order::NewestFirst => ("message DESC", "seq DESC"),
    };
    let is_dead_only = |among: &[Status]| {
        !filter.status.is_empty() && filter.status.iter().all(|status| among.contains(status))
    };
    // Dead letters are few, and have an index of their own.
    if is_dead_only(&[Status::Dead, Status::Dropped]) {
        let undropped = if is_dead_only(&[Status::Dead]) {
            "AND dropped_at IS NULL"
        } else {
            ""
        };
        format!(
            "SELECT seq, endpoint, webhook_id, event_type, received_at FROM delivery CROSS JOIN message ON seq = message
             WHERE state = 'dead' {undropped} AND message BETWEEN ? AND ? ORDER BY {by_message}"
        )
    } else {
        format!(
            "SELECT seq, endpoint, webhook_id, event_type, received_at FROM message WHERE seq BETWEEN ? AND ? ORDER BY {by_seq}"
        )
    }
}

/// Where the messages that may be meant stand, in ascending order.
fn ranges(
    connection: &Connection,
    selection: &Selection,
    within: &RangeInclusive<i64>,
) -> rusqlite::Result<Vec<RangeInclusive<i64>>> {
    if selection.filter.names_ids() {
        return of_ids(connection, &selection.filter, within);
    }
    Ok(gaps(within, outside_time(connection, selection)?))
}

/// The blocks all of whose messages arrived too early or too late.
fn outside_time(
    connection: &Connection,
    selection: &Selection,
) -> rusqlite::Result<Vec<RangeInclusive<i64>>> {
    let until = selection.until.map_or(i64::MAX, Timestamp::as_millisecond);
    let mut blocks = connection.prepare_cached(
        "SELECT block FROM message_block WHERE newest_at < ? OR oldest_at > ? ORDER BY block",
    )?;
    blocks
        .query_map(params![selection.since.as_millisecond(), until], |row| {
            let first = row.get::<_, i64>(0)? << BLOCK_BITS;
            Ok(first..=first + (1 << BLOCK_BITS) - 1)
        })?
        .collect()
}

/// The messages whose ids have the hashes of those asked for, and all that have no hashes: the
/// newest, and those whose block was deleted.
fn of_ids(
    connection: &Connection,
    filter: &Filter,
    within: &RangeInclusive<i64>,
) -> rusqlite::Result<Vec<RangeInclusive<i64>>> {
    let is_wanted = wanted_hashes(connection, filter)?;
    let mut hashed = Vec::new();
    let mut found = Vec::new();
    let mut blocks = connection.prepare_cached(if filter.webhook_id.is_empty() {
        "SELECT first_seq, keys FROM search_block WHERE first_seq BETWEEN ?1 - 4095 AND ?2 ORDER BY first_seq"
    } else {
        "SELECT first_seq, hashes FROM dedupe_block WHERE first_seq BETWEEN ?1 - 4095 AND ?2 ORDER BY first_seq"
    })?;
    let mut blocks = blocks.query(params![within.start(), within.end()])?;
    while let Some(block) = blocks.next()? {
        let first: i64 = block.get(0)?;
        let mut last = first - 1;
        for (seq, hash) in (first..).zip(block.get_ref(1)?.as_blob()?.as_chunks().0) {
            last = seq;
            if is_wanted(*hash) && within.contains(&seq) {
                found.push(seq..=seq);
            }
        }
        hashed.push(first..=last);
    }
    found.extend(gaps(within, hashed));
    found.sort_unstable_by_key(|range| *range.start());
    Ok(found)
}

/// Whether the hashes of a message, in the table that is read, are those of an id asked for.
fn wanted_hashes(
    connection: &Connection,
    filter: &Filter,
) -> rusqlite::Result<Box<dyn Fn([u8; 8]) -> bool>> {
    if filter.webhook_id.is_empty() {
        let (events, resources) = filter.search_keys();
        let is_any_of = |wanted: &[u32], key| wanted.is_empty() || wanted.contains(&key);
        return Ok(Box::new(move |bytes| {
            let keys = SearchKeys::from_bytes(bytes);
            is_any_of(&events, keys.event) && is_any_of(&resources, keys.resource)
        }));
    }
    let endpoints = match &filter.endpoint[..] {
        [] => endpoints(connection)?,
        named => named.to_vec(),
    };
    let wanted: HashSet<u64> = endpoints
        .iter()
        .flat_map(|endpoint| {
            let ids = filter.webhook_id.iter();
            ids.map(move |id| dedupe_index::hash(endpoint, id))
        })
        .collect();
    Ok(Box::new(move |bytes| {
        wanted.contains(&u64::from_le_bytes(bytes))
    }))
}

/// Every endpoint that a message came to.
fn endpoints(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let first_of_tail: i64 = connection.query_row(
        "SELECT coalesce(max(block) + 1, 0) << ? FROM message_block",
        params![BLOCK_BITS],
        |row| row.get(0),
    )?;
    connection
        .prepare_cached(
            "SELECT name FROM message_endpoint UNION SELECT endpoint FROM message WHERE seq >= ?",
        )?
        .query_map(params![first_of_tail], |row| row.get(0))?
        .collect()
}

/// The parts of `within` that are in none of `others`, which are in ascending order and disjoint.
fn gaps(
    within: &RangeInclusive<i64>,
    others: Vec<RangeInclusive<i64>>,
) -> Vec<RangeInclusive<i64>> {
    let mut gaps = Vec::new();
    let mut from = *within.start();
    for other in others {
        let to = (other.start() - 1).min(*within.end());
        if from <= to {
            gaps.push(from..=to);
        }
        from = from.max(other.end() + 1);
    }
    if from <= *within.end() {
        gaps.push(from..=*within.end());
    }
    gaps
}

#[cfg(test)]
mod tests {
    use super::{RangeInclusive, gaps};

    #[test]
    fn what_is_between_the_others_is_left() {
        assert_eq!(gaps(&(5..=20), vec![]), [5..=20]);
        assert_eq!(
            gaps(&(5..=20), vec![8..=9, 12..=14]),
            [5..=7, 10..=11, 15..=20]
        );
        assert_eq!(gaps(&(5..=20), vec![1..=6, 7..=9, 20..=40]), [10..=19]);
        assert_eq!(gaps(&(5..=20), vec![30..=40]), [5..=20]);
        assert_eq!(gaps(&(5..=20), vec![1..=2]), [5..=20]);
        assert_eq!(gaps(&(5..=20), vec![0..=30]), []);
        let nothing = RangeInclusive::new(1, 0);
        assert_eq!(gaps(&nothing, vec![]), []);
    }
}
