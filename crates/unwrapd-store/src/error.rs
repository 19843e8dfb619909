//! Why an operation of a store failed.

/// Reason why an operation failed.
///
/// Nothing was changed, except possibly with [`Unavailable`](Self::Unavailable): then the result is
/// unknown, and the same call may be repeated without harm.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The store cannot be reached, read or written. The problem may be temporary.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// Too many changes wait to be written.
    #[error("the store is busy")]
    Busy,
    /// A limit on the content of the store is reached.
    #[error("the store is full: {0}")]
    Full(String),
    /// Another process uses the store. The text names the file that it has locked.
    #[error(
        "{0}: another unwrapd is running on this store; stop it, or configure another store for this one"
    )]
    InUse(String),
    /// The file is not a store, or belongs to a newer version.
    #[error("the store cannot be used: {0}")]
    Unusable(String),
}

impl StoreError {
    /// The error of a closed store.
    pub(crate) fn closed() -> Self {
        Self::Unavailable("the store was closed".into())
    }
}
