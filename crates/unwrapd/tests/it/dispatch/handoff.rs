//! Messages that are handed off when they are stored, beside those that wait in the store.

use std::sync::Mutex;

use unwrapd::handoff::Reservation;
use unwrapd::store::{Accepted, Recipient};

use super::*;

/// Takes a moment, and remembers its deliveries.
#[derive(Default)]
struct Remembers(Mutex<Vec<usize>>);

impl Remembers {
    fn got(&self) -> Vec<usize> {
        self.0.lock().unwrap().clone()
    }
}

#[async_trait]
impl Destination for Remembers {
    async fn send(&self, delivery: &Delivery, _: Option<AttemptTrace>) -> Outcome {
        let number = delivery.message.webhook_id[3..].parse().unwrap();
        self.0.lock().unwrap().push(number);
        sleep(Duration::from_millis(1)).await;
        delivered()
    }

    fn kind(&self) -> &'static str {
        "remembers"
    }
}

fn place(registry: &Registry) -> Option<Reservation> {
    registry.of("app").reserve(Lane::Standard, at(0))
}

/// Receives a message as the intake does.
async fn arrives(number: usize, store: &MemoryStore, registry: &Registry) {
    let reservation = place(registry);
    let is_to_notify = reservation.is_none();
    keep(number, store, reservation).await;
    if is_to_notify {
        registry.notify("app", Lane::Standard);
    }
}

async fn keep(number: usize, store: &MemoryStore, reservation: Option<Reservation>) {
    let recipient = Recipient {
        destination: "app".into(),
        reservation,
        due_at: None,
    };
    let accepted = store
        .accept(numbered(number, at(0)), vec![recipient])
        .await
        .unwrap();
    assert_eq!(accepted, Accepted::New);
}

/// Dispatches an empty store to a destination, until the dispatcher waits for deliveries.
async fn dispatch_nothing() -> (
    Arc<MemoryStore>,
    Registry,
    Arc<Remembers>,
    (DropGuard, JoinHandle<()>),
) {
    let (store, registry) = (store_with_backlog(0).await, Registry::default());
    let app = Arc::new(Remembers::default());
    let running = dispatch_by(&registry, &store, app.clone(), 4);
    until(async || store.claims.load(Ordering::SeqCst) > 0).await;
    sleep(Duration::from_millis(10)).await;
    (store, registry, app, running)
}

#[tokio::test(start_paused = true)]
async fn a_hand_off_needs_no_claim() {
    let (store, registry, app, (_switch, _running)) = dispatch_nothing().await;
    for number in 0..200 {
        arrives(number, &store, &registry).await;
        sleep(Duration::from_millis(2)).await;
    }
    until(async || store.tally().await.pending == 0).await;
    assert_eq!(app.got(), (0..200).collect::<Vec<_>>());
    assert_eq!(store.claims.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn deliveries_that_have_waited_long_go_before_new_ones() {
    const WAIT: usize = 300;
    let mut store = MemoryStore::open(&Disk::default());
    store.takes = STORE_TAKES;
    for number in 0..WAIT {
        let message = numbered(number, at(-10));
        store.accept(message, vec!["app".into()]).await.unwrap();
    }
    let (store, registry) = (Arc::new(store), Registry::default());
    let app = Arc::new(Remembers::default());
    let (_switch, _running) = dispatch_by(&registry, &store, app.clone(), 4);
    let is_waiting = || app.got().iter().filter(|number| **number < WAIT).count() < WAIT;
    let mut number = WAIT;
    while is_waiting() {
        for _ in 0..4 {
            arrives(number, &store, &registry).await;
            number += 1;
        }
        sleep(Duration::from_millis(1)).await;
    }
    let got = app.got();
    let came_before = got.len() - WAIT;
    assert!(
        came_before < 20,
        "{came_before} of {} that came",
        number - WAIT
    );
}

/// Messages arrive as fast as the destination takes them, so there is always a hand-off.
#[tokio::test(start_paused = true)]
async fn a_waiting_delivery_is_not_overtaken_by_many() {
    let (store, registry) = (store_with_backlog(0).await, Registry::default());
    let app = Arc::new(Remembers::default());
    let (_switch, _running) = dispatch_by(&registry, &store, app.clone(), 8);
    for number in 0..4000 {
        // From time to time, one finds no reservation.
        if number % 100 == 50 {
            keep(number, &store, None).await;
            registry.notify("app", Lane::Standard);
        } else {
            arrives(number, &store, &registry).await;
        }
        if number % 4 == 0 {
            sleep(Duration::from_millis(1)).await;
        }
    }
    until(async || store.tally().await.pending == 0).await;
    let got = app.got();
    assert_eq!(got.len(), 4000);
    let mut latest = 0;
    let mut most = 0;
    for number in got {
        latest = number.max(latest);
        most = (latest - number).max(most);
    }
    // A tenth of a second.
    assert!(most < 400, "one was overtaken by {most}");
}

#[tokio::test(start_paused = true)]
async fn a_hand_off_at_the_end_is_released_for_the_next_dispatcher() {
    let (store, registry, app, (switch, running)) = dispatch_nothing().await;
    let reservation = place(&registry);
    assert!(reservation.is_some());
    drop(switch);
    sleep(Duration::from_secs(1)).await;
    assert!(!running.is_finished(), "it was promised a place");
    keep(0, &store, reservation).await;
    running.await.unwrap();
    assert!(app.got().is_empty());

    let begun_at = tokio::time::Instant::now();
    let (_switch, _running) = dispatch_by(&registry, &store, app.clone(), 4);
    until(async || store.tally().await.delivered == 1).await;
    let took = begun_at.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}: a lease ran out");
}

#[tokio::test(start_paused = true)]
async fn a_hand_off_whose_lease_ended_while_it_was_stored_is_claimed_first() {
    let (store, registry, app, (_switch, _running)) = dispatch_nothing().await;
    let reservation = place(&registry);
    sleep(Duration::from_secs(50)).await;
    let claims = store.claims.load(Ordering::SeqCst);
    keep(0, &store, reservation).await;
    until(async || store.tally().await.delivered == 1).await;
    assert!(store.claims.load(Ordering::SeqCst) > claims);
    assert_eq!(app.got(), [0]);
}
