//! Storing messages, once.

use super::*;

every_store!(
    a_message_is_claimed_with_every_byte_it_had,
    a_copy_is_a_duplicate_and_makes_no_delivery,
    the_same_id_at_another_endpoint_is_new,
    many_copies_at_once_are_new_once,
    a_message_without_recipients_is_stored;
);

pub(super) async fn a_message_is_claimed_with_every_byte_it_had(place: &dyn ModelledPlace) {
    let store = place.open().await;
    assert_eq!(accept(&store, "wh_1", 0).await, Accepted::New);
    let claimed = claim(&store, 0).await;
    assert_eq!(claimed.deliveries.len(), 1);
    assert_eq!(claimed.deliveries[0].message, message("wh_1", at(0)));
    assert_eq!(claimed.deliveries[0].destination, "app");
    assert_eq!(claimed.deliveries[0].attempt, 1);

    let mut not_an_event = message("wh_2", at(0));
    not_an_event.event_type = None;
    not_an_event.payload = Bytes::new();
    store
        .accept(not_an_event.clone(), vec!["app".into()])
        .await
        .unwrap();
    assert_eq!(claim(&store, 0).await.deliveries[0].message, not_an_event);
}

async fn a_copy_is_a_duplicate_and_makes_no_delivery(place: &dyn ModelledPlace) {
    let store = place.open().await;
    assert_eq!(accept(&store, "wh_1", 0).await, Accepted::New);
    assert_eq!(accept(&store, "wh_1", 5).await, Accepted::Duplicate);
    assert_eq!(claim(&store, 9).await.deliveries.len(), 1);
    assert_eq!(store.tally().await.messages, 1);
}

async fn the_same_id_at_another_endpoint_is_new(place: &dyn ModelledPlace) {
    let store = place.open().await;
    accept(&store, "wh_1", 0).await;
    let mut other = message("wh_1", at(0));
    other.endpoint = "staging".into();
    assert_eq!(store.accept(other, vec![]).await.unwrap(), Accepted::New);
}

pub(super) async fn many_copies_at_once_are_new_once(place: &dyn ModelledPlace) {
    let store = place.open().await;
    let mut copies = JoinSet::new();
    for _ in 0..100 {
        let store = Arc::clone(&store);
        copies.spawn(async move { accept(&store, "wh_1", 0).await });
    }
    let answers = copies.join_all().await;
    assert_eq!(new_among(&answers), 1);
    assert_eq!(claim(&store, 0).await.deliveries.len(), 1);
}

async fn a_message_without_recipients_is_stored(place: &dyn ModelledPlace) {
    let store = place.open().await;
    store.accept(message("wh_1", at(0)), vec![]).await.unwrap();
    assert_eq!(claim(&store, 0).await, Claimed::default());
    assert_eq!(store.tally().await, Tally::KEPT);
}
