//! Pauses, counts, and a store that is reopened or closed.

use super::*;

every_store!(
    a_destination_stays_paused_until_it_is_resumed,
    deliveries_are_counted_for_each_destination,
    a_store_has_all_its_deliveries_after_opening_again,
    a_closed_store_is_unavailable,
    a_caller_that_waits_for_the_end_does_not_hold_it_up;
);

pub(super) async fn a_destination_stays_paused_until_it_is_resumed(place: &dyn ModelledPlace) {
    let store = place.open().await;
    assert_eq!(store.paused().await.unwrap(), []);
    store.pause("b", at(1)).await.unwrap();
    store.pause("a", at(2)).await.unwrap();
    store.pause("a", at(3)).await.unwrap();
    let both = [("a".to_owned(), at(2)), ("b".to_owned(), at(1))];
    assert_eq!(store.paused().await.unwrap(), both);
    store.close().await;
    drop(store);

    let store = place.open().await;
    assert_eq!(store.paused().await.unwrap(), both);
    store.resume("b").await.unwrap();
    store.resume("never paused").await.unwrap();
    assert_eq!(store.paused().await.unwrap(), both[..1]);
}

async fn deliveries_are_counted_for_each_destination(place: &dyn ModelledPlace) {
    let store = place.open().await;
    assert_eq!(store.destination_counts().await.unwrap(), []);
    for id in ["wh_delivered", "wh_dead", "wh_waiting", "wh_leased"] {
        accept(&store, id, 0).await;
    }
    let audit = vec!["audit".into()];
    store.accept(message("wh_5", at(0)), audit).await.unwrap();
    for delivery in claim(&store, 0).await.deliveries {
        match delivery.message.webhook_id.as_str() {
            "wh_delivered" => settle(&store, delivery.id, 1, Next::Delivered).await,
            "wh_dead" => settle(&store, delivery.id, 1, Next::Dead).await,
            _ => continue,
        };
    }
    let call = Message {
        event_type: Some("realtime.call.incoming".into()),
        ..message("wh_call", at(7))
    };
    store.accept(call, vec!["app".into()]).await.unwrap();
    let counts = |waiting, oldest: Option<i64>| LaneCounts {
        waiting,
        oldest_since: oldest.map(at),
    };
    let none = counts(0, None);
    let standing = |destination: &str, lanes, dead| DestinationCounts {
        destination: destination.into(),
        lanes,
        dead,
    };
    let mut destination_counts = store.destination_counts().await.unwrap();
    destination_counts.sort_by(|a, b| a.destination.cmp(&b.destination));
    assert_eq!(
        destination_counts,
        [
            standing("app", [counts(1, Some(7)), counts(2, Some(0))], 1),
            standing("audit", [none, counts(1, Some(0))], 0)
        ]
    );
    assert_eq!(destination_counts[0].waiting(), 3);
}

pub(super) async fn a_store_has_all_its_deliveries_after_opening_again(place: &dyn ModelledPlace) {
    let store = place.open().await;
    for id in ["wh_delivered", "wh_dead", "wh_retried", "wh_waiting"] {
        accept(&store, id, 0).await;
    }
    let claimed = claim_up_to(&store, 0, 3).await;
    for delivery in &claimed.deliveries {
        let next = match delivery.message.webhook_id.as_str() {
            "wh_delivered" => Next::Delivered,
            "wh_dead" => Next::Dead,
            _ => Next::Retry { due_at: at(9) },
        };
        settle(&store, delivery.id, 1, next).await;
    }
    store.close().await;
    drop(store);

    let store = place.open().await;
    assert_eq!(accept(&store, "wh_delivered", 1).await, Accepted::Duplicate);
    let tally = Tally {
        messages: 4,
        pending: 2,
        delivered: 1,
        dead: 1,
    };
    assert_eq!(store.tally().await, tally);
    assert_eq!(ids(&claim(&store, 9).await), ["wh_waiting", "wh_retried"]);
}

async fn a_closed_store_is_unavailable(place: &dyn ModelledPlace) {
    let store = place.open().await;
    store.close().await;
    store.close().await;
    let refused = store.accept(message("wh_1", at(0)), vec![]).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))));
}

async fn a_caller_that_waits_for_the_end_does_not_hold_it_up(place: &dyn ModelledPlace) {
    let store = place.open().await;
    tokio::join!(store.failed(), store.close());
}
