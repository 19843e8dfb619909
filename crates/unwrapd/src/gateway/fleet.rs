//! Follows the other gateways on the store: new deliveries, pauses, circuits, membership and
//! configuration.

use std::sync::Arc;

use tokio::sync::watch;

use super::circuits::Circuits;
use super::config_drift::ConfigDrift;
use crate::destinations::Registry;
use crate::store::{FleetChanges, GatewayIdentity, Store, StoreError};
use tokio_util::sync::CancellationToken;

pub(super) struct Fleet {
    pub(super) store: Arc<dyn Store>,
    pub(super) registry: Registry,
    pub(super) circuits: Circuits,
    /// The announcement of this gateway; it changes with the configuration.
    pub(super) identity: watch::Receiver<GatewayIdentity>,
}

impl Fleet {
    /// Goes on until shutdown; ends at once where the store is not shared. A failing store does not
    /// end it.
    pub(super) async fn run(self, shutdown: CancellationToken) {
        let store = Arc::clone(&self.store);
        let Some(store) = store.fleet() else {
            return;
        };
        let mut identity = self.identity.clone();
        let mut drift = ConfigDrift::default();
        drift.report(&store.gateways());
        // Gone on with where it was left: what it has heard is not heard again.
        let mut next_change = store.next_change();
        loop {
            let changes = tokio::select! {
                () = shutdown.cancelled() => return,
                Ok(()) = identity.changed() => {
                    let identity = identity.borrow_and_update().clone();
                    if let Err(error) = store.announce(identity).await {
                        tracing::debug!("cannot announce the configuration of this gateway; the next heartbeat does: {error}");
                    }
                    FleetChanges { gateways: true, ..FleetChanges::default() }
                }
                () = self.circuits.reports.are_there() => FleetChanges { circuits: true, ..FleetChanges::default() },
                changes = &mut next_change => {
                    next_change = store.next_change();
                    changes
                }
            };
            for (destination, lane) in &changes.due {
                self.registry.notify(destination, *lane);
            }
            if changes.pauses
                && let Err(error) = self.sync_pauses().await
            {
                tracing::debug!("cannot read the paused destinations: {error}");
            }
            if changes.circuits
                && let Err(error) = self.circuits.agree(store).await
            {
                tracing::debug!("cannot read which destinations are down: {error}");
            }
            if changes.gateways {
                drift.report(&store.gateways());
                // Each has another part of the limits now.
                for handle in self.registry.all() {
                    handle.notify_all();
                }
            }
        }
    }

    async fn sync_pauses(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.registry.hold_pauses().await;
        let paused = self.store.paused().await?;
        for (name, _) in &paused {
            // So that it is paused from the beginning, should it be configured later.
            drop(self.registry.of(name));
        }
        for handle in self.registry.all() {
            let name = handle.name();
            let is_paused = paused.iter().any(|(other, _)| other == name);
            if handle.state().is_paused() != is_paused {
                handle.set_paused(is_paused);
                let what = if is_paused { "paused" } else { "resumed" };
                tracing::info!(destination = name, "{what} at another gateway");
            }
        }
        Ok(())
    }
}
