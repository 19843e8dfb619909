//! Requirements on the server, so that acknowledged webhooks are not lost.

use std::cmp::Ordering;

use tokio_postgres::Row;

use crate::error::StoreError;

/// Oldest supported version, as the server encodes it.
const VERSION_MIN: i32 = 150_000;

/// Reads the settings of the server, in one row.
pub(crate) const LOOK: &str = "
    SELECT current_setting('server_version_num')::int4, current_setting('server_version'),
           current_setting('server_encoding'), current_setting('fsync'), current_setting('full_page_writes'),
           current_setting('synchronous_commit'), pg_is_in_recovery(),
           current_setting('default_transaction_read_only'), current_setting('default_transaction_isolation'),
           current_setting('log_parameter_max_length', true) <> '0' AND (
               current_setting('log_min_duration_statement') <> '-1' OR current_setting('log_min_duration_sample') <> '-1'
               OR current_setting('log_statement') = 'all'
           )";

/// Reads the identity of the database, and its current timeline.
pub(crate) const LINE: &str = "
    SELECT (pg_control_system()).system_identifier,
           ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int8";

/// A database and its timeline. Each time that a stand-by is promoted, a timeline with a higher
/// number begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    system: i64,
    number: i64,
}

impl Line {
    pub(crate) fn read(rows: &[Row]) -> Option<Self> {
        let row = rows.first()?;
        Some(Self {
            system: row.try_get(0).ok()?,
            number: row.try_get(1).ok()?,
        })
    }

    /// Compares two by age. `None` if they cannot be compared.
    pub(crate) fn compare(one: Option<Self>, other: Option<Self>) -> Option<Ordering> {
        let (one, other) = (one?, other?);
        (one.system == other.system).then(|| one.number.cmp(&other.number))
    }
}

/// Settings of a usable server.
pub(crate) struct Does {
    /// Durability of its commits.
    pub(crate) synchronous_commit: String,
    /// Reason why no gateway can work on it, although it can be read and written.
    pub(crate) unfit: Option<String>,
    /// Whether it may write our values, and so payloads, into its log.
    pub(crate) logs_values: bool,
}

/// Returns an error if the server is not usable.
pub(crate) fn check(rows: &[Row]) -> Result<Does, StoreError> {
    let row = rows
        .first()
        .ok_or_else(|| StoreError::Unavailable("the database did not answer".into()))?;
    let text = |column: usize| {
        row.try_get::<_, String>(column)
            .map_err(|error| StoreError::Unavailable(error.to_string()))
    };
    let version: i32 = row
        .try_get(0)
        .map_err(|error| StoreError::Unavailable(error.to_string()))?;
    if row.try_get(6).unwrap_or(false) {
        return Err(StoreError::Unavailable(
            "the database is a stand-by, which accepts no writes: promote it, or name the primary \
             in `url`. If `url` names every host, with commas between them, the gateway finds the \
             primary"
                .into(),
        ));
    }
    let told = Told {
        version,
        version_text: text(1)?,
        encoding: text(2)?,
        fsync: text(3)?,
        full_page_writes: text(4)?,
        synchronous_commit: text(5)?,
        read_only: text(7)?,
        isolation: text(8)?,
    };
    if let Some(problem) = told.problem() {
        return Err(StoreError::Unusable(problem));
    }
    Ok(Does {
        unfit: told.unfit(),
        synchronous_commit: told.synchronous_commit,
        logs_values: row.try_get(9).unwrap_or(false),
    })
}

struct Told {
    version: i32,
    version_text: String,
    encoding: String,
    fsync: String,
    full_page_writes: String,
    synchronous_commit: String,
    read_only: String,
    isolation: String,
}

impl Told {
    /// Reason why the server cannot be used, and the remedy.
    fn problem(&self) -> Option<String> {
        if self.version < VERSION_MIN {
            return Some(format!(
                "PostgreSQL {} is older than 15; run a newer one",
                self.version_text
            ));
        }
        if self.encoding != "UTF8" {
            return Some(format!(
                "the database has the encoding {}, which cannot store every event; create one with \
                 `CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0`",
                self.encoding
            ));
        }
        if self.fsync != "on" {
            return Some(
                "the server runs with `fsync = off` and may lose everything when its machine \
                 stops; set it to `on` in postgresql.conf and reload"
                    .into(),
            );
        }
        if self.full_page_writes != "on" {
            return Some(
                "the server runs with `full_page_writes = off` and may be damaged when its machine \
                 stops; set it to `on` in postgresql.conf and reload"
                    .into(),
            );
        }
        // `local` does not wait for a stand-by, so acknowledged webhooks may be lost when a
        // stand-by is promoted.
        if !["on", "remote_write", "remote_apply"].contains(&self.synchronous_commit.as_str()) {
            return Some(format!(
                "`synchronous_commit` is `{}`, so that a commit may be lost after it was \
                 acknowledged; set it to `on` in postgresql.conf. If the role or the database sets \
                 it, use `ALTER ROLE … RESET synchronous_commit` or \
                 `ALTER DATABASE … RESET synchronous_commit`",
                self.synchronous_commit
            ));
        }
        None
    }

    /// Reason why no gateway can work on the server, and the remedy.
    fn unfit(&self) -> Option<String> {
        // A function that is called as its own transaction cannot choose another access mode.
        if self.read_only != "off" {
            return Some(
                "`default_transaction_read_only` is on, so that nothing can be stored. Some \
                 providers set it when the disk is nearly full: free space, or use \
                 `ALTER ROLE … RESET default_transaction_read_only`, or the same for the database"
                    .into(),
            );
        }
        if self.isolation != "read committed" {
            return Some(format!(
                "`default_transaction_isolation` is `{}`, which makes transactions of gateways \
                 fail: use `ALTER ROLE … SET default_transaction_isolation = 'read committed'`",
                self.isolation
            ));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(change: impl Fn(&mut Told)) -> String {
        let mut told = Told {
            version: 150_004,
            version_text: "15.4".into(),
            encoding: "UTF8".into(),
            fsync: "on".into(),
            full_page_writes: "on".into(),
            synchronous_commit: "on".into(),
            read_only: "off".into(),
            isolation: "read committed".into(),
        };
        change(&mut told);
        told.problem().unwrap_or_default()
    }

    #[test]
    fn a_server_that_may_lose_a_commit_is_refused() {
        assert_eq!(problem(|_| {}), "");
        assert_eq!(
            problem(|told| told.synchronous_commit = "remote_apply".into()),
            ""
        );
        for off in ["off", "local"] {
            let problem = problem(|told| told.synchronous_commit = off.into());
            assert!(problem.contains("synchronous_commit"), "{problem}");
        }
        assert!(problem(|told| told.fsync = "off".into()).contains("fsync"));
        assert!(problem(|told| told.full_page_writes = "off".into()).contains("full_page_writes"));
        assert!(problem(|told| told.encoding = "SQL_ASCII".into()).contains("UTF8"));
        assert!(problem(|told| told.version = 140_010).contains("older than 15"));
    }
}
