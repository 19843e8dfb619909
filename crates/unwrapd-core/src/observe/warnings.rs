//! Conditions that an operator must know while they last. `/readyz` lists them, and the log has
//! their beginning and their end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The conditions that hold now, one text for each kind. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Warnings(Arc<Mutex<BTreeMap<&'static str, String>>>);

impl Warnings {
    /// Records that the condition `kind` holds. The first call logs `text` as a warning; later
    /// calls only replace the text.
    ///
    /// `text` must hold no payload and no secret, because `/readyz` shows it.
    pub fn begin(&self, kind: &'static str, text: impl Into<String>) {
        let text = text.into();
        let logged = text.clone();
        if self.lock().insert(kind, text).is_none() {
            tracing::warn!("{logged}");
        }
    }

    /// As [`begin`](Self::begin), for a condition that the caller has logged in more detail.
    pub fn note(&self, kind: &'static str, text: impl Into<String>) {
        self.lock().insert(kind, text.into());
    }

    /// Records that the condition `kind` no longer holds. Logs `text` if it held before.
    pub fn end(&self, kind: &'static str, text: &str) {
        if self.lock().remove(kind).is_some() {
            tracing::info!("{text}");
        }
    }

    /// As [`end`](Self::end), for a condition whose end the caller logs.
    pub fn clear(&self, kind: &'static str) {
        self.lock().remove(kind);
    }

    /// Whether the condition `kind` holds now.
    #[must_use]
    pub fn has(&self, kind: &str) -> bool {
        self.lock().contains_key(kind)
    }

    /// The texts of all conditions that hold now, ordered by kind.
    #[must_use]
    pub fn all(&self) -> Vec<String> {
        self.lock().values().cloned().collect()
    }

    /// The texts of all conditions that hold now, but that of `kind`.
    #[must_use]
    pub fn all_but(&self, kind: &str) -> Vec<String> {
        let held = self.lock();
        let others = held.iter().filter(|(held, _)| **held != kind);
        others.map(|(_, text)| text.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_listed_while_it_lasts() {
        let warnings = Warnings::default();
        let same = warnings.clone();
        warnings.begin("clock", "the clock is 3 h ahead");
        warnings.begin("clock", "the clock is 2 h ahead");
        assert_eq!(same.all(), ["the clock is 2 h ahead"]);
        same.end("clock", "the clock is right again");
        assert!(warnings.all().is_empty());
    }
}
