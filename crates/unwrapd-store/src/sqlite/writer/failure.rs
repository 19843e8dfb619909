//! Why a transaction came to nothing, and what the log says of it.

use super::Writer;
use crate::StoreError;
use crate::sqlite::schema;

/// Why a transaction came to nothing.
pub(super) enum Failure {
    /// A failure of the store: no other change would succeed now.
    OfTheStore(StoreError),
    /// One of its changes cannot be made: a row that cannot be read, a constraint.
    OfAChange(StoreError),
    /// It was not begun, as another program writes. What was written before is as it was.
    Locked(StoreError),
}

impl Failure {
    /// Why a transaction could not be begun.
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
                ". Webhooks are answered 503, and OpenAI sends them again",
            ),
            Failure::OfAChange(error) => (error, "; the changes were undone"),
        };
        let Some(count) = self.failures.count(&error.to_string()) else {
            return;
        };
        self.has_logged_failure = true;
        let again = if count > 1 {
            format!(" ({count} such failures since the last such line)")
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
