//! Delivers as OpenAI does: the same bytes and `webhook-id`, with a fresh timestamp and signature under the destination's own
//! secret, so that the unmodified official SDK unwraps it, however long after.

mod vet;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Context as _;
use async_trait::async_trait;
use openai_webhooks::Webhooks;
use reqwest::dns::Resolve;
use reqwest::header::{CONTENT_TYPE, DATE, RETRY_AFTER};
use reqwest::{Client, ClientBuilder, Response, StatusCode, redirect};
use rustls::{ClientConfig, RootCertStore};
use tokio::time::{Instant, timeout};

use super::{Destination, left};
use crate::clock::Clock;
use crate::delivery::limits::Limits;
use crate::delivery::said::Said;
use crate::delivery::{Delivery, Outcome};
use vet::{Lookup, Reach, Vetting};

/// How long to wait for a connection, unless set.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How much of an answer is read, so that its connection can be used again; more is not worth it.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// How long the body of an answer is waited for. What matters stood in its head.
const BODY_WAIT_MAX: Duration = Duration::from_millis(300);

/// An application behind a URL.
#[derive(Clone)]
pub struct HttpSettings {
    /// Where it listens.
    pub url: reqwest::Url,
    /// What we sign with: a signature for each secret, so that it may know the old one or the new while they are exchanged.
    pub webhooks: Webhooks,
    /// How long to wait for a connection, a look-up of its name included.
    pub connect_timeout: Duration,
    /// Whether its name may lead to an address that is not of the public internet. An address in the URL itself always may be.
    pub allow_private: bool,
}

impl PartialEq for HttpSettings {
    /// Secrets that sign alike are the same.
    fn eq(&self, other: &Self) -> bool {
        let signed = |settings: &Self| settings.webhooks.sign("", "wh_of_nothing", 0).ok();
        self.url == other.url
            && self.connect_timeout == other.connect_timeout
            && self.allow_private == other.allow_private
            && signed(self) == signed(other)
    }
}

impl HttpSettings {
    /// With everything as it is unless set.
    #[must_use]
    pub fn new(url: reqwest::Url, webhooks: Webhooks) -> Self {
        Self {
            url,
            webhooks,
            connect_timeout: CONNECT_TIMEOUT,
            allow_private: false,
        }
    }

    /// Whether it leads to a server that listens on `address` of this machine, as far as can be seen without asking anyone.
    #[must_use]
    pub fn leads_to(&self, address: SocketAddr) -> bool {
        let host = self.url.host_str().unwrap_or_default();
        let (listens_everywhere, ip) = (address.ip().is_unspecified(), address.ip());
        let is_here = match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(named) => {
                named == ip || listens_everywhere && (named.is_loopback() || named.is_unspecified())
            }
            Err(_) => vet::is_localhost(host) && (listens_everywhere || ip.is_loopback()),
        };
        is_here && self.url.port_or_known_default() == Some(address.port())
    }
}

/// Delivers to an application behind a URL.
pub struct HttpDestination {
    client: Client,
    url: reqwest::Url,
    webhooks: Webhooks,
    limits: Limits,
    clock: Clock,
}

impl HttpDestination {
    /// A destination with connections of its own, so that none waits for another's.
    pub fn new(settings: HttpSettings, limits: Limits) -> anyhow::Result<Self> {
        Self::with_lookup(settings, limits, Arc::new(Lookup::default()))
    }

    /// As [`new`](Self::new), with `lookup` instead of the system's to tell what addresses a name has. They are vetted all the same.
    pub fn with_lookup(
        settings: HttpSettings,
        limits: Limits,
        lookup: Arc<dyn Resolve>,
    ) -> anyhow::Result<Self> {
        let reach = Reach::of(&settings);
        let client = client()
            .connect_timeout(settings.connect_timeout)
            .dns_resolver(Vetting { lookup, reach })
            .build()
            .context("cannot make a client")?;
        Ok(Self {
            client,
            url: settings.url,
            webhooks: settings.webhooks,
            limits,
            clock: Clock::default(),
        })
    }

    /// As it is, signing by this clock.
    #[must_use]
    pub fn by(self, clock: &Clock) -> Self {
        Self {
            clock: clock.clone(),
            ..self
        }
    }

    async fn post(&self, delivery: &Delivery) -> Result<Response, String> {
        let message = &delivery.message;
        let now = u64::try_from(self.clock.wall().as_second()).unwrap_or_default();
        let headers = self
            .webhooks
            .sign(&message.payload, message.webhook_id.as_str(), now)
            .map_err(|error| error.to_string())?;
        let mut request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .body(message.payload.clone());
        for (name, value) in headers.pairs() {
            request = request.header(name, value);
        }
        request
            .send()
            .await
            .map_err(|error| describe(&error.without_url()))
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
        let said = said(response, time.min(BODY_WAIT_MAX)).await;
        let answer = match status {
            StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED => format!(
                "HTTP {} (does it verify with the secret of this destination?)",
                status.as_u16()
            ),
            _ => format!("HTTP {}", status.as_u16()),
        };
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
}

/// The start of every HTTP client here.
pub(crate) fn client() -> ClientBuilder {
    Client::builder()
        .user_agent(concat!("unwrapd/", env!("CARGO_PKG_VERSION")))
        // A redirect would hand a signed event to someone nobody configured.
        .redirect(redirect::Policy::none())
        // Nor through a proxy that only the environment names.
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .tls_backend_preconfigured(TLS.clone())
}

/// Trusts what the system trusts (`SSL_CERT_FILE` included); on a bare system that has no certificates, what Mozilla trusts.
static TLS: LazyLock<ClientConfig> = LazyLock::new(|| {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring speaks TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth()
});

/// `Retry-After`, in seconds or as a date (RFC 9110, section 10.2.3). A date counts by the clock of the destination, which its `Date`
/// shows.
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
        let seconds = u64::try_from(clock.wall().as_second()).unwrap_or_default();
        UNIX_EPOCH + Duration::from_secs(seconds)
    });
    Some(until.duration_since(now).unwrap_or_default())
}

/// The beginning of the body. The head has decided the outcome: a body that is slow or long costs its connection and nothing else.
async fn said(mut response: Response, time: Duration) -> Said {
    let mut beginning = Vec::new();
    let read = async {
        let mut bytes = 0;
        while let Ok(Some(chunk)) = response.chunk().await {
            let room = Said::READ_MAX - beginning.len();
            beginning.extend_from_slice(&chunk[..chunk.len().min(room)]);
            bytes += chunk.len();
            if bytes > ANSWER_BYTES_MAX {
                break;
            }
        }
    };
    // Late or not: what has come by then is what it said.
    drop(timeout(time, read).await);
    Said::beginning(&beginning)
}

/// What went wrong, down to its cause, without the URL.
pub(crate) fn describe(error: &reqwest::Error) -> String {
    if error.is_timeout() && error.is_connect() {
        return "no connection in time".into();
    }
    if error.is_timeout() {
        return "no answer in time".into();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    if error.is_connect() {
        return format!("no connection: {cause}");
    }
    format!("no answer: {cause}")
}
