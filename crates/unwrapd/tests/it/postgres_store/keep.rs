//! Stored payloads, and the release of their space.

use super::*;

#[tokio::test]
async fn a_message_that_postgresql_cannot_hold_is_refused_alone() {
    let store = PostgresPlace::new().open().await;
    let mut odd_type = message("wh_odd_type", at(0));
    odd_type.event_type = Some("a\0b".into());
    assert_eq!(
        store.accept(odd_type, vec!["app".into()]).await.unwrap(),
        Accepted::New
    );
    assert_eq!(
        claim(&store, 0).await.deliveries[0]
            .message
            .event_type
            .as_deref(),
        Some("a\u{FFFD}b")
    );

    let mut accepted = JoinSet::new();
    for number in 0..20 {
        let store = Arc::clone(&store);
        // A header cannot have this value.
        let id = if number == 7 {
            "wh_\0".to_owned()
        } else {
            format!("wh_{number}")
        };
        accepted.spawn(async move { store.accept(message(&id, at(0)), vec![]).await });
    }
    let answers = accepted.join_all().await;
    let refused = answers.iter().filter(|answer| answer.is_err()).count();
    assert_eq!(refused, 1);
    assert_eq!(store.tally().await.messages, 20);
}

#[tokio::test]
async fn messages_without_payload_are_counted_and_not_replayed() {
    let place = PostgresPlace::new();
    let store = place.open().await;
    for id in ["wh_1", "wh_2"] {
        accept(&store, id, 0).await;
        let delivery = claim(&store, 0).await.deliveries.remove(0);
        settle(&store, delivery.id, 1, Next::Dead).await;
    }
    let schema = schema_of(&place);
    server::shared().sql(&format!(
        "UPDATE {schema}.message SET partition = NULL WHERE webhook_id = 'wh_1'"
    ));
    let plan = store
        .plan(&unwrapd::store::replay::Replay::default(), at(2))
        .await;
    let counts = plan.unwrap().counts;
    assert_eq!((counts.deliveries, counts.gone), (1, 1));
    assert_eq!(
        store.get_message("wh_1", true).await.unwrap()[0].bytes,
        None
    );
}

/// Payloads are in partitions that are filled in turn. Payloads of waiting deliveries are moved
/// before a partition is truncated.
#[tokio::test]
async fn the_space_of_old_payloads_is_freed_and_waiting_payloads_stay() {
    let bounds = Bounds {
        retention: Duration::from_secs(8 * 24 * 3600),
        ..Bounds::default()
    };
    let place = PostgresPlace::new();
    let store = place.open_within(&bounds).await;
    let large = |id: &str, second| Message {
        payload: vec![b'x'; 5000].into(),
        ..message(id, at(second))
    };
    store
        .accept(large("wh_waits", 0), vec!["app".into()])
        .await
        .unwrap();
    for day in 0..40 {
        for number in 0..20 {
            let id = format!("wh_{day}_{number}");
            store.accept(large(&id, day * DAY), vec![]).await.unwrap();
        }
        prune(&store, day * DAY + 7200).await;
    }
    let schema = schema_of(&place);
    let bodies = server::shared().sql(&format!("SELECT count(*) FROM {schema}.payload"));
    let bodies: usize = bodies.parse().unwrap();
    assert!((160..=240).contains(&bodies), "{bodies}");
    let slots = format!("SELECT count(*) FROM {schema}.payload_partition WHERE opened_at IS NULL");
    let empty: usize = server::shared().sql(&slots).parse().unwrap();
    assert!(empty >= 1, "{empty}");
    let claimed = claim(&store, 50 * DAY).await;
    assert_eq!(claimed.deliveries.len(), 1);
    assert_eq!(claimed.deliveries[0].message, large("wh_waits", 0));
    let kept = store.get_message("wh_39_7", true).await.unwrap();
    assert_eq!(kept[0].payload.as_deref(), Some(&[b'x'; 5000][..]));
}
