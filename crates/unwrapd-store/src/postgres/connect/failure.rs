//! Failures of the database. Of an error of PostgreSQL, only the code and the message are shown:
//! the detail may contain values.

use std::error::Error as _;

use tokio_postgres::error::SqlState;

use crate::error::StoreError;
use crate::postgres::connect::purpose::CONNECTIONS_MAX;

/// Remedy if another role owns the tables.
pub(crate) const SAME_ROLE: &str = "use one role for the copy and for the gateways, or let an \
    administrator change the owner (`ALTER SCHEMA … OWNER TO …`, and the same for its tables); to \
    create a schema a role needs `GRANT CREATE ON DATABASE …`";

/// Reason why a transaction failed, or why its result is unknown.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// A failure of this change: others may succeed.
    OfAChange(StoreError),
    /// Two transactions conflicted, and this one was rolled back: a repetition may succeed.
    Crossed,
    /// The server refused or timed out, and rolled back: it took too long, or a resource is
    /// exhausted. The next transaction may succeed.
    Refused(StoreError),
    /// The connection has ended, or the only host refuses it. A commit in progress may have taken
    /// effect. Its batch is made again.
    Lost(StoreError),
    /// A failure of the database or of the network: no answer in time, none of several hosts
    /// answers, or the server cannot be used. A commit in progress may have taken effect. Its batch
    /// is not made again.
    OfTheStore(StoreError),
}

impl Failure {
    pub(crate) fn unavailable(problem: impl Into<String>) -> Self {
        Self::OfTheStore(StoreError::Unavailable(problem.into()))
    }

    /// Whether this connection and all others remain usable: the server has answered, and ended the
    /// transaction.
    pub(crate) fn leaves_connection(&self) -> bool {
        matches!(self, Self::OfAChange(_) | Self::Crossed | Self::Refused(_))
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::OfAChange(error)
            | Failure::Refused(error)
            | Failure::Lost(error)
            | Failure::OfTheStore(error) => error,
            Failure::Crossed => Self::Unavailable("transactions conflict; try again".into()),
        }
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(problem) = error.as_db_error() else {
            return Self::Lost(StoreError::Unavailable(told(&error)));
        };
        let code = problem.code();
        let text = format!("{} ({})", problem.message(), code.code());
        if [
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::UNIQUE_VIOLATION,
        ]
        .contains(code)
        {
            return Self::Crossed;
        }
        match code.code().get(..2) {
            // The value cannot be stored: invalid text, too large, or a violated constraint.
            Some("22" | "23" | "54") => Self::OfAChange(StoreError::Unavailable(text)),
            // The session was terminated, or the server is starting or stopping. A pooler reports a
            // server that is gone in this way too.
            Some("57") if code.code().starts_with("57P") => {
                Self::Lost(StoreError::Unavailable(text))
            }
            Some("08") => Self::Lost(StoreError::Unavailable(text)),
            Some("53" | "55" | "57") => Self::Refused(StoreError::Unavailable(match *code {
                SqlState::QUERY_CANCELED => format!("{text}: it takes too long"),
                SqlState::LOCK_NOT_AVAILABLE => format!(
                    "{text}: another session holds a lock on a table of the store; find it in `pg_locks` and terminate it"
                ),
                SqlState::DISK_FULL => format!("{text}: its disk is full"),
                SqlState::TOO_MANY_CONNECTIONS => format!(
                    "{text}: each gateway uses up to {CONNECTIONS_MAX} connections; raise `max_connections`"
                ),
                _ => text,
            })),
            _ => Self::unavailable(match *code {
                SqlState::READ_ONLY_SQL_TRANSACTION => format!(
                    "{text}: it is a stand-by, or accepts no writes for now; if it is a stand-by, \
                     name the primary, or every host, with commas between them"
                ),
                SqlState::INSUFFICIENT_PRIVILEGE => format!("{text}: {SAME_ROLE}"),
                SqlState::INVALID_PASSWORD => format!(
                    "{text}: the password is that of `password` of [store] or of --password-file, \
                     else that of the environment variable PGPASSWORD"
                ),
                _ => text,
            }),
        }
    }
}

/// The error without the driver's own words, which are only "db error" and leave the reason to the
/// source.
fn told(error: &tokio_postgres::Error) -> String {
    match error.source() {
        Some(source) if source.to_string() == "password missing" => {
            "it asks for a password, and there is none: put it into `password` of [store], or into \
             the environment variable PGPASSWORD"
                .into()
        }
        Some(source) if source.to_string() == "server does not support TLS" => {
            "it does not encrypt connections: set up a certificate there (`ssl = on`), or write \
             `?sslmode=disable` after its URL if you trust the network"
                .into()
        }
        Some(source) => {
            let reason = source.to_string();
            let remedy = if reason.contains("UnknownIssuer") {
                ": for an authority of your own write `?sslrootcert=FILE` after the URL"
            } else if reason.contains("Connection refused") {
                ": nothing is listening there; start the server, or correct `url`"
            } else {
                ""
            };
            format!("cannot connect to the database: {reason}{remedy}")
        }
        None => format!("cannot connect to the database: {error}"),
    }
}
