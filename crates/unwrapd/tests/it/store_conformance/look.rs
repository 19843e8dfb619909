//! Listing stored messages.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use unwrapd::delivery::{Lane, Next};
use unwrapd::message::{Message, Origin};
use unwrapd::store::filter::{Filter, Status};
use unwrapd::store::replay::{DropRun, Replay};
use unwrapd::store::{Failures, MessagePage, Page, SHOWN_MAX, Store};

use super::replay::{accept_as, due, filter, found, ids, replay_of, run, settle_all};
use super::{LEASE, Place, PostgresPlace, SqlitePlace, at, message};

every_store!(;
    a_filter_means_types_times_endpoints_destinations_and_ids,
    pages_follow_each_other_without_gap_or_overlap,
    a_page_without_time_makes_progress,
    a_message_is_shown_with_its_attempts_and_its_payload,
    types_and_statuses_of_every_kind_select_their_messages,
    times_and_ids_are_found_among_many_whatever_the_clock_did,
    a_message_out_of_the_order_of_time_is_listed_and_counted,
    a_message_is_found_by_its_resource_and_by_the_id_of_its_event,
    a_resource_is_found_among_many_also_after_opening_again,
    the_newest_of_many_messages_with_one_resource_are_shown,
    the_origin_of_an_event_is_stored,
    a_text_with_nul_selects_nothing,
);

async fn a_filter_means_types_times_endpoints_destinations_and_ids(place: &dyn Place) {
    let store = place.open().await;
    accept_as(&store, "wh_1", "response.completed", 1, &["app"]).await;
    accept_as(&store, "wh_2", "response.failed", 2, &["app", "audit"]).await;
    accept_as(&store, "wh_3", "batch.failed", 3, &["audit"]).await;
    let mut elsewhere = message("wh_4", at(4));
    elsewhere.endpoint = "staging".into();
    store.accept(elsewhere, vec!["app".into()]).await.unwrap();
    settle_all(&store, "app", 5, Next::Delivered).await;
    settle_all(&store, "audit", 5, Next::Dead).await;

    let since = at(2);
    let cases: [(&str, &[&str]); 10] = [
        ("{}", &["wh_4", "wh_3", "wh_2", "wh_1"]),
        (r#"{"type":["response.*"]}"#, &["wh_2", "wh_1"]),
        (r#"{"type":["!response.*"]}"#, &["wh_4", "wh_3"]),
        (
            &format!(r#"{{"since":"{since}"}}"#),
            &["wh_4", "wh_3", "wh_2"],
        ),
        (&format!(r#"{{"until":"{since}"}}"#), &["wh_1"]),
        (r#"{"status":["dead"]}"#, &["wh_3", "wh_2"]),
        (r#"{"destination":["app"]}"#, &["wh_4", "wh_2", "wh_1"]),
        (r#"{"destination":["app"],"status":["dead"]}"#, &[]),
        (r#"{"endpoint":["staging"]}"#, &["wh_4"]),
        (
            r#"{"webhook_id":["wh_3","wh_1","wh_9"]}"#,
            &["wh_3", "wh_1"],
        ),
    ];
    for (asked, expected) in cases {
        assert_eq!(found(&store, asked).await, expected, "{asked}");
        let plan = store.plan(&replay_of(asked), at(9)).await.unwrap();
        assert_eq!(plan.counts.messages, expected.len() as u64, "{asked}");
    }
    let replayed = run(
        &store,
        &replay_of(r#"{"destination":["audit"],"type":["batch.*"]}"#),
        "t1",
        10,
    )
    .await;
    assert_eq!(replayed.deliveries, 1);
    assert_eq!(due(&store, "app", 10).await, [""; 0]);
    assert_eq!(due(&store, "audit", 10).await, ["wh_3"]);
}

async fn types_and_statuses_of_every_kind_select_their_messages(place: &dyn Place) {
    let store = place.open().await;
    accept_as(&store, "wh_1", "fine_tuning.job.failed", 1, &["app"]).await;
    settle_all(&store, "app", 2, Next::Delivered).await;
    accept_as(&store, "wh_2", "fineXtuning.job.failed", 3, &["app"]).await;
    settle_all(&store, "app", 4, Next::Dead).await;
    let run = DropRun {
        filter: filter(r#"{"status":["dead"]}"#),
        as_of: store.plan(&replay_of("{}"), at(5)).await.unwrap().as_of,
        after: None,
        limit: 10,
    };
    assert_eq!(store.drop_dead(&run, at(5)).await.unwrap().deliveries, 1);
    accept_as(&store, "wh_3", "batch.failed", 5, &["app"]).await;
    settle_all(&store, "app", 6, Next::Dead).await;
    accept_as(&store, "wh_4", "batch.completed", 7, &["app", "audit"]).await;
    let untyped = Message {
        event_type: None,
        ..message("wh_5", at(8))
    };
    store.accept(untyped, vec![]).await.unwrap();

    let many: Vec<String> = (0..100).map(|number| format!("type_{number}")).collect();
    let many = format!(r#"{{"type":["batch.failed","{}"]}}"#, many.join(r#"",""#));
    let cases: [(&str, &[&str]); 14] = [
        (r#"{"type":["fine_tuning.*"]}"#, &["wh_1"]),
        (r#"{"type":["fine_tuning.job.failed"]}"#, &["wh_1"]),
        (r#"{"type":["fine_tuning.job"]}"#, &[]),
        (
            r#"{"type":["*"]}"#,
            &["wh_5", "wh_4", "wh_3", "wh_2", "wh_1"],
        ),
        (
            r#"{"type":["!batch.failed"]}"#,
            &["wh_5", "wh_4", "wh_2", "wh_1"],
        ),
        (r#"{"type":["batch.*","!batch.failed"]}"#, &["wh_4"]),
        (&many, &["wh_3"]),
        (r#"{"status":["delivered"]}"#, &["wh_1"]),
        (r#"{"status":["waiting"]}"#, &["wh_4"]),
        (r#"{"status":["dropped","delivered"]}"#, &["wh_2", "wh_1"]),
        (r#"{"status":["dead","waiting"]}"#, &["wh_4", "wh_3"]),
        (r#"{"status":["waiting","unrouted"]}"#, &["wh_5", "wh_4"]),
        (
            r#"{"status":["waiting"],"destination":["audit","none"]}"#,
            &["wh_4"],
        ),
        (r#"{"status":["delivered"],"destination":["audit"]}"#, &[]),
    ];
    for (asked, expected) in cases {
        assert_eq!(found(&store, asked).await, expected, "{asked}");
    }
}

/// PostgreSQL stores no NUL, and refuses a parameter that has one.
async fn a_text_with_nul_selects_nothing(place: &dyn Place) {
    let store = place.open().await;
    accept_as(&store, "wh_1", "batch.failed", 1, &["app"]).await;
    settle_all(&store, "app", 2, Next::Dead).await;
    let none = Failures {
        causes: Vec::new(),
        is_exact: true,
    };
    assert_eq!(store.failures("app\0").await.unwrap(), none);
    for field in [
        "destination",
        "endpoint",
        "webhook_id",
        "event_id",
        "resource",
    ] {
        let asked = format!(r#"{{"{field}":["\u0000","wh_1\u0000"]}}"#);
        assert_eq!(found(&store, &asked).await, [""; 0], "{asked}");
        let plan = store.plan(&replay_of(&asked), at(3)).await.unwrap();
        assert_eq!(plan.counts.messages, 0, "{asked}");
        let run = DropRun {
            filter: Filter {
                status: vec![Status::Dead],
                ..filter(&asked)
            },
            as_of: plan.as_of,
            after: None,
            limit: 10,
        };
        let dropped = store.drop_dead(&run, at(3)).await.unwrap();
        assert_eq!(dropped.deliveries, 0, "{asked}");
    }
    for id in ["\0", "wh_1\0"] {
        assert!(store.get_message(id, true).await.unwrap().is_empty());
    }
}

pub(super) async fn pages_follow_each_other_without_gap_or_overlap(place: &dyn Place) {
    let store = place.open().await;
    for number in 0..25 {
        accept_as(
            &store,
            &format!("wh_{number:02}"),
            "batch.failed",
            number,
            &["app"],
        )
        .await;
    }
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = Page::new(after, 10);
        let found = store
            .list_messages(&Filter::default(), at(0), page)
            .await
            .unwrap();
        assert!(found.messages.len() <= 10);
        seen.extend(ids(&found));
        after = found.next;
        accept_as(
            &store,
            &format!("wh_new_{}", seen.len()),
            "batch.failed",
            99,
            &[],
        )
        .await;
        if after.is_none() {
            break;
        }
    }
    let expected: Vec<String> = (0..25)
        .rev()
        .map(|number| format!("wh_{number:02}"))
        .collect();
    assert_eq!(seen, expected);
    for odd in [0, -1, i64::MIN] {
        let page = Page::new(Some(odd), 0);
        assert_eq!(
            store
                .list_messages(&Filter::default(), at(0), page)
                .await
                .unwrap(),
            MessagePage::default()
        );
    }
}

async fn a_page_without_time_makes_progress(place: &dyn Place) {
    let store = place.open().await;
    accept_as(&store, "wh_wanted", "batch.failed", 1, &["app"]).await;
    let mut accepted = JoinSet::new();
    for number in 0..2_500 {
        let store = Arc::clone(&store);
        accepted.spawn(async move {
            let other = message(&format!("wh_{number}"), at(1));
            store.accept(other, vec![]).await.unwrap();
        });
        if accepted.len() == 500 {
            while accepted.join_next().await.is_some() {}
        }
    }
    accepted.join_all().await;
    let filter = filter(r#"{"status":["waiting"]}"#);
    let mut page = Page {
        time_max: Duration::ZERO,
        ..Page::new(None, 10)
    };
    // SQLite needs several pages, and PostgreSQL one.
    let found = loop {
        let found = store.list_messages(&filter, at(2), page).await.unwrap();
        if !found.messages.is_empty() {
            break found;
        }
        assert!(found.next < page.after || page.after.is_none());
        page.after = Some(found.next.expect("a page that ended early leads on"));
    };
    assert_eq!(ids(&found), ["wh_wanted"]);
}

async fn a_message_is_shown_with_its_attempts_and_its_payload(place: &dyn Place) {
    let store = place.open().await;
    accept_as(&store, "wh_1", "batch.failed", 1, &["app"]).await;
    let mut elsewhere = message("wh_1", at(4));
    elsewhere.endpoint = "staging".into();
    store.accept(elsewhere, vec![]).await.unwrap();
    settle_all(&store, "app", 2, Next::Retry { due_at: at(3) }).await;
    settle_all(&store, "app", 4, Next::Delivered).await;

    let shown = store.get_message("wh_1", true).await.unwrap();
    let endpoints: Vec<&str> = shown.iter().map(|kept| kept.endpoint.as_str()).collect();
    assert_eq!(endpoints, ["production", "staging"]);
    let kept = &shown[0];
    assert_eq!(kept.payload, Some(message("wh_1", at(1)).payload));
    assert_eq!(kept.bytes, Some(8));
    assert_eq!(kept.secret, Some(1));
    assert_eq!((kept.sent_at, kept.received_at), (at(-1), at(1)));
    assert_eq!(kept.event_type.as_deref(), Some("batch.failed"));
    let delivery = &kept.deliveries[0];
    assert_eq!(
        (delivery.status, delivery.attempts, delivery.at),
        (Status::Delivered, 2, at(4))
    );
    let numbers: Vec<u32> = delivery
        .latest
        .iter()
        .map(|attempt| attempt.number)
        .collect();
    assert_eq!(numbers, [1, 2]);
    assert_eq!(delivery.latest[0].answer, "HTTP 500");
    assert_eq!(delivery.latest[0].took_ms, 5);

    assert_eq!(
        store.get_message("wh_1", false).await.unwrap()[0].payload,
        None
    );
    assert_eq!(store.get_message("wh_2", true).await.unwrap(), []);
    let page = Page::new(None, 10);
    let listed = store
        .list_messages(&Filter::default(), at(0), page)
        .await
        .unwrap();
    assert_eq!(
        listed.messages[1].deliveries[0].latest,
        kept.deliveries[0].latest[1..]
    );
}

/// Accepts `wh_0`, `wh_1` and so on, each at the second of its number.
async fn accept_many(store: &Arc<dyn Store>, messages: i64, second: fn(i64) -> i64) {
    const AT_ONCE: i64 = 500;
    for first in (0..messages).step_by(500) {
        let mut accepted = JoinSet::new();
        for number in first..first + AT_ONCE {
            let store = Arc::clone(store);
            accepted.spawn(async move {
                let id = format!("wh_{number}");
                accept_as(&store, &id, "batch.failed", second(number), &[]).await;
            });
        }
        accepted.join_all().await;
    }
}

/// Enough messages for several blocks of any index, with a clock that goes back and forth.
async fn times_and_ids_are_found_among_many_whatever_the_clock_did(place: &dyn Place) {
    const MESSAGES: i64 = 9_500;
    let second = |number: i64| match number {
        // Set back by an hour for a while, and far ahead once.
        5_000..5_100 => number - 3_600,
        7_000 => number + 1_000_000,
        _ => number,
    };
    let store = place.open().await;
    accept_many(&store, MESSAGES, second).await;

    let windows = [
        (0, 10),
        (1_399, 1_420),
        (4_990, 5_110),
        (9_400, 2_000_000),
        (9_500, 9_600),
    ];
    for (since, until) in windows {
        let asked = format!(r#"{{"since":"{}","until":"{}"}}"#, at(since), at(until));
        let mut expected: Vec<String> = (0..MESSAGES)
            .filter(|&number| (since..until).contains(&second(number)))
            .map(|number| format!("wh_{number}"))
            .collect();
        let mut found = found(&store, &asked).await;
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{asked}");
    }
    for number in [0, 4_094, 4_095, 4_096, 8_191, 8_192, 9_499] {
        let id = format!("wh_{number}");
        let shown = store.get_message(&id, false).await.unwrap();
        assert_eq!(shown.len(), 1, "{id}");
        assert_eq!(shown[0].received_at, at(second(number)), "{id}");
    }
    assert_eq!(store.get_message("wh_9500", false).await.unwrap(), []);
}

/// Enough messages for a search that halves their numbers. One came from a clock that was ahead, and
/// one from a clock that was behind.
async fn a_message_out_of_the_order_of_time_is_listed_and_counted(place: &dyn Place) {
    const MESSAGES: i64 = 12_000;
    let second = |number: i64| match number {
        100 => 11_500,
        11_900 => 50,
        _ => number,
    };
    let store = place.open().await;
    accept_many(&store, MESSAGES, second).await;
    for (since, until, expected) in [
        (50, 51, &["wh_11900", "wh_50"][..]),
        (0, 3, &["wh_0", "wh_1", "wh_2"]),
        (6_000, 6_002, &["wh_6000", "wh_6001"]),
        (11_500, 11_501, &["wh_100", "wh_11500"]),
        (11_900, 11_901, &[]),
        (11_999, 99_999, &["wh_11999"]),
        (12_000, 99_999, &[]),
    ] {
        let asked = format!(r#"{{"since":"{}","until":"{}"}}"#, at(since), at(until));
        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let page = Page::new(after, 1);
            let found = store.list_messages(&filter(&asked), at(0), page).await;
            let found = found.unwrap();
            seen.extend(ids(&found));
            after = found.next;
            if after.is_none() {
                break;
            }
        }
        seen.sort();
        assert_eq!(seen, expected, "{asked}");
        let counted = store.count_messages(&filter(&asked), at(0), 10).await;
        assert_eq!(counted.unwrap().messages, expected.len() as u64, "{asked}");
        let replay = Replay {
            filter: filter(&asked),
            to: Some("app".into()),
        };
        let plan = store.plan(&replay, at(99_999)).await.unwrap();
        assert_eq!(plan.counts.messages, expected.len() as u64, "{asked}");
    }
}

/// A response has several events, and each has several copies at other endpoints.
pub(super) fn about(id: &str, event: &str, resource: &str) -> Message {
    let payload =
        format!(r#"{{"type":"response.completed","id":"{event}","data":{{"id":"{resource}"}}}}"#);
    Message {
        payload: payload.into(),
        ..message(id, at(1))
    }
}

/// A store with these messages, each [`about`] an event and a resource.
pub(super) async fn with_messages_about(
    place: &dyn Place,
    messages: &[(&str, &str, &str)],
) -> Arc<dyn Store> {
    let store = place.open().await;
    for (id, event, resource) in messages {
        let message = about(id, event, resource);
        store.accept(message, vec!["app".into()]).await.unwrap();
    }
    store
}

async fn a_message_is_found_by_its_resource_and_by_the_id_of_its_event(place: &dyn Place) {
    let messages = [
        ("wh_1", "evt_1", "resp_1"),
        ("wh_2", "evt_2", "resp_1"),
        ("wh_3", "evt_3", "resp_3"),
        // Their hashes are equal.
        ("wh_4", "evt_4", "costarring"),
        ("wh_5", "evt_5", "liquid"),
    ];
    let store = with_messages_about(place, &messages).await;
    // A payload that is not JSON.
    store.accept(message("wh_6", at(1)), vec![]).await.unwrap();
    settle_all(&store, "app", 5, Next::Dead).await;

    let cases: [(&str, &[&str]); 9] = [
        (r#"{"resource":["resp_1"]}"#, &["wh_2", "wh_1"]),
        (
            r#"{"resource":["resp_3","resp_1"]}"#,
            &["wh_3", "wh_2", "wh_1"],
        ),
        (r#"{"resource":["resp_2"]}"#, &[]),
        (r#"{"resource":["costarring"]}"#, &["wh_4"]),
        (
            r#"{"resource":["resp_1"],"status":["dead"]}"#,
            &["wh_2", "wh_1"],
        ),
        (r#"{"resource":["resp_1"],"status":["waiting"]}"#, &[]),
        (r#"{"event_id":["evt_2"]}"#, &["wh_2"]),
        (
            r#"{"event_id":["evt_2","evt_3"],"resource":["resp_1"]}"#,
            &["wh_2"],
        ),
        (
            r#"{"webhook_id":["wh_2","wh_3"],"resource":["resp_1"]}"#,
            &["wh_2"],
        ),
    ];
    for (asked, expected) in cases {
        assert_eq!(found(&store, asked).await, expected, "{asked}");
        let plan = store.plan(&replay_of(asked), at(9)).await.unwrap();
        assert_eq!(plan.counts.messages, expected.len() as u64, "{asked}");
    }
    for (id, expected) in [
        ("wh_3", &["wh_3"][..]),
        ("evt_3", &["wh_3"]),
        ("resp_1", &["wh_1", "wh_2"]),
        ("resp_2", &[]),
    ] {
        let shown = store.get_message(id, false).await.unwrap();
        let ids: Vec<&str> = shown.iter().map(|shown| &*shown.webhook_id).collect();
        assert_eq!(ids, expected, "{id}");
        assert!(shown.iter().all(|shown| shown.payload.is_none()));
    }
    let shown = store.get_message("wh_2", false).await.unwrap();
    assert_eq!(shown[0].resource.as_deref(), Some("resp_1"));
    let shown = store.get_message("wh_6", false).await.unwrap();
    assert_eq!(shown[0].resource, None);

    let replayed = run(&store, &replay_of(r#"{"resource":["resp_1"]}"#), "t1", 10).await;
    assert_eq!(replayed.deliveries, 2);
    assert_eq!(due(&store, "app", 10).await, ["wh_1", "wh_2"]);
}

async fn a_resource_is_found_among_many_also_after_opening_again(place: &dyn Place) {
    const MESSAGES: usize = 9_500;
    let mut store = place.open().await;
    for first in (0..MESSAGES).step_by(500) {
        let mut accepted = JoinSet::new();
        for number in first..first + 500 {
            let store = Arc::clone(&store);
            let message = about(
                &format!("wh_{number}"),
                &format!("evt_{number}"),
                &format!("resp_{number}"),
            );
            accepted.spawn(async move { store.accept(message, vec![]).await.unwrap() });
        }
        accepted.join_all().await;
    }
    for round in 0..2 {
        for number in [0, 4_094, 4_095, 4_096, 8_191, 8_192, 9_499] {
            for id in [format!("resp_{number}"), format!("evt_{number}")] {
                let shown = store.get_message(&id, false).await.unwrap();
                assert_eq!(shown.len(), 1, "{id} in round {round}");
                assert_eq!(shown[0].webhook_id, format!("wh_{number}"));
            }
        }
        assert_eq!(store.get_message("resp_9500", false).await.unwrap(), []);
        store.close().await;
        store = place.open().await;
    }
}

async fn the_newest_of_many_messages_with_one_resource_are_shown(place: &dyn Place) {
    let store = place.open().await;
    for number in 0..SHOWN_MAX + 30 {
        let id = format!("wh_{number}");
        let message = about(&id, &format!("evt_{number}"), "resp_same");
        store.accept(message, vec![]).await.unwrap();
    }
    let shown = store.get_message("resp_same", true).await.unwrap();
    let ids: Vec<&str> = shown.iter().map(|kept| &*kept.webhook_id).collect();
    let expected: Vec<String> = (30..SHOWN_MAX + 30)
        .map(|number| format!("wh_{number}"))
        .collect();
    assert_eq!(ids, expected);
    assert!(shown.iter().all(|kept| kept.payload.is_some()));
}

async fn the_origin_of_an_event_is_stored(place: &dyn Place) {
    let store = place.open().await;
    for origin in [Origin::OpenAi, Origin::Gateway] {
        let message = Message {
            origin,
            ..message(origin.as_str(), at(1))
        };
        store.accept(message, vec!["app".into()]).await.unwrap();
    }
    for origin in [Origin::OpenAi, Origin::Gateway] {
        let shown = store.get_message(origin.as_str(), false).await.unwrap();
        assert_eq!(shown[0].origin, origin);
    }
    let claimed = store.claim("app", Lane::Standard, at(2), LEASE, 10).await;
    for delivery in claimed.unwrap().deliveries {
        let message = delivery.message;
        assert_eq!(message.webhook_id, message.origin.as_str());
    }
}
