//! Types for gateways that share a store.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;

use super::error::StoreError;
use unwrapd_core::delivery::Lane;

/// How long a gateway that cannot reach the store still relies on its last knowledge. This is less
/// than the silence after which the others declare it dead, so it stops before they take over.
pub const FRESH: Duration = Duration::from_secs(8);

/// The identity that a gateway announces to the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatewayIdentity {
    /// Name for people.
    pub name: String,
    /// An address that only one gateway can have at a time. If a new gateway announces it, its
    /// earlier owner has ended, and the deliveries of that owner are free.
    pub exclusive_address: Option<String>,
    /// A digest of each part of its configuration.
    pub configuration: Configuration,
}

/// A digest of each part of a configuration, by name. It is long enough to compare two
/// configurations, and too short to reveal anything.
pub type Configuration = BTreeMap<String, u32>;

/// A gateway on the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetGateway {
    /// The store's number for the gateway. It is new after each start, and after the gateway was
    /// declared dead.
    pub id: i64,
    /// Name for people.
    pub name: String,
    /// Whether this is the asking gateway.
    pub is_ours: bool,
    /// Whether it has its share of the limits: every other gateway lists it.
    pub takes_part: bool,
    /// Time since its last heartbeat.
    pub silent_for: Duration,
    /// A digest of each part of its configuration.
    pub configuration: Configuration,
    /// How far the clock of its machine is ahead of the store's clock, in milliseconds, if the
    /// difference is too large. Known only for the asking gateway.
    pub clock_ahead_ms: Option<i64>,
}

impl FleetGateway {
    /// The parts of the configuration in which the gateways differ, as far as both have announced
    /// them.
    #[must_use]
    pub fn differs_from(&self, other: &Self) -> Vec<String> {
        let ours = self.configuration.iter();
        ours.filter(|(part, digest)| {
            let theirs = other.configuration.get(*part);
            theirs.is_some_and(|theirs| theirs != *digest)
        })
        .map(|(part, _)| part.clone())
        .collect()
    }
}

/// An open circuit of a destination, shared by all gateways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedCircuit {
    /// Name of the destination.
    pub destination: String,
    /// Time until the next probe is allowed, or until another gateway may make it.
    pub wait: Duration,
    /// Length of the last back-off.
    pub back_off: Duration,
    /// Whether this gateway is to make the probe.
    pub is_ours_to_try: bool,
}

/// The store as its gateways use it: they announce themselves and share circuits. A store that is
/// not shared has no fleet.
#[async_trait]
pub trait Fleet: Send + Sync {
    /// Announces this gateway to the others. Until then, they divide no limits with it.
    async fn announce(&self, identity: GatewayIdentity) -> Result<(), StoreError>;

    /// The gateways on the store, this one included, as far as known.
    fn gateways(&self) -> Vec<FleetGateway>;

    /// Waits until other gateways on the store may have changed something, and returns what. Single
    /// consumer: only one task may await this.
    async fn next_change(&self) -> FleetChanges;

    /// Returns the open circuits.
    async fn circuits(&self) -> Result<Vec<SharedCircuit>, StoreError>;

    /// Opens the circuit of `destination` for all gateways, for `back_off`. `is_first`: no circuit
    /// was open. Otherwise this gateway had the probe; if it has lost the probe, nothing is
    /// changed.
    async fn open_circuit(
        &self,
        destination: &str,
        back_off: Duration,
        is_first: bool,
    ) -> Result<(), StoreError>;

    /// Closes the circuit of `destination`.
    async fn close_circuit(&self, destination: &str) -> Result<(), StoreError>;

    /// Requests the probe of `destination` for `time`. While this gateway has the probe and lives,
    /// no other gateway probes. The result is among [`circuits`](Self::circuits).
    async fn try_circuit(&self, destination: &str, time: Duration) -> Result<(), StoreError>;
}

/// Changes that other gateways on the store may have made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FleetChanges {
    /// Destinations and lanes in which a delivery may be due.
    pub due: BTreeSet<(String, Lane)>,
    /// Whether the set of paused destinations may have changed.
    pub pauses: bool,
    /// Whether circuits may have opened or closed.
    pub circuits: bool,
    /// Whether gateways may have joined or left, got or lost their share of the limits, or changed
    /// their configuration.
    pub gateways: bool,
}
