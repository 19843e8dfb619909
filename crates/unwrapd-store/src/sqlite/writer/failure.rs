//! Failures of a transaction, and their log lines.

use tracing::Level;

use super::Writer;
use crate::StoreError;
use crate::sqlite::schema;

/// Reason why a transaction failed.
pub(super) enum Failure {
    /// A failure of the store: no other change would succeed at this time.
    OfTheStore(StoreError),
    /// One of the changes is impossible: a row that cannot be read, a constraint.
    OfAChange(StoreError),
    /// Another program holds the write lock, so the transaction did not begin. Nothing has changed.
    Locked(StoreError),
}

impl Failure {
    /// The failure for an error at the beginning of a transaction.
    pub(super) fn of_beginning(error: &rusqlite::Error) -> Self {
        let told = schema::store_error(error);
        if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) {
            Self::Locked(told)
        } else {
            Self::OfTheStore(told)
        }
    }

    pub(super) fn into_error(self) -> StoreError {
        let (Self::OfTheStore(error) | Self::OfAChange(error) | Self::Locked(error)) = self;
        error
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        let is_of_a_change = error
            .sqlite_error_code()
            .is_none_or(|code| code == rusqlite::ErrorCode::ConstraintViolation);
        let error = schema::store_error(&error);
        if is_of_a_change {
            Self::OfAChange(error)
        } else {
            Self::OfTheStore(error)
        }
    }
}

impl Writer {
    /// Logs the failure, and reports that the store accepts no webhooks, unless only one change is
    /// impossible.
    pub(super) fn log_failure(&mut self, failure: &Failure) {
        let (error, effect, is_refusing) = match failure {
            Failure::OfTheStore(error) | Failure::Locked(error) => (
                error,
                ". Webhooks are answered with 503, and OpenAI retries them",
                true,
            ),
            Failure::OfAChange(error) => (error, "; the changes were undone", false),
        };
        let count = self.failures.count(&error.to_string());
        let again = match count {
            None | Some(1) => String::new(),
            Some(count) => format!(" ({count} such failures since the last line about them)"),
        };
        let path = self.files.path().display();
        let reason = format!("cannot use {path}: {error}{effect}{again}");
        let level = count.map_or(Level::DEBUG, |_| Level::ERROR);
        if is_refusing && self.refusing.is_none() {
            self.refusing = Some(level);
            self.health.refusing(level, reason);
            return;
        }
        if count.is_some() {
            tracing::error!(count, "{reason}");
        }
        if is_refusing {
            self.refusing = self.refusing.map(|logged| logged.min(level));
        }
    }

    pub(super) fn log_success(&mut self) {
        if let Some(logged) = self.refusing.take() {
            let level = logged.max(Level::INFO);
            let path = self.files.path().display();
            self.health.recovered(
                level,
                format!("{path} can be written again: webhooks are accepted"),
            );
        }
    }
}
