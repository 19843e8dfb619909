//! Synchronises circuits with the other gateways on the store. A result of one gateway applies to
//! all, and one gateway probes a destination that is down.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::destinations::{CircuitReport, CircuitReports, DestinationHandle, Gate, Registry};
use crate::store::{Fleet, SharedCircuit, StoreError};

/// Time for which a gateway holds the right to probe a destination. It renews the right while
/// probes are running, once less than half of the time is left.
const TRY_TIME: Duration = Duration::from_secs(60);

/// A destination's name, its gate, and the gate's epoch before the shared circuits were read.
type Asked = (String, Arc<Gate>, u64);

/// The circuits of all destinations.
#[derive(Clone)]
pub(super) struct Circuits {
    pub(super) reports: Arc<CircuitReports>,
    registry: Registry,
    clock: Clock,
}

impl Circuits {
    /// `clock` is for times that are shown to people.
    pub(super) fn of(registry: Registry, clock: Clock) -> Self {
        Self {
            reports: Arc::default(),
            registry,
            clock,
        }
    }

    /// Sets the gate of a destination. If it replaces one, the settings have changed, so the shared
    /// circuit is closed.
    pub(super) fn watch(&self, handle: &DestinationHandle, gate: &Arc<Gate>) {
        if handle.set_gate(gate) {
            self.reports.tell(handle.name(), CircuitReport::Up);
        }
    }

    /// The gates with their current epochs.
    pub(super) fn epochs(&self) -> Vec<Asked> {
        let handles = self.registry.all().into_iter();
        handles
            .filter_map(|handle| {
                let gate = handle.gate()?;
                let epoch = gate.epoch();
                Some((handle.name().to_owned(), gate, epoch))
            })
            .collect()
    }

    /// Publishes the reports of this gateway, then applies the shared circuits.
    pub(super) async fn agree(&self, store: &dyn Fleet) -> Result<(), StoreError> {
        // Read before the reports are published: later results of this gateway take precedence over
        // the shared circuits.
        let epochs = self.epochs();
        for (name, report) in self.reports.all() {
            match report {
                CircuitReport::Down { back_off } => {
                    store.open_circuit(&name, back_off, true).await?;
                }
                CircuitReport::StillDown { back_off } => {
                    store.open_circuit(&name, back_off, false).await?;
                }
                CircuitReport::Up => store.close_circuit(&name).await?,
                CircuitReport::ProbeWanted => store.try_circuit(&name, TRY_TIME).await?,
            }
            self.reports.told(&name, report);
        }
        let known = store.circuits().await?;
        for (name, gate, _) in &epochs {
            let is_ending = |known: &&SharedCircuit| {
                known.destination == *name && known.is_ours_to_try && known.wait < TRY_TIME / 2
            };
            if gate.is_probing() && known.iter().any(|known| is_ending(&known)) {
                store.try_circuit(name, TRY_TIME).await?;
            }
        }
        self.sync_from_fleet(&epochs, &known);
        Ok(())
    }

    /// Applies the shared circuits to the gates.
    pub(super) fn sync_from_fleet(&self, epochs: &[Asked], known: &[SharedCircuit]) {
        let now = self.clock.now();
        for (name, gate, epoch) in epochs {
            let known = known.iter().find(|known| known.destination == *name);
            gate.sync_from_fleet(*epoch, known, now);
        }
    }
}
