//! Checks whether a database file is intact and its content consistent. It only reads, so it may
//! run beside a gateway.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode, Row, params};

use crate::check::Check;
use crate::error::StoreError;
use crate::sqlite::connection::bytes_used;
use crate::sqlite::error::store_error;
use crate::sqlite::migration;
use crate::sqlite::schema;
use crate::sqlite::unrouted::{FIRST_UNLISTED, IS_UNROUTED};
use crate::sqlite::writer::dedupe_block;
use crate::sqlite::writer::id_hashes;
use unwrapd_core::delivery::earlier;

/// Maximum number of damages that are listed. One is enough to restore a backup.
const DAMAGES_MAX: usize = 10;

/// Makes all checks. Ids that arrived longer than `dedupe` before `now` may be missing. `is_quick`
/// skips the comparison of indexes with tables. An error means that the file cannot be read or is
/// not a store.
pub fn check(
    path: &Path,
    dedupe: Duration,
    is_quick: bool,
    now: Timestamp,
) -> Result<Vec<Check>, StoreError> {
    let problem = |error: rusqlite::Error| store_error(&error);
    let mut connection = schema::connect_to_look(path)?;
    // One snapshot for all checks.
    let transaction = connection.transaction().map_err(problem)?;
    let version = schema::check_there(&transaction)?;
    let is_present = version == migration::version();
    let horizon = earlier(now, dedupe).as_millisecond();

    let mut checks = Vec::new();
    let mut check = |name, result: rusqlite::Result<Result<String, String>>| {
        let result = match result {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => {
                Err("the file cannot be read: it is damaged".into())
            }
            result => result.map_err(problem)?,
        };
        checks.push(Check { name, result });
        Ok::<_, StoreError>(())
    };
    check("file", file(&transaction, version, is_present).map(Ok))?;
    check("pages", pages(&transaction, is_quick))?;
    // For an earlier version, only the schema and the pages are checked; the rest is checked after
    // a migration.
    if is_present {
        check("messages", messages(&transaction, horizon))?;
        check("deliveries", deliveries(&transaction))?;
        check("ids", ids(&transaction, horizon))?;
    }
    Ok(checks)
}

fn file(connection: &Connection, version: usize, is_present: bool) -> rusqlite::Result<String> {
    let used = bytes_used(connection)?;
    let note = if is_present {
        ""
    } else {
        ", of an earlier version: the next start of unwrapd migrates it"
    };
    Ok(format!("schema {version}{note}; {used} bytes in use"))
}

/// Checks that every page is in its place, and every row in every index.
fn pages(connection: &Connection, is_quick: bool) -> rusqlite::Result<Result<String, String>> {
    let pragma = if is_quick {
        "quick_check"
    } else {
        "integrity_check"
    };
    let damages: Vec<String> = connection
        .prepare(&format!("PRAGMA {pragma}({DAMAGES_MAX})"))?
        .query_map((), |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    Ok(match damages.as_slice() {
        [only] if only == "ok" => Ok(format!("SQLite's {pragma} finds nothing")),
        _ => Err(damages.join("; ").replace('\n', " ")),
    })
}

fn messages(connection: &Connection, horizon: i64) -> rusqlite::Result<Result<String, String>> {
    let count = |sql| connection.query_row(sql, (), |row: &Row<'_>| row.get::<_, u64>(0));
    let doubles: u64 = connection.query_row(
        "SELECT count(*) FROM (SELECT 1 FROM message WHERE received_at >= ? GROUP BY endpoint, webhook_id HAVING count(*) > 1)",
        params![horizon],
        |row| row.get(0),
    )?;
    let strays = count(
        "SELECT count(*) FROM payload WHERE NOT EXISTS (SELECT 1 FROM message WHERE seq = payload.seq)",
    )?;
    Ok(if doubles > 0 {
        Err(format!("{doubles} ids of one endpoint are stored twice"))
    } else if strays > 0 {
        Err(format!("{strays} payloads belong to no message"))
    } else {
        Ok(format!(
            "{} stored, {} of them with their payload",
            count("SELECT count(*) FROM message")?,
            count("SELECT count(*) FROM payload")?
        ))
    })
}

fn deliveries(connection: &Connection) -> rusqlite::Result<Result<String, String>> {
    let count = |sql| connection.query_row(sql, (), |row: &Row<'_>| row.get::<_, u64>(0));
    let unlisted = format!(
        "SELECT count(*) FROM message WHERE seq < ({FIRST_UNLISTED}) AND ({IS_UNROUTED}) <> coalesce((
             SELECT last_seq FROM unrouted WHERE first_seq <= message.seq ORDER BY first_seq DESC LIMIT 1
         ) >= message.seq, FALSE)"
    );
    for (what, sql) in [
        (
            "belong to no message",
            "SELECT count(*) FROM delivery WHERE id / 256 <> message OR NOT EXISTS (SELECT 1 FROM message WHERE seq = delivery.message)",
        ),
        (
            "wait for a payload that is missing",
            "SELECT count(*) FROM delivery WHERE state = 'waiting' AND NOT EXISTS (SELECT 1 FROM payload WHERE seq = delivery.message)",
        ),
        (
            "are missing, but have attempts",
            "SELECT count(DISTINCT delivery) FROM attempt WHERE NOT EXISTS (SELECT 1 FROM delivery WHERE id = attempt.delivery)",
        ),
        ("messages are not rightly listed as unrouted", &unlisted),
    ] {
        let wrong = count(sql)?;
        if wrong > 0 {
            return Ok(Err(format!("{wrong} {what}")));
        }
    }
    Ok(Ok(format!(
        "{} wait, {} are settled",
        count("SELECT count(*) FROM delivery WHERE state = 'waiting'")?,
        count("SELECT count(*) FROM delivery WHERE state <> 'waiting'")?
    )))
}

/// Checks whether a copy of each message would be recognised: its hash is in a block, or the
/// message is after all blocks.
fn ids(connection: &Connection, horizon: i64) -> rusqlite::Result<Result<String, String>> {
    let mut blocks =
        connection.prepare("SELECT first_seq, hashes FROM dedupe_block ORDER BY first_seq")?;
    let mut blocks = blocks.query(())?;
    let mut next_block = || -> rusqlite::Result<Option<(i64, Vec<u64>)>> {
        let Some(row) = blocks.next()? else {
            return Ok(None);
        };
        let hashes = dedupe_block::hashes(row.get_ref(1)?.as_blob()?).collect();
        Ok(Some((row.get(0)?, hashes)))
    };
    let mut block = next_block()?;
    let mut messages = connection
        .prepare("SELECT seq, endpoint, webhook_id, received_at FROM message ORDER BY seq")?;
    let mut messages = messages.query(())?;
    let (mut known, mut wrong) = (0_u64, 0_u64);
    while let Some(message) = messages.next()? {
        let seq: i64 = message.get(0)?;
        let place = loop {
            match &block {
                Some((first, hashes)) => match usize::try_from(seq - first) {
                    Ok(place) if place >= hashes.len() => block = next_block()?,
                    Ok(place) => break Some(Some(hashes[place])),
                    Err(_) => break None,
                },
                None => break Some(None),
            }
        };
        let hash = id_hashes::hash(message.get_ref(1)?.as_str()?, message.get_ref(2)?.as_str()?);
        let is_known = match place {
            // After the last block: read at the start.
            Some(None) => true,
            Some(Some(expected)) => expected == hash,
            // In no block, and so missing.
            None => false,
        };
        let is_needed = message.get::<_, i64>(3)? >= horizon;
        known += u64::from(is_known);
        wrong += u64::from(is_needed && !is_known);
    }
    Ok(if wrong > 0 {
        Err(format!(
            "{wrong} messages are not in the dedupe set: a copy of them would be delivered again"
        ))
    } else {
        Ok(format!(
            "{known} are known, and no copy of them is delivered again"
        ))
    })
}
