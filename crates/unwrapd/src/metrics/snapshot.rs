//! The state of the gateway at one scrape.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::families::{DestinationLabels, LaneLabels};
use crate::delivery::Lane;
use crate::store::{DestinationCounts, StoreUsage};

/// A value in seconds.
type Seconds = Gauge<f64, AtomicU64>;

/// The state of the gateway at one scrape.
pub(crate) struct Snapshot {
    /// `None`: the store did not answer.
    pub(crate) usage: Option<StoreUsage>,
    /// By name.
    pub(crate) destinations: BTreeMap<String, DestinationSnapshot>,
    /// The time to which ages count.
    pub(crate) now: Timestamp,
    /// Number of live gateways on the store.
    pub(crate) gateways: usize,
    /// Number of lasting conditions that need an operator.
    pub(crate) warnings: usize,
}

/// One destination at one scrape.
#[derive(Default)]
pub(crate) struct DestinationSnapshot {
    /// `None`: not configured.
    pub(crate) is_up: Option<bool>,
    pub(crate) is_paused: bool,
    /// `None`: the store did not answer.
    pub(crate) stored: Option<DestinationCounts>,
}

impl Snapshot {
    /// A registry of these values alone, so that a destination that is gone leaves no series.
    pub(super) fn registry(&self, prefix: &str) -> Registry {
        let mut registry = Registry::with_prefix(prefix);
        registry.register(
            "build",
            "Version of the program",
            Info::new([("version", crate::VERSION)]),
        );
        let counts = [
            (
                "store_up",
                "Whether the store answered this scrape",
                Some(self.usage.is_some().into()),
            ),
            (
                "store_size_bytes",
                "Size of the database",
                self.usage.map(|usage| usage.bytes),
            ),
            (
                "store_log_size_bytes",
                "Size of the write-ahead log of the SQLite store",
                self.usage.and_then(|usage| usage.log_bytes),
            ),
            (
                "quarantine_requests",
                "Refused requests in the quarantine",
                self.usage.map(|usage| usage.quarantined),
            ),
            (
                "gateways",
                "Live gateways on the store",
                Some(self.gateways as u64),
            ),
            (
                "warnings",
                "Lasting conditions that need an operator; /readyz lists them",
                Some(self.warnings as u64),
            ),
        ];
        for (name, help, count) in counts {
            if let Some(count) = count {
                let gauge = Gauge::<i64>::default();
                gauge.set(whole(count));
                registry.register(name, help, gauge);
            }
        }
        self.register_destinations(&mut registry);
        self.register_deliveries(&mut registry);
        registry
    }

    fn register_destinations(&self, registry: &mut Registry) {
        let up = Family::<DestinationLabels, Gauge>::default();
        let paused = Family::<DestinationLabels, Gauge>::default();
        for (name, destination) in &self.destinations {
            let labels = DestinationLabels::of(name);
            if let Some(is_up) = destination.is_up {
                up.get_or_create(&labels).set(is_up.into());
            }
            let is_paused = destination.is_paused.into();
            paused.get_or_create(&labels).set(is_paused);
        }
        registry.register(
            "destination_up",
            "Whether the circuit of a destination is closed: 1 up, 0 down or being probed",
            up,
        );
        registry.register(
            "destination_paused",
            "Whether an operator has paused a destination",
            paused,
        );
    }

    fn register_deliveries(&self, registry: &mut Registry) {
        let dead = Family::<DestinationLabels, Gauge>::default();
        let waiting = Family::<LaneLabels, Gauge>::default();
        let oldest = Family::<LaneLabels, Seconds>::default();
        for (name, destination) in &self.destinations {
            let Some(counts) = &destination.stored else {
                continue;
            };
            let labels = DestinationLabels::of(name);
            dead.get_or_create(&labels).set(whole(counts.dead));
            for lane in Lane::ALL {
                let labels = LaneLabels::of(name, lane);
                let counts = counts.lane(lane);
                waiting.get_or_create(&labels).set(whole(counts.waiting));
                let age = counts.oldest_since.map_or(Duration::ZERO, |since| {
                    Duration::try_from(self.now.duration_since(since)).unwrap_or_default()
                });
                oldest.get_or_create(&labels).set(age.as_secs_f64());
            }
        }
        registry.register(
            "deliveries_dead",
            "Dead letters that are neither replayed nor dropped",
            dead,
        );
        registry.register(
            "deliveries_waiting",
            "Deliveries that wait for an attempt or are being attempted",
            waiting,
        );
        registry.register_with_unit(
            "deliveries_oldest_age",
            "Age of the oldest waiting delivery, from its arrival or its replay; 0: none waits",
            Unit::Seconds,
            oldest,
        );
    }
}

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
