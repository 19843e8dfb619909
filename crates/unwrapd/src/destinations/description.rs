//! The configuration of a destination, as operators see it.

use crate::delivery::limits::Limits;

/// The configuration of a destination, without secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// The URL without user, password and query, the program of a command, or the path of a file.
    pub(crate) target: String,
    /// The event patterns.
    pub(crate) events: Vec<String>,
    /// The limits.
    pub(crate) limits: Limits,
}
