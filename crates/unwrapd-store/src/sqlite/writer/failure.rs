//! Failures of a transaction.

use crate::error::StoreError;
use crate::sqlite::error::store_error;

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
        let told = store_error(error);
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
        let error = store_error(&error);
        if is_of_a_change {
            Self::OfAChange(error)
        } else {
            Self::OfTheStore(error)
        }
    }
}
