//! A store: all of its traits together.

use super::bulk::BulkRuns;
use super::destination_control::DestinationControl;
use super::fleet::{Fleet, FleetGateway};
use super::inbox::Inbox;
use super::lifecycle::Lifecycle;
use super::maintenance::Maintenance;
use super::operations::Operations;
use super::quarantine::QuarantineStore;
use super::queue::DeliveryQueue;
use super::traffic::TrafficStore;

/// A store of messages and their deliveries. Every implementation must pass the suite in
/// `tests/it/store_conformance.rs`.
///
/// If a method of these traits returns `Ok`, its change is durable: it survives a crash of this
/// process and of the machine.
pub trait Store:
    Inbox
    + QuarantineStore
    + DeliveryQueue
    + Operations
    + BulkRuns
    + DestinationControl
    + Lifecycle
    + Maintenance
    + TrafficStore
{
    /// The gateways on the store. `None` if the store is not shared.
    fn fleet(&self) -> Option<&dyn Fleet>;
}

/// The gateways on the store, as far as known. Empty for a store that is not shared.
#[must_use]
pub fn gateways(store: &dyn Store) -> Vec<FleetGateway> {
    store.fleet().map_or_else(Vec::new, Fleet::gateways)
}
