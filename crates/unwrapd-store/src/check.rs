//! Checks of a store for damage.

/// A check of the store, and its result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Subject of the check, one word.
    pub name: &'static str,
    /// Finding in one sentence, good or bad.
    pub result: Result<String, String>,
}
