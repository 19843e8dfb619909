//! What was found out about destinations and is to be told to the others on the store: of each the latest.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// What was found out about a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It is down, which nobody knew, and is left alone for so long.
    Down {
        /// How long.
        back_off: Duration,
    },
    /// It was tried and is still down.
    StillDown {
        /// How long it is left alone this time.
        back_off: Duration,
    },
    /// It is up.
    Up,
    /// Nothing: it is time to try it, and the others are asked whether it is for us to do so.
    WantsToTry,
}

/// What is to be told, by the name of the destination.
#[derive(Debug, Default)]
pub struct Findings {
    to_tell: Mutex<BTreeMap<String, Finding>>,
    is_more: Notify,
}

impl Findings {
    /// This was found out.
    pub fn tell(&self, destination: &str, finding: Finding) {
        let mut to_tell = self.to_tell();
        if finding != Finding::WantsToTry || !to_tell.contains_key(destination) {
            to_tell.insert(destination.to_owned(), finding);
        }
        self.is_more.notify_one();
    }

    /// Waits until there is something to tell.
    pub async fn are_there(&self) {
        self.is_more.notified().await;
    }

    /// What is to be told.
    #[must_use]
    pub fn all(&self) -> BTreeMap<String, Finding> {
        self.to_tell().clone()
    }

    /// This was told. What was found out since is still to be told.
    pub fn told(&self, destination: &str, finding: Finding) {
        let mut to_tell = self.to_tell();
        if to_tell.get(destination) == Some(&finding) {
            to_tell.remove(destination);
        }
    }

    fn to_tell(&self) -> MutexGuard<'_, BTreeMap<String, Finding>> {
        self.to_tell.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
