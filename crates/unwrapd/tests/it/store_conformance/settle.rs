//! Settling attempts.

use super::*;

every_store!(
    a_delivery_settled_as_delivered_is_never_claimed_again,
    a_retry_is_due_at_its_time,
    a_dead_letter_is_never_claimed_again,
    a_late_settlement_changes_nothing,
    a_settlement_counts_once,
    an_attempt_without_a_settlement_does_not_count;
);

async fn a_delivery_settled_as_delivered_is_never_claimed_again(place: &dyn ModelledPlace) {
    let (store, delivery) = leased(place).await;
    assert_eq!(
        settle(&store, delivery.id, 1, Next::Delivered).await,
        Settled::Settled
    );
    assert_eq!(claim(&store, 1_000_000).await, Claimed::default());
    assert_eq!(store.tally().await, Tally::DELIVERED);
}

async fn a_retry_is_due_at_its_time(place: &dyn ModelledPlace) {
    let (store, delivery) = leased(place).await;
    settle(&store, delivery.id, 1, Next::Retry { due_at: at(7) }).await;
    assert_eq!(claim(&store, 6).await.next_due_at, Some(at(7)));
    let again = claim(&store, 7).await;
    assert_eq!(again.deliveries[0].attempt, 2);
}

async fn a_dead_letter_is_never_claimed_again(place: &dyn ModelledPlace) {
    let (store, delivery) = leased(place).await;
    settle(&store, delivery.id, 1, Next::Dead).await;
    assert_eq!(claim(&store, 1_000_000).await, Claimed::default());
    assert_eq!(store.tally().await, Tally::DEAD);
}

pub(super) async fn a_late_settlement_changes_nothing(place: &dyn ModelledPlace) {
    let (store, late) = leased(place).await;
    let current = claim(&store, 60).await.deliveries.remove(0);
    assert_eq!(
        settle(&store, late.id, late.attempt, Next::Dead).await,
        Settled::Fenced
    );
    assert_eq!(store.tally().await.pending, 1);
    assert_eq!(
        settle(&store, current.id, current.attempt, Next::Delivered).await,
        Settled::Settled
    );
}

async fn a_settlement_counts_once(place: &dyn ModelledPlace) {
    let (store, delivery) = leased(place).await;
    let retry = Next::Retry { due_at: at(7) };
    assert_eq!(
        settle(&store, delivery.id, 1, retry).await,
        Settled::Settled
    );
    assert_eq!(
        settle(&store, delivery.id, 1, Next::Delivered).await,
        Settled::Fenced
    );
    assert_eq!(
        settle(&store, 12345, 1, Next::Delivered).await,
        Settled::Fenced
    );
    assert_eq!(claim(&store, 7).await.deliveries.len(), 1);
}

/// Otherwise, after several deaths of a gateway, deliveries would wait as if their destination had
/// failed.
async fn an_attempt_without_a_settlement_does_not_count(place: &dyn ModelledPlace) {
    let store = place.open().await;
    accept(&store, "wh_1", 0).await;
    let counted = |delivery: &Delivery| delivery.attempt - delivery.uncounted_attempts;
    for claimed_at in [0, 60, 120] {
        let claimed = claim(&store, claimed_at).await.deliveries.remove(0);
        assert_eq!(counted(&claimed), 1, "{claimed:?}");
    }
    let failing = claim(&store, 180).await.deliveries.remove(0);
    let due_at = at(200);
    let failed = settle(&store, failing.id, failing.attempt, Next::Retry { due_at }).await;
    assert_eq!(failed, Settled::Settled);
    for claimed_at in [200, 260] {
        let claimed = claim(&store, claimed_at).await.deliveries.remove(0);
        assert_eq!(counted(&claimed), 2, "{claimed:?}");
    }
}
