//! The registry of destinations: one handle for each, which all parts of the gateway share.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, Weak};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Mutex, Notify};
use tracing::Level;

use super::gate::Gate;
use super::state::DestinationState;
use super::{Description, Destination};
use crate::delivery::Lane;
use crate::handoff::{DirectHandoff, Reservation};
use crate::pipeline_events::{EventBus, PipelineEvent};

/// The destinations by name. Cloning it is cheap, and every clone has the same destinations.
#[derive(Clone, Default)]
pub struct Registry(Arc<Shared>);

#[derive(Default)]
struct Shared {
    by_name: RwLock<BTreeMap<String, Arc<DestinationHandle>>>,
    events: EventBus,
    /// Held while a destination is paused or resumed, so that memory and store agree on the last
    /// change.
    pausing: Mutex<()>,
}

/// One destination, for the whole life of the gateway.
///
/// The handle also exists for a destination that is not configured. Such a destination may be
/// paused, and is then paused from the start if it is configured later.
pub struct DestinationHandle {
    name: String,
    state: DestinationState,
    events: EventBus,
    lanes: [LaneEntrance; Lane::ALL.len()],
    /// `None`: not configured.
    configured: RwLock<Option<Configured>>,
    /// The latest gate, if there was one. Its dispatchers keep it alive.
    gate: RwLock<Option<Weak<Gate>>>,
}

/// The implementation and time-out of a destination, from its present configuration.
#[derive(Clone)]
pub struct Configured {
    /// Makes the attempts.
    pub destination: Arc<dyn Destination>,
    /// Longest time that an attempt may take.
    pub timeout: Duration,
    /// Its configuration, for operators.
    pub description: Arc<Description>,
}

/// The two ways to give work to a lane: a wake-up for deliveries to be claimed, and the hand-off. A
/// notification without a waiting dispatcher is stored, once, so none is lost between a claim and a
/// wait.
struct LaneEntrance {
    wakeup: Arc<Notify>,
    handoff: RwLock<Arc<DirectHandoff>>,
}

impl Registry {
    /// An empty registry. Changes of its destinations become events.
    #[must_use]
    pub fn new(events: EventBus) -> Self {
        Self(Arc::new(Shared {
            by_name: RwLock::default(),
            events,
            pausing: Mutex::default(),
        }))
    }

    /// The handle of this destination, which is created by the first call.
    #[must_use]
    pub fn of(&self, name: &str) -> Arc<DestinationHandle> {
        if let Some(handle) = self.get(name) {
            return handle;
        }
        let mut by_name = self
            .0
            .by_name
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(DestinationHandle::new(name, self.0.events.clone()));
        Arc::clone(by_name.entry(name.to_owned()).or_insert_with(new))
    }

    /// The handle of this destination, if there is one.
    #[must_use]
    pub(crate) fn get(&self, name: &str) -> Option<Arc<DestinationHandle>> {
        self.by_name().get(name).cloned()
    }

    /// All handles, in the order of their names.
    #[must_use]
    pub(crate) fn all(&self) -> Vec<Arc<DestinationHandle>> {
        self.by_name().values().cloned().collect()
    }

    /// Whether this destination is configured.
    #[must_use]
    pub(crate) fn is_configured(&self, name: &str) -> bool {
        self.get(name)
            .is_some_and(|handle| handle.configured().is_some())
    }

    /// Wakes the dispatcher of a lane.
    pub fn notify(&self, name: &str, lane: Lane) {
        if let Some(handle) = self.get(name) {
            handle.notify(lane);
        }
    }

    /// While the guard is held, nothing is paused or resumed.
    pub(crate) async fn hold_pauses(&self) -> impl Drop + '_ {
        self.0.pausing.lock().await
    }

    fn by_name(&self) -> RwLockReadGuard<'_, BTreeMap<String, Arc<DestinationHandle>>> {
        self.0
            .by_name
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl DestinationHandle {
    fn new(name: &str, events: EventBus) -> Self {
        Self {
            name: name.to_owned(),
            state: DestinationState::default(),
            events,
            lanes: Default::default(),
            configured: RwLock::default(),
            gate: RwLock::default(),
        }
    }

    /// The name.
    #[must_use]
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its counters, its circuit and whether it is paused.
    #[must_use]
    pub(crate) fn state(&self) -> &DestinationState {
        &self.state
    }

    /// The bus for events about its changes.
    pub(crate) fn events(&self) -> &EventBus {
        &self.events
    }

    /// Its implementation and time-out. `None`: not configured.
    #[must_use]
    pub(crate) fn configured(&self) -> Option<Configured> {
        let configured = self
            .configured
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        configured.clone()
    }

    /// Sets its implementation and time-out. `None`: it is no longer configured.
    pub fn configure(&self, configured: Option<Configured>) {
        *self
            .configured
            .write()
            .unwrap_or_else(PoisonError::into_inner) = configured;
    }

    /// Its gate, while a dispatcher uses it.
    #[must_use]
    pub(crate) fn gate(&self) -> Option<Arc<Gate>> {
        let gate = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        gate.as_ref()?.upgrade()
    }

    /// Sets the gate for its dispatchers. Returns whether it replaces one: then the settings have
    /// changed, and the circuit reports of the old gate no longer apply.
    pub(crate) fn set_gate(&self, gate: &Arc<Gate>) -> bool {
        let mut current = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        let before = current.replace(Arc::downgrade(gate));
        let before = before.and_then(|before| before.upgrade());
        if let Some(before) = &before {
            before.retire();
        }
        before.is_some()
    }

    /// Pauses or resumes it here, and wakes its dispatchers.
    pub fn set_paused(&self, is_paused: bool) {
        self.state.set_paused(is_paused);
        self.notify_all();
    }

    /// As [`set_paused`](Self::set_paused), and emits the change. Does nothing if it is none.
    /// `is_remote`: it was made at another gateway.
    pub(crate) fn switch(&self, is_paused: bool, is_remote: bool) {
        if self.state.is_paused() == is_paused {
            return;
        }
        self.set_paused(is_paused);
        self.events.emit(Level::INFO, || {
            let destination = self.name.clone();
            if is_paused {
                PipelineEvent::Paused {
                    destination,
                    is_remote,
                }
            } else {
                PipelineEvent::Resumed {
                    destination,
                    is_remote,
                }
            }
        });
    }

    /// Wakes the dispatcher of a lane.
    pub fn notify(&self, lane: Lane) {
        self.entrance(lane).wakeup.notify_one();
    }

    /// Wakes the dispatchers of all lanes.
    pub(crate) fn notify_all(&self) {
        for lane in Lane::ALL {
            self.notify(lane);
        }
    }

    /// A reservation for a message that is about to be stored, leased from `now` on. `None`: the
    /// dispatcher offers none.
    #[must_use]
    pub fn reserve(&self, lane: Lane, now: Timestamp) -> Option<Reservation> {
        let handoff = self.entrance(lane).handoff.read();
        handoff.unwrap_or_else(PoisonError::into_inner).reserve(now)
    }

    /// The wake-up of a lane.
    #[must_use]
    pub(crate) fn wakeup(&self, lane: Lane) -> Arc<Notify> {
        Arc::clone(&self.entrance(lane).wakeup)
    }

    /// The hand-off for a new dispatcher of this lane. The dispatcher before it still gets the
    /// messages that have a reservation.
    #[must_use]
    pub fn take_over(&self, lane: Lane) -> Arc<DirectHandoff> {
        let entrance = self.entrance(lane);
        let new = Arc::new(DirectHandoff::new(Arc::clone(&entrance.wakeup)));
        let mut handoff = entrance
            .handoff
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *handoff = Arc::clone(&new);
        new
    }

    fn entrance(&self, lane: Lane) -> &LaneEntrance {
        &self.lanes[lane as usize]
    }
}

impl Default for LaneEntrance {
    fn default() -> Self {
        let wakeup = Arc::new(Notify::new());
        let handoff = RwLock::new(Arc::new(DirectHandoff::new(Arc::clone(&wakeup))));
        Self { wakeup, handoff }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Other gateways may have found the destination down in the meantime.
    #[test]
    fn a_destination_that_comes_back_replaces_no_gate() {
        let handle = Registry::default().of("app");
        let gate = || Arc::new(Gate::new(Arc::clone(&handle)));
        let first = gate();
        assert!(!handle.set_gate(&first));
        let changed = gate();
        assert!(handle.set_gate(&changed));
        drop((first, changed));
        assert!(!handle.set_gate(&gate()));
    }
}
