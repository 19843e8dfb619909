//! Counting messages within a limit.

use unwrapd::delivery::Next;
use unwrapd::store::MessageCount;

use super::replay::{accept_as, filter, settle_all};
use super::{Place, PostgresPlace, SqlitePlace, at};

every_store!(;
    a_count_is_exact_up_to_its_limit,
    a_count_within_a_time_is_exact,
);

async fn a_count_is_exact_up_to_its_limit(place: &dyn Place) {
    let store = place.open().await;
    let empty = store.count_messages(&filter("{}"), at(0), 10).await;
    assert_eq!(empty.unwrap(), counted(0, true));
    for number in 0..12 {
        let id = format!("wh_{number}");
        accept_as(&store, &id, "batch.failed", number, &["app"]).await;
    }
    accept_as(&store, "wh_other", "response.failed", 12, &[]).await;
    settle_all(&store, "app", 20, Next::Dead).await;
    for asked in [
        "{}",
        r#"{"type":["batch.*","response.*"]}"#,
        r#"{"status":["dead","unrouted"]}"#,
    ] {
        for (max, expected) in [
            (0, counted(0, false)),
            (12, counted(12, false)),
            (13, counted(13, true)),
            (10_000, counted(13, true)),
            (u64::MAX, counted(13, true)),
        ] {
            let found = store.count_messages(&filter(asked), at(30), max).await;
            assert_eq!(found.unwrap(), expected, "{asked} {max}");
        }
    }
    for (asked, expected) in [
        (r#"{"status":["dead"]}"#, 12),
        (r#"{"status":["waiting"]}"#, 0),
        (r#"{"destination":["app"]}"#, 12),
        (r#"{"webhook_id":["wh_1","wh_2","wh_none"]}"#, 2),
        (r#"{"id_part":"wh_1"}"#, 1),
        (r#"{"id_part":"wh_o"}"#, 1),
    ] {
        let found = store.count_messages(&filter(asked), at(30), 100).await;
        assert_eq!(found.unwrap(), counted(expected, true), "{asked}");
    }
}

async fn a_count_within_a_time_is_exact(place: &dyn Place) {
    let store = place.open().await;
    for number in 0..30 {
        let id = format!("wh_{number}");
        accept_as(&store, &id, "batch.failed", number, &[]).await;
    }
    for (since, until, expected) in [(10, 20, 10), (25, 99, 5), (0, 1, 1), (30, 99, 0)] {
        let asked = format!(r#"{{"since":"{}","until":"{}"}}"#, at(since), at(until));
        let found = store.count_messages(&filter(&asked), at(99), 100).await;
        assert_eq!(found.unwrap(), counted(expected, true), "{asked}");
    }
}

fn counted(messages: u64, is_exact: bool) -> MessageCount {
    MessageCount { messages, is_exact }
}
