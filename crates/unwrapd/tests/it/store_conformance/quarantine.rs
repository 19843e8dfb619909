//! Requests that could not be verified.

use super::*;

every_store!(
    ;
    quarantined_requests_are_listed_in_the_order_of_arrival,
    the_quarantine_holds_only_the_newest,
    a_flood_at_one_endpoint_evicts_its_own_requests_only,
    the_list_names_requests_without_their_bodies,
    an_accepted_request_leaves_the_quarantine,
    a_deleted_request_leaves_the_quarantine,
    the_usage_grows_with_the_messages_and_counts_the_quarantine
);

fn quarantined(number: i64) -> QuarantinedRequest {
    QuarantinedRequest {
        id: 0,
        endpoint: "production".into(),
        received_at: at(number),
        reason: "no signature matches".into(),
        headers: vec![("webhook-id".into(), format!("wh_{number}"))],
        size: Some(4),
        body: Some(Bytes::from_static(b"\0\xFF{}")),
    }
}

async fn the_usage_grows_with_the_messages_and_counts_the_quarantine(place: &dyn Place) {
    let store = place.open().await;
    let before = store.usage().await.unwrap();
    assert_eq!(before.quarantined, 0);
    for number in 0..100 {
        let message = Message {
            payload: vec![b'x'; 50_000].into(),
            ..message(&format!("wh_{number}"), at(0))
        };
        store.accept(message, vec![]).await.unwrap();
    }
    store.quarantine(quarantined(1)).await.unwrap();
    let after = store.usage().await.unwrap();
    assert_eq!(after.quarantined, 1);
    assert!(after.bytes > before.bytes, "{before:?} {after:?}");
}

async fn quarantined_requests_are_listed_in_the_order_of_arrival(place: &dyn Place) {
    let store = place.open().await;
    for number in 0..3 {
        store.quarantine(quarantined(number)).await.unwrap();
    }
    let mut first = store.read_quarantined(0, 2).await.unwrap();
    let rest = store.read_quarantined(first[1].id, 9).await.unwrap();
    assert_eq!((first.len(), rest.len()), (2, 1));
    assert_eq!(rest[0].headers[0].1, "wh_2");
    first[0].id = 0;
    assert_eq!(first[0], quarantined(0));
    assert_eq!(store.tally().await, Tally::default());
}

pub(super) async fn the_quarantine_holds_only_the_newest(place: &dyn Place) {
    let store = place.open().await;
    let mut added = JoinSet::new();
    for number in 0..QUARANTINED_MAX + 10 {
        let store = Arc::clone(&store);
        added.spawn(async move {
            loop {
                if let Ok(gone) = store.quarantine(quarantined(number)).await {
                    return gone;
                }
            }
        });
    }
    let gone: u64 = added.join_all().await.iter().sum();
    assert_eq!(gone, 10, "each that goes is told");
    let kept = store.read_quarantined(0, 5000).await.unwrap();
    assert_eq!(i64::try_from(kept.len()).unwrap(), QUARANTINED_MAX);
    assert_eq!(kept[0].id, 11);

    // Requests that cannot be verified any more are removed before others.
    let bodiless = QuarantinedRequest {
        body: None,
        ..quarantined(1)
    };
    for quarantined in [bodiless, quarantined(2)] {
        store.quarantine(quarantined).await.unwrap();
    }
    let kept = store.read_quarantined(0, 5000).await.unwrap();
    assert_eq!(i64::try_from(kept.len()).unwrap(), QUARANTINED_MAX);
    assert_eq!(kept[0].id, 12);
    assert!(kept.iter().all(|quarantined| quarantined.body.is_some()));
}

pub(super) async fn an_accepted_request_leaves_the_quarantine(place: &dyn Place) {
    let store = place.open().await;
    store.quarantine(quarantined(1)).await.unwrap();
    store.quarantine(quarantined(2)).await.unwrap();
    let ids: Vec<i64> = store
        .read_quarantined(0, 9)
        .await
        .unwrap()
        .iter()
        .map(|quarantined| quarantined.id)
        .collect();
    let accept_quarantined =
        |id| store.accept_quarantined(id, message("wh_1", at(0)), vec!["app".into()]);
    assert_eq!(accept_quarantined(ids[0]).await.unwrap(), Accepted::New);
    assert_eq!(
        accept_quarantined(ids[1]).await.unwrap(),
        Accepted::Duplicate
    );
    assert!(store.read_quarantined(0, 9).await.unwrap().is_empty());
    assert_eq!(claim(&store, 0).await.deliveries.len(), 1);
}

async fn a_deleted_request_leaves_the_quarantine(place: &dyn Place) {
    let store = place.open().await;
    for number in 0..3 {
        store.quarantine(quarantined(number)).await.unwrap();
    }
    let first = store.read_quarantined(0, 1).await.unwrap()[0].id;
    assert_eq!(store.delete_quarantined(first..=first).await.unwrap(), 1);
    assert_eq!(store.delete_quarantined(first..=first).await.unwrap(), 0);
    let newest = store
        .read_quarantined(0, 9)
        .await
        .unwrap()
        .pop()
        .unwrap()
        .id;
    store.quarantine(quarantined(3)).await.unwrap();
    assert_eq!(store.delete_quarantined(1..=newest).await.unwrap(), 2);
    assert_eq!(store.delete_quarantined(1..=i64::MAX).await.unwrap(), 1);
    assert!(store.read_quarantined(0, 9).await.unwrap().is_empty());
}

/// Also if the other endpoint came first and its requests are the oldest.
pub(super) async fn a_flood_at_one_endpoint_evicts_its_own_requests_only(place: &dyn Place) {
    const HONEST: i64 = 40;
    let store = place.open().await;
    let at_endpoint = |endpoint: &str, number| QuarantinedRequest {
        endpoint: endpoint.into(),
        ..quarantined(number)
    };
    for number in 0..HONEST {
        let honest = QuarantinedRequest {
            // Without a body, and so the first to be removed if the endpoint had no effect.
            body: None,
            ..at_endpoint("production", number)
        };
        store.quarantine(honest).await.unwrap();
    }
    for number in 0..QUARANTINED_MAX + 10 {
        store
            .quarantine(at_endpoint("staging", number))
            .await
            .unwrap();
    }
    let kept = store.list_quarantined(None, 5000).await.unwrap();
    assert_eq!(i64::try_from(kept.len()).unwrap(), QUARANTINED_MAX);
    let honest = kept.iter().filter(|kept| kept.endpoint == "production");
    assert_eq!(honest.count(), usize::try_from(HONEST).unwrap());

    // A new endpoint takes room from the one with the most requests.
    store.quarantine(at_endpoint("late", 1)).await.unwrap();
    let kept = store.list_quarantined(None, 5000).await.unwrap();
    let of = |endpoint| kept.iter().filter(|kept| kept.endpoint == endpoint).count();
    assert_eq!(of("late"), 1);
    assert_eq!(of("production"), usize::try_from(HONEST).unwrap());
}

async fn the_list_names_requests_without_their_bodies(place: &dyn Place) {
    let store = place.open().await;
    let bodiless = QuarantinedRequest {
        body: None,
        ..quarantined(2)
    };
    for quarantined in [quarantined(1), bodiless] {
        store.quarantine(quarantined).await.unwrap();
    }
    let listed = store.list_quarantined(None, 1).await.unwrap();
    assert_eq!(listed.len(), 1, "the newest");
    assert!(!listed[0].body);
    assert_eq!(listed[0].received_at, at(2));
    let rest = store.list_quarantined(Some(listed[0].id), 9).await.unwrap();
    assert_eq!(rest.len(), 1);
    assert!(rest[0].body, "it is stored");
    assert_eq!(rest[0].size, Some(4));
    assert_eq!(rest[0].headers, quarantined(1).headers);
    let end = store.list_quarantined(Some(rest[0].id), 9).await.unwrap();
    assert!(end.is_empty());
    for (max, count) in [(1, 1), (2, 2), (9, 2)] {
        assert_eq!(store.count_quarantined(max).await.unwrap(), count);
    }
}
