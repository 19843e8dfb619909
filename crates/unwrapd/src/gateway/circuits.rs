//! Which destinations are down, kept in agreement with the other gateways on the store: what one
//! finds out counts for all, and one of them tries a destination that is down.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::destinations::{CircuitReport, CircuitReports, DestinationHandle, Gate, Registry};
use crate::store::{Fleet, SharedCircuit, StoreError};

/// How long a gateway may try a destination before another one may. It may go on for as long as
/// deliveries are under way, and must have said so by half of this.
const TRY_TIME: Duration = Duration::from_secs(60);

/// A gate, its name, and how much was found out there when the others were asked.
type Asked = (String, Arc<Gate>, u64);

/// The circuits of all destinations.
#[derive(Clone)]
pub(super) struct Circuits {
    pub(super) reports: Arc<CircuitReports>,
    registry: Registry,
    clock: Clock,
}

impl Circuits {
    /// `clock` is for what is shown to people.
    pub(super) fn of(registry: Registry, clock: Clock) -> Self {
        Self {
            reports: Arc::default(),
            registry,
            clock,
        }
    }

    /// The gate of a destination, in the place of one that was there before. Then the destination
    /// is another, and what was known counts no more.
    pub(super) fn watch(&self, handle: &DestinationHandle, gate: &Arc<Gate>) {
        if handle.set_gate(gate) {
            self.reports.tell(handle.name(), CircuitReport::Up);
        }
    }

    /// The gates, with how much was found out by now.
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

    /// Tells the others what was found out here, and does as all know by then.
    pub(super) async fn agree(&self, store: &dyn Fleet) -> Result<(), StoreError> {
        // Before what is told: what is found out from here on counts more than what all know by then.
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

    /// Has them do as all know.
    pub(super) fn sync_from_fleet(&self, epochs: &[Asked], known: &[SharedCircuit]) {
        let now = self.clock.now();
        for (name, gate, epoch) in epochs {
            let known = known.iter().find(|known| known.destination == *name);
            gate.sync_from_fleet(*epoch, known, now);
        }
    }
}
