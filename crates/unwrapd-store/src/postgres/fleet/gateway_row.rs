//! The row of a gateway in the database: what it writes with a heartbeat, and what it reads of the
//! others.

use std::time::Duration;

use tokio_postgres::Row;

use crate::fleet::{Configuration, GatewayIdentity};
use crate::postgres::connect::failure::Failure;

/// Content of a heartbeat.
pub(crate) struct Heartbeat {
    pub(crate) id: i64,
    pub(crate) identity: GatewayIdentity,
    pub(crate) parts: String,
    pub(crate) sees: Vec<i64>,
    pub(crate) joins: bool,
    pub(crate) is_news: bool,
}

/// Reply to a heartbeat.
pub(crate) struct Reply {
    /// Whether this gateway has a row. If not, the others have declared it dead.
    pub(crate) is_counted: bool,
    /// Time since our previous heartbeat, in milliseconds. `None`: this was the first.
    pub(crate) silent_ms: Option<i64>,
    /// Time on the clock of the server, in milliseconds.
    pub(super) server_ms: i64,
    pub(super) others: Vec<Other>,
}

/// The state that another gateway has published.
#[derive(Clone, Debug)]
pub(super) struct Other {
    pub(super) id: i64,
    pub(super) name: String,
    pub(super) configuration: Configuration,
    pub(super) sees: Vec<i64>,
    pub(super) silent_for: Duration,
}

impl Reply {
    pub(crate) fn of(rows: &[Row], ours: i64) -> Result<Self, Failure> {
        let mut reply = Self {
            is_counted: false,
            silent_ms: None,
            server_ms: 0,
            others: Vec::with_capacity(rows.len()),
        };
        for row in rows {
            reply.is_counted = row.try_get(0)?;
            reply.server_ms = row.try_get(6)?;
            // The row of NULLs.
            let Some(id) = row.try_get::<_, Option<i64>>(1)? else {
                continue;
            };
            let silent_ms: i64 = row.try_get(5)?;
            if id == ours {
                reply.silent_ms = Some(silent_ms);
                continue;
            }
            let name: String = row.try_get(2)?;
            // A gateway without a name makes no deliveries.
            if name.is_empty() {
                continue;
            }
            reply.others.push(Other {
                id,
                name,
                configuration: read(row.try_get(3)?),
                sees: row.try_get(4)?,
                silent_for: Duration::from_millis(u64::try_from(silent_ms).unwrap_or_default()),
            });
        }
        reply.others.sort_unstable_by_key(|other| other.id);
        Ok(reply)
    }
}

/// `part=digest`, separated by blanks.
pub(super) fn written(configuration: &Configuration) -> String {
    let parts = configuration.iter();
    let parts: Vec<String> = parts
        .map(|(part, digest)| format!("{part}={digest:08x}"))
        .collect();
    parts.join(" ")
}

/// Parses the digests. Skips text of a later version that it cannot parse.
fn read(parts: &str) -> Configuration {
    let parts = parts.split(' ').filter_map(|part| part.split_once('='));
    parts
        .filter_map(|(part, digest)| {
            let digest = u32::from_str_radix(digest, 16).ok()?;
            Some((part.to_owned(), digest))
        })
        .collect()
}
