//! Accepts connections and serves them, within limits that no client can extend.

mod activity;
mod http;
mod settings;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use self::activity::{Activity, Load, Patience};
use self::http::{Broken, Http};
use self::stream::Watched;
use crate::evicting_limiter::{EvictingLimiter, Permit};
use crate::observe::refusals::Refusals;
use crate::tls::Tls;
use tokio_util::sync::CancellationToken;

pub use settings::ServerSettings;
pub(crate) use settings::{ListenKeys, ServerKeys};

/// Maximum time between the time limit for the body and the end of the response: longer than a
/// store waits for its disk or its lock.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// Longest wait for running requests at shutdown, in seconds. A request that is cut off is not
/// acknowledged, and OpenAI [retries](https://developers.openai.com/api/docs/guides/webhooks) it.
const DRAIN_SECONDS_MAX: u64 = 15;
/// Longest wait for running requests of operators at shutdown, in seconds. Operators can repeat a
/// request, some requests wait for a slow destination, and `docker stop` kills after 10 s.
const ADMIN_DRAIN_SECONDS_MAX: u64 = 3;
/// Maximum number of open requests besides those being received: refused ones, and those whose
/// response is being sent. In HTTP/2 each takes some KiB, and all connections together could open a
/// hundred thousand.
const OPEN_BEYOND_MAX: usize = 4096;
/// Wait after a failure to accept a connection, such as too many open files.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Settings of a port.
pub(crate) struct Listen {
    /// The configuration key that limits the connections, for the log.
    limit: &'static str,
    connections_max: usize,
    /// Maximum number of open requests, including those whose response the client does not read.
    open_max: usize,
    patience: Patience,
    /// Whether a client that closes its half of the connection still waits for the response.
    half_close: bool,
    drain_seconds: u64,
    tls: Option<Arc<Tls>>,
}

impl Listen {
    /// Settings of the public port: for OpenAI, and for all others who find the port.
    pub(crate) fn public(settings: &ServerSettings) -> Self {
        Self {
            limit: "the public port (`connections_max`)",
            connections_max: settings.connections_max.min(settings.connections_allowed),
            open_max: settings.requests_max + OPEN_BEYOND_MAX,
            patience: Patience {
                head: settings.head_timeout,
                idle: settings.idle_timeout,
                request: settings.body_timeout + ANSWER_TIME_MAX,
                answer: None,
            },
            // A sender of webhooks may send everything, close its half, and then read.
            half_close: true,
            drain_seconds: DRAIN_SECONDS_MAX,
            tls: settings.tls.clone(),
        }
    }

    /// Settings of the admin port. A request may take `longest`. Then its response must be read
    /// within the idle time, because it occupies memory.
    pub(crate) fn admin(settings: &ServerSettings, longest: Duration) -> Self {
        let public = Self::public(settings);
        Self {
            limit: "the admin port",
            connections_max: settings.admin_connections_max,
            open_max: OPEN_BEYOND_MAX,
            patience: Patience {
                request: longest + settings.idle_timeout,
                answer: Some(settings.idle_timeout),
                ..public.patience
            },
            // The end of a stream is noticed at once, and not by the next write that fails.
            half_close: false,
            drain_seconds: ADMIN_DRAIN_SECONDS_MAX,
            tls: settings.admin_tls.clone(),
        }
    }
}

/// Serves until shutdown, then waits for running requests.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    listen: Listen,
    refusals: Arc<Refusals>,
    shutdown: CancellationToken,
) {
    let limiter = EvictingLimiter::new(listen.connections_max);
    let port = Arc::new(Port {
        load: Load::new(listen.open_max),
        http: Http::new(listen.half_close),
        router,
        listen,
        refusals,
        shutdown: shutdown.clone(),
    });
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                if limiter.is_full() {
                    port.log_limit();
                }
                let permit = tokio::select! {
                    permit = limiter.acquire() => permit,
                    () = shutdown.cancelled() => break,
                };
                tokio::spawn(Arc::clone(&port).attend(stream, permit));
            }
            Err(error) => {
                port.refusals.count("cannot accept a connection", None, || {
                    format!("{error}; if too many files are open, raise the limit (ulimit -n, LimitNOFILE)")
                });
                limiter.evict_one();
                sleep(ACCEPT_RETRY).await;
            }
        }
    }
    // After this, the port refuses connections.
    drop(listener);
    let seconds = port.listen.drain_seconds;
    let drained = timeout(Duration::from_secs(seconds), limiter.all_dropped()).await;
    if drained.is_err() {
        tracing::warn!("requests were still running after {seconds} s and are cut off");
        limiter.evict_all();
    }
}

/// State that the connections of a port share.
struct Port {
    load: Arc<Load>,
    http: Http,
    router: Router,
    listen: Listen,
    refusals: Arc<Refusals>,
    shutdown: CancellationToken,
}

impl Port {
    fn log_limit(&self) {
        self.refusals
            .count("closed a connection for a new one (limit of connections)", None, || {
                format!(
                    "{} has all {} connections in use; the gateway closes the one that it has waited on longest",
                    self.listen.limit, self.listen.connections_max
                )
            });
    }

    /// Serves a connection until it ends or is evicted for another.
    async fn attend(self: Arc<Self>, stream: TcpStream, permit: Permit) {
        // An acknowledgement is one small packet; buffering would only delay it.
        drop(stream.set_nodelay(true));
        let activity = Activity::new(permit, Arc::clone(&self.load), self.listen.patience);
        let stream = Watched::new(stream, Arc::clone(&activity));
        tokio::select! {
            biased;
            () = self.serve(stream, &activity) => {}
            () = activity.evicted() => {}
        }
    }

    async fn serve(&self, stream: Watched, activity: &Arc<Activity>) {
        let router = self.router.clone();
        let shutdown = self.shutdown.clone();
        let served = match &self.listen.tls {
            None => self.http.serve(stream, router, activity, shutdown).await,
            Some(tls) => {
                let handshake = TlsAcceptor::from(tls.current()).accept(stream);
                let stream = tokio::select! {
                    stream = handshake => stream,
                    _ = activity.overdue() => return self.log_broken(activity, Broken::TooSlow),
                    () = shutdown.cancelled() => return,
                };
                match stream {
                    Ok(stream) => self.http.serve(stream, router, activity, shutdown).await,
                    Err(error) => {
                        return self.refusals.count("a TLS handshake failed", None, || {
                            let text = error.to_string();
                            if text.contains("InvalidContentType") {
                                "a client spoke plain HTTP to a port with TLS: use https:// in the URL".into()
                            } else {
                                text
                            }
                        });
                    }
                }
            }
        };
        if let Err(broken) = served {
            self.log_broken(activity, broken);
        }
    }

    fn log_broken(&self, activity: &Activity, broken: Broken) {
        let (kind, detail) = match broken {
            Broken::NotHttp => (
                "refused a request with 400 (not HTTP)",
                "the request is not HTTP, or its head is too large; HTTPS needs [server.tls] or a reverse proxy in front",
            ),
            Broken::TooSlow if activity.has_arrived() => (
                "closed a connection (too slow)",
                "the client did not send its request, or did not read the answer, in time",
            ),
            // Clients commonly connect, or disconnect, without a request.
            Broken::TooSlow | Broken::Gone => return,
        };
        self.refusals.count(kind, None, || detail.into());
    }
}
