//! Pruning old content.

use super::*;

every_store!(
    ;
    messages_past_the_retention_are_pruned_unless_they_wait,
    the_retention_of_a_message_counts_from_its_last_settlement,
    an_id_is_known_for_the_whole_horizon_despite_a_short_retention,
    a_clock_that_was_set_costs_no_message,
);

pub(super) async fn messages_past_the_retention_are_pruned_unless_they_wait(place: &dyn Place) {
    let store = place.open().await;
    for id in ["wh_delivered", "wh_dead", "wh_waiting", "wh_leased"] {
        accept(&store, id, 0).await;
    }
    let unwanted = message("wh_unwanted", at(0));
    store.accept(unwanted, vec![]).await.unwrap();
    let claimed = claim_up_to(&store, 0, 3).await;
    settle_each(
        &store,
        &claimed,
        [Next::Delivered, Next::Dead, Next::Retry { due_at: at(7) }],
    )
    .await;
    let to_audit = vec!["audit".into()];
    store
        .accept(message("wh_young", at(2 * DAY)), to_audit)
        .await
        .unwrap();

    assert_eq!(prune(&store, 29 * DAY).await, 0);
    assert_eq!(store.tally().await.messages, 6);
    assert_eq!(
        prune(&store, 31 * DAY).await,
        3,
        "delivered, dead, unwanted"
    );
    let tally = Tally {
        messages: 3,
        pending: 3,
        ..Tally::default()
    };
    assert_eq!(store.tally().await, tally);

    assert_eq!(prune(&store, 1000 * DAY).await, 0);
    let claimed = claim(&store, 1000 * DAY).await;
    assert_eq!(ids(&claimed), ["wh_leased", "wh_waiting"]);
    assert_eq!(claimed.deliveries[1].message, message("wh_waiting", at(0)));
}

async fn the_retention_of_a_message_counts_from_its_last_settlement(place: &dyn Place) {
    let store = place.open().await;
    accept(&store, "wh_1", 0).await;
    let delivery = claim(&store, 40 * DAY).await.deliveries.remove(0);
    let attempt = attempt(delivery.id, 1, at(40 * DAY), Next::Dead);
    store.settle(attempt).await.unwrap();
    assert_eq!(prune(&store, 69 * DAY).await, 0);
    assert_eq!(prune(&store, 71 * DAY).await, 1);
    assert_eq!(store.tally().await.dead, 0);
}

async fn an_id_is_known_for_the_whole_horizon_despite_a_short_retention(place: &dyn Place) {
    let bounds = Bounds {
        retention: Duration::ZERO,
        ..Bounds::default()
    };
    let store = place.open_within(&bounds).await;
    for id in ["wh_1", "wh_2", "wh_3"] {
        store.accept(message(id, at(0)), vec![]).await.unwrap();
    }
    assert_eq!(prune(&store, 7 * DAY - 1).await, 3);
    for id in ["wh_1", "wh_2", "wh_3"] {
        assert_eq!(accept(&store, id, 7 * DAY - 1).await, Accepted::Duplicate);
    }
    store.close().await;
    drop(store);

    let store = place.open_within(&bounds).await;
    for id in ["wh_1", "wh_2", "wh_3"] {
        assert_eq!(accept(&store, id, 7 * DAY - 1).await, Accepted::Duplicate);
    }
    assert_eq!(prune(&store, 7 * DAY + 1).await, 0, "nothing is left of it");
    assert_eq!(accept(&store, "wh_1", 7 * DAY + 1).await, Accepted::New);
}

async fn a_clock_that_was_set_costs_no_message(place: &dyn Place) {
    let store = place.open().await;
    // The clock is ahead by years, far behind, and right, in turn.
    for (id, day) in [
        ("wh_ahead", 5000),
        ("wh_behind", -5000),
        ("wh_right", 20),
        ("wh_old", 0),
        ("wh_last", 20),
    ] {
        store
            .accept(message(id, at(day * DAY)), vec![])
            .await
            .unwrap();
    }
    assert_eq!(prune(&store, 31 * DAY).await, 2, "behind and old");
    for id in ["wh_ahead", "wh_right", "wh_last"] {
        assert_eq!(accept(&store, id, 24 * DAY).await, Accepted::Duplicate);
    }
    assert_eq!(prune(&store, 30 * DAY).await, 0);
}
