//! Why a copy was not completed.

use crate::error::StoreError;

/// Reason why a copy was not completed, with the remedy. The rows copied so far stay, and the same
/// copy continues from there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// The source does not exist.
    #[error("{0} does not exist")]
    NotThere(String),
    /// A gateway runs on one of the stores.
    #[error(
        "{place} is in use: stop every gateway on it, or wait until another copy has ended{}",
        if *.is_remembered { "; a gateway that was killed counts as running for 12 s" } else { "" }
    )]
    InUse {
        /// Name of the store.
        place: String,
        /// Whether a gateway that was killed counts as running for a while.
        is_remembered: bool,
    },
    /// Another copy works on the target, or did until now.
    #[error(
        "{0} was changed during the copy, perhaps by another copy: wait until that has ended, then \
         run this command again to compare the stores"
    )]
    Overtaken(String),
    /// The copy was refused because it would do harm.
    #[error("{0}")]
    Refused(String),
    /// The two stores differ after the copy.
    #[error("{0}")]
    Different(String),
    /// One of the stores cannot be read or written.
    #[error("{place}: {error}")]
    Store {
        /// Name of the store.
        place: String,
        /// The error of the store.
        error: StoreError,
    },
}
