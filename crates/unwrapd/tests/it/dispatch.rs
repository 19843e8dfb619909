//! The dispatcher alone, with a store and a destination of the test.

mod handoff;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::{CancellationToken, DropGuard};
use unwrapd::clock::Clock;
use unwrapd::delivery::limits::Limits;
use unwrapd::delivery::response_excerpt::ResponseExcerpt;
use unwrapd::delivery::{Delivery, Lane, Outcome};
use unwrapd::destinations::{Destination, Gate, Registry};
use unwrapd::dispatch::LaneContext;
use unwrapd::message::{Message, Origin};
use unwrapd::pipeline_events::EventBus;
use unwrapd::store::Inbox as _;
use unwrapd::trace_context::AttemptTrace;

use crate::support::memory_store::{Disk, MemoryStore};
use crate::support::tally::Counted as _;

/// Duration of a claim or a settlement.
const STORE_TAKES: Duration = Duration::from_millis(1);

/// A slow store with this backlog.
async fn store_with_backlog(deliveries: usize) -> Arc<MemoryStore> {
    let mut store = MemoryStore::open(&Disk::default());
    store.takes = STORE_TAKES;
    for number in 0..deliveries {
        let message = numbered(number, at(0));
        store.accept(message, vec!["app".into()]).await.unwrap();
    }
    Arc::new(store)
}

fn numbered(number: usize, received_at: Timestamp) -> Message {
    Message {
        origin: Origin::OpenAi,
        endpoint: "production".into(),
        webhook_id: format!("wh_{number}"),
        event_type: Some("batch.completed".into()),
        sent_at: received_at,
        received_at,
        secret: None,
        payload: Bytes::from_static(b"{}"),
    }
}

/// A fast destination that panics a given number of times.
#[derive(Default)]
struct Quick {
    sent: AtomicUsize,
    panics: usize,
}

impl Quick {
    /// Panics in its first attempts.
    fn that_panics(panics: usize) -> Arc<Self> {
        Arc::new(Self {
            panics,
            ..Self::default()
        })
    }
}

fn delivered() -> Outcome {
    Outcome::Delivered {
        answer: String::new(),
        status: None,
        said: ResponseExcerpt::default(),
    }
}

#[async_trait]
impl Destination for Quick {
    async fn send(&self, _: &Delivery, _: Option<AttemptTrace>) -> Outcome {
        let sent = self.sent.fetch_add(1, Ordering::SeqCst);
        sleep(Duration::from_millis(1)).await;
        if sent < self.panics {
            std::panic::resume_unwind(Box::new("for the test"));
        }
        delivered()
    }

    fn kind(&self) -> &'static str {
        "quick"
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_750_000_000 + second).unwrap()
}

fn dispatch(
    store: &Arc<MemoryStore>,
    destination: &Arc<Quick>,
    concurrency: usize,
) -> (DropGuard, JoinHandle<()>) {
    dispatch_by(
        &Registry::default(),
        store,
        destination.clone(),
        concurrency,
    )
}

fn dispatch_by(
    registry: &Registry,
    store: &Arc<MemoryStore>,
    destination: Arc<dyn Destination>,
    concurrency: usize,
) -> (DropGuard, JoinHandle<()>) {
    let limits = Limits {
        concurrency,
        ..Limits::default()
    };
    let handle = registry.of("app");
    let dispatcher = LaneContext {
        lane: Lane::Standard,
        destination,
        limits: watch::Sender::new(limits).subscribe(),
        gate: Arc::new(Gate::new(Arc::clone(&handle))),
        store: store.clone(),
        handoff: handle.take_over(Lane::Standard),
        handle,
        events: EventBus::default(),
        clock: Clock::simulated(at(0)),
    };
    let shutdown = CancellationToken::new();
    let switch = shutdown.clone().drop_guard();
    (switch, tokio::spawn(dispatcher.run(shutdown)))
}

async fn until(holds: impl AsyncFn() -> bool) {
    while !holds().await {
        sleep(Duration::from_millis(1)).await;
    }
}

/// Waits until no delivery waits, which must be so soon that no lease ran out.
async fn assert_settled(store: &MemoryStore, begun_at: Instant, longest: Duration) {
    until(async || store.tally().await.pending == 0).await;
    let took = begun_at.elapsed();
    assert!(took < longest, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_backlog_is_claimed_in_batches_and_the_destination_does_not_wait_for_them() {
    let store = store_with_backlog(4000).await;
    let quick = Arc::new(Quick::default());
    let begun_at = Instant::now();
    let (_switch, _running) = dispatch(&store, &quick, 16);
    until(async || store.tally().await.delivered == 4000).await;
    let claims = store.claims.load(Ordering::SeqCst);
    assert!(claims < 100, "{claims} claims for 4000 deliveries");
    // A millisecond and the granularity of a timer for each, 16 at once: half a second without
    // waiting.
    let took = begun_at.elapsed();
    assert!(took < Duration::from_millis(700), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_panics_loses_neither_its_slots_nor_its_deliveries() {
    let store = store_with_backlog(8).await;
    let quick = Quick::that_panics(8);
    let begun_at = Instant::now();
    let (_switch, _running) = dispatch(&store, &quick, 2);
    until(async || store.tally().await.delivered == 8).await;
    assert_eq!(quick.sent.load(Ordering::SeqCst), 16);
    let took = begun_at.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}: a lease ran out");
}

#[tokio::test(start_paused = true)]
async fn stalled_settlements_hold_up_new_attempts_and_the_end() {
    let store = store_with_backlog(2000).await;
    store.may_settle.forget_permits(Semaphore::MAX_PERMITS);
    let quick = Arc::new(Quick::default());
    let (switch, running) = dispatch(&store, &quick, 16);
    // Long enough for all of them, and shorter than a lease.
    sleep(Duration::from_secs(10)).await;
    let sent = quick.sent.load(Ordering::SeqCst);
    assert!((512..=528).contains(&sent), "{sent} under way");
    drop(switch);
    sleep(Duration::from_secs(1)).await;
    assert!(!running.is_finished());
    store.may_settle.add_permits(2000);
    running.await.unwrap();
    let delivered = usize::try_from(store.tally().await.delivered).unwrap();
    assert_eq!(delivered, sent, "nothing new was begun");
}

#[tokio::test(start_paused = true)]
async fn deliveries_claimed_ahead_are_released_at_the_end() {
    let store = store_with_backlog(400).await;
    let quick = Arc::new(Quick::default());
    let (switch, running) = dispatch(&store, &quick, 4);
    until(async || store.tally().await.delivered >= 100).await;
    drop(switch);
    running.await.unwrap();
    assert!(store.tally().await.pending > 0);
    let begun_at = Instant::now();
    let (_switch, _running) = dispatch(&store, &quick, 4);
    assert_settled(&store, begun_at, Duration::from_secs(10)).await;
    assert_eq!(quick.sent.load(Ordering::SeqCst), 400, "none twice");
}

#[tokio::test(start_paused = true)]
async fn a_retry_is_attempted_when_due_without_a_wakeup() {
    let store = store_with_backlog(1).await;
    let quick = Quick::that_panics(3);
    let begun_at = Instant::now();
    let (_switch, _running) = dispatch(&store, &quick, 1);
    // Back-offs of at most 1, 2 and 4 seconds.
    assert_settled(&store, begun_at, Duration::from_secs(8)).await;
}

#[tokio::test(start_paused = true)]
async fn deliveries_not_begun_are_released_as_soon_as_the_store_accepts_it() {
    let store = store_with_backlog(20).await;
    store.is_doubtful.store(true, Ordering::SeqCst);
    store.releases.store(false, Ordering::SeqCst);
    let quick = Arc::new(Quick::default());
    let (_switch, _running) = dispatch(&store, &quick, 4);
    until(async || store.claims.load(Ordering::SeqCst) > 3).await;
    store.is_doubtful.store(false, Ordering::SeqCst);
    let begun_at = Instant::now();
    sleep(Duration::from_secs(10)).await;
    store.releases.store(true, Ordering::SeqCst);
    assert_settled(&store, begun_at, Duration::from_secs(15)).await;
    assert_eq!(quick.sent.load(Ordering::SeqCst), 20, "none twice");
}

#[tokio::test(start_paused = true)]
async fn deliveries_whose_lease_is_doubtful_are_released_and_not_sent() {
    let store = store_with_backlog(20).await;
    store.is_doubtful.store(true, Ordering::SeqCst);
    let quick = Arc::new(Quick::default());
    let (_switch, _running) = dispatch(&store, &quick, 4);
    until(async || store.claims.load(Ordering::SeqCst) > 10).await;
    assert_eq!(quick.sent.load(Ordering::SeqCst), 0);
    let begun_at = Instant::now();
    store.is_doubtful.store(false, Ordering::SeqCst);
    assert_settled(&store, begun_at, Duration::from_secs(5)).await;
    assert_eq!(quick.sent.load(Ordering::SeqCst), 20, "none twice");
}
