//! Counts for each destination, and pauses.

use jiff::Timestamp;
use rusqlite::{Connection, params};

use crate::destination_control::DestinationCounts;
use crate::sqlite::statements::timestamp;

/// Each count reads one partial index.
const COUNTS: &str = "
    SELECT destination, sum(waiting), sum(dead) FROM (
        SELECT destination, count(*) AS waiting, 0 AS dead FROM delivery WHERE state = 'waiting' GROUP BY destination
        UNION ALL
        SELECT destination, 0, count(*) FROM delivery WHERE state = 'dead' AND dropped_at IS NULL GROUP BY destination
    ) GROUP BY destination";

pub(crate) fn destination_counts(
    connection: &Connection,
) -> rusqlite::Result<Vec<DestinationCounts>> {
    connection
        .prepare_cached(COUNTS)?
        .query_map((), |row| {
            Ok(DestinationCounts {
                destination: row.get(0)?,
                waiting: row.get(1)?,
                dead: row.get(2)?,
            })
        })?
        .collect()
}

pub(crate) fn pause(
    connection: &Connection,
    destination: &str,
    now: Timestamp,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR IGNORE INTO paused (destination, paused_at) VALUES (?, ?)")?
        .execute(params![destination, now.as_millisecond()])?;
    Ok(())
}

pub(crate) fn resume(connection: &Connection, destination: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM paused WHERE destination = ?")?
        .execute(params![destination])?;
    Ok(())
}

pub(crate) fn paused(connection: &Connection) -> rusqlite::Result<Vec<(String, Timestamp)>> {
    connection
        .prepare_cached("SELECT destination, paused_at FROM paused ORDER BY destination")?
        .query_map((), |row| Ok((row.get(0)?, timestamp(row, 1)?)))?
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::files::store_files::StoreFiles;
    use crate::sqlite::schema;

    /// Else each count would read the rows of millions of deliveries.
    #[test]
    fn counts_read_indexes_only() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = StoreFiles::take(&folder.path().join("store.db")).unwrap();
        let connection = schema::connect(&mut files).unwrap();
        let plan: Vec<String> = connection
            .prepare(&format!("EXPLAIN QUERY PLAN {COUNTS}"))
            .unwrap()
            .query_map((), |row| row.get(3))
            .unwrap()
            .collect::<rusqlite::Result<_>>()
            .unwrap();
        let scans: Vec<&String> = plan
            .iter()
            .filter(|step| step.starts_with("SCAN delivery") || step.starts_with("SEARCH delivery"))
            .collect();
        assert_eq!(scans.len(), 2, "{plan:?}");
        assert!(
            scans.iter().all(|step| step.contains("COVERING INDEX")),
            "{plan:?}"
        );
    }
}
