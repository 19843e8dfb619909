//! The ends of a command other than success, each with its exit code.

use crate::config::ConfigError;
use crate::store::StoreError;

/// A command's end, other than success.
#[derive(Debug)]
pub(super) enum Failure {
    /// The reader of the output has closed it: 0.
    NobodyReads,
    /// The command did not succeed: 1.
    Failed(anyhow::Error),
    /// The command line or the configuration is wrong: 2.
    Usage(anyhow::Error),
    /// The thing that the command is about does not exist: 3.
    NotFound(anyhow::Error),
    /// The request is not authentic: 4. The message is already printed.
    NotAuthentic,
    /// The command may succeed later: 5.
    TryLater(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = error.into();
        if error.is::<ConfigError>() {
            return Self::Usage(error);
        }
        if let Some(StoreError::InUse(_) | StoreError::Busy) = error.downcast_ref() {
            return Self::TryLater(error);
        }
        match error
            .downcast_ref::<std::io::Error>()
            .map(std::io::Error::kind)
        {
            Some(std::io::ErrorKind::BrokenPipe) => Self::NobodyReads,
            Some(std::io::ErrorKind::AddrInUse) => Self::TryLater(error),
            _ => Self::Failed(error),
        }
    }
}

/// A mistake in the command line.
pub(super) fn usage(problem: impl Into<String>) -> Failure {
    Failure::Usage(anyhow::Error::msg(problem.into()))
}
