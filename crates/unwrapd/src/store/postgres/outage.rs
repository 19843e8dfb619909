//! Says once in the log that the database does not do its part, and once that it does again, however many ask it meanwhile.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::store::StoreError;

#[derive(Debug, Default)]
pub(super) struct Outage {
    is_away: AtomicBool,
    refuses: AtomicBool,
    /// How much work came to a good end.
    works: AtomicU64,
}

impl Outage {
    /// How much work has come to a good end by now.
    pub(super) fn works(&self) -> u64 {
        self.works.load(Ordering::SeqCst)
    }

    /// No connection could be made to any of these hosts, and nothing else came to a good end since there were so many.
    pub(super) fn is_away(&self, works: u64, hosts: &str, error: &StoreError) {
        if self.works() == works && !self.is_away.swap(true, Ordering::SeqCst) {
            tracing::error!(
                "{error} ({hosts}): without a connection webhooks are answered 503 and nothing is delivered"
            );
        }
    }

    /// A connection was made, or some work has come to a good end.
    pub(super) fn is_back(&self) {
        self.works.fetch_add(1, Ordering::SeqCst);
        // Read first, here and below: this is asked for each commit.
        if self.is_away.load(Ordering::Relaxed) && self.is_away.swap(false, Ordering::SeqCst) {
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
        if self.refuses.load(Ordering::Relaxed) && self.refuses.swap(false, Ordering::SeqCst) {
            tracing::info!("webhooks are kept again");
        }
    }
}
