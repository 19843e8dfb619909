//! Follows the other gateways on the store: new deliveries, pauses, circuits, membership and
//! configuration.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::Level;

use super::circuits::Circuits;
use super::config_drift::ConfigDrift;
use crate::destinations::Registry;
use crate::pipeline_events::{EventBus, PipelineEvent};
use crate::store::{FleetChanges, FleetGateway, GatewayIdentity, Store, StoreError};
use tokio_util::sync::CancellationToken;

pub(super) struct Fleet {
    pub(super) store: Arc<dyn Store>,
    pub(super) registry: Registry,
    pub(super) events: EventBus,
    pub(super) circuits: Circuits,
    /// The announcement of this gateway; it changes with the configuration.
    pub(super) identity: watch::Receiver<GatewayIdentity>,
}

impl Fleet {
    /// Runs until shutdown. Ends at once if the store is not shared. Errors of the store do not end
    /// it.
    pub(super) async fn run(self, shutdown: CancellationToken) {
        let store = Arc::clone(&self.store);
        let Some(store) = store.fleet() else {
            return;
        };
        let mut identity = self.identity.clone();
        let mut drift = ConfigDrift::default();
        let gateways = store.gateways();
        drift.report(&gateways);
        let mut peers = Peers::of(&gateways);
        // The same future is polled again, because it holds changes that the store does not report
        // twice.
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
                let gateways = store.gateways();
                drift.report(&gateways);
                peers.update(&gateways, &self.events);
                // The share of the limits has changed for each destination.
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
            // Creates the handle, so that the destination is paused from the start if it is
            // configured later.
            drop(self.registry.of(name));
        }
        for handle in self.registry.all() {
            let name = handle.name();
            let is_paused = paused.iter().any(|(other, _)| other == name);
            handle.switch(is_paused, true);
        }
        Ok(())
    }
}

/// The names of the other gateways, by the numbers that the store gave them.
struct Peers(BTreeMap<i64, String>);

impl Peers {
    /// The gateways at the start, for which no event is emitted.
    fn of(gateways: &[FleetGateway]) -> Self {
        Self(named(gateways))
    }

    /// Emits the gateways that have left or joined since: those that left first, because a restart
    /// at one address is both.
    fn update(&mut self, gateways: &[FleetGateway], events: &EventBus) {
        // After the fleet has removed this gateway, its list is empty until its next heartbeat.
        let is_current = gateways
            .iter()
            .any(|gateway| gateway.is_ours && gateway.silent_for < Duration::MAX);
        if !is_current {
            return;
        }
        let before = std::mem::replace(&mut self.0, named(gateways));
        for (id, gateway) in &before {
            if !self.0.contains_key(id) {
                events.emit(Level::INFO, || PipelineEvent::GatewayLeft {
                    gateway: gateway.clone(),
                });
            }
        }
        for (id, gateway) in &self.0 {
            if !before.contains_key(id) {
                events.emit(Level::INFO, || PipelineEvent::GatewayJoined {
                    gateway: gateway.clone(),
                });
            }
        }
    }
}

/// A gateway has no name before it has announced itself.
fn named(gateways: &[FleetGateway]) -> BTreeMap<i64, String> {
    let named = gateways
        .iter()
        .filter(|gateway| !gateway.is_ours && !gateway.name.is_empty());
    named
        .map(|gateway| (gateway.id, gateway.name.clone()))
        .collect()
}
