//! What time it is, for those whose decisions a test must be able to repeat.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// The clock on the wall. The default one is the system's; it may jump, as every such clock may.
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Arc<Simulated>>);

#[derive(Debug)]
struct Simulated {
    /// What it showed
    shown: Timestamp,
    /// at this instant.
    at: Instant,
    /// How far it was put forward since, in milliseconds.
    shift: AtomicI64,
}

impl Clock {
    /// A clock that shows `time` and goes with Tokio's, which a test may pause.
    #[must_use]
    pub fn simulated(time: Timestamp) -> Self {
        Self(Some(Arc::new(Simulated {
            shown: time,
            at: Instant::now(),
            shift: AtomicI64::new(0),
        })))
    }

    /// The time it shows.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let Some(simulated) = &self.0 else {
            return Timestamp::now();
        };
        let since = SignedDuration::try_from(simulated.at.elapsed()).unwrap_or(SignedDuration::MAX);
        let shift = SignedDuration::from_millis(simulated.shift.load(Ordering::SeqCst));
        simulated
            .shown
            .saturating_add(since.saturating_add(shift))
            .unwrap_or(Timestamp::MAX)
    }

    /// Puts a simulated clock forward, or back by a negative amount. The system's clock is left alone.
    pub fn shift(&self, milliseconds: i64) {
        if let Some(simulated) = &self.0 {
            simulated.shift.fetch_add(milliseconds, Ordering::SeqCst);
        }
    }
}
