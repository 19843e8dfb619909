//! Reports of the store to its gateway: whether it accepts webhooks.

use std::fmt;
use std::sync::Arc;

use tracing::Level;

/// A change in whether the store accepts webhooks. Each cause has its own pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreHealth {
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
}

/// Reports the changes to the gateway that opened the store. The default discards them.
#[derive(Clone, Default)]
pub struct HealthReporter(Option<Arc<Report>>);

type Report = dyn Fn(Level, StoreHealth) + Send + Sync;

impl HealthReporter {
    /// Calls `report` with each change, and with the level at which the log is to have it.
    #[must_use]
    pub fn new(report: impl Fn(Level, StoreHealth) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(report)))
    }

    pub(crate) fn refusing(&self, level: Level, reason: impl Into<String>) {
        let reason = reason.into();
        self.report(level, StoreHealth::Refusing { reason });
    }

    pub(crate) fn recovered(&self, level: Level, reason: impl Into<String>) {
        let reason = reason.into();
        self.report(level, StoreHealth::Recovered { reason });
    }

    fn report(&self, level: Level, health: StoreHealth) {
        if let Some(report) = &self.0 {
            report(level, health);
        }
    }
}

impl fmt::Debug for HealthReporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HealthReporter").finish()
    }
}
