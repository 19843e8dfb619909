//! Delivers over HTTP as OpenAI does: the same bytes and `webhook-id`, with a fresh timestamp and
//! signature under the destination's own secret. So an unmodified official SDK unwraps it, however
//! late.

mod answer;
mod connections;
mod egress;
mod failure;
mod trust;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Context as _;
use async_trait::async_trait;
use openai_webhooks::Webhooks;
use reqwest::dns::Resolve;
use reqwest::header::{CONTENT_TYPE, DATE, RETRY_AFTER};
use reqwest::{Client, ClientBuilder, Proxy, Response, StatusCode, redirect};
use tokio::time::{Instant, timeout};
use zeroize::Zeroizing;

use super::{Destination, KindSettings, left};
use crate::clock::Clock;
use crate::delivery::limits::Limits;
use crate::delivery::response_excerpt::ResponseExcerpt;
use crate::delivery::{Delivery, Outcome};
use crate::message::Origin;
pub use connections::CONNECTION_AGE_MAX;
use connections::Connections;
use egress::{AddressFilter, AddressPolicy, Lookup};
pub(crate) use failure::describe;
pub use trust::Authorities;
pub(crate) use trust::{client_config_for, environment_problem};

/// Default maximum wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of bytes of a response that are read so that its connection can be reused.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Longest wait for the body of a response. The outcome depends only on its head.
const BODY_WAIT_MAX: Duration = Duration::from_millis(300);
/// Header with the author of an event that OpenAI did not send.
const ORIGIN_HEADER: &str = "unwrapd-origin";
/// Maximum number of header fields of a response. A few applications send more than the hundred
/// that clients accept by default; a response beyond this limit is a failure.
const HEADERS_MAX: usize = 1024;

/// An application behind a URL.
#[derive(Clone)]
pub struct HttpSettings {
    /// The URL.
    pub url: reqwest::Url,
    /// The signer: one signature for each secret, so that the application may have the old or the
    /// new one during a rotation.
    pub webhooks: Webhooks,
    /// Maximum wait for a connection, including the lookup of its name.
    pub connect_timeout: Duration,
    /// Whether its name may resolve to an address outside the public internet. An address in the
    /// URL itself is always allowed. Without effect if there is a proxy, which resolves names
    /// itself.
    pub allow_private: bool,
    /// Authorities that are trusted in addition to the system's. `None`: no others.
    pub authorities: Option<Authorities>,
    /// The proxy for requests. `None`: no proxy, whatever the environment names.
    pub proxy: Option<ProxySettings>,
    /// Maximum age of a connection that gets new requests.
    pub connection_age_max: Duration,
}

/// An HTTP proxy. Requests to a URL of http are sent through it; for a URL of https it makes a
/// tunnel (CONNECT).
#[derive(Clone, PartialEq, Eq)]
pub struct ProxySettings {
    /// The URL of the proxy.
    pub url: reqwest::Url,
    /// The user and the password, if the proxy requires them.
    pub user: Option<(String, Zeroizing<String>)>,
}

impl PartialEq for HttpSettings {
    /// Secrets are equal if they make equal signatures.
    fn eq(&self, other: &Self) -> bool {
        self.url == other.url
            && self.connect_timeout == other.connect_timeout
            && self.allow_private == other.allow_private
            && self.authorities == other.authorities
            && self.proxy == other.proxy
            && self.connection_age_max == other.connection_age_max
            && self.webhooks.fingerprints() == other.webhooks.fingerprints()
    }
}

impl HttpSettings {
    /// The settings for this URL, with defaults otherwise.
    #[must_use]
    pub fn new(url: reqwest::Url, webhooks: Webhooks) -> Self {
        Self {
            url,
            webhooks,
            connect_timeout: CONNECT_TIMEOUT,
            allow_private: false,
            authorities: None,
            proxy: None,
            connection_age_max: CONNECTION_AGE_MAX,
        }
    }

    /// Whether the URL names this machine, which for a proxy means the proxy's machine.
    pub(super) fn names_this_machine(&self) -> bool {
        let host = self.url.host_str().unwrap_or_default();
        egress::is_localhost(host)
            || host
                .trim_matches(['[', ']'])
                .parse::<IpAddr>()
                .is_ok_and(|ip| ip.is_loopback())
    }

    /// Whether the URL leads to a server that listens on `address` of this machine, as far as that
    /// is known without a lookup.
    #[must_use]
    pub fn leads_to(&self, address: SocketAddr) -> bool {
        if self.proxy.is_some() {
            return false;
        }
        let host = self.url.host_str().unwrap_or_default();
        let (listens_everywhere, ip) = (address.ip().is_unspecified(), address.ip());
        let is_here = match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(named) => {
                named == ip || listens_everywhere && (named.is_loopback() || named.is_unspecified())
            }
            Err(_) => egress::is_localhost(host) && (listens_everywhere || ip.is_loopback()),
        };
        is_here && self.url.port_or_known_default() == Some(address.port())
    }
}

impl KindSettings for HttpSettings {
    const KEY: &'static str = "url";

    fn build(&self, limits: Limits, clock: &Clock) -> anyhow::Result<Box<dyn Destination>> {
        Ok(Box::new(HttpDestination::by(self.clone(), limits, clock)?))
    }

    /// The proxy is omitted, because it depends on the network of each gateway.
    fn digest(&self, add: &mut dyn FnMut(&[u8])) {
        add(self.url.as_str().as_bytes());
        add(format!("{:?} {}", self.connect_timeout, self.allow_private).as_bytes());
        add(format!("{:?}", self.webhooks.fingerprints()).as_bytes());
        for certificate in self.authorities.iter().flat_map(Authorities::certificates) {
            add(certificate);
        }
    }

    fn doubt(&self, name: &str, public: SocketAddr) -> Option<String> {
        if self.leads_to(public) {
            return Some(format!(
                "the `url` of `{name}` leads to this gateway itself: set it to the URL of your application"
            ));
        }
        self.proxy.as_ref()?;
        if self.names_this_machine() {
            return Some(format!(
                "the `url` of `{name}` names this machine, but its `proxy` would connect to the proxy's own machine: remove `proxy` if this machine is meant"
            ));
        }
        self.allow_private.then(|| {
            format!(
                "`allow_private` of `{name}` has no effect: its `proxy` resolves host names and decides which addresses are allowed"
            )
        })
    }

    fn changed_keys(&self, other: &Self) -> Vec<String> {
        let proxy = |settings: &Self| settings.proxy.as_ref().map(|proxy| proxy.url.clone());
        let user = |settings: &Self| settings.proxy.as_ref().and_then(|proxy| proxy.user.clone());
        let keys = [
            ("url", self.url != other.url),
            (
                "connect_timeout_seconds",
                self.connect_timeout != other.connect_timeout,
            ),
            ("allow_private", self.allow_private != other.allow_private),
            ("ca", self.authorities != other.authorities),
            ("proxy", proxy(self) != proxy(other)),
            ("proxy_user or proxy_password", user(self) != user(other)),
        ];
        let changed = keys.into_iter().filter(|(_, is_other)| *is_other);
        changed
            .map(|(key, _)| key.to_owned())
            .chain(super::changed_secrets(&self.webhooks, &other.webhooks))
            .collect()
    }

    fn has_same_target(&self, other: &Self) -> bool {
        self.url == other.url
    }

    fn open_files(&self, deliveries: u64) -> u64 {
        deliveries
    }
}

/// Delivers to an application behind a URL.
pub struct HttpDestination {
    connections: Connections,
    url: reqwest::Url,
    proxy: Option<reqwest::Url>,
    webhooks: Webhooks,
    limits: Limits,
    clock: Clock,
}

impl HttpDestination {
    /// Creates a destination with its own connections, so that it does not wait for another's.
    pub fn new(settings: HttpSettings, limits: Limits) -> anyhow::Result<Self> {
        Self::by(settings, limits, &Clock::default())
    }

    /// Does the same as [`new`](Self::new), with a clock for signatures and certificates.
    pub fn by(settings: HttpSettings, limits: Limits, clock: &Clock) -> anyhow::Result<Self> {
        Self::make(settings, limits, Arc::new(Lookup::default()), clock)
    }

    /// Does the same as [`new`](Self::new), with `lookup` instead of the system's name resolution.
    /// Its addresses are filtered too.
    pub fn with_lookup(
        settings: HttpSettings,
        limits: Limits,
        lookup: Arc<dyn Resolve>,
    ) -> anyhow::Result<Self> {
        Self::make(settings, limits, lookup, &Clock::default())
    }

    fn make(
        settings: HttpSettings,
        limits: Limits,
        lookup: Arc<dyn Resolve>,
        clock: &Clock,
    ) -> anyhow::Result<Self> {
        // The name of a proxy is the only name that is looked up then, and the operator has
        // configured it.
        let policy = match &settings.proxy {
            Some(_) => AddressPolicy::Anywhere,
            None => AddressPolicy::of(&settings),
        };
        let HttpSettings {
            url,
            webhooks,
            connect_timeout,
            authorities,
            proxy,
            connection_age_max,
            allow_private: _,
        } = settings;
        let proxied = proxy.as_ref().map(through).transpose();
        let proxied = proxied.context("cannot use the proxy")?;
        // Shared, so that a new connection can resume the TLS session of an old one.
        let tls = trust::client_config_by(clock, authorities.as_ref());
        let make = move || {
            let mut client = client_with(tls.clone())
                .connect_timeout(connect_timeout)
                .dns_resolver(AddressFilter {
                    lookup: Arc::clone(&lookup),
                    policy,
                });
            if let Some(proxy) = &proxied {
                client = client.proxy(proxy.clone());
            }
            client.build()
        };
        Ok(Self {
            connections: Connections::new(connection_age_max, make)
                .context("cannot create an HTTP client")?,
            url,
            proxy: proxy.map(|proxy| proxy.url),
            webhooks,
            limits,
            clock: clock.clone(),
        })
    }

    async fn post(&self, delivery: &Delivery) -> Result<Response, String> {
        let message = &delivery.message;
        let time = self.clock.to_sign_by(delivery.attempt).as_second();
        let headers = self
            .webhooks
            .sign(&message.payload, message.webhook_id.as_str(), time)
            .map_err(|error| error.to_string())?;
        let mut request = self
            .connections
            .client()
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .body(message.payload.clone());
        for (name, value) in headers.pairs() {
            request = request.header(name, value);
        }
        if message.origin != Origin::OpenAi {
            request = request.header(ORIGIN_HEADER, message.origin.as_str());
        }
        let client = failure::Client::Destination {
            proxy: self.proxy.as_ref(),
        };
        let sent = request.send().await;
        sent.map_err(|error| failure::explain(&error, client))
    }
}

#[async_trait]
impl Destination for HttpDestination {
    fn kind(&self) -> &'static str {
        "http"
    }

    async fn send(&self, delivery: &Delivery) -> Outcome {
        let started = Instant::now();
        let response = match self.post(delivery).await {
            Ok(response) => response,
            Err(problem) => return Outcome::failed(problem),
        };
        let status = response.status();
        let retry_after = retry_after(&response, &self.clock);
        let time = left(self.limits.of(delivery.lane).timeout, started);
        let headers = response.headers().clone();
        let said = said(response, time.min(BODY_WAIT_MAX)).await;
        let is_proxied = self.proxy.is_some();
        let answer = answer::summary(&self.url, status, &headers, &said, is_proxied);
        if status.is_success() {
            Outcome::Delivered { answer, said }
        } else if status == StatusCode::GONE {
            Outcome::Refused { answer, said }
        } else {
            Outcome::Failed {
                answer,
                retry_after,
                said,
            }
        }
    }

    fn renew_connections(&self) {
        self.connections.renew();
    }
}

/// The basis of the HTTP clients of commands, which trust what the system trusts.
pub(crate) fn client() -> ClientBuilder {
    client_with(trust::client_config(None))
}

fn client_with(tls: rustls::ClientConfig) -> ClientBuilder {
    Client::builder()
        .user_agent(concat!("unwrapd/", env!("CARGO_PKG_VERSION")))
        // A redirect would send a signed event to a host that is not configured.
        .redirect(redirect::Policy::none())
        // Proxies of the environment are ignored for the same reason.
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .http1_max_headers(HEADERS_MAX)
        // The status decides. An invalid field beside it is no reason to deliver again.
        .http1_ignore_invalid_headers_in_responses(true)
        .http1_allow_obsolete_multiline_headers_in_responses(true)
        .tls_backend_preconfigured(tls)
}

fn through(settings: &ProxySettings) -> reqwest::Result<Proxy> {
    let proxy = Proxy::all(settings.url.clone())?;
    Ok(match &settings.user {
        Some((user, password)) => proxy.basic_auth(user, password),
        None => proxy,
    })
}

/// `Retry-After`, in seconds or as a date ([RFC 9110, section
/// 10.2.3](https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3)). A date is relative to the clock
/// of the destination, which its `Date` shows.
fn retry_after(response: &Response, clock: &Clock) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let until = httpdate::parse_http_date(text).ok()?;
    let shown = response.headers().get(DATE).and_then(|date| {
        let date = date.to_str().ok()?.trim();
        httpdate::parse_http_date(date).ok()
    });
    let now = shown.unwrap_or_else(|| {
        let seconds = u64::try_from(clock.likeliest().as_second()).unwrap_or_default();
        UNIX_EPOCH + Duration::from_secs(seconds)
    });
    Some(until.duration_since(now).unwrap_or_default())
}

/// The beginning of the body. The head has decided the outcome, so a slow or long body costs only
/// its connection.
async fn said(mut response: Response, time: Duration) -> ResponseExcerpt {
    let mut beginning = Vec::new();
    let read = async {
        let mut bytes = 0;
        while let Ok(Some(chunk)) = response.chunk().await {
            let room = ResponseExcerpt::READ_MAX - beginning.len();
            beginning.extend_from_slice(&chunk[..chunk.len().min(room)]);
            bytes += chunk.len();
            if bytes > ANSWER_BYTES_MAX {
                break;
            }
        }
    };
    // At the time limit, the part that has arrived is the excerpt.
    drop(timeout(time, read).await);
    ResponseExcerpt::beginning(&beginning)
}
