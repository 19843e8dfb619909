//! Failures of the database. Of an error of PostgreSQL only the code and the message are shown: the
//! detail may have values.

use std::error::Error as _;

use tokio_postgres::error::SqlState;

use crate::StoreError;
use crate::postgres::connect::pool::CONNECTIONS_MAX;

/// Remedy if another role owns the tables.
pub(crate) const SAME_ROLE: &str = "use one role for the copy and for the gateways, or let an administrator change the owner (`ALTER SCHEMA … OWNER TO …`, and the same for its tables); to create a schema a role needs `GRANT CREATE ON DATABASE …`";

/// Why nothing was changed, or why it is not known whether something was.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// Of what was to be written: others may be.
    OfAChange(StoreError),
    /// Two transactions stood in each other's way, and this one was taken back: the same again may well succeed.
    Crossed,
    /// The server has not done it, and says so: it took too long, or there is no room. The next one may be done.
    Refused(StoreError),
    /// The connection has ended. What was being committed may be committed.
    Lost(StoreError),
    /// Of the database or of the way to it. What was being committed may be committed.
    OfTheStore(StoreError),
}

impl Failure {
    pub(crate) fn unavailable(problem: impl Into<String>) -> Self {
        Self::OfTheStore(StoreError::Unavailable(problem.into()))
    }

    /// Whether the connection can be used again, and all others: the server has answered, and ended the transaction.
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
            // What was given cannot be kept: no such text, too large, against a constraint.
            Some("22" | "23" | "54") => Self::OfAChange(StoreError::Unavailable(text)),
            // It was told to end, or the server ends or begins. A pooler says of the server that it is gone.
            Some("57") if code.code().starts_with("57P") => {
                Self::Lost(StoreError::Unavailable(text))
            }
            Some("08") => Self::Lost(StoreError::Unavailable(text)),
            Some("53" | "55" | "57") => Self::Refused(StoreError::Unavailable(match *code {
                SqlState::QUERY_CANCELED => format!("{text}: it takes too long"),
                SqlState::LOCK_NOT_AVAILABLE => format!(
                    "{text}: another session holds a lock on a table of the store; find it in `pg_locks` and end it"
                ),
                SqlState::DISK_FULL => format!("{text}: its disk is full"),
                SqlState::TOO_MANY_CONNECTIONS => format!(
                    "{text}: each gateway takes up to {CONNECTIONS_MAX}; raise `max_connections`"
                ),
                _ => text,
            })),
            _ => Self::unavailable(match *code {
                SqlState::READ_ONLY_SQL_TRANSACTION => format!(
                    "{text}: it is a stand-by, or accepts no writes for now; if it is a stand-by, name the primary, or every host, with commas between them"
                ),
                SqlState::INSUFFICIENT_PRIVILEGE => format!("{text}: {SAME_ROLE}"),
                SqlState::INVALID_PASSWORD => format!(
                    "{text}: the password is that of `password` of [store] or of --password-file, else that of the environment variable PGPASSWORD"
                ),
                _ => text,
            }),
        }
    }
}

/// Without the driver's own words, which say "db error" and leave the reason to the source.
fn told(error: &tokio_postgres::Error) -> String {
    match error.source() {
        Some(source) if source.to_string() == "password missing" => {
            "it asks for a password, and there is none: put it into `password` of [store], or into the environment variable PGPASSWORD".into()
        }
        Some(source) if source.to_string() == "server does not support TLS" => {
            "it does not encrypt connections: set up a certificate there (`ssl = on`), or write `?sslmode=disable` after its URL if you trust the network".into()
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
