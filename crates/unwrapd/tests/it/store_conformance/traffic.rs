//! Traffic counts of each minute.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use unwrapd::store::{Bounds, Store, TrafficCount, TrafficKind, TrafficRange};

use super::{DAY, Place, PostgresPlace, SqlitePlace, at};

every_store!(;
    counts_add_up,
    counts_are_summed_by_step_within_a_time_and_a_number,
    old_counts_are_deleted,
    the_history_of_a_destination_is_known_to_the_minute,
);

fn minute(number: i64) -> Timestamp {
    // The time of the tests is not the beginning of a minute.
    at(20) + jiff::SignedDuration::from_mins(number)
}

fn count(minute: Timestamp, kind: TrafficKind, name: &str, count: u64) -> TrafficCount {
    TrafficCount {
        minute,
        kind,
        name: name.into(),
        count,
    }
}

/// All counts since then, minute by minute.
async fn since(store: &dyn Store, since: Timestamp) -> Vec<TrafficCount> {
    let range = TrafficRange {
        since,
        until: Timestamp::MAX,
        step: Duration::from_secs(60),
    };
    store.traffic(range, usize::MAX).await.unwrap()
}

/// A store with these counts.
async fn counted(place: &dyn Place, counts: Vec<TrafficCount>) -> Arc<dyn Store> {
    let store = place.open().await;
    store.add_traffic(counts).await.unwrap();
    store
}

async fn counts_add_up(place: &dyn Place) {
    use TrafficKind::{Accepted, Dead, Delivered};
    let first = vec![
        count(minute(1), Delivered, "app", 3),
        count(minute(0), Delivered, "app", 1),
        count(minute(0), Accepted, "app", 2),
    ];
    let store = counted(place, first).await;
    let second = vec![
        count(minute(1), Delivered, "app", 4),
        count(minute(1), Dead, "audit", 5),
    ];
    store.add_traffic(second).await.unwrap();
    store.close().await;

    let store = place.open().await;
    let expected = [
        count(minute(0), Accepted, "app", 2),
        count(minute(0), Delivered, "app", 1),
        count(minute(1), Dead, "audit", 5),
        count(minute(1), Delivered, "app", 7),
    ];
    assert_eq!(since(&*store, minute(0)).await, expected);
    assert_eq!(since(&*store, minute(1)).await, expected[2..]);
    assert_eq!(since(&*store, minute(2)).await, []);
}

async fn counts_are_summed_by_step_within_a_time_and_a_number(place: &dyn Place) {
    use TrafficKind::{Accepted, Refused};
    // The hours of UTC, whatever the minute of the test's time is.
    let hour = |number: i64| Timestamp::from_second(1_750_284_000 + number * 3600).unwrap();
    let after = |hour: Timestamp, minutes| hour + jiff::SignedDuration::from_mins(minutes);
    let counts = vec![
        count(after(hour(0), 59), Accepted, "production", 1),
        count(after(hour(1), 0), Accepted, "production", 2),
        count(after(hour(1), 59), Accepted, "production", 3),
        count(after(hour(1), 30), Refused, "production", 4),
        count(after(hour(2), 0), Accepted, "production", 5),
        count(after(hour(2), 1), Accepted, "production", 6),
    ];
    let store = counted(place, counts).await;
    let range = TrafficRange {
        since: hour(1),
        until: after(hour(2), 1),
        step: Duration::from_secs(3600),
    };
    let expected = [
        count(hour(1), Accepted, "production", 5),
        count(hour(1), Refused, "production", 4),
        count(hour(2), Accepted, "production", 5),
    ];
    assert_eq!(store.traffic(range, 3).await.unwrap(), expected);
    assert_eq!(store.traffic(range, 2).await.unwrap(), expected[..2]);
}

async fn the_history_of_a_destination_is_known_to_the_minute(place: &dyn Place) {
    use TrafficKind::{Accepted, Dead, Delivered, Rejected, Retried};
    // Of two gateways.
    let first = vec![
        count(minute(0), Retried, "app", 1),
        count(minute(1), Delivered, "app", 1),
        count(minute(4), Retried, "app", 3),
        count(minute(1), Delivered, "audit", 1),
        count(minute(2), Retried, "audit", 1),
        count(minute(3), Rejected, "audit", 1),
        count(minute(7), Retried, "new", 1),
        count(minute(8), Delivered, "prefix", 1),
        count(minute(8), Retried, "up", 1),
    ];
    let second = vec![
        // The order within one minute is not known.
        count(minute(2), Delivered, "app", 1),
        count(minute(2), Retried, "app", 3),
        count(minute(5), Retried, "app", 3),
        // Calls that expired, and webhooks of an endpoint with the same name, tell nothing.
        count(minute(9), Dead, "app", 1),
        count(minute(9), Accepted, "app", 1),
        count(minute(9), Delivered, "up", 1),
    ];
    let store = counted(place, first).await;
    store.add_traffic(second).await.unwrap();
    let expected = [
        ("up", Some(9), Some(9), None),
        ("new", None, None, Some(7)),
        ("app", Some(2), Some(2), Some(4)),
        ("audit", Some(1), Some(3), None),
        ("pre", None, None, None),
    ];
    let names = expected.map(|(name, ..)| name.to_owned());
    let histories = store.attempt_histories(&names).await.unwrap();
    let histories: Vec<_> = histories
        .into_iter()
        .map(|of| (of.destination, of.delivered, of.up, of.failing_since))
        .collect();
    let expected = expected.map(|(name, delivered, up, failing_since)| {
        let [delivered, up, failing_since] =
            [delivered, up, failing_since].map(|number: Option<i64>| number.map(minute));
        (name.to_owned(), delivered, up, failing_since)
    });
    assert_eq!(histories, expected);
    assert_eq!(store.attempt_histories(&[]).await.unwrap(), []);
}

async fn old_counts_are_deleted(place: &dyn Place) {
    let bounds = Bounds {
        retention: std::time::Duration::from_secs(3600 * 24),
        ..Bounds::default()
    };
    let store = place.open_within(&bounds).await;
    let counts =
        (0..300).map(|number| count(minute(number), TrafficKind::Accepted, "production", 1));
    store.add_traffic(counts.collect()).await.unwrap();
    // A day after minute 200.
    let now = at(DAY + 20 + 200 * 60);
    while store.prune(now).await.unwrap().is_more {}
    let left = since(&*store, Timestamp::MIN).await;
    assert_eq!(
        left.first().map(|counted| counted.minute),
        Some(minute(200))
    );
    assert_eq!(left.len(), 100);
}
