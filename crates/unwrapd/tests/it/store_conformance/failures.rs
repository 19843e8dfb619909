//! Failed deliveries, by cause.

use std::sync::Arc;

use jiff::Timestamp;
use unwrapd::delivery::{Delivery, Next};
use unwrapd::store::filter::Status;
use unwrapd::store::replay::{AsOf, DropRun};
use unwrapd::store::{Attempt, FailureCause, Failures, Settled, Store};

use super::replay::{accept_as, filter, replay_of, run};
use super::{Place, PostgresPlace, SqlitePlace, at, attempt, claim};

every_store!(;
    failures_are_grouped_by_the_answer_of_the_latest_attempt,
    a_dropped_or_replayed_dead_letter_is_no_failure,
);

async fn settle_as(
    store: &Arc<dyn Store>,
    delivery: &Delivery,
    second: i64,
    answer: &str,
    next: Next,
) {
    let attempt = Attempt {
        answer: answer.into(),
        ..attempt(delivery.id, delivery.attempt, at(second), next)
    };
    assert_eq!(store.settle(attempt).await.unwrap(), Settled::Settled);
}

fn cause(
    answer: &str,
    status: Status,
    deliveries: u64,
    [first_at, latest_at]: [Timestamp; 2],
    example: &str,
) -> FailureCause {
    FailureCause {
        answer: answer.into(),
        status,
        deliveries,
        first_at,
        latest_at,
        example_webhook_id: example.into(),
    }
}

async fn failures_are_grouped_by_the_answer_of_the_latest_attempt(place: &dyn Place) {
    let store = place.open().await;
    for number in 1..=6 {
        accept_as(&store, &format!("wh_{number}"), "batch.failed", 0, &["app"]).await;
    }
    let retry = Next::Retry { due_at: at(100) };
    let claimed = claim(&store, 0).await.deliveries;
    for delivery in &claimed {
        let (second, answer, next) = match &*delivery.message.webhook_id {
            "wh_1" => (1, "HTTP 500", retry),
            "wh_2" => (2, "HTTP 500", Next::Dead),
            "wh_3" => (3, "HTTP 410", Next::Dead),
            "wh_4" => (4, "HTTP 200", Next::Delivered),
            "wh_5" => (5, "HTTP 500", retry),
            // Still under way.
            _ => continue,
        };
        settle_as(&store, delivery, second, answer, next).await;
    }
    let failures = store.failures("app").await.unwrap();
    let expected = Failures {
        causes: vec![
            cause("HTTP 500", Status::Waiting, 2, [at(1), at(5)], "wh_5"),
            cause("HTTP 410", Status::Dead, 1, [at(3), at(3)], "wh_3"),
            cause("HTTP 500", Status::Dead, 1, [at(2), at(2)], "wh_2"),
        ],
        is_exact: true,
    };
    assert_eq!(failures, expected);

    // The next attempt has another cause.
    for delivery in &claim(&store, 100).await.deliveries {
        if delivery.message.webhook_id == "wh_1" {
            let next = Next::Retry { due_at: at(200) };
            settle_as(&store, delivery, 101, "no answer in time", next).await;
        }
    }
    let failures = store.failures("app").await.unwrap();
    let causes: Vec<_> = failures
        .causes
        .iter()
        .map(|cause| (&*cause.answer, cause.deliveries))
        .collect();
    assert_eq!(
        causes,
        [
            ("no answer in time", 1),
            ("HTTP 500", 1),
            ("HTTP 410", 1),
            ("HTTP 500", 1)
        ]
    );
    let none = Failures {
        causes: Vec::new(),
        is_exact: true,
    };
    assert_eq!(store.failures("audit").await.unwrap(), none);
}

async fn a_dropped_or_replayed_dead_letter_is_no_failure(place: &dyn Place) {
    let store = place.open().await;
    for number in 1..=2 {
        accept_as(&store, &format!("wh_{number}"), "batch.failed", 0, &["app"]).await;
    }
    for delivery in &claim(&store, 0).await.deliveries {
        settle_as(&store, delivery, 1, "HTTP 500", Next::Dead).await;
    }
    assert_eq!(store.failures("app").await.unwrap().causes[0].deliveries, 2);
    let dropped = DropRun {
        filter: filter(r#"{"webhook_id":["wh_1"]}"#),
        as_of: AsOf {
            at: at(2),
            newest: i64::MAX,
        },
        after: None,
        limit: 10,
    };
    store.drop_dead(&dropped, at(2)).await.unwrap();
    let again = replay_of(r#"{"webhook_id":["wh_2"]}"#);
    assert_eq!(run(&store, &again, "t1", 3).await.deliveries, 1);
    assert_eq!(store.failures("app").await.unwrap().causes, []);

    // It fails again.
    for delivery in &claim(&store, 4).await.deliveries {
        let next = Next::Retry { due_at: at(100) };
        settle_as(&store, delivery, 5, "HTTP 503", next).await;
    }
    let causes = store.failures("app").await.unwrap().causes;
    let expected = cause("HTTP 503", Status::Waiting, 1, [at(5), at(5)], "wh_2");
    assert_eq!(causes, [expected]);
}
