//! The announcement of this gateway to the others on the store.

use std::fs;
use std::net::SocketAddr;

use sha2::{Digest as _, Sha256};

use crate::config::Config;
use crate::store::{Configuration, GatewayIdentity};

/// The announcement of a gateway that listens on `public` with this configuration. A port that
/// another process has bound may be served by several gateways.
pub(super) fn of(config: &Config, public: SocketAddr, has_bound: bool) -> GatewayIdentity {
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy().into_owned();
    GatewayIdentity {
        name: format!("{host}:{}", public.port()),
        exclusive_address: has_bound.then(|| place(public)).flatten(),
        configuration: configuration(config),
    }
}

/// The address of the port: boot of the machine, network namespace, IP address and port. Only one
/// process can listen there, so an earlier gateway with the same address has ended. `None` where
/// the system does not report these.
fn place(public: SocketAddr) -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let network = fs::read_link("/proc/self/ns/net").ok()?;
    Some(format!("{} {} {public}", boot.trim(), network.display()))
}

/// Digests of the settings that should be the same at all gateways. Limits on requests, and ports,
/// may differ.
fn configuration(config: &Config) -> Configuration {
    let mut endpoints = Part::default();
    for endpoint in sorted(&config.endpoints, |endpoint| &endpoint.name) {
        endpoints.add(&endpoint.name);
        endpoints.add(format!("{:?}", endpoint.webhooks.fingerprints()));
    }
    let (mut destinations, mut limits, mut retries) =
        (Part::default(), Part::default(), Part::default());
    for settings in sorted(&config.destinations, |settings| &settings.name) {
        destinations.add(&settings.name);
        destinations.add(format!("{:?}", settings.events));
        settings.kind.digest(&mut |piece| destinations.add(piece));
        limits.add(&settings.name);
        let of = &settings.limits;
        limits.add(format!("{} {:?} {:?}", of.concurrency, of.rate, of.timeout));
        retries.add(&settings.name);
        retries.add(format!("{:?}", of.retry));
    }
    let mut store = Part::default();
    store.add(format!("{:?}", config.store.bounds));
    [
        ("endpoints", endpoints),
        ("destinations", destinations),
        ("limits", limits),
        ("retries", retries),
        ("store", store),
    ]
    .map(|(name, part)| (name.to_owned(), part.digest()))
    .into()
}

/// Sorted by name, so that the order in the file makes no difference.
fn sorted<T>(all: &[T], name: impl Fn(&T) -> &String) -> Vec<&T> {
    let mut all: Vec<&T> = all.iter().collect();
    all.sort_by(|one, other| name(one).cmp(name(other)));
    all
}

/// Part of a configuration, of which a digest is made.
#[derive(Default)]
struct Part(Sha256);

impl Part {
    /// Adds a piece with its length, so that two pieces never equal one longer piece.
    fn add(&mut self, piece: impl AsRef<[u8]>) {
        let piece = piece.as_ref();
        self.0.update(piece.len().to_le_bytes());
        self.0.update(piece);
    }

    /// The first 32 bits. Two different parts have the same digest once in four billion, and no
    /// setting can be computed from it.
    fn digest(self) -> u32 {
        let [a, b, c, d, ..] = <[u8; 32]>::from(self.0.finalize());
        u32::from_be_bytes([a, b, c, d])
    }
}
