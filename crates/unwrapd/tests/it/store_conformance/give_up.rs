//! Giving up the waiting deliveries of a destination.

use unwrapd::clock::Clock;
use unwrapd::store::{GivenUp, give_up, waiting};

use super::*;

every_store!(
    ;
    all_waiting_deliveries_become_dead_letters_whenever_due,
    an_attempt_under_way_is_not_given_up,
    a_destination_that_is_configured_again_loses_no_delivery,
);

const TIME: Duration = Duration::from_secs(30);

/// The current time on the clock, as seconds of [`at`].
fn seconds(clock: &Clock) -> i64 {
    clock.now().as_second() - at(0).as_second()
}

async fn all_waiting_deliveries_become_dead_letters_whenever_due(place: &dyn Place) {
    let store = place.open().await;
    let clock = Clock::default();
    let now = seconds(&clock);
    for number in 0..250 {
        accept(&store, &format!("wh_{number}"), now).await;
    }
    // Some wait for a retry: in a moment, and in an hour.
    let claimed = claim(&store, now).await;
    for (delivery, wait) in claimed.deliveries.iter().zip([1, 3600, 3600]) {
        let next = Next::Retry {
            due_at: at(now + wait),
        };
        settle(&store, delivery.id, delivery.attempt, next).await;
    }
    let rest = claimed.deliveries.iter().skip(3).map(Lease::from);
    store.release(rest.collect()).await.unwrap();

    let given_up = give_up(&store, "app", &clock, TIME, || true).await.unwrap();
    let expected = GivenUp {
        deliveries: 250,
        done: true,
    };
    assert_eq!(given_up, expected);
    let tally = store.tally().await;
    assert_eq!((tally.pending, tally.dead), (0, 250));
    assert_eq!(waiting(&*store).await.unwrap(), []);
    let kept = store.get_message("wh_0", false).await.unwrap();
    let latest = kept[0].deliveries[0].latest.last().unwrap();
    assert!(latest.answer.contains("given up"), "{}", latest.answer);
    let again = give_up(&store, "app", &clock, TIME, || true).await.unwrap();
    assert_eq!(again.deliveries, 0);
}

async fn an_attempt_under_way_is_not_given_up(place: &dyn Place) {
    let store = place.open().await;
    let clock = Clock::default();
    let now = seconds(&clock);
    accept(&store, "wh_1", now).await;
    let claimed = claim(&store, now).await;
    let given_up = give_up(&store, "app", &clock, TIME, || true).await.unwrap();
    assert_eq!(given_up.deliveries, 0);
    let delivery = &claimed.deliveries[0];
    settle(&store, delivery.id, delivery.attempt, Next::Delivered).await;
    let tally = store.tally().await;
    assert_eq!((tally.delivered, tally.dead), (1, 0));
}

async fn a_destination_that_is_configured_again_loses_no_delivery(place: &dyn Place) {
    let store = place.open().await;
    let clock = Clock::default();
    let now = seconds(&clock);
    accept(&store, "wh_1", now).await;
    let given_up = give_up(&store, "app", &clock, TIME, || false)
        .await
        .unwrap();
    assert_eq!(given_up.deliveries, 0);
    assert_eq!(claim(&store, now).await.deliveries.len(), 1);
}
