//! The messages that no destination wanted, until they are pruned or replayed to one.
//!
//! They are listed when their block is written, as ranges of numbers, so that they cost a commit
//! nothing. The messages after the last block are in no list: a search looks at each of them.

use std::ops::RangeInclusive;

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::operate::statements::Order;
use crate::sqlite::writer::job::Work;

/// Condition that a row of `message` is an unrouted message. Pruning deletes the deliveries together
/// with the payload.
pub(crate) const IS_UNROUTED: &str = "EXISTS (SELECT 1 FROM payload WHERE payload.seq = message.seq)
    AND NOT EXISTS (SELECT 1 FROM delivery WHERE id BETWEEN message.seq * 256 AND message.seq * 256 + 255)";

/// The number of the first message after the last block; NULL if there is no block.
pub(crate) const FIRST_UNLISTED: &str =
    "SELECT first_seq + length(hashes) / 8 FROM dedupe_block ORDER BY first_seq DESC LIMIT 1";

/// Finds the range that begins at or before a number. A range lies within one block.
const LISTED: &str = "SELECT first_seq, last_seq FROM unrouted
    WHERE first_seq BETWEEN ?1 - 4095 AND ?1 ORDER BY first_seq DESC LIMIT 1";

pub(crate) fn is_unrouted(connection: &Connection, seq: i64) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(&format!(
            "SELECT 1 FROM message WHERE seq = ? AND {IS_UNROUTED}"
        ))?
        .exists(params![seq])
}

/// Lists the unrouted messages of a block that begins with message `first_seq`.
pub(crate) fn list_block(
    connection: &Connection,
    first_seq: i64,
    is_unrouted: &[bool],
) -> rusqlite::Result<()> {
    let mut first = first_seq;
    for run in is_unrouted.chunk_by(|one, next| one == next) {
        let behind = first + i64::try_from(run.len()).expect("a block is short");
        if run[0] {
            insert(connection, first, behind - 1)?;
        }
        first = behind;
    }
    Ok(())
}

/// Removes a message from the list: it was pruned, or has a delivery now.
pub(crate) fn remove(work: &mut Work<'_>, seq: i64) -> rusqlite::Result<()> {
    let connection = work.connection;
    work.state.dedupe_index.read_later(seq);
    let listed: Option<(i64, i64)> = connection
        .prepare_cached(LISTED)?
        .query_row(params![seq], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((first, last)) = listed.filter(|(_, last)| *last >= seq) else {
        return Ok(());
    };
    connection
        .prepare_cached("DELETE FROM unrouted WHERE first_seq = ?")?
        .execute(params![first])?;
    insert(connection, first, seq - 1)?;
    insert(connection, seq + 1, last)
}

fn insert(connection: &Connection, first: i64, last: i64) -> rusqlite::Result<()> {
    if first <= last {
        connection
            .prepare_cached("INSERT INTO unrouted (first_seq, last_seq) VALUES (?, ?)")?
            .execute(params![first, last])?;
    }
    Ok(())
}

/// The parts of these ranges that may hold unrouted messages, at most about `max`. Ranges and parts
/// are in this order.
pub(crate) fn parts(
    connection: &Connection,
    ranges: &[RangeInclusive<i64>],
    order: Order,
    max: usize,
) -> rusqlite::Result<Vec<RangeInclusive<i64>>> {
    // Read first: a block that is written meanwhile is searched as if it had no list.
    let first_unlisted: Option<i64> = connection
        .prepare_cached(FIRST_UNLISTED)?
        .query_row((), |row| row.get(0))
        .optional()?;
    let first_unlisted = first_unlisted.unwrap_or(i64::MIN);
    let mut listed = connection.prepare_cached(&parts_query(order))?;
    let mut parts = Vec::new();
    for range in ranges {
        let unlisted = first_unlisted.max(*range.start())..=*range.end();
        let unlisted = (!unlisted.is_empty()).then_some(unlisted);
        let last_listed = first_unlisted.saturating_sub(1).min(*range.end());
        let (before, after) = match order {
            Order::OldestFirst => (None, unlisted),
            Order::NewestFirst => (unlisted, None),
        };
        parts.extend(before);
        let found = listed.query_map(params![range.start(), last_listed, max], |row| {
            Ok(row.get(0)?..=row.get(1)?)
        })?;
        for part in found {
            parts.push(part?);
        }
        if parts.len() >= max {
            break;
        }
        parts.extend(after);
    }
    Ok(parts)
}

fn parts_query(order: Order) -> String {
    let direction = match order {
        Order::OldestFirst => "ASC",
        Order::NewestFirst => "DESC",
    };
    format!(
        "SELECT max(first_seq, ?1), min(last_seq, ?2) FROM unrouted
         WHERE first_seq BETWEEN ?1 - 4095 AND ?2 AND last_seq >= ?1
         ORDER BY first_seq {direction} LIMIT ?3"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::operate::scan::tests::plan;

    #[test]
    fn unrouted_messages_are_found_by_their_list() {
        for order in [Order::OldestFirst, Order::NewestFirst] {
            assert_eq!(
                plan(&parts_query(order)),
                ["SEARCH unrouted USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"]
            );
        }
        assert_eq!(
            plan(LISTED),
            ["SEARCH unrouted USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"]
        );
    }
}
