//! Says once in the log that the database does not do its part, and once that it does again,
//! however many ask it meanwhile.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::StoreError;
use crate::postgres::lock;

/// Where some webhooks are kept and some are refused, for example because the server gives us too
/// few connections, it is not said each time that they are kept again: no more than so often,
const CHANGES_MAX: u32 = 2;
/// and then only once none was refused for this long.
const STEADY: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(crate) struct Outage {
    is_away: AtomicBool,
    refuses: AtomicBool,
    changes: Mutex<Changes>,
    /// How much work came to a good end.
    works: AtomicU64,
}

#[derive(Debug, Default)]
struct Changes {
    /// When a webhook was last refused.
    refused_at: Option<Instant>,
    /// How often it was said since that they are kept again, without a steady time between.
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

    /// Whether it may be said that they are kept again.
    fn takes(&mut self) -> bool {
        let may_say = self.is_steady() || self.said < CHANGES_MAX;
        self.said += u32::from(may_say);
        may_say
    }
}

impl Outage {
    /// How much work has come to a good end by now.
    pub(crate) fn works(&self) -> u64 {
        self.works.load(Ordering::SeqCst)
    }

    /// No connection could be made to any of these hosts, and nothing else came to a good end since there were so many.
    pub(crate) fn is_away(&self, works: u64, hosts: &str, error: &StoreError) {
        if self.works() == works && !self.is_away.swap(true, Ordering::SeqCst) {
            tracing::error!(
                "{error} ({hosts}): without a connection webhooks are answered 503 and nothing is delivered"
            );
        }
    }

    /// A connection was made, or some work has come to a good end.
    pub(crate) fn is_back(&self) {
        self.works.fetch_add(1, Ordering::SeqCst);
        // Read first, here and below: this is asked for each commit.
        if self.is_away.load(Ordering::Relaxed) && self.is_away.swap(false, Ordering::SeqCst) {
            tracing::info!("the database is reachable again");
        }
    }

    /// A webhook could not be kept. Where the database is away, that is said already.
    pub(crate) fn refuses(&self, error: &StoreError) {
        lock(&self.changes).refuses();
        if !self.is_away.load(Ordering::SeqCst) && !self.refuses.swap(true, Ordering::SeqCst) {
            tracing::error!("webhooks are answered 503: {error}");
        }
    }

    /// Webhooks are kept.
    pub(crate) fn takes(&self) {
        if self.refuses.load(Ordering::Relaxed)
            && lock(&self.changes).takes()
            && self.refuses.swap(false, Ordering::SeqCst)
        {
            tracing::info!("webhooks are stored again");
        }
    }
}
