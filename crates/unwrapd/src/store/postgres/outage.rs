//! Says once in the log that the database does not do its part, and once that it does again, however many ask it meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::store::StoreError;

#[derive(Debug, Default)]
pub(super) struct Outage {
    is_away: AtomicBool,
    refuses: AtomicBool,
}

impl Outage {
    /// No connection can be made to any of these hosts.
    pub(super) fn is_away(&self, hosts: &str, error: &StoreError) {
        if !self.is_away.swap(true, Ordering::SeqCst) {
            tracing::error!(
                "{error} ({hosts}): without a connection webhooks are answered 503 and nothing is delivered"
            );
        }
    }

    /// A connection was made.
    pub(super) fn is_back(&self) {
        if self.is_away.swap(false, Ordering::SeqCst) {
            tracing::info!("the database is there again");
        }
    }

    /// A webhook could not be kept. Where the database is away, that is said already.
    pub(super) fn refuses(&self, error: &StoreError) {
        if !self.is_away.load(Ordering::SeqCst) && !self.refuses.swap(true, Ordering::SeqCst) {
            tracing::error!("webhooks are answered 503: {error}");
        }
    }

    /// Webhooks are kept.
    pub(super) fn takes(&self) {
        // Read first: this is asked for each commit.
        if self.refuses.load(Ordering::Relaxed) && self.refuses.swap(false, Ordering::SeqCst) {
            tracing::info!("webhooks are kept again");
        }
    }
}
