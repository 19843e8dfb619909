//! The `[server]` table: the ports, and how hard they may be pressed.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::document::Location;
use super::file::{missing, within};
use super::mistakes::{Mistake, Mistakes};
use super::source::SecretSource;
use crate::admin::AdminToken;
use crate::tls::{Tls, TlsError, TlsPart};

const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
/// Connections at once unless set. With files and destinations it fits into 1,024 open files, the usual soft limit.
const CONNECTIONS_USUAL: usize = 768;
/// Fewer would let a handful of strangers keep everyone out.
const CONNECTIONS_MIN: usize = 8;
/// More need other limits of the machine, and the slowest of them could not be found in time.
const CONNECTIONS_MAX: usize = 16_384;
/// Connections to the admin port at once.
const ADMIN_CONNECTIONS_MAX: usize = 128;
/// Requests at once, of all endpoints, unless set: more than HTTP/1.1 could have, and eight proxies' worth of HTTP/2.
const REQUESTS_USUAL: usize = 1024;
/// Requests at once of one endpoint unless set: a quarter is left for the others.
pub(super) const ENDPOINT_REQUESTS_USUAL: usize = 768;
/// Most requests at once. Each holds what it sent in memory until it is committed.
const REQUESTS_MAX: usize = 16_384;
/// OpenAI sends a head in one packet; half a minute is for the worst of lines.
const HEAD_USUAL: Duration = Duration::from_secs(30);
/// OpenAI's bodies are a packet or a few.
const BODY_USUAL: Duration = Duration::from_secs(10);
/// To keep a connection saves its sender a handshake or two, if the next webhook comes soon.
const IDLE_USUAL: Duration = Duration::from_secs(30);
/// Longest time for a head or a body: whoever is slower is no sender of webhooks.
const ARRIVAL_SECONDS_MAX: u64 = 300;
/// Longest time for an idle connection: proxies in front keep theirs for minutes.
const IDLE_SECONDS_MAX: u64 = 3600;

/// Longest time to go on receiving when told to stop: whatever is in front has long seen it by then.
const DRAIN_SECONDS_MAX: u64 = 300;

/// How the ports are served.
pub struct ServerSettings {
    /// Connections to the public port at once. A newcomer pushes out the one that has kept us waiting the longest.
    pub connections_max: usize,
    /// Requests at once, of all endpoints.
    pub requests_max: usize,
    /// Longest time for the head of a request to arrive.
    pub head_timeout: Duration,
    /// Longest time for the body of a request to arrive.
    pub body_timeout: Duration,
    /// Longest time for a connection to be idle, and for a client to take nothing of its answer.
    pub idle_timeout: Duration,
    /// How long it goes on receiving when told to stop, and says that it is not ready.
    pub drain: Duration,
    /// Connections to the admin port at once. Not a key of the file: a browser opens a handful, and
    /// each page may hold one.
    pub admin_connections_max: usize,
    /// TLS of the public port; `None`: there is a proxy in front that does it, or nobody outside.
    pub tls: Option<Arc<Tls>>,
    /// TLS of the admin port; `None`: plain HTTP.
    pub admin_tls: Option<Arc<Tls>>,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            connections_max: CONNECTIONS_USUAL,
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
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Server {
    listen: Option<Spanned<String>>,
    admin: Option<Spanned<String>>,
    admin_token: Option<Spanned<SecretSource>>,
    connections_max: Option<Spanned<usize>>,
    requests_max: Option<Spanned<usize>>,
    head_timeout_seconds: Option<Spanned<u64>>,
    body_timeout_seconds: Option<Spanned<u64>>,
    idle_timeout_seconds: Option<Spanned<u64>>,
    drain_seconds: Option<Spanned<u64>>,
    tls: Option<Spanned<TlsTable>>,
    admin_tls: Option<Spanned<TlsTable>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TlsTable {
    certificate: Option<Spanned<String>>,
    key: Option<Spanned<String>>,
}

impl Server {
    pub(super) fn listen(&self) -> Result<SocketAddr, Mistake> {
        self.listen.as_ref().map_or(Ok(LISTEN), address)
    }

    /// Where operators ask, and what they have to know.
    pub(super) fn admin(
        &self,
        location: &Location,
    ) -> Result<(Option<SocketAddr>, Option<AdminToken>), Mistakes> {
        let mut mistakes = Mistakes::default();
        let token = self.admin_token.as_ref().and_then(|source| {
            let secret = source.get_ref().read_strong();
            let secret = secret.map_err(|problem| Mistake::new(source.span(), problem));
            Some(AdminToken::new(&mistakes.keep(secret)?))
        });
        let has_token = self.admin_token.is_some() || location.is_broken("admin_token");
        let mut admin = None;
        if let Some(text) = &self.admin {
            admin = mistakes.keep(address(text));
            if let (Some(admin), Ok(listen)) = (admin, self.listen())
                && is_same_place(listen, admin)
            {
                mistakes.add(Mistake::new(
                    text.span(),
                    "`admin` and `listen` name the same port: set another one",
                ));
            }
            if admin.is_some_and(|admin| !admin.ip().is_loopback()) && !has_token {
                mistakes.add(Mistake::absence(
                    text.span(),
                    "others can reach this address and could pause and replay: add `admin_token = { env = \"UNWRAPD_ADMIN_TOKEN\" }`, or listen on 127.0.0.1",
                ));
            }
        }
        mistakes.check()?;
        Ok((admin, token))
    }

    /// Whether the admin port can be reached from other machines.
    fn is_admin_remote(&self) -> bool {
        let address = self.admin.as_ref().map(address).and_then(Result::ok);
        address.is_some_and(|address| !address.ip().is_loopback())
    }

    pub(super) fn check(self, location: &Location) -> Result<ServerSettings, Mistakes> {
        let is_admin_remote = self.is_admin_remote();
        let usual = ServerSettings::default();
        let mut mistakes = Mistakes::default();
        let mut seconds = |key, number, max, usual| {
            let number = mistakes.keep(within(key, number, 1, max)).flatten();
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
        let connections = within(
            "connections_max",
            self.connections_max,
            CONNECTIONS_MIN,
            CONNECTIONS_MAX,
        );
        let connections = mistakes.keep(connections).flatten();
        let requests = within("requests_max", self.requests_max, 1, REQUESTS_MAX);
        let requests = mistakes.keep(requests);
        let drain = within("drain_seconds", self.drain_seconds, 0, DRAIN_SECONDS_MAX);
        let drain = mistakes.keep(drain);
        let mut read = |name, table| mistakes.keep(tls(name, table, location)).flatten();
        let tls = self.tls.and_then(|table| read("tls", table));
        let admin_tls = match self.admin_tls {
            Some(table) => read("admin_tls", table),
            // On this machine a certificate for the public name would fit no address.
            None => tls.clone().filter(|_| is_admin_remote),
        };
        mistakes.check()?;
        Ok(ServerSettings {
            connections_max: connections.unwrap_or(usual.connections_max),
            requests_max: requests.flatten().unwrap_or(usual.requests_max),
            head_timeout,
            body_timeout,
            idle_timeout,
            drain: drain.flatten().map_or(usual.drain, Duration::from_secs),
            admin_connections_max: usual.admin_connections_max,
            tls,
            admin_tls,
        })
    }
}

/// The certificate and the key that the table `name` names. `None`: what is wrong with them is told already.
fn tls(
    name: &str,
    table: Spanned<TlsTable>,
    location: &Location,
) -> Result<Option<Arc<Tls>>, Mistakes> {
    let span = table.span();
    let TlsTable { certificate, key } = table.into_inner();
    let mut mistakes = Mistakes::default();
    for (part, is_there) in [
        ("certificate", certificate.is_some()),
        ("key", key.is_some()),
    ] {
        if !is_there && !location.is_broken(&format!("{name}.{part}")) {
            mistakes.add(missing(span.clone(), part));
        }
    }
    mistakes.check()?;
    let Some((certificate, key)) = certificate.zip(key) else {
        return Ok(None);
    };
    let files = (Path::new(certificate.get_ref()), Path::new(key.get_ref()));
    let error = match Tls::read(files.0, files.1) {
        Ok(tls) => return Ok(Some(tls)),
        Err(error) => error,
    };
    let mistake = |error: TlsError| {
        let span = match error.part() {
            TlsPart::Certificate => certificate.span(),
            TlsPart::Key => key.span(),
        };
        Mistake::new(span, error.to_string())
    };
    let mut mistakes = Mistakes::default();
    for problem in Tls::problems(files.0, files.1) {
        mistakes.add(mistake(problem));
    }
    mistakes.check()?;
    // It was corrected meanwhile.
    Err(mistake(error).into())
}

/// Whether two sockets cannot listen on these addresses at the same time. Port 0 is a free port of each.
fn is_same_place(one: SocketAddr, other: SocketAddr) -> bool {
    let is_any = one.ip().is_unspecified() || other.ip().is_unspecified();
    let is_of_one_kind = one.is_ipv4() == other.is_ipv4();
    let is_same_address = one.ip() == other.ip() || is_any && is_of_one_kind;
    one.port() != 0 && one.port() == other.port() && is_same_address
}

/// How many requests one endpoint may have at once.
pub(super) fn endpoint_requests(number: Option<Spanned<usize>>) -> Result<usize, Mistake> {
    Ok(within("requests_max", number, 1, REQUESTS_MAX)?.unwrap_or(ENDPOINT_REQUESTS_USUAL))
}

pub(super) fn address(text: &Spanned<String>) -> Result<SocketAddr, Mistake> {
    text.get_ref().parse().map_err(|_| {
        Mistake::new(
            text.span(),
            "this must be an IP address and a port, such as \"127.0.0.1:8080\" or \"[::]:8080\"",
        )
    })
}
