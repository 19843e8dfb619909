//! Delivers over HTTP as OpenAI does: the same bytes and `webhook-id`, with a fresh timestamp and
//! signature under the destination's own secret. So an unmodified official SDK unwraps it, however
//! late.

mod answer;
mod connections;
mod egress;
mod failure;
mod settings;
mod trust;

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Context as _;
use async_trait::async_trait;
use openai_webhooks::Webhooks;
use reqwest::dns::Resolve;
use reqwest::header::{CONTENT_TYPE, DATE, RETRY_AFTER};
use reqwest::{Client, ClientBuilder, Proxy, Response, StatusCode, redirect};
use tokio::time::{Instant, timeout};

use super::{Destination, left};
use crate::clock::Clock;
use crate::delivery::limits::Limits;
use crate::delivery::response_excerpt::ResponseExcerpt;
use crate::delivery::{Delivery, Outcome};
use crate::message::Origin;
use crate::trace_context::AttemptTrace;
pub use connections::CONNECTION_AGE_MAX;
use connections::Connections;
use egress::{AddressFilter, AddressPolicy, Lookup};
pub(crate) use failure::describe;
use settings::CONNECT_TIMEOUT;
pub use settings::{HttpSettings, ProxySettings};
pub use trust::Authorities;
pub(crate) use trust::{client_config, client_config_for, environment_problem};

/// Maximum number of bytes of a response that are read so that its connection can be reused.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Longest wait for the body of a response. The outcome depends only on its head.
const BODY_WAIT_MAX: Duration = Duration::from_millis(300);
/// Header with the author of an event that OpenAI did not send.
const ORIGIN_HEADER: &str = "unwrapd-origin";
/// Header with the trace and the span that those of the application continue
/// ([W3C Trace Context](https://www.w3.org/TR/trace-context/#traceparent-header)).
const TRACE_HEADER: &str = "traceparent";
/// Maximum number of header fields of a response. A few applications send more than the hundred
/// that clients accept by default; a response beyond this limit is a failure.
const HEADERS_MAX: usize = 1024;

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
    pub(crate) fn by(
        settings: HttpSettings,
        limits: Limits,
        clock: &Clock,
    ) -> anyhow::Result<Self> {
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

    async fn post(
        &self,
        delivery: &Delivery,
        trace: Option<AttemptTrace>,
    ) -> Result<Response, String> {
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
        if let Some(trace) = trace {
            request = request.header(TRACE_HEADER, trace.traceparent());
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

    async fn send(&self, delivery: &Delivery, trace: Option<AttemptTrace>) -> Outcome {
        let started = Instant::now();
        let response = match self.post(delivery, trace).await {
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
        let is_success = status.is_success();
        let is_refusal = status == StatusCode::GONE;
        let status = Some(status.as_u16());
        if is_success {
            Outcome::Delivered {
                answer,
                status,
                said,
            }
        } else if is_refusal {
            Outcome::Refused {
                answer,
                status,
                said,
            }
        } else {
            Outcome::Failed {
                answer,
                status,
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
