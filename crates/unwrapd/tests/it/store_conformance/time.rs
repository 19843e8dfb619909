//! Deliveries that a wrong clock has put off, and the stored time.

use unwrapd::store::replay::{Replay, ReplayRun};
use unwrapd::store::{ClaimRequest, Terms};

use super::*;

every_store!(
    a_delivery_due_further_ahead_than_any_wait_is_due_now,
    a_delivery_is_due_when_its_recipient_says;
    postponed_and_due_deliveries_do_not_hold_each_other_up,
    a_replay_makes_postponed_deliveries_due,
);

const HOUR: i64 = 3600;

/// Lets every due delivery fail, and puts it off.
async fn put_off(store: &Arc<impl DeliveryQueue + ?Sized>, second: i64, until: i64) -> usize {
    let claimed = claim(store, second).await;
    for delivery in &claimed.deliveries {
        let next = Next::Retry { due_at: at(until) };
        settle(store, delivery.id, delivery.attempt, next).await;
    }
    claimed.deliveries.len()
}

async fn a_delivery_due_further_ahead_than_any_wait_is_due_now(place: &dyn ModelledPlace) {
    let store = place.open().await;
    // By a clock that is ahead by years.
    accept(&store, "wh_1", 1000 * DAY).await;
    assert_eq!(put_off(&store, 1000 * DAY, 1000 * DAY + 60).await, 1);
    // The longest wait that a retry may have.
    accept(&store, "wh_2", 0).await;
    let both = claim(&store, 0).await;
    assert_eq!(both.deliveries.len(), 2, "the clock is right");
    for delivery in &both.deliveries {
        let is_first = delivery.message.webhook_id == "wh_2";
        assert_eq!(delivery.attempt, if is_first { 1 } else { 2 });
        let next = Next::Retry { due_at: at(HOUR) };
        settle(&store, delivery.id, delivery.attempt, next).await;
    }
    let claimed = claim(&store, 0).await;
    assert_eq!(claimed.deliveries, []);
    assert_eq!(claimed.next_due_at, Some(at(HOUR)));

    // Elsewhere the longest wait is shorter. A leased delivery is still not claimed.
    let terms = Terms {
        lease: LEASE,
        longest_wait: Duration::from_secs(60),
    };
    let request = |second| ClaimRequest {
        destination: "app",
        lane: Lane::Standard,
        now: at(second),
        terms,
        limit: 100,
    };
    let taken = store.claim_within(request(0)).await.unwrap();
    assert_eq!(taken.deliveries.len(), 2);
    let again = store.claim_within(request(1)).await.unwrap();
    assert_eq!(again.deliveries, []);
}

async fn postponed_and_due_deliveries_do_not_hold_each_other_up(place: &dyn Place) {
    let store = place.open().await;
    for number in 0..10 {
        accept(&store, &format!("wh_put_off_{number}"), 500 * DAY).await;
    }
    assert_eq!(put_off(&store, 500 * DAY, 500 * DAY + 1).await, 10);
    for number in 0..10 {
        accept(&store, &format!("wh_due_{number}"), 0).await;
    }
    let claimed = claim_up_to(&store, 0, 10).await;
    let put_off = ids(&claimed)
        .iter()
        .filter(|id| id.starts_with("wh_put_off"))
        .count();
    assert_eq!(claimed.deliveries.len(), 10);
    assert!(put_off <= 5, "{put_off}");
    // One at a time: both kinds alternate.
    let mut kinds = [0, 0];
    for _ in 0..100 {
        let one = claim_up_to(&store, 0, 1).await;
        for id in ids(&one) {
            kinds[usize::from(id.starts_with("wh_put_off"))] += 1;
        }
    }
    assert_eq!(kinds.iter().sum::<usize>(), 10, "{kinds:?}");
}

/// The message arrived by a clock that may have jumped ahead; the delivery is due by the clock of
/// claims.
async fn a_delivery_is_due_when_its_recipient_says(place: &dyn ModelledPlace) {
    let store = place.open().await;
    let recipient = Recipient {
        destination: "app".into(),
        reservation: None,
        due_at: Some(at(0)),
    };
    let ahead = message("wh_1", at(20 * 60));
    store.accept(ahead, vec![recipient]).await.unwrap();
    let claimed = claim(&store, 0).await;
    assert_eq!(ids(&claimed), ["wh_1"]);
    assert_eq!(claimed.deliveries[0].since, at(20 * 60));
}

async fn a_replay_makes_postponed_deliveries_due(place: &dyn Place) {
    let store = place.open().await;
    accept(&store, "wh_1", 0).await;
    assert_eq!(put_off(&store, 0, HOUR).await, 1);
    assert_eq!(claim(&store, 10).await.deliveries, []);
    let run = ReplayRun {
        replay: Replay::default(),
        token: "t1".parse().unwrap(),
        as_of: None,
        limit: 100,
    };
    store.replay(&run, at(10).into()).await.unwrap();
    let claimed = claim(&store, 10).await;
    assert_eq!(ids(&claimed), ["wh_1"]);
    assert_eq!(claimed.deliveries[0].attempt, 2, "the same delivery");
    assert_eq!(claimed.deliveries[0].since, at(0));
}
