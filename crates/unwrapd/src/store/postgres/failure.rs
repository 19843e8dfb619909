//! What went wrong, as far as it matters here. Of an error of PostgreSQL only its code and its message are told: the detail may hold
//! values.

use std::error::Error as _;

use tokio_postgres::error::SqlState;

use crate::store::StoreError;

/// Why nothing was changed, or why it is not known whether something was.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// Of what was to be written: others may be.
    OfAChange(StoreError),
    /// Two transactions stood in each other's way, and this one was taken back: the same again may well succeed.
    Crossed,
    /// The connection has ended. What was being committed may be committed.
    Lost(StoreError),
    /// Of the database or of the way to it. What was being committed may be committed.
    OfTheStore(StoreError),
}

impl Failure {
    pub(super) fn unavailable(problem: impl Into<String>) -> Self {
        Self::OfTheStore(StoreError::Unavailable(problem.into()))
    }

    /// Whether the connection can be used again: the server has answered, and ended the transaction.
    pub(super) fn leaves_connection(&self) -> bool {
        matches!(self, Self::OfAChange(_) | Self::Crossed)
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::OfAChange(error) | Failure::Lost(error) | Failure::OfTheStore(error) => error,
            Failure::Crossed => {
                Self::Unavailable("transactions stand in each other's way; try again".into())
            }
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
            // It was told to end, or the server ends or begins.
            Some("57") if code.code().starts_with("57P") => {
                Self::Lost(StoreError::Unavailable(text))
            }
            _ => Self::unavailable(match *code {
                SqlState::READ_ONLY_SQL_TRANSACTION => format!(
                    "{text}: it is a stand-by; name the primary, or every host, with commas between them"
                ),
                SqlState::QUERY_CANCELED => format!("{text}: it takes too long"),
                SqlState::INVALID_PASSWORD => format!(
                    "{text}: the password is that of `password` of [store] or of --password-file, else that of the environment variable PGPASSWORD"
                ),
                SqlState::DISK_FULL => format!("{text}: its disk is full"),
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
        Some(source) => format!("no connection to the database: {source}"),
        None => format!("no connection to the database: {error}"),
    }
}
