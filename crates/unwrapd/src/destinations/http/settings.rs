//! The settings of a destination behind a URL.

mod keys;
mod proxy;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use openai_webhooks::Webhooks;

use super::connections::CONNECTION_AGE_MAX;
use super::trust::Authorities;
use super::{HttpDestination, egress};
use crate::clock::Clock;
use crate::delivery::limits::Limits;
use crate::destinations::{Destination, KindSettings};
use crate::settings_file::{Location, Mistakes, changed_secrets, differing};
use crate::store::StoreUrl;
use keys::HttpKeys;
pub use proxy::ProxySettings;

/// Default maximum wait for a connection.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// An application behind a URL.
#[derive(Clone)]
pub struct HttpSettings {
    /// The URL of the application.
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

    /// Whether the URL names this machine. Through a proxy this is the machine of the proxy.
    pub(in crate::destinations) fn names_this_machine(&self) -> bool {
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
    const EXAMPLE: &'static str = "url = \"https://…\"";
    const OTHER_KEYS: &'static str = "the gateway sends a request";

    type Keys = HttpKeys;

    fn check(
        keys: HttpKeys,
        location: &Location,
        _: Option<&StoreUrl>,
    ) -> Result<Option<Self>, Mistakes> {
        keys.check(location)
    }

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

    fn target(&self) -> String {
        let mut url = self.url.clone();
        url.set_query(None);
        url.set_fragment(None);
        // Only a URL without a host has no user, and this one has a host.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.to_string()
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
                "the `url` of `{name}` names this machine, but its `proxy` would connect to the \
                 proxy's own machine: remove `proxy` if this machine is meant"
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
        differing(keys)
            .map(str::to_owned)
            .chain(changed_secrets(&self.webhooks, &other.webhooks))
            .collect()
    }

    fn has_same_target(&self, other: &Self) -> bool {
        self.url == other.url
    }

    fn open_files(&self, deliveries: u64) -> u64 {
        deliveries
    }
}
