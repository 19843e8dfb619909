//! Messages that no destination wanted.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use unwrapd::delivery::Next;
use unwrapd::store::replay::{Counts, Replay};
use unwrapd::store::{Bounds, MessageCount, PAGE_MAX, Page, Store};

use super::replay::{accept_as, due, filter, found, ids, replay_of, run, settle_all};
use super::{DAY, Place, PostgresPlace, SqlitePlace, at, message, prune};

every_store!(;
    a_message_that_no_destination_wanted_is_unrouted_until_it_is_pruned,
    an_unrouted_message_is_replayed_to_a_named_destination_only,
    unrouted_messages_are_found_page_by_page_among_others,
    a_replayed_message_is_unrouted_no_more_wherever_it_stands,
);

const UNROUTED: &str = r#"{"status":["unrouted"]}"#;

async fn a_message_that_no_destination_wanted_is_unrouted_until_it_is_pruned(place: &dyn Place) {
    let bounds = Bounds {
        retention: Duration::from_secs(24 * 3600),
        ..Bounds::default()
    };
    let store = place.open_within(&bounds).await;
    accept_as(&store, "wh_1", "batch.failed", 1, &[]).await;
    accept_as(&store, "wh_2", "batch.failed", 2, &["app"]).await;
    accept_as(&store, "wh_3", "response.failed", 3, &[]).await;
    accept_as(&store, "wh_4", "batch.failed", 4, &["audit"]).await;
    settle_all(&store, "audit", 5, Next::Dead).await;

    let cases: [(&str, &[&str]); 9] = [
        (UNROUTED, &["wh_3", "wh_1"]),
        (r#"{"status":["unrouted"],"type":["batch.*"]}"#, &["wh_1"]),
        (
            r#"{"status":["unrouted","dead"]}"#,
            &["wh_4", "wh_3", "wh_1"],
        ),
        (
            r#"{"status":["waiting","unrouted"]}"#,
            &["wh_3", "wh_2", "wh_1"],
        ),
        (r#"{"status":["unrouted"],"destination":["app"]}"#, &[]),
        (
            r#"{"status":["unrouted","dead"],"destination":["audit"]}"#,
            &["wh_4"],
        ),
        (
            r#"{"status":["unrouted"],"webhook_id":["wh_1","wh_2"]}"#,
            &["wh_1"],
        ),
        (
            r#"{"status":["dead","unrouted"],"webhook_id":["wh_1","wh_2","wh_4"]}"#,
            &["wh_4", "wh_1"],
        ),
        (
            r#"{"status":["dead"],"webhook_id":["wh_1","wh_2","wh_4"]}"#,
            &["wh_4"],
        ),
    ];
    for (asked, expected) in cases {
        assert_eq!(found(&store, asked).await, expected, "{asked}");
        let counted = store.count_messages(&filter(asked), at(9), 100).await;
        let all = MessageCount {
            messages: expected.len() as u64,
            is_exact: true,
        };
        assert_eq!(counted.unwrap(), all, "{asked}");
    }

    // The rows of the messages stay, because their ids are known for longer.
    assert_eq!(prune(&store, 2 * DAY).await, 3);
    assert_eq!(found(&store, "{}").await.len(), 4);
    assert_eq!(found(&store, UNROUTED).await, [""; 0]);
    let mixed = r#"{"status":["waiting","unrouted"]}"#;
    assert_eq!(found(&store, mixed).await, ["wh_2"]);
}

async fn an_unrouted_message_is_replayed_to_a_named_destination_only(place: &dyn Place) {
    let store = place.open().await;
    accept_as(&store, "wh_1", "batch.failed", 1, &[]).await;
    accept_as(&store, "wh_2", "batch.failed", 2, &["app"]).await;

    let nowhere = replay_of(UNROUTED);
    let plan = store.plan(&nowhere, at(3)).await.unwrap();
    assert_eq!((plan.counts, plan.unrouted), (Counts::default(), 1));
    assert_eq!(run(&store, &nowhere, "t1", 4).await, Counts::default());
    assert_eq!(found(&store, UNROUTED).await, ["wh_1"]);

    let to_late = Replay {
        to: Some("late".into()),
        ..replay_of(UNROUTED)
    };
    let plan = store.plan(&to_late, at(5)).await.unwrap();
    assert_eq!((plan.counts.deliveries, plan.unrouted), (1, 0));
    assert_eq!(run(&store, &to_late, "t2", 6).await.deliveries, 1);
    assert_eq!(due(&store, "late", 7).await, ["wh_1"]);
    assert_eq!(found(&store, UNROUTED).await, [""; 0]);
    let plan = store.plan(&to_late, at(8)).await.unwrap();
    assert_eq!(plan.counts, Counts::default());
}

/// The ids of all unrouted messages, the newest first.
async fn all_unrouted(store: &Arc<dyn Store>) -> Vec<String> {
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = Page::new(after, PAGE_MAX);
        let found = store.list_messages(&filter(UNROUTED), at(2), page).await;
        let found = found.unwrap();
        seen.extend(ids(&found));
        after = found.next;
        if after.is_none() {
            return seen;
        }
    }
}

/// More than one piece of the list holds, forwards and backwards.
async fn unrouted_messages_are_found_page_by_page_among_others(place: &dyn Place) {
    const MESSAGES: usize = 2_600;
    let store = place.open().await;
    let mut accepted = JoinSet::new();
    for number in 0..MESSAGES {
        let store = Arc::clone(&store);
        accepted.spawn(async move {
            let routed = message(&format!("wh_routed_{number}"), at(1));
            store.accept(routed, vec!["app".into()]).await.unwrap();
            let unrouted = message(&format!("wh_{number}"), at(1));
            store.accept(unrouted, vec![]).await.unwrap();
        });
        if accepted.len() == 500 {
            while accepted.join_next().await.is_some() {}
        }
    }
    accepted.join_all().await;
    let mut seen = all_unrouted(&store).await;
    assert!(seen.iter().all(|id| !id.starts_with("wh_routed")));
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), MESSAGES);
    let to_late = Replay {
        to: Some("late".into()),
        ..replay_of(UNROUTED)
    };
    let plan = store.plan(&to_late, at(3)).await.unwrap();
    assert_eq!(plan.counts.messages, MESSAGES as u64);
}

/// SQLite lists the messages of a full block of 4,096, and searches the others one by one.
async fn a_replayed_message_is_unrouted_no_more_wherever_it_stands(place: &dyn Place) {
    const BLOCK: usize = 4_096;
    let accept = async |store: &Arc<dyn Store>, numbers: Range<usize>| {
        let mut accepted = JoinSet::new();
        for number in numbers {
            let store = Arc::clone(store);
            accepted.spawn(async move {
                let unrouted = message(&format!("wh_{number}"), at(1));
                store.accept(unrouted, vec![]).await.unwrap();
            });
            if accepted.len() == 500 {
                while accepted.join_next().await.is_some() {}
            }
        }
        accepted.join_all().await;
    };
    let store = place.open().await;
    accept(&store, 0..BLOCK + 100).await;
    let newest_first = all_unrouted(&store).await;
    assert_eq!(newest_first.len(), BLOCK + 100);
    // The last message, and the first, the last and others of the full block.
    let places = [0, 99, 100, 101, 2_000, BLOCK + 99];
    let replayed = places.map(|place| newest_first[place].clone());
    let to_late = Replay {
        to: Some("late".into()),
        ..replay_of(&format!(r#"{{"webhook_id":{replayed:?}}}"#))
    };
    assert_eq!(run(&store, &to_late, "t1", 3).await.deliveries, 6);
    let expected = |newer: Range<usize>| {
        let newer = newer.map(|number| format!("wh_{number}"));
        let all = newer.chain(newest_first.iter().cloned());
        let left = all.filter(|id| !replayed.contains(id));
        left.collect::<BTreeSet<_>>()
    };
    let found = async |store| BTreeSet::from_iter(all_unrouted(store).await);
    assert!(found(&store).await == expected(0..0));

    // These fill the second block.
    let newer = BLOCK + 100..2 * BLOCK + 50;
    accept(&store, newer.clone()).await;
    assert!(found(&store).await == expected(newer.clone()));
    store.close().await;
    let store = place.open().await;
    assert!(found(&store).await == expected(newer));
    assert_eq!(due(&store, "late", 7).await.len(), 6);
}
