//! Takes connections and serves them, within limits that no client can stretch.

mod activity;
mod http;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use self::activity::{Activity, Patience};
use self::http::Http;
use self::stream::Watched;
use crate::config::ServerSettings;
use crate::places::{Place, Places};
use crate::shutdown::Shutdown;
use crate::tls::Tls;

/// Connections of operators at once: a browser opens a handful, and each open page may hold one.
const ADMIN_CONNECTIONS_MAX: usize = 128;
/// Longest time from the end of a body's time to the end of the answer: longer than a store ever waits for its disk or its lock.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// Longest wait for requests under way when everything is to stop. Who is cut off is not acknowledged, and sends again.
const DRAIN_SECONDS_MAX: u64 = 15;
/// How long to wait when no connection can be taken (too many open files).
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// How a port is served.
pub(crate) struct Listen {
    connections_max: usize,
    patience: Patience,
    tls: Option<Arc<Tls>>,
}

impl Listen {
    /// For OpenAI, and whoever else finds the port.
    pub(crate) fn public(settings: &ServerSettings) -> Self {
        Self {
            connections_max: settings.connections_max,
            patience: Patience {
                head: settings.head_timeout,
                idle: settings.idle_timeout,
                request: Some(settings.body_timeout + ANSWER_TIME_MAX),
            },
            tls: settings.tls.clone(),
        }
    }

    /// For operators, who may look on for hours.
    pub(crate) fn admin(settings: &ServerSettings) -> Self {
        let public = Self::public(settings);
        Self {
            connections_max: ADMIN_CONNECTIONS_MAX,
            patience: Patience {
                request: None,
                ..public.patience
            },
            tls: None,
        }
    }
}

/// Serves until shutdown, then lets the requests under way finish.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    listen: Listen,
    mut shutdown: Shutdown,
) {
    let places = Places::new(listen.connections_max);
    let port = Arc::new(Port {
        http: Http::new(),
        router,
        listen,
        shutdown: shutdown.clone(),
    });
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.begun() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let place = tokio::select! {
                    place = places.take() => place,
                    () = shutdown.begun() => break,
                };
                tokio::spawn(Arc::clone(&port).attend(stream, place));
            }
            Err(error) => {
                tracing::warn!("no connection could be taken: {error}");
                places.ask_the_slowest();
                sleep(ACCEPT_RETRY).await;
            }
        }
    }
    // From here on the port refuses.
    drop(listener);
    let drained = timeout(Duration::from_secs(DRAIN_SECONDS_MAX), places.all_free()).await;
    if drained.is_err() {
        tracing::warn!("requests were still under way after {DRAIN_SECONDS_MAX} s and are cut off");
        places.ask_all();
    }
}

/// What the connections of a port share.
struct Port {
    http: Http,
    router: Router,
    listen: Listen,
    shutdown: Shutdown,
}

impl Port {
    /// Serves one connection until it ends or its place is needed for another.
    async fn attend(self: Arc<Self>, stream: TcpStream, place: Place) {
        // An acknowledgement is one small packet; waiting to fill it would only delay it.
        drop(stream.set_nodelay(true));
        let activity = Activity::new(place, self.listen.patience);
        let stream = Watched::new(stream, Arc::clone(&activity));
        tokio::select! {
            biased;
            () = self.serve(stream, &activity) => {}
            () = activity.asked_to_go() => {}
        }
    }

    async fn serve(&self, stream: Watched, activity: &Arc<Activity>) {
        let router = self.router.clone();
        let mut shutdown = self.shutdown.clone();
        let Some(tls) = &self.listen.tls else {
            return self.http.serve(stream, router, activity, shutdown).await;
        };
        let handshake = TlsAcceptor::from(tls.current()).accept(stream);
        let stream = tokio::select! {
            stream = handshake => stream,
            _ = activity.overdue() => return,
            () = shutdown.begun() => return,
        };
        match stream {
            Ok(stream) => self.http.serve(stream, router, activity, shutdown).await,
            Err(error) => tracing::debug!("a TLS handshake failed: {error}"),
        }
    }
}
