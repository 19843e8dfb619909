//! Takes connections and serves them, within limits that no client can stretch.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::shutdown::Shutdown;

/// Most connections at once; others wait to be taken. Leaves room for files and destinations in the usual limit of 1,024.
const CONNECTIONS_MAX: usize = 768;
/// Longest time for the head of a request to arrive, and so for a connection to be idle.
const HEAD_SECONDS_MAX: u64 = 30;
/// Largest head of a request. OpenAI's have less than 1 KiB.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Longest wait for requests under way when everything is to stop. Who is cut off is not acknowledged, and sends again.
const DRAIN_SECONDS_MAX: u64 = 15;
/// How long to wait when no connection can be taken (too many open files).
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Serves until shutdown, then lets the requests under way finish.
pub(crate) async fn serve(listener: TcpListener, router: Router, mut shutdown: Shutdown) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let connections = GracefulShutdown::new();
    loop {
        let slot = tokio::select! {
            slot = Arc::clone(&slots).acquire_owned() => slot,
            () = shutdown.begun() => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.begun() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = connections.watch(connection(stream, router.clone()));
                tokio::spawn(async move {
                    // It ends with an error when a client breaks off or is too slow: nothing to do about.
                    drop(connection.await);
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!("no connection could be taken: {error}");
                sleep(ACCEPT_RETRY).await;
            }
        }
    }
    // From here on the port refuses.
    drop(listener);
    let drained = timeout(
        Duration::from_secs(DRAIN_SECONDS_MAX),
        connections.shutdown(),
    )
    .await;
    if drained.is_err() {
        tracing::warn!("requests were still under way after {DRAIN_SECONDS_MAX} s and are cut off");
    }
}

fn connection(
    stream: TcpStream,
    router: Router,
) -> http1::Connection<TokioIo<TcpStream>, TowerToHyperService<Router>> {
    // An acknowledgement is one small packet; waiting to fill it would only delay it.
    drop(stream.set_nodelay(true));
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(HEAD_SECONDS_MAX))
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
}
