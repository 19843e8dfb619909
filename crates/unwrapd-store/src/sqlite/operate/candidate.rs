//! Deliveries as a replay sees them.

use rusqlite::{Connection, params};

use crate::filter::Status;
use crate::ids::deliveries_of;
use crate::replay::Existing;
use unwrapd_core::delivery::Lane;

/// The deliveries of a message, in the order of their ids.
pub(crate) fn deliveries(connection: &Connection, seq: i64) -> rusqlite::Result<Vec<Existing>> {
    let ids = deliveries_of(seq);
    connection
        .prepare_cached(
            "SELECT id, destination, lane, state, dropped_at IS NOT NULL FROM delivery WHERE id BETWEEN ? AND ? ORDER BY id",
        )?
        .query_map(params![ids.start(), ids.end()], |row| {
            Ok(Existing {
                id: row.get(0)?,
                destination: row.get(1)?,
                lane: lane(row.get_ref(2)?.as_str()?),
                status: Status::of(row.get_ref(3)?.as_str()?, row.get(4)?),
            })
        })?
        .collect()
}

/// The schema lets only these be.
pub(crate) fn lane(text: &str) -> Lane {
    Lane::named(text).unwrap_or(Lane::Standard)
}
