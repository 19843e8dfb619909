//! Changes of circuits that are to be published to the other gateways: the latest for each
//! destination.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// A change of the circuit of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CircuitReport {
    /// The destination is newly down.
    Down {
        /// Time until the first probe.
        back_off: Duration,
    },
    /// A probe found the destination still down.
    StillDown {
        /// Time until the next probe.
        back_off: Duration,
    },
    /// The destination is up.
    Up,
    /// A probe is due, and this gateway requests the right to make it.
    ProbeWanted,
}

/// Changes that are not published yet, by the name of the destination.
#[derive(Debug, Default)]
pub(crate) struct CircuitReports {
    to_tell: Mutex<BTreeMap<String, CircuitReport>>,
    is_more: Notify,
}

impl CircuitReports {
    /// Adds a report, which replaces an earlier one.
    pub(crate) fn tell(&self, destination: &str, report: CircuitReport) {
        let mut to_tell = self.to_tell();
        if report != CircuitReport::ProbeWanted || !to_tell.contains_key(destination) {
            to_tell.insert(destination.to_owned(), report);
        }
        self.is_more.notify_one();
    }

    /// Waits until there is a report.
    pub(crate) async fn are_there(&self) {
        self.is_more.notified().await;
    }

    /// The changes that are not published yet.
    #[must_use]
    pub(crate) fn all(&self) -> BTreeMap<String, CircuitReport> {
        self.to_tell().clone()
    }

    /// Removes a published report, unless a newer one has replaced it.
    pub(crate) fn told(&self, destination: &str, report: CircuitReport) {
        let mut to_tell = self.to_tell();
        if to_tell.get(destination) == Some(&report) {
            to_tell.remove(destination);
        }
    }

    fn to_tell(&self) -> MutexGuard<'_, BTreeMap<String, CircuitReport>> {
        self.to_tell.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
