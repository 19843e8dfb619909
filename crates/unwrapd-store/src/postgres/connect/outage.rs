//! Logs once when the database becomes unusable, and once when it is usable again, however many
//! callers are affected.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tracing::Level;

use crate::error::StoreError;
use crate::mutex::lock;
use crate::reports::StoreReporter;

/// If some webhooks are stored and some refused, for example because the server allows too few
/// connections, the recovery is not logged each time. This is the maximum number of such lines.
const CHANGES_MAX: u32 = 2;
/// After that, a recovery is logged only if none was refused for this long.
const STEADY: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(crate) struct Outage {
    health: StoreReporter,
    is_away: AtomicBool,
    refuses: AtomicBool,
    changes: Mutex<Changes>,
    /// Number of successful transactions and connections.
    works: AtomicU64,
    /// Number of reported outages.
    outages: AtomicU64,
}

#[derive(Debug, Default)]
struct Changes {
    /// Time of the last refused webhook.
    refused_at: Option<Instant>,
    /// Number of recoveries logged since the last steady time.
    said: u32,
}

impl Changes {
    fn is_steady(&self) -> bool {
        self.refused_at.is_none_or(|at| at.elapsed() >= STEADY)
    }

    fn refuses(&mut self) {
        if self.is_steady() {
            self.said = 0;
        }
        self.refused_at = Some(Instant::now());
    }

    /// Whether a recovery may be logged.
    fn takes(&mut self) -> bool {
        let may_say = self.is_steady() || self.said < CHANGES_MAX;
        self.said += u32::from(may_say);
        may_say
    }
}

impl Outage {
    pub(crate) fn new(health: StoreReporter) -> Self {
        Self {
            health,
            ..Self::default()
        }
    }

    /// Number of successful transactions and connections so far.
    pub(crate) fn works(&self) -> u64 {
        self.works.load(Ordering::SeqCst)
    }

    /// Number of outages so far, to be read when an operation begins.
    pub(crate) fn outages(&self) -> u64 {
        self.outages.load(Ordering::SeqCst)
    }

    /// Reports that no host could be reached, unless something succeeded since `works` was read.
    pub(crate) fn is_away(&self, works: u64, hosts: &str, error: &StoreError) {
        if self.works() == works && !self.is_away.swap(true, Ordering::SeqCst) {
            self.outages.fetch_add(1, Ordering::SeqCst);
            self.health.refusing(
                Level::ERROR,
                format!(
                    "{error} ({hosts}): without a connection, webhooks are answered with 503 and nothing is delivered"
                ),
            );
        }
    }

    /// Reports a new connection or a successful transaction that began after this number of
    /// outages. One that began before the current outage does not end it: its success may be
    /// older than the failure that was reported.
    pub(crate) fn is_back(&self, outages: u64) {
        self.works.fetch_add(1, Ordering::SeqCst);
        // A plain read first, here and below, because this runs for each commit.
        if self.is_away.load(Ordering::Relaxed)
            && self.outages() == outages
            && self.is_away.swap(false, Ordering::SeqCst)
        {
            self.health
                .recovered(Level::INFO, "the database is reachable again");
        }
    }

    /// Reports a webhook that could not be stored. If the database is unreachable, that is logged
    /// already.
    pub(crate) fn refuses(&self, error: &StoreError) {
        lock(&self.changes).refuses();
        if !self.is_away.load(Ordering::SeqCst) && !self.refuses.swap(true, Ordering::SeqCst) {
            let reason = format!("webhooks are answered with 503: {error}");
            self.health.refusing(Level::ERROR, reason);
        }
    }

    /// Reports webhooks that were stored.
    pub(crate) fn takes(&self) {
        if self.refuses.load(Ordering::Relaxed)
            && lock(&self.changes).takes()
            && self.refuses.swap(false, Ordering::SeqCst)
        {
            self.health
                .recovered(Level::INFO, "webhooks are stored again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_that_began_before_an_outage_does_not_end_it() {
        let outage = Outage::default();
        let error = StoreError::Unavailable(String::new());
        let (works, earlier) = (outage.works(), outage.outages());
        outage.is_away(works, "", &error);
        outage.is_back(earlier);
        assert!(outage.is_away.load(Ordering::SeqCst));
        outage.is_back(outage.outages());
        assert!(!outage.is_away.load(Ordering::SeqCst));
    }
}
