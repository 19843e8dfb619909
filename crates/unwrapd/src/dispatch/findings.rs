//! Changes of circuits that are to be published to the other gateways: the latest for each
//! destination.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// A change of the circuit of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The destination is newly down, and not tried for this long.
    Down {
        /// How long.
        back_off: Duration,
    },
    /// The destination was tried, and is still down.
    StillDown {
        /// How long it is left alone this time.
        back_off: Duration,
    },
    /// The destination is up.
    Up,
    /// Nothing: it is time to try it, and the others are asked whether it is for us to do so.
    WantsToTry,
}

/// Changes that are not published yet, by the name of the destination.
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

    /// The changes that are not published yet.
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
