//! The keys of `[server]` for both ports: limits, timeouts and certificates.

mod tls;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use crate::receive::REQUESTS_MAX;
use crate::settings_file::{Key, Keys, Location, Mistake, Mistakes, address, differing};
use crate::tls::Tls;
use tls::{TlsTable, read_tls};

/// Default of `listen`.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
/// Default of `connections_max`. With files and destinations it fits into 1,024 open files, the
/// usual soft limit.
const CONNECTIONS_USUAL: usize = 768;
/// Minimum of `connections_max`. With fewer, a handful of strangers could exclude all other
/// clients.
const CONNECTIONS_MIN: usize = 8;
/// Maximum of `connections_max`. More need other limits of the machine, and the search for the
/// connection to evict would take too long.
const CONNECTIONS_MAX: usize = 16_384;
/// Maximum number of concurrent connections to the admin port.
const ADMIN_CONNECTIONS_MAX: usize = 128;
/// Default of `requests_max`: more than the default connections can have with HTTP/1.1, and as many
/// as eight proxies with HTTP/2 can have.
const REQUESTS_USUAL: usize = 1024;
/// Default of `head_timeout_seconds`. OpenAI sends a head in one packet; half a minute suffices for
/// the slowest network.
const HEAD_USUAL: Duration = Duration::from_secs(30);
/// Default of `body_timeout_seconds`. OpenAI's bodies are a few packets.
const BODY_USUAL: Duration = Duration::from_secs(10);
/// Default of `idle_timeout_seconds`. An open connection saves its sender a handshake or two if the
/// next webhook comes soon.
const IDLE_USUAL: Duration = Duration::from_secs(30);
/// Maximum of `head_timeout_seconds` and `body_timeout_seconds`. Senders of webhooks are faster.
const ARRIVAL_SECONDS_MAX: u64 = 300;
/// Maximum of `idle_timeout_seconds`. Proxies in front keep idle connections open for minutes.
const IDLE_SECONDS_MAX: u64 = 3600;
/// Maximum of `drain_seconds`. A load balancer notices the stop sooner.
const DRAIN_SECONDS_MAX: u64 = 300;

/// Settings of both ports.
pub struct ServerSettings {
    /// Maximum number of concurrent connections to the public port. At the limit, a new connection
    /// replaces the one that the gateway has waited on longest.
    pub connections_max: usize,
    /// Maximum number of concurrent connections to the public port for which this process may open
    /// files. Not a setting: `connections_max` stays what the operator has written.
    pub connections_allowed: usize,
    /// Maximum number of concurrent requests of all endpoints.
    pub requests_max: usize,
    /// Longest time for the head of a request to arrive.
    pub head_timeout: Duration,
    /// Longest time for the body of a request to arrive.
    pub body_timeout: Duration,
    /// Longest time for which a connection may be idle, or its client may read nothing of a
    /// response.
    pub idle_timeout: Duration,
    /// Time of receiving after the signal to stop. Meanwhile `/readyz` answers that the gateway is
    /// not ready.
    pub drain: Duration,
    /// Maximum number of concurrent connections to the admin port. No key sets it: a browser opens
    /// a handful, and each page may hold one.
    pub admin_connections_max: usize,
    /// TLS of the public port. `None`: plain HTTP, for a proxy in front that speaks TLS, or for
    /// this machine alone.
    pub tls: Option<Arc<Tls>>,
    /// TLS of the admin port. `None`: plain HTTP.
    pub admin_tls: Option<Arc<Tls>>,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            connections_max: CONNECTIONS_USUAL,
            connections_allowed: usize::MAX,
            requests_max: REQUESTS_USUAL,
            head_timeout: HEAD_USUAL,
            body_timeout: BODY_USUAL,
            idle_timeout: IDLE_USUAL,
            drain: Duration::ZERO,
            admin_connections_max: ADMIN_CONNECTIONS_MAX,
            tls: None,
            admin_tls: None,
        }
    }
}

impl ServerSettings {
    /// Whether the admin port has the certificate of the public one.
    pub(crate) fn shares_tls(&self) -> bool {
        match (&self.tls, &self.admin_tls) {
            (Some(public), Some(admin)) => Arc::ptr_eq(public, admin),
            _ => false,
        }
    }

    /// The keys in which the other settings differ and that take effect only after a restart.
    pub(crate) fn changed_at_next_start(&self, other: &Self) -> impl Iterator<Item = &'static str> {
        let has_own_admin_tls =
            |settings: &Self| settings.admin_tls.is_some() && !settings.shares_tls();
        differing([
            (
                "[server] connections_max",
                self.connections_max != other.connections_max,
            ),
            (
                "[server] requests_max",
                self.requests_max != other.requests_max,
            ),
            (
                "[server] head_timeout_seconds",
                self.head_timeout != other.head_timeout,
            ),
            (
                "[server] body_timeout_seconds",
                self.body_timeout != other.body_timeout,
            ),
            (
                "[server] idle_timeout_seconds",
                self.idle_timeout != other.idle_timeout,
            ),
            ("[server.tls]", self.tls.is_some() != other.tls.is_some()),
            (
                "[server.admin_tls]",
                has_own_admin_tls(self) != has_own_admin_tls(other),
            ),
        ])
    }
}

/// The key of the public port.
#[derive(Default, Deserialize)]
pub(crate) struct ListenKeys {
    listen: Key<String>,
}

impl Keys for ListenKeys {}

impl ListenKeys {
    pub(crate) fn check(&self) -> Result<SocketAddr, Mistake> {
        self.listen.as_ref().map_or(Ok(LISTEN), address)
    }
}

/// The keys of both ports.
#[derive(Default, Deserialize)]
pub(crate) struct ServerKeys {
    connections_max: Key<usize>,
    requests_max: Key<usize>,
    head_timeout_seconds: Key<u64>,
    body_timeout_seconds: Key<u64>,
    idle_timeout_seconds: Key<u64>,
    drain_seconds: Key<u64>,
    tls: Key<TlsTable>,
    admin_tls: Key<TlsTable>,
}

impl Keys for ServerKeys {
    const PATHS: &'static [&'static str] = &["certificate", "key"];
}

impl ServerKeys {
    /// `admin` is the address of the admin port, if there is one.
    pub(crate) fn check(
        self,
        admin: Option<SocketAddr>,
        location: &Location,
    ) -> Result<ServerSettings, Mistakes> {
        let is_admin_remote = admin.is_some_and(|admin| !admin.ip().is_loopback());
        let usual = ServerSettings::default();
        let mut mistakes = Mistakes::default();
        let mut seconds = |key, number, max, usual| {
            let number = mistakes.keep_number(key, number, 1..=max);
            number.map_or(usual, Duration::from_secs)
        };
        let head_timeout = seconds(
            "head_timeout_seconds",
            self.head_timeout_seconds,
            ARRIVAL_SECONDS_MAX,
            usual.head_timeout,
        );
        let body_timeout = seconds(
            "body_timeout_seconds",
            self.body_timeout_seconds,
            ARRIVAL_SECONDS_MAX,
            usual.body_timeout,
        );
        let idle_timeout = seconds(
            "idle_timeout_seconds",
            self.idle_timeout_seconds,
            IDLE_SECONDS_MAX,
            usual.idle_timeout,
        );
        let connections = CONNECTIONS_MIN..=CONNECTIONS_MAX;
        let connections =
            mistakes.keep_number("connections_max", self.connections_max, connections);
        let requests = mistakes.keep_number("requests_max", self.requests_max, 1..=REQUESTS_MAX);
        let drain =
            mistakes.keep_number("drain_seconds", self.drain_seconds, 0..=DRAIN_SECONDS_MAX);
        let mut read = |name, table| mistakes.keep(read_tls(name, table, location)).flatten();
        let tls = self.tls.and_then(|table| read("tls", table));
        let admin_tls = match self.admin_tls {
            Some(table) => read("admin_tls", table),
            // On this machine a certificate for the public name would fit no address.
            None => tls.clone().filter(|_| is_admin_remote),
        };
        mistakes.check()?;
        Ok(ServerSettings {
            connections_max: connections.unwrap_or(usual.connections_max),
            connections_allowed: usual.connections_allowed,
            requests_max: requests.unwrap_or(usual.requests_max),
            head_timeout,
            body_timeout,
            idle_timeout,
            drain: drain.map_or(usual.drain, Duration::from_secs),
            admin_connections_max: usual.admin_connections_max,
            tls,
            admin_tls,
        })
    }
}
