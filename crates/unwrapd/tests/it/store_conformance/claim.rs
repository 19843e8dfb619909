//! Claiming due deliveries, and releasing them.

use super::*;

every_store!(
    a_claimed_delivery_is_leased_until_the_lease_ends,
    a_claim_takes_the_longest_due_first_and_no_more_than_asked,
    a_claim_takes_only_its_own_destination,
    a_claim_takes_only_its_own_lane,
    a_claim_says_when_the_next_is_due,
    a_released_delivery_is_due_again_under_the_same_number,
    a_lease_that_is_someone_elses_is_not_released,
    a_repeated_release_takes_nothing_from_a_later_claim,
    concurrent_claims_never_share_a_delivery;
);

async fn a_claimed_delivery_is_leased_until_the_lease_ends(place: &dyn ModelledPlace) {
    let store = place.open().await;
    accept(&store, "wh_1", 0).await;
    assert_eq!(claim(&store, 0).await.deliveries.len(), 1);
    assert_eq!(claim(&store, 59).await.deliveries.len(), 0);
    let again = claim(&store, 60).await;
    assert_eq!(again.deliveries.len(), 1);
    assert_eq!(again.deliveries[0].attempt, 2);
}

async fn a_claim_takes_the_longest_due_first_and_no_more_than_asked(place: &dyn ModelledPlace) {
    let store = place.open().await;
    for (id, second) in [("wh_c", 3), ("wh_a", 1), ("wh_b", 2), ("wh_future", 50)] {
        accept(&store, id, second).await;
    }
    let claimed = claim_up_to(&store, 10, 2).await;
    assert_eq!(ids(&claimed), ["wh_a", "wh_b"]);
    assert_eq!(ids(&claim(&store, 10).await), ["wh_c"]);
}

async fn a_claim_takes_only_its_own_destination(place: &dyn ModelledPlace) {
    let store = place.open().await;
    let destinations = vec!["app".into(), "audit".into()];
    store
        .accept(message("wh_1", at(0)), destinations)
        .await
        .unwrap();
    assert_eq!(claim(&store, 0).await.deliveries.len(), 1);
    let audit = store
        .claim("audit", Lane::Standard, at(0), LEASE, 100)
        .await
        .unwrap();
    assert_eq!(audit.deliveries.len(), 1);
    assert_eq!(audit.deliveries[0].destination, "audit");
    let nobody = store
        .claim("nobody", Lane::Standard, at(0), LEASE, 100)
        .await
        .unwrap();
    assert_eq!(nobody, Claimed::default());
}

async fn a_claim_takes_only_its_own_lane(place: &dyn ModelledPlace) {
    let store = place.open().await;
    accept(&store, "wh_1", 0).await;
    let mut call = message("wh_call", at(0));
    call.event_type = Some("realtime.call.incoming".into());
    store.accept(call, vec!["app".into()]).await.unwrap();
    let calls = store
        .claim("app", Lane::Call, at(0), LEASE, 100)
        .await
        .unwrap();
    assert_eq!(ids(&calls), ["wh_call"]);
    assert_eq!(calls.deliveries[0].lane, Lane::Call);
    assert_eq!(ids(&claim(&store, 0).await), ["wh_1"]);
}

async fn a_claim_says_when_the_next_is_due(place: &dyn ModelledPlace) {
    let store = place.open().await;
    assert_eq!(claim(&store, 0).await.next_due_at, None);
    accept(&store, "wh_1", 5).await;
    assert_eq!(claim(&store, 0).await.next_due_at, Some(at(5)));
    assert_eq!(
        claim(&store, 5).await.next_due_at,
        Some(at(65)),
        "the lease's end"
    );
}

pub(super) async fn a_released_delivery_is_due_again_under_the_same_number(
    place: &dyn ModelledPlace,
) {
    let store = place.open().await;
    accept(&store, "wh_1", 0).await;
    for _ in 0..2 {
        let claimed = claim(&store, 0).await.deliveries.remove(0);
        assert_eq!(claimed.attempt, 1);
        store.release(vec![Lease::from(&claimed)]).await.unwrap();
    }
    // Nothing was attempted, so nothing can be settled.
    let claimed = claim(&store, 0).await.deliveries.remove(0);
    store.release(vec![Lease::from(&claimed)]).await.unwrap();
    assert_eq!(
        settle(&store, claimed.id, 1, Next::Delivered).await,
        Settled::Fenced
    );
    assert_eq!(store.tally().await.pending, 1);
}

async fn a_lease_that_is_someone_elses_is_not_released(place: &dyn ModelledPlace) {
    let (store, late) = leased(place).await;
    let current = claim(&store, 60).await.deliveries.remove(0);
    store.release(vec![Lease::from(&late)]).await.unwrap();
    assert_eq!(claim(&store, 61).await.deliveries, []);
    assert_eq!(
        settle(&store, current.id, current.attempt, Next::Delivered).await,
        Settled::Settled
    );
}

/// A caller that gets no answer to a release repeats it.
async fn a_repeated_release_takes_nothing_from_a_later_claim(place: &dyn ModelledPlace) {
    let (store, first) = leased(place).await;
    store.release(vec![Lease::from(&first)]).await.unwrap();
    let second = claim(&store, 0).await.deliveries.remove(0);
    assert_eq!((second.id, second.attempt), (first.id, first.attempt));
    store.release(vec![Lease::from(&first)]).await.unwrap();
    assert_eq!(claim(&store, 1).await.deliveries, []);
    assert_eq!(
        settle(&store, second.id, second.attempt, Next::Delivered).await,
        Settled::Settled
    );
}

pub(super) async fn concurrent_claims_never_share_a_delivery(place: &dyn ModelledPlace) {
    let store = place.open().await;
    for number in 0..200 {
        accept(&store, &format!("wh_{number}"), 0).await;
    }
    let mut claims = JoinSet::new();
    for _ in 0..40 {
        let store = Arc::clone(&store);
        claims.spawn(async move { claim_up_to(&store, 0, 10).await });
    }
    let mut claimed: Vec<i64> = claims
        .join_all()
        .await
        .into_iter()
        .flat_map(|claimed| claimed.deliveries)
        .map(|delivery| delivery.id)
        .collect();
    assert_eq!(claimed.len(), 200);
    claimed.sort_unstable();
    claimed.dedup();
    assert_eq!(claimed.len(), 200);
}
