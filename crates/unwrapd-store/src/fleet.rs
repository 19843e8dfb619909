//! Types for gateways that share a store.

use async_trait::async_trait;
use std::collections::BTreeMap;

use super::{FleetChanges, StoreError};
use std::time::Duration;

/// How long after it last reached the store a gateway still goes by what it knew then. Less than
/// the silence after which it is taken for dead: it stops before others begin.
pub const FRESH: Duration = Duration::from_secs(8);

/// How a gateway introduces itself to the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatewayIdentity {
    /// Name for people.
    pub name: String,
    /// An address that only one gateway can have at a time. Its earlier owner has ended, and the
    /// deliveries of that are free.
    pub exclusive_address: Option<String>,
    /// A digest of each part of its configuration.
    pub configuration: Configuration,
}

/// A digest of each part of a configuration, by its name: enough to tell whether two are the same,
/// too short to betray anything.
pub type Configuration = BTreeMap<String, u32>;

/// A gateway on the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetGateway {
    /// The store's number for it. It has another one after each start, and after it was taken for dead.
    pub id: i64,
    /// Name for people.
    pub name: String,
    /// Whether it is the one that asks.
    pub is_ours: bool,
    /// Whether it has its part of the limits: all of the others count with it.
    pub takes_part: bool,
    /// How long ago it was last heard of.
    pub silent_for: Duration,
    /// A digest of each part of its configuration.
    pub configuration: Configuration,
    /// How far the clock of its machine is ahead of that of the store, in milliseconds, if that is
    /// too far. Known of the one that asks.
    pub clock_ahead_ms: Option<i64>,
}

impl FleetGateway {
    /// The parts of the configuration in which the other differs, as far as both know them.
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

/// A destination that was found to be down by one of the gateways, for all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedCircuit {
    /// The name.
    pub destination: String,
    /// How long until it may be tried again, or until someone else may try it.
    pub wait: Duration,
    /// How long it was left alone when it was last found down.
    pub back_off: Duration,
    /// Whether it is ours to try it.
    pub is_ours_to_try: bool,
}

/// The store as the gateways on it use it: they announce themselves and share circuits. A store
/// that is not shared has none.
#[async_trait]
pub trait Fleet: Send + Sync {
    /// Tells the others on the store who we are, from now on. Until then they do not count with us.
    async fn announce(&self, identity: GatewayIdentity) -> Result<(), StoreError>;

    /// The gateways on the store, ourselves included, as far as is known. A store that nobody shares knows of none.
    fn gateways(&self) -> Vec<FleetGateway>;

    /// Waits until other gateways on the store may have changed something, and returns what. Single
    /// consumer: only one task may await this. A store that is not shared never returns.
    async fn next_change(&self) -> FleetChanges;

    /// The destinations that are down for all who share the store.
    async fn circuits(&self) -> Result<Vec<SharedCircuit>, StoreError>;

    /// `destination` is down, and to be left alone by all for so long. `is_first`: nobody knew of
    /// it. Otherwise it was ours to try it; if it is not any more, nothing is changed.
    async fn open_circuit(
        &self,
        destination: &str,
        back_off: Duration,
        is_first: bool,
    ) -> Result<(), StoreError>;

    /// `destination` is up.
    async fn close_circuit(&self, destination: &str) -> Result<(), StoreError>;

    /// Asks to be the one who tries `destination`, for so long. Nobody else is then, unless this
    /// gateway dies. What came of it is among [`circuits`](Self::circuits).
    async fn try_circuit(&self, destination: &str, time: Duration) -> Result<(), StoreError>;
}
