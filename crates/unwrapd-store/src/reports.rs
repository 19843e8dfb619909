//! Reports of the store to its gateway: its commits, and whether it accepts webhooks.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tracing::Level;

/// A commit, or a change in whether the store accepts webhooks. Each cause of a refusal has its own
/// pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreReport {
    /// The store accepts none.
    Refusing {
        /// The cause and its effect, for the log.
        reason: String,
    },
    /// The cause is gone.
    Recovered {
        /// The cause that is gone, for the log.
        reason: String,
    },
    /// Changes are durable.
    Committed {
        /// Number of the changes that share the commit.
        changes: usize,
        /// Length of the commit.
        duration: Duration,
    },
}

/// Passes the reports to the gateway that opened the store. The default discards them.
#[derive(Clone, Default)]
pub struct StoreReporter(Option<Arc<Report>>);

type Report = dyn Fn(Level, StoreReport) + Send + Sync;

impl StoreReporter {
    /// Calls `report` with each report, and with the level at which the log is to have it. The
    /// writer of the store calls it, so it must be quick.
    #[must_use]
    pub fn new(report: impl Fn(Level, StoreReport) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(report)))
    }

    pub(crate) fn refusing(&self, level: Level, reason: impl Into<String>) {
        let reason = reason.into();
        self.report(level, StoreReport::Refusing { reason });
    }

    pub(crate) fn recovered(&self, level: Level, reason: impl Into<String>) {
        let reason = reason.into();
        self.report(level, StoreReport::Recovered { reason });
    }

    pub(crate) fn committed(&self, changes: usize, duration: Duration) {
        self.report(Level::TRACE, StoreReport::Committed { changes, duration });
    }

    fn report(&self, level: Level, report: StoreReport) {
        if let Some(gateway) = &self.0 {
            gateway(level, report);
        }
    }
}

impl fmt::Debug for StoreReporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StoreReporter").finish()
    }
}
