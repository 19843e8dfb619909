//! The gateway as a process under attack, with good webhooks meanwhile.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use openai_webhooks::EventType;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::support::process::{Serving, write_server_config};
use crate::support::wire::{request, send, statuses};
use crate::support::{PATIENCE, Webhook, client};

/// Maximum memory of the process during any attack. A build without optimisation begins with some
/// 20 MiB.
const MEMORY_KIB_MAX: u64 = 256 * 1024;
/// Number of senders of good webhooks.
const SENDERS: usize = 4;

/// The number for the suite, or the full number if `HOSTILE_FULL` is set.
pub(super) fn size(usual: usize, full: usize) -> usize {
    match std::env::var_os("HOSTILE_FULL") {
        Some(_) => full,
        None => usual,
    }
}

pub(super) struct Siege {
    pub(super) address: SocketAddr,
    serving: Serving,
    _folder: TempDir,
    began: Instant,
    memory_before: u64,
    accepted: watch::Receiver<usize>,
    /// Number of connections of good senders that ended without an answer.
    cut_off: Arc<AtomicUsize>,
    senders: JoinSet<()>,
    ended: watch::Sender<bool>,
}

impl Siege {
    /// Starts as [`begin`](Self::begin) does, with so many connections at most, and with time-outs
    /// so long that they end none.
    pub(super) fn begin_with_connections(connections_max: usize) -> Self {
        Self::begin(&format!(
            "connections_max = {connections_max}
            head_timeout_seconds = 300
            body_timeout_seconds = 300
            idle_timeout_seconds = 300"
        ))
    }

    /// Starts the gateway with these lines in `[server]`, and good webhooks.
    pub(super) fn begin(server: &str) -> Self {
        let limit = getrlimit(Resource::Nofile);
        let all = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        setrlimit(Resource::Nofile, all).unwrap();
        let folder = TempDir::new().unwrap();
        write_server_config(folder.path(), server);
        let serving = Serving::start(folder.path(), &[]);
        let address = serving.address();
        let (counter, accepted) = watch::channel(0);
        let (ended, _) = watch::channel(false);
        let cut_off = Arc::new(AtomicUsize::new(0));
        let mut senders = JoinSet::new();
        for sender in 0..SENDERS {
            let (counter, ended) = (counter.clone(), ended.subscribe());
            let cut_off = Arc::clone(&cut_off);
            let url = serving.url.clone();
            senders.spawn(async move {
                let kept = client();
                for n in 0.. {
                    let webhook =
                        Webhook::new(&format!("wh_{sender}_{n}"), EventType::BatchCompleted);
                    // On a kept connection, or on a new one. A new connection without a request may
                    // be evicted during an attack, and its sender tries again.
                    let status = loop {
                        let status = if n % 2 == 0 {
                            let answer = webhook.request(&kept, &url).send().await;
                            answer.ok().map(|answer| answer.status().as_u16())
                        } else {
                            let mut stream = send(address, request(&webhook)).await;
                            let mut answer = [0; 12];
                            let read = stream.read_exact(&mut answer).await;
                            read.ok().map(|_| statuses(&answer)[0])
                        };
                        if let Some(status) = status {
                            break status;
                        }
                        cut_off.fetch_add(1, Ordering::Relaxed);
                    };
                    assert_eq!(status, 200);
                    counter.send_modify(|accepted| *accepted += 1);
                    if *ended.borrow() {
                        return;
                    }
                }
            });
        }
        Self {
            address,
            memory_before: serving.peak_memory_kib(),
            serving,
            _folder: folder,
            began: Instant::now(),
            accepted,
            cut_off,
            senders,
            ended,
        }
    }

    /// Waits until this many more good webhooks were accepted.
    pub(super) async fn good_get_through(&self, more: usize) {
        let mut accepted = self.accepted.clone();
        let enough = *accepted.borrow() + more;
        let through = timeout(PATIENCE, accepted.wait_for(|accepted| *accepted >= enough));
        through.await.expect("good webhooks get through").unwrap();
    }

    /// Checks that all good webhooks were accepted, memory was bounded, nothing broke, and the
    /// gateway stops.
    pub(super) async fn end(self, what: &str) {
        self.good_get_through(SENDERS).await;
        self.ended.send_replace(true);
        self.senders.join_all().await;
        let accepted = *self.accepted.borrow();
        let cut_off = self.cut_off.load(Ordering::Relaxed);
        let peak = self.serving.peak_memory_kib();
        eprintln!(
            "{what}: {accepted} good webhooks accepted, {cut_off} cut off before, {:.1} s, peak memory {} MiB (before: {})",
            self.began.elapsed().as_secs_f64(),
            peak / 1024,
            self.memory_before / 1024,
        );
        assert!(10 * cut_off <= accepted, "{what}: {cut_off} were cut off");
        assert!(peak < MEMORY_KIB_MAX, "{what}: {peak} KiB");
        let (status, log) = self.serving.terminate();
        assert!(status.success(), "{what}: {log}");
        assert!(!log.contains("panicked"), "{what}: {log}");
    }
}
