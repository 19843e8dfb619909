//! Traffic counts of each minute.

use jiff::Timestamp;
use unwrapd::store::{Bounds, TrafficCount, TrafficKind};

use super::{DAY, Place, PostgresPlace, SqlitePlace, at};

every_store!(;
    counts_add_up,
    old_counts_are_deleted,
);

fn minute(number: i64) -> Timestamp {
    at(0) + jiff::SignedDuration::from_mins(number)
}

fn count(minute: Timestamp, kind: TrafficKind, name: &str, count: u64) -> TrafficCount {
    TrafficCount {
        minute,
        kind,
        name: name.into(),
        count,
    }
}

async fn counts_add_up(place: &dyn Place) {
    use TrafficKind::{Accepted, Dead, Delivered};
    let store = place.open().await;
    let first = vec![
        count(minute(1), Delivered, "app", 3),
        count(minute(0), Delivered, "app", 1),
        count(minute(0), Accepted, "app", 2),
    ];
    store.add_traffic(first).await.unwrap();
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
    assert_eq!(store.traffic(minute(0)).await.unwrap(), expected);
    assert_eq!(store.traffic(minute(1)).await.unwrap(), expected[2..]);
    assert_eq!(store.traffic(minute(2)).await.unwrap(), []);
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
    let now = at(DAY + 200 * 60);
    while store.prune(now).await.unwrap().is_more {}
    let left = store.traffic(Timestamp::MIN).await.unwrap();
    assert_eq!(
        left.first().map(|counted| counted.minute),
        Some(minute(200))
    );
    assert_eq!(left.len(), 100);
}
