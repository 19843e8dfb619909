//! A delivery with a reservation is leased in the commit that stores its message, and handed off.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::timeout;
use unwrapd::delivery::{Delivery, Next};
use unwrapd::handoff::DirectHandoff;
use unwrapd::store::{Accepted, Inbox, Lease, Recipient, Settled};

use super::{
    Disk, LEASE, ModelledPlace, Place, PostgresPlace, SqlitePlace, accept, at, claim, ids, message,
    settle,
};
use crate::support::PATIENCE;

every_store!(
    a_message_with_a_reservation_is_handed_over_and_leased,
    a_hand_off_is_due_again_when_its_lease_ends,
    a_hand_off_can_be_released,
    each_recipient_with_a_reservation_gets_its_own_hand_off,
    a_copy_is_not_handed_over,
    a_message_is_handed_over_though_its_caller_is_gone;
    a_hand_off_before_a_restart_is_claimed_after_it,
);

/// Offers one reservation for the application.
fn place_at_app(wakeup: &Arc<Notify>) -> Arc<DirectHandoff> {
    let handoff = Arc::new(DirectHandoff::new(Arc::clone(wakeup)));
    handoff.offer(1, LEASE, LEASE);
    handoff
}

async fn accept_for(
    store: &Arc<impl Inbox + ?Sized>,
    id: &str,
    handoff: &Arc<DirectHandoff>,
) -> Accepted {
    let recipient = Recipient {
        destination: "app".into(),
        reservation: handoff.reserve(at(0)),
        due_at: None,
    };
    store
        .accept(message(id, at(0)), vec![recipient])
        .await
        .unwrap()
}

/// The delivery that was handed off, exactly one.
fn handed(handoff: &DirectHandoff) -> Delivery {
    let mut handed = handoff.take();
    assert_eq!(handed.len(), 1);
    handed.remove(0).delivery
}

pub(super) async fn a_message_with_a_reservation_is_handed_over_and_leased(
    place: &dyn ModelledPlace,
) {
    let store = place.open().await;
    let handoff = place_at_app(&Arc::default());
    let accepted = accept_for(&store, "wh_1", &handoff).await;
    assert_eq!(accepted, Accepted::New);
    let delivery = handed(&handoff);
    assert_eq!(delivery.message, message("wh_1", at(0)));
    assert_eq!((delivery.attempt, delivery.uncounted_attempts), (1, 0));
    assert_eq!(
        (delivery.destination.as_str(), delivery.since),
        ("app", at(0))
    );
    assert_eq!(claim(&store, 59).await.deliveries, []);
    let settled = settle(&store, delivery.id, 1, Next::Delivered).await;
    assert_eq!(settled, Settled::Settled);
    assert_eq!(store.tally().await.delivered, 1);
}

pub(super) async fn a_hand_off_is_due_again_when_its_lease_ends(place: &dyn ModelledPlace) {
    let store = place.open().await;
    let handoff = place_at_app(&Arc::default());
    accept_for(&store, "wh_1", &handoff).await;
    let late = handed(&handoff);
    let current = claim(&store, 61).await.deliveries.remove(0);
    assert_eq!((current.id, current.attempt), (late.id, 2));
    let settled = settle(&store, late.id, 1, Next::Delivered).await;
    assert_eq!(settled, Settled::Fenced);
    let settled = settle(&store, current.id, 2, Next::Delivered).await;
    assert_eq!(settled, Settled::Settled);
}

pub(super) async fn a_hand_off_can_be_released(place: &dyn ModelledPlace) {
    let store = place.open().await;
    let handoff = place_at_app(&Arc::default());
    accept_for(&store, "wh_1", &handoff).await;
    let unbegun = handed(&handoff);
    store.release(vec![Lease::from(&unbegun)]).await.unwrap();
    let claimed = claim(&store, 0).await.deliveries.remove(0);
    assert_eq!((claimed.id, claimed.attempt), (unbegun.id, 1));
    // Another claim holds it by then.
    store.release(vec![Lease::from(&unbegun)]).await.unwrap();
    assert_eq!(claim(&store, 1).await.deliveries, []);
}

pub(super) async fn each_recipient_with_a_reservation_gets_its_own_hand_off(
    place: &dyn ModelledPlace,
) {
    let store = place.open().await;
    let (one, two) = (Arc::default(), Arc::default());
    let (one, two) = (place_at_app(&one), place_at_app(&two));
    let recipient = |destination: &str, handoff: Option<&Arc<DirectHandoff>>| Recipient {
        destination: destination.into(),
        reservation: handoff.and_then(|handoff| handoff.reserve(at(0))),
        due_at: None,
    };
    let recipients = vec![
        recipient("one", Some(&one)),
        recipient("app", None),
        recipient("two", Some(&two)),
    ];
    store
        .accept(message("wh_1", at(0)), recipients)
        .await
        .unwrap();
    let handed = [handed(&one), handed(&two)];
    assert_eq!(
        handed
            .each_ref()
            .map(|delivery| delivery.destination.as_str()),
        ["one", "two"]
    );
    let claimed = claim(&store, 0).await.deliveries.remove(0);
    assert!(handed.iter().all(|delivery| delivery.id != claimed.id));
    for delivery in handed.iter().chain([&claimed]) {
        let settled = settle(&store, delivery.id, 1, Next::Delivered).await;
        assert_eq!(settled, Settled::Settled, "{delivery:?}");
    }
}

/// The reservation is free again, and the lane claims: the store may have a delivery whose answer
/// the sender of the copy never got.
pub(super) async fn a_copy_is_not_handed_over(place: &dyn ModelledPlace) {
    let store = place.open().await;
    accept(&store, "wh_1", 0).await;
    let wakeup = Arc::new(Notify::new());
    let handoff = place_at_app(&wakeup);
    let accepted = accept_for(&store, "wh_1", &handoff).await;
    assert_eq!(accepted, Accepted::Duplicate);
    assert_eq!((handoff.take().len(), handoff.reserved()), (0, 0));
    timeout(PATIENCE, wakeup.notified())
        .await
        .expect("it rings");
    assert_eq!(ids(&claim(&store, 0).await), ["wh_1"]);
}

/// OpenAI may disconnect while its webhook is being stored.
pub(super) async fn a_message_is_handed_over_though_its_caller_is_gone(place: &dyn ModelledPlace) {
    let store = place.open().await;
    let handoff = place_at_app(&Arc::default());
    let recipient = Recipient {
        destination: "app".into(),
        reservation: handoff.reserve(at(0)),
        due_at: None,
    };
    let mut accept = Box::pin(store.accept(message("wh_1", at(0)), vec![recipient]));
    tokio::select! {
        biased;
        _ = &mut accept => {}
        () = std::future::ready(()) => {}
    }
    drop(accept);
    timeout(PATIENCE, handoff.arrived())
        .await
        .expect("it arrives");
    assert_eq!(handed(&handoff).message.webhook_id, "wh_1");
}

pub(super) async fn a_hand_off_before_a_restart_is_claimed_after_it(place: &dyn Place) {
    let store = place.open().await;
    let handoff = place_at_app(&Arc::default());
    accept_for(&store, "wh_1", &handoff).await;
    let before = handed(&handoff);
    store.close().await;
    drop(store);
    let store = place.open().await;
    assert_eq!(claim(&store, 1).await.deliveries[0].id, before.id);
}
