//! Finds selected messages by their ids, by blocks of time, and by their own rows.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use jiff::Timestamp;
use rusqlite::{Connection, Row, params};

use crate::filter::{Filter, Selection, Status};
use crate::operate::statements::{Candidate, Order, ScanPage, ScanRange, behind};
use crate::search_keys::SearchKeys;
use crate::sqlite::statements::{payload, timestamp};
use crate::sqlite::unrouted::{self, IS_UNROUTED};
use crate::sqlite::writer::id_hashes::hash;

/// Most rows that one page reads: some ten milliseconds, in which a reader keeps the log from
/// restarting.
const ROWS_MAX: usize = 20_000;
/// Bytes of payloads that count as one row.
const ROW_BYTES: usize = 256;
/// Most parts of the list of unrouted messages that one page searches.
const PARTS_MAX: usize = 2_000;
/// Messages in a block of `message_block`, as a power of two.
const BLOCK_BITS: u32 = 12;

/// The next candidates of the range.
pub(crate) fn scan(
    connection: &Connection,
    selection: &Selection,
    range: &ScanRange,
) -> rusqlite::Result<ScanPage> {
    let &ScanRange {
        ref within,
        order,
        max,
    } = range;
    let mut ranges = ranges(connection, selection, within)?;
    if order == Order::NewestFirst {
        ranges.reverse();
    }
    let mut next = None;
    if selection.filter.names_unrouted_only() {
        ranges = unrouted::parts(connection, &ranges, order, PARTS_MAX)?;
        let last = ranges.last().filter(|_| ranges.len() >= PARTS_MAX);
        next = last.and_then(|part| behind(order.last_of(part), within, order));
    }
    let mut rows_left = ROWS_MAX;
    let mut candidates = Vec::new();
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
            if is_wanted(row, selection)? {
                let webhook_id = row.get_ref(2)?.as_str()?;
                let payload = if selection.depends_on_payload(webhook_id) {
                    payload(connection, seq)?
                } else {
                    None
                };
                let bytes = payload.as_ref().map_or(0, Vec::len);
                rows_left = rows_left.saturating_sub(bytes / ROW_BYTES).max(1);
                if selection.wants_payload(webhook_id, payload.as_deref()) {
                    candidates.push(candidate(row, seq)?);
                }
            }
            rows_left -= 1;
            if candidates.len() == max || rows_left == 0 {
                return Ok(ScanPage {
                    candidates,
                    next: behind(seq, within, order),
                });
            }
        }
    }
    Ok(ScanPage { candidates, next })
}

/// The number of the newest message; 0 where there is none.
pub(crate) fn newest(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT coalesce(max(seq), 0) FROM message", (), |row| {
        row.get(0)
    })
}

/// The number of messages, or `max` if there are more.
pub(crate) fn count_all(connection: &Connection, max: u64) -> rusqlite::Result<u64> {
    connection
        .prepare_cached("SELECT count(*) FROM (SELECT 1 FROM message LIMIT ?)")?
        .query_row(params![i64::try_from(max).unwrap_or(i64::MAX)], |row| {
            row.get(0)
        })
}

fn is_wanted(row: &Row<'_>, selection: &Selection) -> rusqlite::Result<bool> {
    Ok(selection.wants(
        row.get_ref(1)?.as_str()?,
        row.get_ref(2)?.as_str()?,
        row.get_ref(3)?.as_str_or_null()?,
        timestamp(row, 4)?,
    ))
}

fn candidate(row: &Row<'_>, seq: i64) -> rusqlite::Result<Candidate> {
    Ok(Candidate {
        seq,
        webhook_id: row.get(2)?,
        event_type: row.get(3)?,
        received_at: timestamp(row, 4)?,
    })
}

pub(crate) fn has_payload(connection: &Connection, seq: i64) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM payload WHERE seq = ?")?
        .exists(params![seq])
}

fn query(filter: &Filter, order: Order) -> String {
    let (by_message, by_seq) = match order {
        Order::OldestFirst => ("message", "seq"),
        Order::NewestFirst => ("message DESC", "seq DESC"),
    };
    if filter.names_unrouted_only() {
        format!(
            "SELECT seq, endpoint, webhook_id, event_type, received_at FROM message
             WHERE seq BETWEEN ? AND ? AND {IS_UNROUTED} ORDER BY {by_seq}"
        )
    } else if filter.names_dead_only() {
        // Dead letters are few, and have an index of their own.
        let undropped = if filter.status.contains(&Status::Dropped) {
            ""
        } else {
            "AND dropped_at IS NULL"
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

/// Ranges of numbers that hold all selected messages, in ascending order.
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
            ids.map(move |id| hash(endpoint, id))
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
pub(in crate::sqlite) mod tests {
    use rusqlite::params_from_iter;

    use super::{RangeInclusive, gaps};
    use crate::sqlite::schema;
    use crate::sqlite::schema::tests::new_files;

    /// The steps in which SQLite makes a statement.
    pub(in crate::sqlite) fn plan(statement: &str) -> Vec<String> {
        let (_folder, mut files) = new_files();
        let connection = schema::connect(&mut files).unwrap();
        let explained = format!("EXPLAIN QUERY PLAN {statement}");
        let mut explained = connection.prepare(&explained).unwrap();
        let nulls = vec![None::<i64>; explained.parameter_count()];
        let steps = explained.query_map(params_from_iter(nulls), |row| row.get(3));
        steps.unwrap().collect::<rusqlite::Result<_>>().unwrap()
    }

    #[test]
    fn gaps_are_the_ranges_between_the_others() {
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
