//! Whether the gateway is alive, for the watchdog of a service manager.

use std::sync::Arc;

use crate::admin::Readiness;
use crate::clock::Clock;
use crate::store::Store;

/// Checks a running gateway, also while that stops.
pub(crate) struct Liveness {
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Clock,
    pub(super) readiness: Arc<Readiness>,
}

/// Result of a check.
#[derive(Debug, PartialEq)]
pub(crate) enum Health {
    /// Webhooks are stored.
    Ready,
    /// Webhooks are refused, for this reason. A restart does not help: the disk is full, or the
    /// database is away.
    Refusing(String),
    /// The store has not even answered with an error for longer than it ever waits. So a part of the
    /// process hangs, and a restart may help.
    Silent,
}

impl Liveness {
    /// Makes the check that `/readyz` makes.
    pub(crate) async fn check(&self) -> Health {
        match self.readiness.check(&self.store, &self.clock).await {
            Ok(()) => Health::Ready,
            Err(_) if self.readiness.is_silent() => Health::Silent,
            Err(error) => Health::Refusing(error.to_string()),
        }
    }
}
