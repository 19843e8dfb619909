//! Failures of a transaction, and their log lines.

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
    pub(super) fn log_failure(&mut self, failure: &Failure) {
        let (error, effect) = match failure {
            Failure::OfTheStore(error) | Failure::Locked(error) => (
                error,
                ". Webhooks are answered with 503, and OpenAI retries them",
            ),
            Failure::OfAChange(error) => (error, "; the changes were undone"),
        };
        let Some(count) = self.failures.count(&error.to_string()) else {
            return;
        };
        self.has_logged_failure = true;
        let again = if count > 1 {
            format!(" ({count} such failures since the last line about them)")
        } else {
            String::new()
        };
        tracing::error!(
            "cannot use {}: {error}{effect}{again}",
            self.files.path().display()
        );
    }

    pub(super) fn log_success(&mut self) {
        if std::mem::take(&mut self.has_logged_failure) {
            tracing::info!(
                "{} can be written again: webhooks are accepted",
                self.files.path().display()
            );
        }
    }
}
