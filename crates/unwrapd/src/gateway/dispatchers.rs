//! The dispatchers, by destination: started, replaced and stopped one destination at a time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::circuits::Circuits;
use super::core::Core;
use crate::clock::Clock;
use crate::delivery::Lane;
use crate::delivery::limits::Limits;
use crate::destinations::{
    self, Configured, Destination, DestinationHandle, DestinationSettings, Gate, Registry,
};
use crate::dispatch::LaneContext;
use crate::pipeline_events::EventBus;
use crate::store::{DeliveryQueue, StoreError};
use tokio_util::sync::{CancellationToken, DropGuard};

pub(super) struct Dispatchers {
    store: Arc<dyn DeliveryQueue>,
    /// Whether other gateways use the store.
    is_shared: bool,
    clock: Clock,
    events: EventBus,
    registry: Registry,
    pub(super) circuits: Circuits,
    running: HashMap<String, DispatcherHandle>,
    /// Each returns whether it ended because of a shutdown.
    tasks: JoinSet<bool>,
}

/// The dispatchers of one destination. A drop makes them finish the deliveries under way and end.
struct DispatcherHandle {
    settings: DestinationSettings,
    limits: watch::Sender<Limits>,
    destination: Arc<dyn Destination>,
    _switch: DropGuard,
}

/// A destination whose steps that may fail have succeeded.
pub(super) struct BuiltDestination {
    settings: DestinationSettings,
    destination: Arc<dyn Destination>,
}

impl BuiltDestination {
    pub(super) fn all(
        settings: Vec<DestinationSettings>,
        clock: &Clock,
    ) -> anyhow::Result<Vec<Self>> {
        settings
            .into_iter()
            .map(|settings| {
                Ok(Self {
                    destination: destinations::build_by(&settings, clock)?.into(),
                    settings,
                })
            })
            .collect()
    }
}

impl DispatcherHandle {
    fn differs_in_limits_only(&self, settings: &DestinationSettings) -> bool {
        // The destination itself holds the time-out, so a change of it needs a new destination.
        let ours = Limits {
            timeout: settings.limits.timeout,
            ..self.settings.limits.clone()
        };
        let with_our_limits = DestinationSettings {
            limits: ours,
            ..settings.clone()
        };
        self.settings == with_our_limits
    }
}

impl Dispatchers {
    /// Starts delivery to these destinations, with the circuits that the fleet shares.
    pub(super) async fn start(
        core: &Core,
        destinations: Vec<BuiltDestination>,
    ) -> Result<Self, StoreError> {
        let known = match core.store.fleet() {
            Some(fleet) => fleet.circuits().await?,
            None => Vec::new(),
        };
        let mut dispatchers = Self {
            store: core.store.clone(),
            is_shared: core.store.fleet().is_some(),
            clock: core.clock.clone(),
            events: core.events.clone(),
            registry: core.registry.clone(),
            circuits: Circuits::of(core.registry.clone(), core.clock.clone()),
            running: HashMap::new(),
            tasks: JoinSet::new(),
        };
        dispatchers.apply_settings(destinations);
        let circuits = &dispatchers.circuits;
        circuits.sync_from_fleet(&circuits.epochs(), &known);
        Ok(dispatchers)
    }

    /// Changes the destinations to these. Dispatchers of unchanged destinations continue over new
    /// connections. Dispatchers of changed or removed ones finish the deliveries under way, beside
    /// those that take over.
    pub(super) fn apply_settings(&mut self, destinations: Vec<BuiltDestination>) {
        let mut before = std::mem::take(&mut self.running);
        for BuiltDestination {
            settings,
            destination,
        } in destinations
        {
            let name = settings.name.clone();
            let running = match before.remove(&name) {
                Some(running) if running.differs_in_limits_only(&settings) => {
                    running.limits.send_replace(settings.limits.clone());
                    running.destination.renew_connections();
                    let handle = self.registry.of(&name);
                    handle.configure(Some(configured(&settings, &running.destination)));
                    DispatcherHandle {
                        settings,
                        ..running
                    }
                }
                _ => self.start_one(settings, &destination),
            };
            self.running.insert(name, running);
        }
        for gone in before.keys() {
            self.registry.of(gone).configure(None);
        }
    }

    fn start_one(
        &mut self,
        settings: DestinationSettings,
        destination: &Arc<dyn Destination>,
    ) -> DispatcherHandle {
        let shutdown = CancellationToken::new();
        let switch = shutdown.clone().drop_guard();
        let (limits, current) = watch::channel(settings.limits.clone());
        let handle = self.registry.of(&settings.name);
        handle.configure(Some(configured(&settings, destination)));
        let gate = self.gate(&handle);
        for lane in Lane::ALL {
            let dispatcher = LaneContext {
                handle: Arc::clone(&handle),
                lane,
                destination: Arc::clone(destination),
                limits: current.clone(),
                gate: Arc::clone(&gate),
                store: self.store.clone(),
                handoff: handle.take_over(lane),
                events: self.events.clone(),
                clock: self.clock.clone(),
            };
            let shutdown = shutdown.clone();
            self.tasks.spawn(async move {
                dispatcher.run(shutdown.clone()).await;
                shutdown.is_cancelled()
            });
        }
        DispatcherHandle {
            settings,
            limits,
            destination: Arc::clone(destination),
            _switch: switch,
        }
    }

    fn gate(&self, handle: &Arc<DestinationHandle>) -> Arc<Gate> {
        if !self.is_shared {
            return Arc::new(Gate::new(Arc::clone(handle)));
        }
        let reports = Arc::clone(&self.circuits.reports);
        let gate = Arc::new(Gate::shared(Arc::clone(handle), reports));
        self.circuits.watch(handle, &gate);
        gate
    }

    /// Waits until a dispatcher ends without a shutdown.
    pub(super) async fn failed(&mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            if !matches!(ended, Ok(true)) {
                return;
            }
        }
        std::future::pending::<()>().await;
    }

    /// Begins no delivery, and finishes those under way within `drain`, unless `is_useless` ends
    /// earlier. Returns whether all were finished.
    pub(super) async fn stop(
        &mut self,
        drain: Duration,
        is_useless: impl Future<Output = ()>,
    ) -> bool {
        self.running.clear();
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        let is_finished = tokio::select! {
            ended = timeout(drain, ended) => ended.is_ok(),
            () = is_useless => false,
        };
        self.tasks.shutdown().await;
        is_finished
    }
}

fn configured(settings: &DestinationSettings, destination: &Arc<dyn Destination>) -> Configured {
    Configured {
        destination: Arc::clone(destination),
        timeout: settings.limits.timeout,
        description: Arc::new(settings.description()),
    }
}
