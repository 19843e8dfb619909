//! The limits of a destination are divided among the gateways.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{sleep, timeout};
use unwrapd::config::{DestinationSettings, StoreUrl};

use super::{counts, database, post as accept, stop_all, two};
use crate::support::postgres::{self, Pooler};
use crate::support::{PATIENCE, TestGateway, destination};

/// An application that counts its concurrent requests. Each takes as long as the test decides.
struct Crowded {
    url: String,
    state: Arc<Crowd>,
}

struct Crowd {
    now: AtomicUsize,
    most: AtomicUsize,
    answered: AtomicUsize,
    changed: Notify,
    may_answer: Semaphore,
}

impl Crowded {
    async fn start() -> Self {
        let state = Arc::new(Crowd {
            now: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            answered: AtomicUsize::new(0),
            changed: Notify::new(),
            may_answer: Semaphore::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/webhook", listener.local_addr().unwrap());
        let router = Router::new()
            .route("/webhook", post(take))
            .with_state(Arc::clone(&state));
        tokio::spawn(axum::serve(listener, router).into_future());
        Self { url, state }
    }

    fn destination(&self, concurrency: usize) -> DestinationSettings {
        let mut settings = destination("app", &self.url);
        settings.limits.concurrency = concurrency;
        settings
    }

    /// Lets this many more requests be answered.
    fn answer(&self, requests: usize) {
        self.state.may_answer.add_permits(requests);
    }

    async fn until(&self, is_so: impl Fn(&Crowd) -> bool) {
        let wait = async {
            loop {
                let changed = self.state.changed.notified();
                if is_so(&self.state) {
                    return;
                }
                changed.await;
            }
        };
        let waited = timeout(PATIENCE, wait).await;
        let (now, answered) = (&self.state.now, &self.state.answered);
        waited.unwrap_or_else(|_| panic!("{now:?} at once, {answered:?} answered"));
    }

    async fn until_at_once(&self, requests: usize) {
        self.until(|crowd| crowd.now.load(Ordering::SeqCst) == requests)
            .await;
    }

    async fn until_answered(&self, requests: usize) {
        self.until(|crowd| crowd.answered.load(Ordering::SeqCst) == requests)
            .await;
    }

    fn most(&self) -> usize {
        self.state.most.load(Ordering::SeqCst)
    }
}

async fn take(State(crowd): State<Arc<Crowd>>) {
    let now = crowd.now.fetch_add(1, Ordering::SeqCst) + 1;
    crowd.most.fetch_max(now, Ordering::SeqCst);
    crowd.changed.notify_waiters();
    crowd.may_answer.acquire().await.unwrap().forget();
    // Time for a gateway that would exceed its share.
    sleep(Duration::from_millis(10)).await;
    crowd.now.fetch_sub(1, Ordering::SeqCst);
    crowd.answered.fetch_add(1, Ordering::SeqCst);
    crowd.changed.notify_waiters();
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_together_have_no_more_attempts_under_way_than_the_limit() {
    const MESSAGES: usize = 120;
    let app = Crowded::start().await;
    let gateways = two(&[app.destination(3)]).await;
    for number in 0..MESSAGES {
        accept(&gateways[number % 2], &format!("wh_{number}")).await;
    }
    app.until_at_once(3).await;
    app.answer(MESSAGES);
    app.until_answered(MESSAGES).await;
    assert_eq!(app.most(), 3);
    stop_all(gateways).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_slot_for_two_gateways_lets_one_deliver_for_both() {
    let app = Crowded::start().await;
    app.answer(usize::MAX >> 4);
    let gateways = two(&[app.destination(1)]).await;
    for number in 0..20 {
        accept(&gateways[number % 2], &format!("wh_{number}")).await;
    }
    app.until_answered(20).await;
    assert_eq!(app.most(), 1);
    stop_all(gateways).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shares_change_when_a_gateway_joins_or_leaves() {
    let app = Crowded::start().await;
    let url = database();
    let settings = || vec![app.destination(4)];
    let one = TestGateway::start_on(url.clone(), settings()).await;
    for number in 0..16 {
        accept(&one, &format!("wh_{number}")).await;
    }
    app.until_at_once(4).await;

    // The four attempts in progress are more than the share of the first gateway now, and the
    // second one has its own share.
    let other = TestGateway::start_on(url, settings()).await;
    counts(&one, 2).await;
    app.until_at_once(6).await;
    app.answer(6);
    app.until_answered(6).await;
    app.until_at_once(4).await;

    // Its own two attempts end. Then the first gateway may make all four.
    let stopping = tokio::spawn(other.stop());
    app.answer(4);
    app.until_answered(10).await;
    counts(&one, 1).await;
    stopping.await.unwrap();
    app.until_at_once(4).await;
    app.answer(6);
    app.until_answered(16).await;
    assert_eq!(app.most(), 6);
    one.stop().await;
}

/// Gateways get no notifications through a pooler, and poll instead.
#[tokio::test(flavor = "multi_thread")]
async fn gateways_behind_a_pooler_find_each_other_too() {
    let pooler = Pooler::start(postgres::shared());
    let url = StoreUrl::Postgres(Box::new(pooler.schema()));
    let app = Crowded::start().await;
    let one = TestGateway::start_on(url.clone(), vec![app.destination(2)]).await;
    let other = TestGateway::start_on(url, vec![app.destination(2)]).await;
    for gateway in [&one, &other] {
        counts(gateway, 2).await;
    }
    other.stop().await;
    counts(&one, 1).await;
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_together_stay_within_the_rate_of_a_destination() {
    const RATE: u32 = 20;
    const MESSAGES: usize = 60;
    let app = Crowded::start().await;
    app.answer(MESSAGES);
    let mut settings = app.destination(16);
    settings.limits.rate = Some(RATE);
    let gateways = two(&[settings]).await;
    let begun_at = Instant::now();
    for number in 0..MESSAGES {
        accept(&gateways[number % 2], &format!("wh_{number}")).await;
    }
    app.until_answered(MESSAGES).await;
    // Without the initial burst of each gateway. With the whole rate for each, it would take half
    // the time.
    let least = Duration::from_millis(2500);
    assert!(begun_at.elapsed() >= least, "{:?}", begun_at.elapsed());
    stop_all(gateways).await;
}
